"""Squares that are few, round and named the same by everyone."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gliorun.findings.squares import MAX_SQUARES, NICE_MM, Squares, row_name

lengths = st.floats(0.001, 400)


@pytest.mark.parametrize(
    ("index", "name"), [(0, "A"), (25, "Z"), (26, "AA"), (51, "AZ"), (52, "BA"), (702, "AAA")]
)
def test_rows_are_named_as_in_a_spreadsheet(index, name):
    assert row_name(index) == name


@pytest.mark.parametrize(
    ("width", "height", "side"),
    [(1.2, 0.8, 0.1), (1.3, 0.8, 0.2), (15, 40, 5), (0.01, 0.02, 0.1), (700, 20, 50)],
)
def test_the_side_is_the_smallest_round_one_that_keeps_them_few(width, height, side):
    assert Squares(width, height).side_mm == side


@pytest.mark.parametrize("columns", range(1, 13))
def test_a_length_of_whole_squares_has_no_empty_last_one(columns):
    # 11 × 400 px × 0.25 µm = 1.1 mm, and 1.1 / 0.1 is more than 11
    assert Squares(columns * 400 * 0.25 / 1000, 0.05).columns == columns
    assert Squares(1.2, columns * 0.1).rows == columns


def test_the_last_square_may_be_cut():
    squares = Squares(1.11, 0.32)
    assert (squares.columns, squares.rows) == (12, 4)
    assert squares.name_at(1.105, 0.31) == "D12"


def test_a_slide_smaller_than_a_square_is_one_square():
    squares = Squares(0.004, 0.0025)
    assert (squares.columns, squares.rows) == (1, 1)
    assert squares.name_at(0.003, 0.001) == "A1"


def test_rows_are_letters_down_and_columns_numbers_to_the_right():
    squares = Squares(10, 6)
    assert squares.side_mm == 1
    assert squares.name_at(5.5, 1.5) == "B6"
    assert squares.name_at(3.2, 3.9) == "D4"


def test_a_point_on_a_line_belongs_to_the_square_after_it():
    squares = Squares(1.2, 1.2)
    assert squares.name_at(0.3, 0.7) == "H4"  # 0.3 / 0.1 is less than 3, 0.7 / 0.1 less than 7


@pytest.mark.parametrize(
    ("x", "y", "name"), [(-1, 2.5, "C1"), (99, 2.5, "C10"), (4.5, -3, "A5"), (10, 6, "F10")]
)
def test_a_point_off_the_slide_takes_the_nearest_square(x, y, name):
    assert Squares(10, 6).name_at(x, y) == name


@given(lengths, lengths)
def test_squares_cover_the_slide_and_are_few(width, height):
    squares = Squares(width, height)
    assert squares.side_mm in NICE_MM
    assert max(squares.columns, squares.rows) <= MAX_SQUARES
    assert squares.columns * squares.side_mm >= width * (1 - 1e-5)
    assert (squares.columns - 1) * squares.side_mm < width
    assert squares.rows * squares.side_mm >= height * (1 - 1e-5)


@given(lengths, lengths, st.floats(0, 1), st.floats(0, 1))
def test_the_name_is_that_of_the_square_around_the_point(width, height, x, y):
    squares = Squares(width, height)
    name = squares.name_at(x * width, y * height)
    row, column = ord(name[0]) - ord("A"), int(name[1:]) - 1
    for at, index in ((x * width, column), (y * height, row)):
        assert index <= at / squares.side_mm + 1e-5
        assert math.floor(at / squares.side_mm - 1e-5) <= index
