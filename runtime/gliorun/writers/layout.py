"""Lay out the panels, the legend and the notes of a figure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from gliorun.measuring.density import DensityMap
from gliorun.reading.scale import Scale
from gliorun.writers.legend import BLOCK_PT, Block
from gliorun.writers.page import Page, printable, shorten, wrap
from gliorun.writers.panel import BAR_PT, HEAD_PT, LETTERS_PT, Frame

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
BESIDE = 1.35
"""Two panels stand one above the other only where they are larger by this."""
SAVES = 1.15
"""The legend stands at the side of the panels only where the page is smaller by this."""

Columns = list[list[Block]]
Legend = Callable[[Frame, float], Columns]
"""Returns the legend of a frame in columns, which may be so high in points in all."""


@dataclass(frozen=True, slots=True, eq=False)
class Layout:
    """Where things stand on a page, in dots; panels by the corner of their pixels."""

    frame: Frame
    dpi: int
    width: int
    height: int
    corners: tuple[tuple[int, int], ...]
    blocks: tuple[tuple[Block, float, float], ...]
    notes: tuple[str, ...]

    def page(self, title: str) -> Page:
        """Return the page with its title, legend and notes; the panels are to be drawn."""
        page = Page(self.width, self.height, self.dpi)
        dot = page.dots_a_point
        margin = MARGIN_PT * dot
        title = shorten(printable(title), self.width - 2 * margin, TITLE_PT, self.dpi, bold=True)
        page.text(margin, margin + 9 * dot, title, TITLE_PT, bold=True)
        for block, left, top in self.blocks:
            block.draw(page, left, top)
        for number, note in enumerate(reversed(self.notes)):
            y = self.height - margin - number * NOTE_ROW_PT * dot
            page.text(margin, y, note, NOTE_PT, colour=GREY)
        return page


def lay_out(
    density: DensityMap, scale: Scale, panels: int, legend: Legend, notes: tuple[str, ...]
) -> Layout:
    """Place one panel or two, the legend under them or at their side, and the notes below."""
    frame, beside = _fit(density, scale, panels)
    width, height = frame.size
    across, down = (panels, 1) if beside else (1, panels)
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

    columns = _columns(legend, frame, (right - x0) / dot, (bottom - y0) / dot)
    left, top = (right + gap, y0) if len(columns) == 1 else (x0, bottom)
    step = max(BLOCK_PT + GAP_PT, ((right - x0) / dot - BLOCK_PT) / max(len(columns) - 1, 1)) * dot
    blocks = []
    for number, column in enumerate(columns):
        x, y = round(left + number * step), float(top)
        for block in column:
            blocks.append((block, x, y))
            y += (block.height_pt + BLOCK_GAP_PT) * dot
        bottom = max(bottom, round(y))
        right = max(right, x + round(BLOCK_PT * dot))
    lines = [line for note in notes for line in wrap(note, right - x0, NOTE_PT, dpi)]
    bottom += round(len(lines) * NOTE_ROW_PT * dot)
    return Layout(frame, dpi, right + margin, bottom + margin, corners, tuple(blocks), tuple(lines))


def height_pt(column: list[Block]) -> float:
    """Return the height of blocks one below the other."""
    return sum(block.height_pt + BLOCK_GAP_PT for block in column)


def _columns(legend: Legend, frame: Frame, wide_pt: float, high_pt: float) -> Columns:
    """Return the legend of panels so wide and high: columns to stand under them, or one to stand
    at their side where that saves much of the page.
    """
    under = legend(frame, 0)
    under_wide = max(wide_pt, len(under) * (BLOCK_PT + GAP_PT) - GAP_PT)
    under_high = high_pt + max(height_pt(column) for column in under)
    beside_wide = wide_pt + GAP_PT + BLOCK_PT
    beside_high = max(high_pt, sum(height_pt(column) for column in under))
    if under_wide * under_high < SAVES * beside_wide * beside_high:
        return under
    return [[block for column in legend(frame, high_pt) for block in column]]


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
