"""The synthetic slide is a slide, and holds what it promises."""

from __future__ import annotations

import numpy as np
import openslide
import pytest

from gliorun import demo


@pytest.fixture(scope="module")
def tissue() -> demo.SyntheticTissue:
    return demo.draw_tissue(demo.demo_density(1400, 2000))


def test_opens_in_openslide_as_aperio_with_a_scale_and_a_pyramid(tmp_path, tissue):
    path = tmp_path / "demo.svs"
    demo.write_slide(path, tissue.pixels)
    with openslide.OpenSlide(path) as slide:
        assert slide.properties[openslide.PROPERTY_NAME_VENDOR] == "aperio"
        assert float(slide.properties[openslide.PROPERTY_NAME_MPP_X]) == 0.25
        assert float(slide.properties[openslide.PROPERTY_NAME_OBJECTIVE_POWER]) == 40
        assert slide.level_dimensions == ((2000, 1400), (500, 350), (125, 87))
        assert not slide.associated_images


def test_the_pixels_come_back_as_drawn(tmp_path, tissue):
    path = tmp_path / "demo.svs"
    demo.write_slide(path, tissue.pixels)
    with openslide.OpenSlide(path) as slide:
        read = np.asarray(slide.read_region((0, 0), 0, slide.dimensions))[..., :3]
    difference = read.astype(int) - tissue.pixels
    assert np.abs(difference).mean() < 6
    assert np.abs(difference.mean(axis=(0, 1))).max() < 1


@pytest.mark.parametrize("wanted", [0.02, 0.05, 0.1, 0.2, 0.3])
def test_the_nuclei_cover_the_density_asked_for(wanted):
    drawn = demo.draw_tissue(np.full((1400, 1400), wanted, np.float32)).nuclei.mean()
    assert drawn == pytest.approx(wanted, rel=0.15)


def test_the_density_rises_from_left_to_right_and_has_two_hot_spots(tissue):
    cells = tissue.nuclei.reshape(7, 200, 10, 200).mean(axis=(1, 3))
    assert cells[3, 8] > cells[3, 1] + 0.02
    assert cells[4, 7] > 0.25
    assert cells[2, 3] > 0.1
    assert cells[4, 7] > cells[2, 3] > cells[5, 3]


def test_glass_lies_outside_the_oval_without_a_nucleus(tissue):
    glass = demo.demo_density(1400, 2000) == 0
    assert not tissue.nuclei[glass].any()
    assert tissue.pixels[glass].min(axis=-1).mean() > 225
    assert 0.2 < glass.mean() < 0.5


def test_nuclei_are_darker_than_what_is_around_them(tissue):
    inside = demo.demo_density(1400, 2000) > 0
    red = tissue.pixels[..., 0]
    nuclei = tissue.nuclei == 1
    assert red[nuclei].mean() + 40 < red[inside & ~nuclei].mean()


def test_one_seed_draws_one_slide():
    density = demo.demo_density(200, 300)
    first, again, other = (demo.draw_tissue(density, seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.pixels, again.pixels)
    np.testing.assert_array_equal(first.nuclei, again.nuclei)
    assert (first.pixels != other.pixels).any()
