"""Tissue is found by its colour; glass and grey are left alone."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

import slides
from gliorun.reading.slide import Slide
from gliorun.reading.tiles import TileGrid, TileSpec
from gliorun.reading.tissue import MIN_SHARE, Tissue, find_tissue, otsu_level


def opaque(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.dstack([pixels, np.full(pixels.shape[:2], 255, np.uint8)])


def test_glass_has_no_tissue():
    overview = opaque(slides.glass(400, 300))
    assert not find_tissue(overview, (4000, 3000)).mask.any()


@pytest.mark.parametrize("level", [0, 60, 128, 200])
def test_a_grey_field_beside_glass_is_no_tissue(level):
    overview = opaque(slides.glass(400, 300))
    overview[50:200, 100:300, :3] = level
    assert not find_tissue(overview, (4000, 3000)).mask.any()


def test_transparent_pixels_are_no_tissue_whatever_their_colour():
    overview = opaque(slides.all_tissue(300, 200))
    overview[:, :150, 3] = 0
    mask = find_tissue(overview, (3000, 2000)).mask
    assert not mask[:, :150].any()
    assert mask[:, 160:].mean() > 0.95


def test_a_slide_that_is_nothing_but_transparent_has_no_tissue():
    assert not find_tissue(np.zeros((50, 80, 4), np.uint8), (500, 800)).mask.any()


def test_the_oval_of_the_synthetic_slide_is_found(small_slide):
    with Slide(small_slide.path) as slide:
        tissue = find_tissue(slide.overview(450), slide.size_l0)
    drawn = (small_slide.tissue.pixels.min(axis=-1) < 225)[2::4, 2::4]
    rows, columns = np.mgrid[0:325, 0:450]
    oval = ((columns / 450 - 0.5) / 0.46) ** 2 + ((rows / 325 - 0.5) / 0.44) ** 2 < 1
    assert tissue.mask.shape == drawn.shape == oval.shape
    assert (tissue.mask == oval).mean() > 0.98


def test_pale_tissue_beside_dark_tissue_is_not_lost():
    overview = opaque(slides.glass(600, 200))
    overview[50:150, 50:200, :3] = 120, 60, 140
    overview[50:150, 350:500, :3] = 215, 175, 205
    mask = find_tissue(overview, (6000, 2000)).mask
    assert mask[60:140, 60:190].all()
    assert mask[60:140, 360:490].all()
    assert not mask[:, 240:310].any()


def tile(x: int, y: int, side: int = 480) -> TileSpec:
    return TileSpec(0, 0, x, y, side, side)


def test_the_part_of_a_tile_outside_the_slide_counts_as_no_tissue():
    tissue = Tissue(np.ones((90, 120), bool), (0.125, 0.125))  # 960 x 720
    assert tissue.share(tile(0, 0)) == 1
    assert tissue.share(tile(480, 480)) == 0.5
    assert tissue.share(tile(720, 480)) == 0.25


def test_a_tile_is_measured_from_a_named_share_of_tissue():
    mask = np.zeros((100, 100), bool)
    mask[:, : int(100 * MIN_SHARE)] = True
    tissue = Tissue(mask, (100 / 480, 100 / 480))
    assert tissue.touches(tile(0, 0))
    mask[0, 0] = False
    assert not tissue.touches(tile(0, 0))


def test_a_tile_smaller_than_an_overview_pixel_still_has_a_share():
    tissue = Tissue(np.ones((4, 4), bool), (1 / 1000, 1 / 1000))
    assert [tissue.touches(spec) for spec in TileGrid((4000, 4000), (480.0, 480.0))].count(True)
    assert tissue.share(tile(2400, 2400)) == 1


def test_otsu_splits_two_groups_between_them():
    levels = np.array([10] * 50 + [12] * 50 + [200] * 30, np.uint8)
    assert 12 <= otsu_level(levels) < 200


def test_the_shares_of_cells_are_those_of_their_pixels():
    mask = np.random.default_rng(0).random((30, 50)) < 0.4
    tissue = Tissue(mask, (0.1, 0.1))
    columns, rows = np.arange(0, 501, 50.0), np.arange(0, 301, 100.0)
    shares = tissue.shares(columns, rows)
    assert shares.shape == (3, 10)
    for row, column in np.ndindex(shares.shape):
        part = mask[10 * row : 10 * row + 10, 5 * column : 5 * column + 5]
        assert shares[row, column] == pytest.approx(part.mean())


def test_cells_smaller_than_an_overview_pixel_take_that_pixel():
    mask = np.array([[True, False], [False, False]])
    shares = Tissue(mask, (0.01, 0.01)).shares(np.arange(0, 201, 20.0), np.arange(0, 201, 20.0))
    np.testing.assert_array_equal(shares[:5, :5], 1)
    assert shares[:, 5:].sum() == shares[5:].sum() == 0
