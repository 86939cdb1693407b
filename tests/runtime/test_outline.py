"""Simplified outlines keep the area and stay within a pixel of the mask's, and are sound."""

from __future__ import annotations

import numpy as np
import pytest
import shapely

from gliorun.findings.nuclei import Nucleus, find_nuclei
from gliorun.findings.outline import simple_outlines_l0
from gliorun.reading.scale import Scale
from runtime.test_nuclei import SCALE, store_of, tissue


def nuclei_of(mask: np.ndarray, tile_l0: tuple[float, float] = (96, 96)) -> list[Nucleus]:
    return list(find_nuclei(store_of(mask, tile_l0), SCALE))


def both(nucleus: Nucleus) -> tuple[shapely.Polygon, shapely.Polygon]:
    """Return the simplified outline of a nucleus and the exact one."""
    simple, exact = simple_outlines_l0(nucleus), nucleus.outlines_l0()
    return shapely.Polygon(simple[0], simple[1:]), shapely.Polygon(exact[0], exact[1:])


def disc(radius_px: float, hole_px: float = 0) -> np.ndarray:
    y, x = np.mgrid[0:192, 0:192] - 95.3
    distance = np.hypot(x, y)
    return ((distance < radius_px) & (distance >= hole_px)).astype(np.uint8)


def test_outlines_of_tissue_have_a_third_of_the_corners_and_the_area_of_the_mask():
    outlines = [both(nucleus) for nucleus in nuclei_of(tissue(480, 960))]
    assert len(outlines) > 80
    corners = [tuple(map(shapely.get_num_coordinates, pair)) for pair in outlines]
    simple, exact = np.sum(corners, axis=0)
    assert simple < 0.4 * exact
    errors = [abs(simple.area / exact.area - 1) for simple, exact in outlines]
    assert max(errors) < 0.02
    assert np.mean(errors) < 0.005
    assert abs(sum(s.area for s, _ in outlines) / sum(e.area for _, e in outlines) - 1) < 2e-3
    distances = [shapely.hausdorff_distance(s.boundary, e.boundary) for s, e in outlines]
    assert max(distances) < 1.1
    assert all(simple.is_valid for simple, _ in outlines)


@pytest.mark.parametrize("radius_px", [5.1, 9.0, 40.0, 90.0])
def test_a_disc_stays_a_disc(radius_px):
    (nucleus,) = nuclei_of(disc(radius_px))
    simple, exact = both(nucleus)
    assert simple.area == pytest.approx(exact.area, rel=0.02)
    assert simple.centroid.distance(exact.centroid) < 0.3


def test_a_hole_is_kept_with_its_area():
    (nucleus,) = nuclei_of(disc(40, hole_px=20))
    simple, exact = both(nucleus)
    (hole,), (wanted,) = simple.interiors, exact.interiors
    assert shapely.Polygon(hole).area == pytest.approx(shapely.Polygon(wanted).area, rel=0.01)
    assert simple.area == pytest.approx(exact.area, rel=0.01)


def test_a_hole_of_one_pixel_stays_as_it_is():
    mask = disc(20)
    mask[95, 95] = 0
    (nucleus,) = nuclei_of(mask)
    simple, exact = both(nucleus)
    assert simple.interiors[0].equals(exact.interiors[0])
    assert shapely.get_num_coordinates(simple) < 0.5 * shapely.get_num_coordinates(exact)


@pytest.mark.parametrize("seed", range(6))
def test_an_outline_of_noise_is_sound(seed):
    mask = (np.random.default_rng(seed).random((96, 192)) < 0.6).astype(np.uint8)
    for nucleus in nuclei_of(mask):
        simple, exact = both(nucleus)
        assert simple.is_valid
        assert simple.area == pytest.approx(exact.area, rel=0.05)


def test_outlines_follow_the_scale_of_the_slide():
    mask = disc(30)
    fine, coarse = nuclei_of(mask)[0], nuclei_of(mask, (48, 40))[0]
    assert coarse.px_l0 == (0.5, 40 / 96)
    for ours, theirs in zip(simple_outlines_l0(coarse), simple_outlines_l0(fine), strict=True):
        np.testing.assert_allclose(ours, theirs * coarse.px_l0, atol=0.1)
    assert Scale(0.25, 0.25, "slide") == SCALE
