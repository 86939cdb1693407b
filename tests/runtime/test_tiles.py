"""The grid covers a slide once, at the model's scale."""

from __future__ import annotations

import numpy as np
import pytest

from gliorun.reading.tiles import STRIP_TILES, TileGrid, in_strips


def over(size: tuple[int, int], mpp: tuple[float, float] = (0.25, 0.25)) -> TileGrid:
    return TileGrid.over(size, mpp, tile_px=480, mpp=0.25)


@pytest.mark.parametrize("mpp", [(0.25, 0.25), (0.263, 0.263), (0.499, 0.31), (0.1, 0.6)])
@pytest.mark.parametrize("size", [(2220, 2967), (479, 481), (960, 480), (1, 1)])
def test_every_pixel_of_the_slide_lies_in_exactly_one_tile(size, mpp):
    width, height = size
    hits = np.zeros((height + 5000, width + 5000), np.uint8)
    for spec in over(size, mpp):
        hits[spec.y_l0 : spec.y_l0 + spec.height_l0, spec.x_l0 : spec.x_l0 + spec.width_l0] += 1
    assert (hits[:height, :width] == 1).all()
    assert hits.max() == 1


def test_no_tile_lies_wholly_outside_the_slide():
    for spec in over((2220, 2967), (0.499, 0.31)):
        assert spec.x_l0 < 2220
        assert spec.y_l0 < 2967


def test_tiles_come_row_by_row_and_know_their_place():
    grid = over((1000, 700))
    assert [(spec.column, spec.row) for spec in grid] == [
        (0, 0), (1, 0), (2, 0), (0, 1), (1, 1), (2, 1),
    ]  # fmt: skip
    assert len(grid) == 6
    assert list(grid)[4] == grid.tile(1, 1)


def test_a_20x_slide_has_tiles_of_half_the_side():
    spec = over((4800, 4800), (0.5, 0.5)).tile(3, 2)
    assert (spec.width_l0, spec.height_l0) == (240, 240)
    assert (spec.x_l0, spec.y_l0) == (720, 480)


def test_pixels_that_are_not_square_give_tiles_that_are_not_square():
    spec = over((4800, 4800), (0.25, 0.5)).tile(0, 0)
    assert (spec.width_l0, spec.height_l0) == (480, 240)


@pytest.mark.parametrize("mpp", [0.246, 0.2529, 0.2549])
def test_a_slide_within_two_percent_of_the_scale_is_not_resampled(mpp):
    assert over((960, 960), (mpp, mpp)).tile_l0 == (480.0, 480.0)


@pytest.mark.parametrize("mpp", [0.243, 0.257])
def test_a_slide_further_off_keeps_the_physical_side(mpp):
    side, _ = over((9600, 9600), (mpp, mpp)).tile_l0
    assert side * mpp == pytest.approx(120)


def test_tiles_are_read_down_strips_that_hold_every_tile_once():
    grid = TileGrid((40 * 480, 3 * 480), (480.0, 480.0))
    tiles = in_strips(grid)
    assert sorted((t.row, t.column) for t in tiles) == [(t.row, t.column) for t in grid]
    first = [(t.row, t.column) for t in tiles[: 3 * STRIP_TILES]]
    assert first == [(row, column) for row in range(3) for column in range(STRIP_TILES)]
    assert (tiles[3 * STRIP_TILES].row, tiles[3 * STRIP_TILES].column) == (0, STRIP_TILES)
