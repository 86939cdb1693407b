"""Count what of each tile lies in the regions of a slide."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from gliorun.measuring import kernels
from gliorun.measuring.density import DensityMap
from gliorun.measuring.tile import LeftOut, Measured
from gliorun.measuring.tissue import Tissue
from gliorun.measuring.within import in_window, pixels_within
from gliorun.reading.regions import Region
from gliorun.reading.tiles import TileSpec

Mask = NDArray[np.bool_]


class InRegions:
    """Feeds a map with what of each tile lies in a region, and sums every region by itself.

    Parameters
    ----------
    regions : sequence of Region
    density : DensityMap
        Is fed with the pixels of all regions together.
    chosen : sequence of TileSpec
        The tiles that will be fed.
    """

    def __init__(
        self, regions: Sequence[Region], density: DensityMap, chosen: Sequence[TileSpec]
    ) -> None:
        self.regions = regions
        self._density = density
        self._touched: dict[tuple[int, int], list[int]] = {}
        for number, region in enumerate(regions):
            for index in np.flatnonzero(region.touches(chosen)).tolist():
                spec = chosen[index]
                self._touched.setdefault((spec.row, spec.column), []).append(number)
        n = density.cells_a_tile
        self._cells: dict[tuple[int, int, int], NDArray[np.int64]] = {}
        self._shape = (4, n, n)

    def feed(self, tile: Measured | LeftOut) -> None:
        """Count a tile's pixels within each region that it touches, and within any of them."""
        if isinstance(tile, LeftOut):
            self._density.feed(tile)
            return
        within_any = np.zeros(tile.valid.shape, np.bool_)
        for number in self._touched.get((tile.spec.row, tile.spec.column), ()):
            within = tile_within(self.regions[number], tile.spec, self._density.tile_px)
            within_any |= within
            cells = np.zeros(self._shape, np.int64)
            outlines = self._density.outlines
            kernels.count_nuclei(
                tile.levels,
                tile.valid * within,
                (outlines.inner, outlines.nucleus, outlines.outer),
                self._density.cell_px,
                cells[:3],
                cells[3],
            )
            self._cells[number, tile.spec.row, tile.spec.column] = cells
        self._density.feed(replace(tile, valid=tile.valid * within_any))

    def kept(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return (N, 3) region, row and column of what was summed, and the sums, (N, 4, n, n)."""
        places = np.array(list(self._cells), np.int64).reshape(-1, 3)
        return places, np.array(list(self._cells.values()), np.int64).reshape(-1, *self._shape)

    def restore(self, places: NDArray[np.int64], sums: NDArray[np.int64]) -> None:
        """Take over what `kept` returned."""
        if sums.shape != (len(places), *self._shape):
            raise ValueError("of another grid")
        self._cells = {
            (number, row, column): cells
            for (number, row, column), cells in zip(places.tolist(), sums, strict=True)
        }

    def map_of(self, number: int, tissue: Tissue) -> DensityMap:
        """Return the map of one region, with the share of `tissue` in what it has of each cell."""
        whole = self._density
        density = DensityMap(
            whole.grid, whole.tile_px, whole.cell_px, whole.outlines, per_tissue=whole.per_tissue
        )
        n = density.cells_a_tile
        for (row, column), touched in self._touched.items():
            if number in touched:
                density.status[row, column] = whole.status[row, column]
        for (of_region, row, column), sums in self._cells.items():
            if of_region == number:
                cells = np.s_[..., row * n : (row + 1) * n, column * n : (column + 1) * n]
                density.outlined_px[cells], density.valid_px[cells] = sums[:3], sums[3]
        density.tissue_share = tissue_shares(tissue, self.regions[number], density)
        density.tissue = whole.tissue
        density.least_valid_share = 0.0  # a region has all its pixels, however cells cut it
        return density


def tile_within(region: Region, spec: TileSpec, side_px: int) -> Mask:
    """Return the pixels of a tile, (side_px, side_px), whose centres lie in a region."""
    px_l0 = spec.width_l0 / side_px, spec.height_l0 / side_px
    edges = in_window(region.edges_l0, (spec.x_l0, spec.y_l0), px_l0)
    return pixels_within(edges, (side_px, side_px))


def overview_within(tissue: Tissue, regions: Iterable[Region]) -> Mask:
    """Return the pixels of the overview of some tissue that lie in any of the regions."""
    within = np.zeros(tissue.mask.shape, np.bool_)
    for region in regions:
        rows, columns, mask = _overview_of(tissue, region)
        within[rows, columns] |= mask
    return within


def _overview_of(tissue: Tissue, region: Region) -> tuple[slice, slice, Mask]:
    """Return the rows and columns of the overview around a region, and its pixels within it."""
    x_scale, y_scale = tissue.px_per_l0
    left, top, right, bottom = region.outline.bounds
    height, width = tissue.mask.shape
    rows = slice(max(0, int(top * y_scale) - 1), min(height, math.ceil(bottom * y_scale) + 1))
    columns = slice(max(0, int(left * x_scale) - 1), min(width, math.ceil(right * x_scale) + 1))
    corner_l0 = columns.start / x_scale, rows.start / y_scale
    edges = in_window(region.edges_l0, corner_l0, (1 / x_scale, 1 / y_scale))
    shape = rows.stop - rows.start, columns.stop - columns.start
    return rows, columns, pixels_within(edges, shape)


def within_regions(tissue: Tissue, regions: Iterable[Region]) -> Tissue:
    """Return the tissue in any of the regions, outside of which the slide has no pixels."""
    within = overview_within(tissue, regions)
    inside = within if tissue.inside is None else within & tissue.inside
    return replace(tissue, mask=tissue.mask & within, inside=inside)


def tissue_shares(tissue: Tissue, region: Region, density: DensityMap) -> NDArray[np.float64]:
    """Return the share of tissue in what each cell of a map has of a region, 0 to 1."""
    rows, columns, within = _overview_of(tissue, region)
    inside = within if tissue.inside is None else within & tissue.inside[rows, columns]
    part = Tissue(tissue.mask[rows, columns] & inside, tissue.px_per_l0, inside)
    x_scale, y_scale = tissue.px_per_l0
    columns_l0, rows_l0 = density.cell_edges_l0
    return part.shares(columns_l0 - columns.start / x_scale, rows_l0 - rows.start / y_scale)
