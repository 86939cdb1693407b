"""The tile grid of a slide; tiles have a fixed physical size."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from gliorun.reading.scale import SAME_SCALE

STRIP_TILES = 16
"""Width of the vertical strips in which a slide is read. Neighbouring tiles share tiles of the
file; those of one strip fit into the cache, those of a whole row of a large slide do not."""


Box = tuple[int, int, int, int]
"""Left, top, right, bottom in level-0 px."""


@dataclass(frozen=True, slots=True)
class TileSpec:
    """One tile: its place in the grid, and its corner and size in level-0 px."""

    column: int
    row: int
    x_l0: int
    y_l0: int
    width_l0: int
    height_l0: int


@dataclass(frozen=True, slots=True)
class TileGrid:
    """A grid of tiles that covers a slide from its top left corner and may extend beyond its end.

    Parameters
    ----------
    size_l0 : (int, int)
        Width and height of the slide in level-0 px.
    tile_l0 : (float, float)
        Width and height of a tile in level-0 px.
    """

    size_l0: tuple[int, int]
    tile_l0: tuple[float, float]

    @classmethod
    def over(
        cls, size_l0: tuple[int, int], slide_mpp: tuple[float, float], tile_px: int, mpp: float
    ) -> TileGrid:
        """Cover a slide of `slide_mpp` µm/px (x, y) with tiles of `tile_px` px at `mpp` µm/px."""
        width, height = (
            float(tile_px) if abs(of_slide / mpp - 1) <= SAME_SCALE else tile_px * mpp / of_slide
            for of_slide in slide_mpp
        )
        return cls(size_l0, (width, height))

    @property
    def columns(self) -> int:
        """Number of tiles along x."""
        return math.ceil(self.size_l0[0] / self.tile_l0[0])

    @property
    def rows(self) -> int:
        """Number of tiles along y."""
        return math.ceil(self.size_l0[1] / self.tile_l0[1])

    def tile(self, column: int, row: int) -> TileSpec:
        """Return one tile; neighbours meet without gap or overlap."""
        width, height = self.tile_l0
        left, right = round(column * width), round((column + 1) * width)
        top, bottom = round(row * height), round((row + 1) * height)
        return TileSpec(column, row, left, top, right - left, bottom - top)

    def __iter__(self) -> Iterator[TileSpec]:
        """Yield every tile, row by row."""
        for row in range(self.rows):
            for column in range(self.columns):
                yield self.tile(column, row)

    def __len__(self) -> int:
        return self.rows * self.columns


def in_strips(tiles: Iterable[TileSpec]) -> list[TileSpec]:
    """Return tiles in the order to read them: down vertical strips, row by row in each."""
    return sorted(tiles, key=lambda spec: (spec.column // STRIP_TILES, spec.row, spec.column))
