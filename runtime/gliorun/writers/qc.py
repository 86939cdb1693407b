"""qc.png: the slide with its tissue outlined and the tiles without a value marked by reason."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from gliorun.measuring.density import DensityMap
from gliorun.measuring.tile import Status
from gliorun.measuring.tissue import Tissue
from gliorun.writers import hatching, palette
from gliorun.writers.layout import Columns, Layout, lay_out
from gliorun.writers.legend import BLOCK_PT, SWATCH_PT, Column, Swatch, Table, percent
from gliorun.writers.page import Page, Pixels, plain_style, printable
from gliorun.writers.panel import Frame, Panel, enlarge, thumbnail_pixels, tissue_pixels
from gliorun.writers.png import tissue_colour
from gliorun.writers.result import Result

COLOURS = ("#333333", "#0072b2", "#56b4e9", "#f0e442", "#d55e00", "#009e73")
"""Colours of the reasons, distinct under every colour blindness (Okabe and Ito 2008)."""
BACKGROUND = "#aab2bd"
OPACITY = 0.45
"""Opacity of the grey over tiles without tissue."""
REASON_OPACITY = 0.75
"""Opacity of the colour over tiles without a value, strong enough to match the legend."""
OUTLINE, GLASS = "#111111", "#f5f5f5"


def write_quality(path: Path, result: Result) -> None:
    """Draw the slide: as it is where it was measured, greyish in tiles without tissue.

    Tiles without a value have a colour and a hatching for their reason. A line surrounds the
    tissue that was found. The same result gives the same bytes.
    """
    with plain_style():
        draw(result).save(path)


def draw(result: Result) -> Page:
    """Return the picture, drawn on a page of its size."""
    layout = layout_of(result)
    page = layout.page(result.slide_name)
    panel = Panel(page, layout.frame, *layout.corners[0])
    slide = thumbnail_pixels(layout.frame, result.overview)
    pixels = _tile_pixels(layout.frame, slide)
    pixels[_outline(result.tissue, layout.frame)] = palette.rgb((OUTLINE,))[0]
    panel.draw(pixels, "", "Tissue and tiles")
    panel.scale_bar()
    return page


def layout_of(result: Result) -> Layout:
    """Place the panel and the legend of a result's picture."""
    density = result.density
    tiles = DensityMap(density.grid, density.tile_px, density.tile_px)
    tiles.status[:] = density.status

    def columns(frame: Frame, room_pt: float) -> Columns:
        period = hatching.period(frame.tile_dots)
        return [[_tile_table(tiles, tissue_colour(result), period)], [_figures(result)]]

    notes = tuple(map(printable, (*result.calibrated, *result.warnings, result.card.intended_use)))
    return lay_out(tiles, result.scale, 1, columns, notes)


def _colour_of(tile_status: Status) -> Pixels:
    """Return the colour laid over tiles that were not measured, (3,) uint8 RGB."""
    if tile_status == Status.NO_TISSUE:
        return np.asarray(palette.rgb((BACKGROUND,))[0])
    colour = COLOURS[hatching.REASONS.index(tile_status) % len(COLOURS)]
    return np.asarray(palette.rgb((colour,))[0])


def _tile_pixels(frame: Frame, slide: Pixels) -> Pixels:
    """Return the slide with its tiles marked, (H, W, 3) uint8."""
    status, (line,) = frame.density.status, palette.rgb((palette.HATCHING,))
    height, width = slide.shape[:2]
    pixels, period = slide.copy(), hatching.period(frame.tile_dots)
    for tile_status in (Status.NO_TISSUE, *hatching.REASONS):
        tiles = enlarge(status == tile_status, frame.tile_dots, height, width)
        opacity = OPACITY if tile_status == Status.NO_TISSUE else REASON_OPACITY
        pixels[tiles] = palette.over(_colour_of(tile_status), slide[tiles], opacity)
        if tile_status in hatching.REASONS:
            pixels[tiles & hatching.lines(tile_status, height, width, period)] = line
    return pixels


def _outline(tissue: Tissue, frame: Frame) -> NDArray[np.bool_]:
    """Return the rim of the tissue, two dots wide inside it, (H, W)."""
    mask = tissue_pixels(tissue, frame.size)
    inner = Image.fromarray(mask).convert("L").filter(ImageFilter.MinFilter(5))
    return np.asarray(mask & (np.asarray(inner) == 0))


def _tile_table(tiles: DensityMap, measured: Pixels, period: int) -> Table:
    """Return the number of tiles of each status with its swatch, without unused reasons."""
    counts = {status: int((tiles.status == status).sum()) for status in Status}
    statuses = [Status.MEASURED, *(r for r in hatching.REASONS if counts[r]), Status.NO_TISSUE]
    rows = []
    for tile_status in statuses:
        reason = "no value: " if tile_status in hatching.REASONS else ""
        rows.append(("", f"{reason}{tile_status.words}", f"{counts[tile_status]:,}"))
    swatches = tuple(_swatch(tile_status, measured, period) for tile_status in statuses)
    columns = (Column("Tile", 0), Column("", SWATCH_PT + 8), Column("Tiles", BLOCK_PT, "right"))
    return Table(columns, tuple(rows), swatches)


def _swatch(tile_status: Status, measured: Pixels, period: int) -> Swatch:
    if tile_status == Status.MEASURED:
        return Swatch(measured)
    if tile_status == Status.NO_TISSUE:
        return Swatch(palette.over(_colour_of(tile_status), palette.rgb((GLASS,))[0], OPACITY))
    return Swatch(
        palette.over(_colour_of(tile_status), measured, REASON_OPACITY), tile_status, period
    )


def _figures(result: Result) -> Table:
    """Return how much of the slide is tissue, and how much of that has a value."""
    status, tissue = result.density.status, result.tissue
    with_tissue = int((status != Status.NO_TISSUE).sum())
    measured = int((status == Status.MEASURED).sum())
    rows = (
        ("Tissue (outlined) on the slide", percent(float(tissue.mask.mean()))),
        ("Tiles with tissue", f"{with_tissue:,}"),
        ("of these measured", percent(measured / with_tissue if with_tissue else float("nan"))),
    )
    columns = (Column("Quality", 0), Column("", BLOCK_PT, "right"))
    return Table(columns, rows, (None,) * len(rows))
