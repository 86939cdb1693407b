"""Nucleus density: the paper's six classes, and the map that sums them over a slide."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gliorun.errors import GlioError, UsageError
from gliorun.measuring import kernels
from gliorun.measuring.tile import LeftOut, Measured, Status
from gliorun.model.outlines import OF_MASKS, Outlines
from gliorun.reading.tiles import TileGrid, TileSpec

CLASS_EDGES = (0.0, 0.02, 0.04, 0.08, 0.16, 0.20, 1.0)
"""Edges of the six classes; each is [low, high), the last one closed (paper, section 2.3.2)."""
CLASS_NAMES = ("0–2 %", "2–4 %", "4–8 %", "8–16 %", "16–20 %", "20–100 %")
NO_CLASS = -1
MIN_VALID_SHARE = 0.1
"""A cell with a smaller share of valid area, inside the slide and opaque, has no value."""
SPARSE_SHARE = 0.25
"""A cell with a smaller share of tissue has a value that few nuclei decide; it is drawn lighter."""
MOST_CELLS = 9_000_000
"""Most cells of a map: each takes about 180 bytes until the outputs are written, 1.6 GB in all. The
largest slides, 100,000 x 80,000 px, have 8.9 million at a quarter of a tile of 120 px."""


def classify(density: ArrayLike) -> NDArray[np.int8]:
    """Return the class, 0 to 5, of each density from 0 to 1; -1 where the density is NaN."""
    values = np.asarray(density, dtype=np.float64)
    classes = np.digitize(values, CLASS_EDGES[1:-1]).astype(np.int8)
    return np.where(np.isnan(values), np.int8(NO_CLASS), classes).astype(np.int8)


def check_cells(cell_px: int | None, tile_px: int) -> None:
    """Raise UsageError unless `cell_px` divides the tile; None means one cell per tile."""
    if cell_px is not None and (cell_px < 1 or tile_px % cell_px):
        raise UsageError(
            f"a cell of {cell_px} px does not divide the tile of {tile_px} px; pass "
            f"a --cell-px that does, such as {tile_px // 2}"
        )


def _check_number(tiles: int, cell_px: int, tile_px: int) -> None:
    """Raise GlioError if a map of so many tiles would have more cells than fit into memory."""

    def cells(side: int) -> int:
        return tiles * (tile_px // side) ** 2

    if cells(cell_px) > MOST_CELLS and cell_px < tile_px:
        sides = [side for side in range(cell_px, tile_px) if tile_px % side == 0]
        least = next((side for side in sides if cells(side) <= MOST_CELLS), tile_px)
        raise GlioError(
            f"--cell-px {cell_px} makes {cells(cell_px):,} cells of this slide, more than "
            f"{MOST_CELLS:,}; pass {least} or more"
        )


class DensityMap:
    """Nucleus and valid pixels of every cell of a slide, summed exactly.

    Parameters
    ----------
    grid : TileGrid
    tile_px : int
        Side of a tile in model px.
    cell_px : int
        Side of a cell in model px; divides `tile_px`.
    outlines : Outlines
        Levels of the outlines within which pixels are counted; by default masks are fed.
    per_tissue : bool
        Whether every density is of the tissue, else of the area inside the slide, glass included.
    """

    def __init__(
        self,
        grid: TileGrid,
        tile_px: int,
        cell_px: int,
        outlines: Outlines = OF_MASKS,
        *,
        per_tissue: bool = True,
    ) -> None:
        check_cells(cell_px, tile_px)
        _check_number(len(grid), cell_px, tile_px)
        self.grid = grid
        self.tile_px = tile_px
        self.cell_px = cell_px
        self.outlines = outlines
        self.per_tissue = per_tissue
        self.cells_a_tile = tile_px // cell_px
        shape = (grid.rows * self.cells_a_tile, grid.columns * self.cells_a_tile)
        self.outlined_px: NDArray[np.int64] = np.zeros((3, *shape), dtype=np.int64)
        """Pixels within the inner, the deciding and the outer outline, (3, rows, columns)."""
        self.valid_px = np.zeros(shape, dtype=np.int64)
        self.status = np.zeros((grid.rows, grid.columns), dtype=np.uint8)
        self.tissue = np.ones(shape, dtype=np.bool_)
        """Cells that hold tissue; the others of a measured tile are glass and have no value."""
        self.tissue_share = np.ones(shape)
        """Share of each cell's valid area that is tissue, 0 to 1; the rest of it is glass."""
        self.least_valid_share = MIN_VALID_SHARE
        """Share of a cell that must be valid for it to have a value; of a region any is enough."""

    @property
    def nucleus_px(self) -> NDArray[np.int64]:
        """Pixels of nucleus in each cell, (rows, columns)."""
        return np.asarray(self.outlined_px[1])

    def feed(self, tile: Measured | LeftOut) -> None:
        """Count the pixels of a tile, or record why it is left out: its cells have no value.

        Feeding a tile again replaces its counts. The status is set last, so that an interrupted
        tile counts as not yet measured.
        """
        row, column = tile.spec.row, tile.spec.column
        if isinstance(tile, LeftOut):
            self.status[row, column] = tile.reason
            return
        n, outlines = self.cells_a_tile, self.outlines
        cells = np.s_[..., row * n : (row + 1) * n, column * n : (column + 1) * n]
        kernels.count_nuclei(
            tile.levels,
            tile.valid,
            (outlines.inner, outlines.nucleus, outlines.outer),
            self.cell_px,
            self.outlined_px[cells],
            self.valid_px[cells],
        )
        self.status[row, column] = Status.MEASURED

    def knows(self, spec: TileSpec) -> bool:
        """Return whether a tile has been measured or left out."""
        return bool(self.status[spec.row, spec.column] != Status.NO_TISSUE)

    def missing(self, specs: Iterable[TileSpec]) -> list[TileSpec]:
        """Return those tiles that have been neither measured nor left out."""
        return [spec for spec in specs if not self.knows(spec)]

    def known_tiles(self) -> int:
        """Return the number of tiles that have been measured or left out."""
        return int(np.count_nonzero(self.status))

    def left_out(self) -> Counter[Status]:
        """Return how many tiles were left out for each reason."""
        counts = np.bincount(self.status.ravel(), minlength=len(Status)).tolist()
        return +Counter({status: counts[status] for status in Status if status > Status.MEASURED})

    @property
    def valid_share(self) -> NDArray[np.float64]:
        """Share of each cell that lies inside the slide, (rows, columns), 0 to 1."""
        return self.valid_px / self.cell_px**2

    @property
    def trusted(self) -> NDArray[np.bool_]:
        """Cells that have a value, (rows, columns)."""
        return (self.valid_share >= self.least_valid_share) & (self.valid_px > 0) & self.tissue

    @property
    def density(self) -> NDArray[np.float64]:
        """Nucleus area / area of each cell, (rows, columns), 0 to 1; NaN = no value.

        The area is that of the tissue in the cell, or with `per_tissue` False its valid area.
        """
        return self._density_within(1)

    @property
    def density_low(self) -> NDArray[np.float64]:
        """The density by the inner outline of each nucleus, else as `density`."""
        return self._density_within(0)

    @property
    def density_high(self) -> NDArray[np.float64]:
        """The density by the outer outline of each nucleus, else as `density`."""
        return self._density_within(2)

    def _density_within(self, outline: int) -> NDArray[np.float64]:
        area_px = self.area_px
        density = np.full(self.valid_px.shape, np.nan)
        np.divide(self.counted_px(outline), area_px, out=density, where=area_px > 0)
        return density

    @property
    def density_of_tile(self) -> NDArray[np.float64]:
        """Nucleus area / valid area of each cell as in the paper, glass included; NaN = no value.

        Where a cell is all tissue, it is the density of its tissue.
        """
        density = np.full(self.valid_px.shape, np.nan)
        np.divide(self.nucleus_px, self.valid_px, out=density, where=self.trusted)
        return density

    @property
    def area_px(self) -> NDArray[np.float64]:
        """The area that the density of each cell is of, (rows, columns), in model px; 0 = none."""
        return self.tissue_px if self.per_tissue else np.where(self.trusted, self.valid_px, 0.0)

    def counted_px(self, outline: int) -> NDArray[np.float64]:
        """Return the pixels of nucleus that count in each cell, (rows, columns); 0 without a value.

        `outline` is 0, 1 or 2, the inner, the deciding or the outer one. No cell counts more
        nucleus than it has tissue.
        """
        return np.asarray(np.minimum(self.outlined_px[outline], self.area_px))

    @property
    def sparse(self) -> NDArray[np.bool_]:
        """Cells with a value of which less than `SPARSE_SHARE` is tissue, (rows, columns)."""
        return self.trusted & (self.tissue_px < SPARSE_SHARE * self.cell_px**2)

    @property
    def straddling(self) -> NDArray[np.bool_]:
        """Cells whose class hangs on where outlines are drawn, (rows, columns)."""
        return np.asarray(classify(self.density_low) != classify(self.density_high))

    @property
    def cell_l0(self) -> tuple[float, float]:
        """Width and height of a cell in level-0 px."""
        width, height = self.grid.tile_l0
        return width / self.cells_a_tile, height / self.cells_a_tile

    @property
    def cell_edges_l0(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Edges of the columns and of the rows of cells in level-0 px."""
        rows, columns = self.valid_px.shape
        width, height = self.cell_l0
        return np.linspace(0, columns * width, columns + 1), np.linspace(0, rows * height, rows + 1)

    @property
    def cell_status(self) -> NDArray[np.uint8]:
        """Status of each cell, (rows, columns) uint8: its tile's, or that it holds no tissue."""
        n = self.cells_a_tile
        of_tile = self.status.repeat(n, axis=0).repeat(n, axis=1)
        return np.where(self.tissue, of_tile, np.uint8(Status.NO_TISSUE))

    def cell_box(self, row: int, column: int) -> tuple[int, int, int, int]:
        """Return left, top, right, bottom of a cell in level-0 px, clipped to the slide."""
        width, height = self.cell_l0
        right = min(round((column + 1) * width), self.grid.size_l0[0])
        bottom = min(round((row + 1) * height), self.grid.size_l0[1])
        return round(column * width), round(row * height), right, bottom

    @property
    def tissue_px(self) -> NDArray[np.float64]:
        """Tissue of each cell with a value, (rows, columns), in model px; 0 in the others."""
        return np.where(self.trusted, self.valid_px * self.tissue_share, 0)

    def mean_density(self) -> float:
        """Return nucleus area / area over all cells with a value; NaN if there is none.

        Areas are those of `density`. The tissue is the better one: cells at its rim hold glass, the
        more of it, the larger they are, and a ragged section would seem less dense than a compact
        one.
        """
        return self._means()[1]

    def mean_band(self) -> tuple[float, float]:
        """Return the mean density by the inner and by the outer outline; NaN if there is none."""
        low, _, high = self._means()
        return low, high

    def _means(self) -> tuple[float, float, float]:
        total = float(self.area_px.sum())
        if not total:
            return math.nan, math.nan, math.nan
        low, middle, high = (float(self.counted_px(outline).sum()) / total for outline in range(3))
        return low, middle, high

    def merged(self, factor: int) -> DensityMap:
        """Return a map of cells `factor` times as wide and high; it divides the cells of a tile."""
        merged = DensityMap(
            self.grid,
            self.tile_px,
            self.cell_px * factor,
            self.outlines,
            per_tissue=self.per_tissue,
        )
        rows, columns = merged.valid_px.shape

        def blocks(cells: NDArray[Any]) -> NDArray[Any]:
            return cells.reshape(rows, factor, columns, factor)

        for px, of_cells in zip(merged.outlined_px, self.outlined_px, strict=True):
            px[:] = blocks(of_cells).sum(axis=(1, 3))
        merged.valid_px[:] = blocks(self.valid_px).sum(axis=(1, 3))
        merged.tissue[:] = blocks(self.tissue).any(axis=(1, 3))
        tissue_px = blocks(self.valid_px * self.tissue_share).sum(axis=(1, 3))
        merged.tissue_share[:] = tissue_px / np.maximum(merged.valid_px, 1)
        merged.status[:] = self.status
        return merged

    def measured_tiles(self) -> int:
        """Return the number of tiles that were measured."""
        return int((self.status == Status.MEASURED).sum())

    def class_shares(self) -> NDArray[np.float64]:
        """Return the share of the tissue in each of the six classes; zeros if there is none."""
        classes, tissue_px = classify(self.density), self.tissue_px
        areas = np.array([tissue_px[classes == k].sum() for k in range(len(CLASS_NAMES))])
        return np.asarray(areas / (areas.sum() or 1))
