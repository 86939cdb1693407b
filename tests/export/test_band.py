"""The levels of the inner and the outer outline lie one pixel from that of the nuclei."""

from __future__ import annotations

import numpy as np

from glioexport.band import band_of


def ramp(slope: int, radius_px: float) -> np.ndarray:
    """Levels that fall by `slope` a pixel from the centre of a disc whose edge is at 128."""
    y, x = np.indices((101, 101)) - 50
    return np.clip(128 + slope * (radius_px - np.hypot(x, y)), 0, 255).round().astype(np.uint8)


def test_one_pixel_is_as_many_levels_as_the_network_falls_over_it():
    for slope in (5, 20):
        inner, outer = band_of([ramp(slope, 30.2)], 128)
        # a step by the four neighbours is a pixel along the axes and 0.7 across them
        assert 0.8 * slope <= inner - 128 <= slope + 1
        assert 0.8 * slope <= 128 - outer <= slope + 1


def test_all_tiles_count_together():
    tiles = [ramp(5, 12.0), ramp(20, 33.0)]
    steep, flat = band_of(tiles[1:], 128), band_of(tiles[:1], 128)
    both = band_of(iter(tiles), 128)
    assert flat[0] <= both[0] <= steep[0]
    assert steep[1] <= both[1] <= flat[1]


def test_another_level_of_the_nuclei_has_another_band():
    inner, outer = band_of([ramp(10, 30.2)], 200)
    assert 207 <= inner <= 211
    assert 189 <= outer <= 193


def test_a_network_that_gives_masks_has_no_band():
    mask = (ramp(20, 30.0) >= 128).astype(np.uint8) * 255
    assert band_of([mask], 128) == (128, 128)
