"""A mask lies where it was drawn: on the scan area, or on the part that QuPath shows."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from gliorun.measuring.drawn import MOST_PX, fits_both
from gliorun.measuring.tissue import read_tissue

BOUNDS = 4000, 1000, 7000, 5000


@pytest.mark.parametrize("side_l0", [10, 25, 500])
def test_a_mask_of_the_bounds_lies_in_them(tmp_path, side_l0):
    """QuPath exports the slide as it shows it; stretched over all, every mark lay elsewhere."""
    mask = np.zeros((4000 // side_l0, 3000 // side_l0), np.uint8)
    mask[-2000 // side_l0 :, : 1000 // side_l0] = 1
    Image.fromarray(mask).save(tmp_path / "mask.png")
    tissue = read_tissue(tmp_path / "mask.png", (8000, 6000), BOUNDS)
    edges = np.arange(0, 8001, 1000.0), np.arange(0, 6001, 1000.0)
    wanted = np.zeros((6, 8))
    wanted[3:5, 4] = 1
    np.testing.assert_allclose(tissue.shares(*edges), wanted, atol=0.001 * side_l0)


def test_a_mask_of_the_scan_area_lies_on_all_of_it_whatever_the_bounds(tmp_path):
    mask = np.zeros((60, 80), np.uint8)
    mask[10:30, 40:60] = 1
    Image.fromarray(mask).save(tmp_path / "mask.png")
    tissue = read_tissue(tmp_path / "mask.png", (8000, 6000), BOUNDS)
    np.testing.assert_array_equal(tissue.mask, mask > 0)


def test_a_mask_of_small_bounds_on_a_vast_scan_area_stays_small(tmp_path):
    Image.new("L", (400, 300), 1).save(tmp_path / "mask.png")
    bounds = 100_000, 50_000, 100_400, 50_300
    tissue = read_tissue(tmp_path / "mask.png", (200_000, 90_000), bounds)
    assert tissue.mask.size <= 1.001 * MOST_PX
    rows, columns = (np.flatnonzero(tissue.mask.any(axis=axis)) for axis in (1, 0))
    px_l0 = 1 / tissue.px_per_l0[0]
    assert columns[0] * px_l0 == pytest.approx(100_000, abs=px_l0)
    assert rows[0] * px_l0 == pytest.approx(50_000, abs=px_l0)


@pytest.mark.parametrize(
    ("bounds", "wanted"),
    [((0, 0, 8000, 6000), False), ((1000, 500, 5000, 3500), True), (BOUNDS, False)],
)
def test_bounds_in_the_shape_of_the_slide_are_in_doubt(bounds, wanted):
    assert fits_both((8000, 6000), bounds) == wanted
