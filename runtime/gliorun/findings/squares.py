"""The named squares of a map: a letter for the row, a number for the column, a round side in mm."""

from __future__ import annotations

import math
from dataclasses import dataclass

NICE_MM = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50)
MAX_SQUARES = 12
SLACK = 1e-6
"""Part of a square that rounding may add: 1.1 mm are eleven squares of 0.1 mm, not twelve."""


@dataclass(frozen=True, slots=True)
class Squares:
    """Squares over a slide of `width_mm` x `height_mm`, from its top left corner."""

    width_mm: float
    height_mm: float

    @property
    def side_mm(self) -> float:
        """Side of a square: the smallest round one that keeps them few."""
        longest = max(self.width_mm, self.height_mm)
        return next((side for side in NICE_MM if _count(longest, side) <= MAX_SQUARES), NICE_MM[-1])

    @property
    def columns(self) -> int:
        """Number of squares along x; the last may be cut."""
        return _count(self.width_mm, self.side_mm)

    @property
    def rows(self) -> int:
        """Number of squares along y; the last may be cut."""
        return _count(self.height_mm, self.side_mm)

    def name_at(self, x_mm: float, y_mm: float) -> str:
        """Return the name of the square that holds a point, as "B6".

        A point on a line belongs to the square to its right, or below it; one off the slide, to
        the nearest square.
        """
        column, row = (int(at / self.side_mm + SLACK) for at in (x_mm, y_mm))
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


def _count(length_mm: float, side_mm: float) -> int:
    return max(1, math.ceil(length_mm / side_mm - SLACK))
