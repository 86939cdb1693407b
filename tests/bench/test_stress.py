"""Changes of a tile: by how much, and what they must leave alone."""

import numpy as np
import pytest

from gliobench.stains import levels_of_density
from gliobench.stress import CHANGES, blur, coarse, jpeg, stain, turn_hue
from glioexport.augment import STAINS
from gliorun import demo
from gliorun.measuring.colour import DENSITY_OF_LEVEL


@pytest.fixture(scope="module")
def tissue():
    return demo.draw_tissue(np.full((121, 95), 0.2, np.float32), seed=1).pixels


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_change_keeps_shape_and_type_and_is_visible(change, tissue):
    before = tissue.copy()
    after = change(tissue)
    assert after.shape == tissue.shape
    assert after.dtype == np.uint8
    assert np.abs(after.astype(int) - tissue).mean() > 1
    assert np.array_equal(tissue, before)  # not in place


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_white_stays_white(change):
    white = np.full((33, 47, 3), 255, np.uint8)
    assert change(white).min() >= 254


def test_a_stain_gains_what_is_asked():
    amounts = np.array([[[0.5, 0.3, 0.0], [0.9, 0.0, 0.0], [0.0, 0.8, 0.0]]])
    image = levels_of_density(amounts @ STAINS)
    measured = DENSITY_OF_LEVEL[stain(image, haematoxylin=0.7, eosin=1.3)] @ np.linalg.inv(STAINS)
    wanted = [[[0.35, 0.39, 0], [0.63, 0, 0], [0, 1.04, 0]]]
    assert measured == pytest.approx(np.array(wanted), abs=0.04)


def test_a_gain_of_one_and_a_turn_of_nothing_change_nothing(tissue):
    assert np.abs(stain(tissue, 1, 1).astype(int) - tissue).max() <= 1
    assert np.array_equal(turn_hue(tissue, 0), tissue)
    assert np.array_equal(turn_hue(tissue, 360), tissue)


def test_a_third_of_a_turn_makes_red_green():
    red = np.array([[[200, 10, 10]]], np.uint8)
    assert turn_hue(red, 120).tolist() == [[[10, 200, 10]]]


def test_greys_have_no_hue_to_turn():
    grey = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, axis=2)
    assert np.array_equal(turn_hue(grey, 77), grey)


def test_jpeg_loses_more_at_a_lower_quality(tissue):
    loss = [np.abs(jpeg(tissue, quality).astype(int) - tissue).mean() for quality in (95, 50, 10)]
    assert loss[0] < loss[1] < loss[2]


def test_blur_has_the_width_that_is_asked():
    point = np.zeros((41, 41, 3), np.uint8)
    point[:, 20:] = 255  # an edge: its slope is the Gaussian
    slope = np.diff(blur(point, 2.0)[20, :, 0].astype(float))
    places = np.arange(slope.size) - 19
    assert np.sqrt((slope * places**2).sum() / slope.sum()) == pytest.approx(2.0, abs=0.2)


def test_coarse_loses_what_is_finer_than_its_pixel_and_keeps_the_mean():
    fine = np.indices((40, 40)).sum(axis=0) % 2 * 200
    after = coarse(np.repeat(fine[..., None], 3, axis=2).astype(np.uint8), 2)
    assert after.std() == 0
    assert after.mean() == 100
