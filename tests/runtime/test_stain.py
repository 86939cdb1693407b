"""The stain of a slide is that of its ground, whatever nuclei there are."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from gliorun import demo
from gliorun.measuring.stain import fit_stain, glass_level
from gliorun.model.stainstatistic import StainStatistic

TARGET = StainStatistic(ground=(0.32, 0.69, 0.35))


def drawn(density: float) -> demo.SyntheticTissue:
    return demo.draw_tissue(np.full((240, 320), density, np.float32), seed=3)


def rgba(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.dstack([pixels, np.full(pixels.shape[:2], 255, np.uint8)])


def dark_is_nucleus(windows):
    """A network of one line: nuclei are dark in red, where eosin is not."""
    for window in windows:
        yield (window[..., 0] < 70).astype(np.uint8)


def test_the_same_tissue_has_the_same_stain_with_and_without_nuclei():
    some, none = drawn(0.30), drawn(0.001)
    assert some.nuclei.mean() > 0.15
    dense = fit_stain([rgba(some.pixels)], dark_is_nucleus, TARGET)
    bare = fit_stain([rgba(none.pixels)], dark_is_nucleus, TARGET)
    np.testing.assert_allclose(dense.ground, bare.ground, rtol=0.05)
    all_of_it = fit_stain([rgba(some.pixels)], dark_is_nucleus, None)
    assert all_of_it.ground[0] > 1.06 * bare.ground[0]


def test_a_network_without_a_target_is_not_asked():
    def never(windows):
        raise AssertionError("asked")

    assert fit_stain([rgba(drawn(0.1).pixels)], never, None) is not None


def test_too_little_tissue_has_no_stain():
    glass = np.full((240, 320, 4), 250, np.uint8)
    assert fit_stain([glass], dark_is_nucleus, TARGET) is None
    assert fit_stain([], dark_is_nucleus, TARGET) is None


def test_tissue_that_is_all_nucleus_keeps_the_stain_of_all_of_it():
    def all_nucleus(windows):
        for window in windows:
            yield np.ones(window.shape[:2], np.uint8)

    image = rgba(drawn(0.2).pixels)
    whole = fit_stain([image], all_nucleus, None)
    assert fit_stain([image], all_nucleus, TARGET) == whole


@pytest.mark.parametrize("glass", [(165, 156, 158), (241, 240, 243)])
def test_the_glass_is_what_is_bright_beside_the_tissue(glass):
    overview = np.full((100, 100, 4), 255, np.uint8)
    overview[..., :3] = glass
    overview[:5, :, :3] = 20, 20, 120  # pen
    overview[5:10, :, 3] = 0
    tissue = np.zeros((100, 100), bool)
    tissue[30:60, 30:60] = True
    overview[tissue, :3] = 200, 120, 180
    assert glass_level(overview, tissue) == glass


def test_an_overview_that_is_all_tissue_shows_no_glass():
    overview = np.full((100, 100, 4), 200, np.uint8)
    tissue = np.ones((100, 100), bool)
    tissue[0, 0] = False
    assert glass_level(overview, tissue) is None


def test_tissue_cut_by_transparent_areas_is_no_glass():
    """At their rims a coarser mask leaves tissue out, on a sparse slide much of it."""
    overview = np.full((400, 400, 4), 255, np.uint8)
    overview[..., :3] = 178, 115, 187
    rows, columns = np.indices((400, 400)) // 50
    overview[(rows + columns) % 2 == 0, 3] = 0
    whole = overview[..., 3].reshape(50, 8, 50, 8).min(axis=(1, 3)) > 0
    inside = np.pad(whole, 1)
    parts = [inside[i : i + 50, j : j + 50] for i in range(3) for j in range(3)]
    tissue = np.logical_and.reduce(parts)
    assert 0 < tissue.sum() < 0.5 * whole.sum()
    assert glass_level(overview, tissue) is None
    overview[300:] = 243, 240, 241, 255
    tissue[37:] = False
    assert glass_level(overview, tissue) == (243, 240, 241)
