"""The named squares of a map: a letter for the row, a number for the column, whole tiles wide."""

from __future__ import annotations

import math
from dataclasses import dataclass

from gliorun.reading.scale import Scale
from gliorun.reading.tiles import TileGrid

MAX_SQUARES = 12
SLACK = 1e-6
"""Part of a square that rounding may add at a line between two."""


@dataclass(frozen=True, slots=True)
class Squares:
    """Squares over a slide, from its top left corner, that begin and end with tiles.

    So there is one lattice on a map: its cells, and every so many of them a line.
    """

    grid: TileGrid

    @property
    def side_tiles(self) -> int:
        """Side of a square in tiles: the smallest round number of them that keeps squares few."""
        needed = math.ceil(max(self.grid.columns, self.grid.rows) / MAX_SQUARES)
        power = int(10 ** (len(str(needed)) - 1))
        return next(part * power for part in (1, 2, 5, 10) if part * power >= needed)

    @property
    def side_l0(self) -> tuple[float, float]:
        """Width and height of a square in level-0 px."""
        width, height = self.grid.tile_l0
        return self.side_tiles * width, self.side_tiles * height

    @property
    def columns(self) -> int:
        """Number of squares along x; the last may be cut."""
        return math.ceil(self.grid.columns / self.side_tiles)

    @property
    def rows(self) -> int:
        """Number of squares along y; the last may be cut."""
        return math.ceil(self.grid.rows / self.side_tiles)

    def side_mm(self, scale: Scale) -> tuple[float, float]:
        """Return width and height of a square in mm; they differ by no more than a scale allows."""
        width, height = self.side_l0
        return width * scale.x_mpp / 1000, height * scale.y_mpp / 1000

    def name_at(self, x_l0: float, y_l0: float) -> str:
        """Return the name of the square that holds a point in level-0 px, as "B6".

        A point on a line belongs to the square to its right, or below it; one off the slide, to
        the nearest square.
        """
        width, height = self.side_l0
        column, row = int(x_l0 / width + SLACK), int(y_l0 / height + SLACK)
        column, row = min(max(column, 0), self.columns - 1), min(max(row, 0), self.rows - 1)
        return f"{row_name(row)}{column + 1}"


def row_name(index: int) -> str:
    """Name rows A … Z, AA, AB … as spreadsheets do."""
    name = ""
    index += 1
    while index:
        index, letter = divmod(index - 1, 26)
        name = chr(ord("A") + letter) + name
    return name
