"""heatmap.png: a figure of the slide and its density map, with all that is needed to read it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from gliorun.density import DensityMap
from gliorun.kernels import OPAQUE
from gliorun.pipeline import SlideDensity
from gliorun.reading.slide import Scale
from gliorun.writers import hatching, legend, palette
from gliorun.writers.legend import BLOCK_PT
from gliorun.writers.page import Page, Pixels, plain_style, printable, shorten, wrap
from gliorun.writers.panel import (
    BAR_PT,
    HEAD_PT,
    LETTERS_PT,
    SEEN_THROUGH,
    Frame,
    Panel,
    map_pixels,
    pale,
    thumbnail_pixels,
)
from gliorun.writers.result import Result

DPI = 200
PANELS_DOTS = (2000, 1500)
"""Room for the panels. Maps of very many cells take more; then the dots are finer."""
SMALL_DOTS, CELL_DOTS = 420, 150
"""A map of few cells is no larger than the first, or its cells than the second."""
MAX_DOTS = 2000
"""Longest side of a panel that has no room for two dots a cell; past it cells are merged."""

TITLE_PT, NOTE_PT = 11.0, 7.5
MARGIN_PT, GAP_PT, BLOCK_GAP_PT, TITLE_ROW_PT, NOTE_ROW_PT = 16.0, 22.0, 14.0, 24.0, 10.5
MIN_SLOT_PT = 110.0
"""Room beside each other for panels narrower than their captions."""
GREY = "#555555"
OVERLAY = 0.6
"""Opacity of a map over its slide."""
BESIDE = 1.35
"""Two panels stand one above the other only where they are larger by this."""
SAVES = 1.15
"""The legend stands at the side of the panels only where the page is smaller by this."""
MIN_HOT_SPOTS = 6
"""Rows that the table of hot spots has at least room for."""


@dataclass(frozen=True, slots=True)
class Look:
    """How a figure is drawn: its colours, and whether the map lies over the slide or beside it."""

    palette: str = palette.DEFAULT
    overlay: bool = False

    def __post_init__(self) -> None:
        palette.class_colours(self.palette)  # refuses an unknown one

    @property
    def opacity(self) -> float:
        """Opacity of the map."""
        return OVERLAY if self.overlay else 1.0


def write_heatmap(path: Path, result: Result, look: Look) -> None:
    """Draw the slide and its density map, beside or below each other, or one over the other.

    Every cell of the map is a square of whole dots. Squares of the grid are named by a letter
    (row) and a number (column). Tiles without a value are hatched; where there is no tissue, the
    slide shows, pale beside its picture. Under a map over it the slide is grey, so that a class
    has one colour on any stain. The same result gives the same bytes.
    """
    with plain_style():
        draw(result, look).save(path)


def draw(result: Result, look: Look) -> Page:
    """Return the figure, drawn on a page of its size."""
    measured = replace(result.measured, density=_merged(result.measured.density))
    result = replace(result, measured=measured)
    layout = lay_out(result, look)
    page = Page(layout.width, layout.height, layout.dpi)
    margin, dot = MARGIN_PT * page.dots_a_point, page.dots_a_point
    room = layout.width - 2 * margin
    title = shorten(printable(result.slide_name), room, TITLE_PT, layout.dpi, bold=True)
    page.text(margin, margin + 9 * dot, title, TITLE_PT, bold=True)
    panels = [Panel(page, layout.frame, *corner) for corner in layout.corners]
    thumbnail = thumbnail_pixels(layout.frame, measured.overview)
    around = thumbnail if look.overlay else pale(thumbnail)
    under = pale(thumbnail, SEEN_THROUGH)
    drawn = map_pixels(layout.frame, around, under, look.palette, look.opacity)
    if look.overlay:
        panels[0].draw(drawn, "", "Nucleus density")
    else:
        panels[0].draw(thumbnail, "a", "Slide")
        panels[1].draw(drawn, "b", "Nucleus density")
    panels[-1].scale_bar()
    for panel in panels:
        panel.mark(result.hot_spots)
    for block, left, top in layout.blocks:
        block.draw(page, left, top)
    for number, note in enumerate(reversed(layout.notes)):
        y = layout.height - margin - number * NOTE_ROW_PT * dot
        page.text(margin, y, note, NOTE_PT, colour=GREY)
    return page


def _merged(density: DensityMap) -> DensityMap:
    """Return `density`, or one of larger cells, summed within their tiles, to fit `MAX_DOTS`."""
    longest, cells = max(density.valid_px.shape), density.cells_a_tile
    factors = [n for n in range(1, cells + 1) if cells % n == 0]
    factor = next((n for n in factors if longest <= MAX_DOTS * n), cells)
    if factor == 1:
        return density
    merged = DensityMap(density.grid, density.tile_px, density.cell_px * factor)
    rows, columns = merged.valid_px.shape
    for ours, theirs in (
        (merged.nucleus_px, density.nucleus_px),
        (merged.valid_px, density.valid_px),
    ):
        ours[:] = theirs.reshape(rows, factor, columns, factor).sum(axis=(1, 3))
    merged.status[:] = density.status
    return merged


def _fit(density: DensityMap, scale: Scale, panels: int) -> tuple[Frame, bool]:
    """Return the frame of one panel or two, and whether two stand beside each other."""
    width, height = density.grid.size_l0
    wide, high = width / density.cell_l0[0], height / density.cell_l0[1]
    room_wide, room_high = PANELS_DOTS
    beside = min(room_wide / panels / wide, room_high / high)
    below = min(room_wide / wide, room_high / panels / high)
    standing = beside * BESIDE >= below
    longest = max(wide, high)
    cell_dots = int(min(beside if standing else below, max(SMALL_DOTS / longest, CELL_DOTS)))
    if longest <= MAX_DOTS / 2:
        cell_dots = max(cell_dots, 2)
    return Frame(density, scale, max(cell_dots, 1)), standing


@dataclass(frozen=True, slots=True, eq=False)
class Layout:
    """Where things stand on a page, in dots; panels by the corner of their pixels."""

    frame: Frame
    dpi: int
    width: int
    height: int
    corners: tuple[tuple[int, int], ...]
    blocks: tuple[tuple[legend.Block, float, float], ...]
    notes: tuple[str, ...]


def lay_out(result: Result, look: Look) -> Layout:
    """Place the panels, then the legend under them or at their side."""
    count = 1 if look.overlay else 2
    frame, beside = _fit(result.measured.density, result.measured.scale, count)
    width, height = frame.size
    across, down = (count, 1) if beside else (1, count)
    room_wide, room_high = PANELS_DOTS
    dpi = round(DPI * max(1, across * width / room_wide, down * height / room_high))
    dot = dpi / 72
    margin, gap, letters = (round(side * dot) for side in (MARGIN_PT, GAP_PT, LETTERS_PT))
    head = round(HEAD_PT * dot)
    pitch = letters + max(width, round(MIN_SLOT_PT * dot)) + gap, head + height + gap
    x0, y0 = margin, margin + round(TITLE_ROW_PT * dot)
    corners = tuple(
        (x0 + letters + column * pitch[0], y0 + head + row * pitch[1])
        for row in range(down)
        for column in range(across)
    )
    right = x0 + across * pitch[0] - gap
    bottom = y0 + down * pitch[1] - gap + round(BAR_PT * dot)

    columns = _legend(frame, result, look, (right - x0) / dot, (bottom - y0) / dot)
    left, top = (right + gap, y0) if len(columns) == 1 else (x0, bottom)
    step = max(BLOCK_PT + GAP_PT, ((right - x0) / dot - BLOCK_PT) / 2) * dot
    blocks = []
    for number, column in enumerate(columns):
        x, y = round(left + number * step), float(top)
        for block in column:
            blocks.append((block, x, y))
            y += (block.height_pt + BLOCK_GAP_PT) * dot
        bottom = max(bottom, round(y))
        right = max(right, x + round(BLOCK_PT * dot))
    notes = [line for note in _notes(result) for line in wrap(note, right - x0, NOTE_PT, dpi)]
    bottom += round(len(notes) * NOTE_ROW_PT * dot)
    return Layout(frame, dpi, right + margin, bottom + margin, corners, tuple(blocks), tuple(notes))


def _legend(
    frame: Frame, result: Result, look: Look, wide_pt: float, high_pt: float
) -> list[list[legend.Block]]:
    """Return the legend of panels so wide and high: three columns to stand under them, or one to
    stand at their side where that saves much of the page.
    """
    ground, period = _tissue_colour(result.measured), hatching.period(frame.tile_dots)
    classes = legend.class_blocks(frame.density, look.palette, look.opacity, ground, period)
    figures = legend.key_figures(result.measured, frame.squares, result.hot_spots)
    hot_spots = legend.hot_spot_table(result.hot_spots, MIN_HOT_SPOTS)
    columns: list[list[legend.Block]] = [classes, [figures], [hot_spots]]

    def height(column: list[legend.Block]) -> float:
        return sum(block.height_pt + BLOCK_GAP_PT for block in column)

    under_wide = max(wide_pt, 3 * BLOCK_PT + 2 * GAP_PT)
    under_high = high_pt + max(height(column) for column in columns)
    taken = height([*classes, figures])
    beside_wide = wide_pt + GAP_PT + BLOCK_PT
    beside_high = max(high_pt, taken + height([hot_spots]))
    if under_wide * under_high < SAVES * beside_wide * beside_high:
        return columns
    rows = int((high_pt - taken) / legend.ROW_PT) - 1
    hot_spots = legend.hot_spot_table(result.hot_spots, max(rows, MIN_HOT_SPOTS))
    return [[*classes, figures, hot_spots]]


def _notes(result: Result) -> tuple[str, str]:
    """Return what the figure rests on, and what it is for."""
    scale, card = result.measured.scale, result.card
    mpp = f"{scale.x_mpp:.4g}"
    if scale.x_mpp != scale.y_mpp:
        mpp += f" × {scale.y_mpp:.4g}"
    return (
        "Density is nucleus area / area of the cell inside the slide. "
        f"Scale {mpp} µm/px (from {scale.source}). Model {printable(card.name)} {card.precision}.",
        printable(card.intended_use),
    )


def _tissue_colour(measured: SlideDensity) -> Pixels:
    """Return the tissue of the overview as seen under a map, (3,) uint8; white if there is none."""
    tissue: Pixels = measured.overview[
        measured.tissue.mask & (measured.overview[..., 3] >= OPAQUE), :3
    ]
    if not len(tissue):
        return np.full(3, 255, dtype=np.uint8)
    return pale(np.median(tissue, axis=0), SEEN_THROUGH)
