"""Results made up for figures of slides of any shape, and how their texts are read."""

from __future__ import annotations

from itertools import combinations

import numpy as np
from matplotlib.backends.backend_agg import RendererAgg
from matplotlib.text import Text

from gliorun.findings.hotspots import find_fields
from gliorun.measuring.density import DensityMap
from gliorun.measuring.tile import LeftOut, Status
from gliorun.measuring.tissue import find_tissue
from gliorun.model.card import ModelCard
from gliorun.reading.scale import Scale
from gliorun.reading.tiles import TileGrid
from gliorun.writers.layout import Layout
from gliorun.writers.legend import BLOCK_PT
from gliorun.writers.page import Page
from gliorun.writers.result import Result

CARD = ModelCard("U-net", tile_px=480, mpp=0.25, colour_target=None, precision="INT8")
TILE = 480
PINK, GLASS = (205, 130, 185, 255), (245, 243, 246, 255)


def made(
    size_l0: tuple[int, int],
    *,
    cell_px: int = TILE,
    tissue: float = 1.0,
    unreadable: int = 0,
    mpp: tuple[float, float] = (0.25, 0.25),
    fields: tuple[float, int] = (1.0, 5),
    name: str = "slide.svs",
) -> Result:
    """Return a result whose tissue fills the left share `tissue` of a slide.

    Densities are random, with all six classes; `unreadable` tiles of the tissue have no value.
    """
    scale = Scale(*mpp, "slide")
    grid = TileGrid.over(size_l0, mpp, TILE, 0.25)
    density = DensityMap(grid, TILE, cell_px)
    inside = [
        np.clip((end - np.arange(cells) * side) / side, 0, 1)
        for cells, side, end in zip(
            density.valid_px.shape[::-1], density.cell_l0, size_l0, strict=True
        )
    ]
    density.valid_px[:] = np.rint(inside[1][:, None] * inside[0] * cell_px**2)
    columns = max(1, round(grid.columns * tissue))
    density.valid_px[:, columns * density.cells_a_tile :] = 0
    density.status[:, :columns] = Status.MEASURED
    random = np.random.default_rng(0)
    for place in random.choice(grid.rows * columns, unreadable, replace=False):
        spec = grid.tile(int(place % columns), int(place // columns))
        density.feed(LeftOut(spec, Status.UNREADABLE))
        n = density.cells_a_tile
        density.valid_px[spec.row * n : spec.row * n + n, spec.column * n : spec.column * n + n] = 0
    shares = random.choice([0.01, 0.03, 0.06, 0.12, 0.18, 0.3], density.valid_px.shape)
    for px, outline in zip(density.outlined_px, (0.9, 1.0, 1.1), strict=True):
        px[:] = outline * shares * density.valid_px
    shrink = max(1, max(size_l0) / 1024)
    overview = np.full(
        (max(1, round(size_l0[1] / shrink)), max(1, round(size_l0[0] / shrink)), 4), GLASS, np.uint8
    )
    overview[:, : max(1, round(columns * grid.tile_l0[0] / shrink))] = PINK
    area_mm2, count = fields
    spots = find_fields(density, scale, area_mm2=area_mm2, count=count)
    tissue = find_tissue(overview, size_l0, scale)
    return Result(name, density, scale, tissue, overview, CARD, spots)


def texts_of(page: Page) -> list[str]:
    return [text.get_text() for text in page.figure.findobj(Text) if text.get_text()]


SHAPES = {
    "a section": {"size_l0": (60_000, 42_000), "tissue": 0.7, "unreadable": 90},
    "fine cells": {"size_l0": (9_600, 7_200), "cell_px": 120, "unreadable": 3, "fields": (0.04, 5)},
    "20 times as wide": {"size_l0": (96_000, 4_800), "unreadable": 20},
    "200 times as wide": {"size_l0": (96_000, 480), "fields": (0.01, 5)},
    "20 times as high": {"size_l0": (4_800, 96_000), "unreadable": 20},
    "200 times as high": {"size_l0": (480, 96_000), "fields": (0.01, 5)},
    "one tile": {"size_l0": (480, 480), "fields": (0.004, 5)},
    "smaller than a tile": {"size_l0": (300, 170)},
    "a few px": {"size_l0": (16, 9)},
    "three tiles and a rest": {"size_l0": (1_300, 490), "fields": (0.004, 5)},
    "almost empty": {"size_l0": (80_000, 60_000), "tissue": 0.006},
    "all unreadable": {"size_l0": (4_800, 2_400), "unreadable": 50},
    "squares with slivers": {"size_l0": (4_420, 3_210), "fields": (0.01, 12)},
    "many small hot spots": {"size_l0": (100_000, 80_000), "fields": (0.2, 60)},
    "non-square pixels": {"size_l0": (20_000, 40_000), "mpp": (0.5, 0.25), "unreadable": 9},
    "a long name": {"size_l0": (4_800, 9_600), "name": "patient block level " * 20 + ".svs"},
}


def assert_apart(named: list[tuple[str, tuple[float, float, float, float]]]) -> None:
    """Assert that no two boxes, of left, top, right and bottom, share more than half a dot."""
    for (one, ours), (other, theirs) in combinations(named, 2):
        across = min(ours[2], theirs[2]) - max(ours[0], theirs[0])
        down = min(ours[3], theirs[3]) - max(ours[1], theirs[1])
        assert across <= 0.5 or down <= 0.5, (one, other)


def assert_readable(page: Page, layout: Layout) -> None:
    """Assert that no text or part overlaps another or leaves the page."""
    ruler = RendererAgg(page.width, page.height, page.dpi)
    texts = [
        (text.get_text(), text.get_window_extent(ruler).extents)
        for text in page.figure.findobj(Text)
        if text.get_text()
    ]
    assert len(texts) > 10
    wide, high = layout.frame.size
    dot = layout.dpi / 72
    parts = [("panel", (x, y, x + wide, y + high)) for x, y in layout.corners]
    parts += [
        ("block", (x, y, x + BLOCK_PT * dot, y + block.height_pt * dot))
        for block, x, y in layout.blocks
    ]
    for name, (left, low, right, high) in texts + parts:
        assert 0 <= left < right <= page.width, name
        assert 0 <= low < high <= page.height, name
    assert_apart(texts)
    assert_apart(parts)
