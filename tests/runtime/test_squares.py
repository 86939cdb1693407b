"""Squares of whole tiles that are few and named the same by everyone."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gliorun.findings.squares import MAX_SQUARES, Squares, row_name
from gliorun.reading.scale import Scale
from gliorun.reading.tiles import TileGrid

TILE = 480.0
lengths = st.integers(1, 400_000)
tiles = st.floats(60, 1200)


def squares(columns: float, rows: float) -> Squares:
    """Return the squares over a slide of so many tiles."""
    return Squares(TileGrid((round(columns * TILE), round(rows * TILE)), (TILE, TILE)))


@pytest.mark.parametrize(
    ("index", "name"), [(0, "A"), (25, "Z"), (26, "AA"), (51, "AZ"), (52, "BA"), (702, "AAA")]
)
def test_rows_are_named_as_in_a_spreadsheet(index, name):
    assert row_name(index) == name


@pytest.mark.parametrize(
    ("columns", "rows", "side"),
    [
        (12, 8, 1),
        (13, 8, 2),
        (24, 8, 2),
        (24.1, 8, 5),
        (60, 61, 10),
        (834, 667, 100),
        (0.1, 0.2, 1),
    ],
)
def test_the_side_is_the_smallest_round_number_of_tiles_that_keeps_them_few(columns, rows, side):
    assert squares(columns, rows).side_tiles == side


def test_a_square_ends_where_cells_do():
    of_slide = squares(20, 9)
    assert of_slide.side_l0 == (2 * TILE, 2 * TILE)
    assert (of_slide.columns, of_slide.rows) == (10, 5)  # the last row is cut
    assert of_slide.side_mm(Scale(0.25, 0.25, "slide")) == pytest.approx((0.24, 0.24))


def test_a_slide_smaller_than_a_square_is_one_square():
    assert (squares(0.4, 0.2).columns, squares(0.4, 0.2).rows) == (1, 1)
    assert squares(0.4, 0.2).name_at(100, 50) == "A1"


def test_rows_are_letters_down_and_columns_numbers_to_the_right():
    assert squares(10, 6).name_at(5.5 * TILE, 1.5 * TILE) == "B6"
    assert squares(10, 6).name_at(3.2 * TILE, 3.9 * TILE) == "D4"


def test_a_point_on_a_line_belongs_to_the_square_after_it():
    grid = TileGrid((4000, 4000), (100 * 1.1, 100 / 3))  # 3 × 1.1 is more than 3.3, 7 / 3 × 3 less
    side = Squares(grid).side_l0
    assert Squares(grid).name_at(3 * side[0], 7 * side[1]) == "H4"


@pytest.mark.parametrize(
    ("x", "y", "name"), [(-1, 2.5, "C1"), (99, 2.5, "C10"), (4.5, -3, "A5"), (10, 6, "F10")]
)
def test_a_point_off_the_slide_takes_the_nearest_square(x, y, name):
    assert squares(10, 6).name_at(x * TILE, y * TILE) == name


@given(lengths, lengths, tiles, tiles)
def test_squares_cover_the_slide_and_are_few(width, height, across, down):
    of_slide = Squares(TileGrid((width, height), (across, down)))
    assert max(of_slide.columns, of_slide.rows) <= MAX_SQUARES
    assert of_slide.columns * of_slide.side_l0[0] >= width * (1 - 1e-9)
    assert (of_slide.columns - 1) * of_slide.side_l0[0] < width
    assert of_slide.rows * of_slide.side_l0[1] >= height * (1 - 1e-9)


@given(lengths, lengths, tiles, st.floats(0, 1), st.floats(0, 1))
def test_the_name_is_that_of_the_square_around_the_point(width, height, tile, x, y):
    of_slide = Squares(TileGrid((width, height), (tile, tile)))
    name = of_slide.name_at(x * width, y * height)
    row, column = ord(name[0]) - ord("A"), int(name[1:]) - 1
    for at, index, side in zip(
        (x * width, y * height), (column, row), of_slide.side_l0, strict=True
    ):
        assert index <= at / side + 1e-5
        assert math.floor(at / side - 1e-5) <= index
