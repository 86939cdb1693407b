"""Windows cover an image of any size."""

from __future__ import annotations

import numpy as np
import pytest

from gliorun.reading.windows import pad_to, segment, starts, windows

SIZES = [(480, 480), (300, 200), (500, 300), (961, 480), (1000, 1441), (1, 1)]


@pytest.mark.parametrize("side", [1, 479, 480, 481, 959, 960, 961, 2000])
def test_windows_reach_both_ends_leave_no_gap_and_stay_inside(side):
    places = starts(side, 480)
    covered = np.zeros(max(side, 480), bool)
    for start in places:
        assert start >= 0
        assert start + 480 <= covered.size
        covered[start : start + 480] = True
    assert covered.all()
    assert len(set(places)) == len(places) == -(-side // 480)


def test_a_small_image_is_mirrored_at_its_right_and_lower_border():
    image = np.arange(6, dtype=np.uint8).reshape(2, 3)
    np.testing.assert_array_equal(
        pad_to(image, 4), [[0, 1, 2, 2], [3, 4, 5, 5], [3, 4, 5, 5], [0, 1, 2, 2]]
    )


def test_an_image_that_fills_a_window_is_not_copied():
    image = np.zeros((480, 500, 3), np.uint8)
    assert pad_to(image, 480) is image


@pytest.mark.parametrize("size", SIZES)
def test_every_window_has_the_side_asked_for(size):
    image = np.zeros((*size, 3), np.uint8)
    assert {window.shape for window in windows(image, 480)} == {(480, 480, 3)}


@pytest.mark.parametrize("size", SIZES)
def test_segmenting_with_the_identity_gives_the_image_back(size):
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    mask = segment(image, lambda parts: (part[..., 1] for part in parts), 480)
    np.testing.assert_array_equal(mask, image[..., 1])


def test_a_predictor_that_drops_a_window_is_found_out():
    image = np.zeros((960, 480, 3), np.uint8)
    with pytest.raises(ValueError, match="zip"):
        segment(image, lambda parts: [part[..., 0] for part in parts][1:], 480)
