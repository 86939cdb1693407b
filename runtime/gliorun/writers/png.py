"""heatmap.png: a figure of the slide and its density map, with all that is needed to read it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from gliorun.measuring.density import SPARSE_SHARE, DensityMap
from gliorun.measuring.kernels import OPAQUE
from gliorun.model import shipped
from gliorun.writers import hatching, legend
from gliorun.writers.layout import MAX_DOTS, Columns, Layout, height_pt, lay_out
from gliorun.writers.page import Page, Pixels, plain_style, printable
from gliorun.writers.palette import Appearance
from gliorun.writers.panel import (
    SEEN_THROUGH,
    Frame,
    Panel,
    map_pixels,
    pale,
    thumbnail_pixels,
    tissue_pixels,
)
from gliorun.writers.result import Result

MOST_REGIONS = 8
"""Rows of regions, and of their differences, that the figure has; the rest is in the tables."""
MIN_HOT_SPOTS = 6
"""Rows that the table of hot spots has at least room for."""


def write_heatmap(path: Path, result: Result, appearance: Appearance) -> None:
    """Draw the slide and its density map, beside or below each other, or one over the other.

    Every cell of the map is a square of whole dots. Squares of the grid are named by a letter
    (row) and a number (column). Tiles without a value are hatched; where there is no tissue, the
    slide shows, pale beside its picture. Under a map over it the slide is grey, so that a class
    has one colour on any stain. The same result gives the same bytes.
    """
    with plain_style():
        draw(result, appearance).save(path)


def draw(result: Result, appearance: Appearance) -> Page:
    """Return the figure, drawn on a page of its size."""
    layout = layout_of(result, appearance)
    frame, page = layout.frame, layout.page(result.slide_name)
    panels = [Panel(page, frame, *corner) for corner in layout.corners]
    thumbnail = thumbnail_pixels(frame, result.overview)
    around = thumbnail if appearance.overlay else pale(thumbnail)
    under = pale(thumbnail, SEEN_THROUGH)
    drawn = map_pixels(frame, around, under, appearance.palette, appearance.opacity)
    if appearance.overlay:
        panels[0].draw(drawn, "", "Nucleus density")
    else:
        panels[0].draw(thumbnail, "a", "Slide")
        panels[1].draw(drawn, "b", "Nucleus density")
    panels[-1].scale_bar()
    for panel in panels:
        panel.outline(result.drawn_regions)
        panel.mark(result.hot_spots)
    return page


def layout_of(result: Result, appearance: Appearance) -> Layout:
    """Place the panels and the legend of a result's figure."""
    drawn = _merged(result.density)

    def columns(frame: Frame, room_pt: float) -> Columns:
        ground = pale(tissue_colour(result), SEEN_THROUGH)
        period = hatching.period(frame.tile_dots)
        classes = legend.class_blocks(
            result.density, appearance.palette, appearance.opacity, ground, period
        )
        figures = legend.key_figures(result, drawn, frame.squares)
        rows = int((room_pt - height_pt([*classes, figures])) / legend.ROW_PT) - 1
        hot_spots = legend.hot_spot_table(result.hot_spots, max(rows, MIN_HOT_SPOTS))
        regions = legend.region_tables(result.regions, result.differences, MOST_REGIONS)
        return [classes, [figures, *regions], [hot_spots]]

    return lay_out(drawn, result.scale, 1 if appearance.overlay else 2, columns, _notes(result))


def _merged(density: DensityMap) -> DensityMap:
    """Return `density`, or one of larger cells, summed within their tiles, to fit `MAX_DOTS`."""
    longest, cells = max(density.valid_px.shape), density.cells_a_tile
    factors = [n for n in range(1, cells + 1) if cells % n == 0]
    factor = next((n for n in factors if longest <= MAX_DOTS * n), cells)
    return density if factor == 1 else density.merged(factor)


def _notes(result: Result) -> tuple[str, ...]:
    """Return the notes of the figure: scale and model, warnings, and intended use."""
    scale, card = result.scale, result.card
    mpp = f"{scale.x_mpp:.4g}"
    if scale.x_mpp != scale.y_mpp:
        mpp += f" × {scale.y_mpp:.4g}"
    return (
        f"Density is nucleus area / {_area(result.density)}. Classes are those of the method's "
        "paper, not grades of the WHO. "
        f"Scale {mpp} µm/px (from {scale.source}). "
        f"Model {printable(shipped.name_of(card))} {card.precision}.",
        *map(printable, result.notes),
        printable(card.intended_use),
    )


def _area(density: DensityMap) -> str:
    """Return what the densities of a map are of, and which of them are doubtful, in words."""
    if not density.per_tissue:
        return "area of the cell inside the slide, glass included"
    area = "tissue area"
    if density.sparse.any():
        area += f"; paler where less than {100 * SPARSE_SHARE:g} % of a cell is tissue"
    if straddling := int(density.straddling.sum()):
        area += f"; {straddling:,} cells would have another class were outlines drawn a little "
        area += "further in or out"
    return area


def tissue_colour(result: Result) -> Pixels:
    """Return the colour of the tissue on the overview, (3,) uint8 RGB; white if there is none."""
    overview = result.overview
    height, width = overview.shape[:2]
    seen = tissue_pixels(result.tissue, (width, height)) & (overview[..., 3] >= OPAQUE)
    if not seen.any():
        return np.full(3, 255, dtype=np.uint8)
    return np.asarray(np.median(overview[seen, :3], axis=0).round(), dtype=np.uint8)
