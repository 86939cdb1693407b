"""Colour normalisation to compare with: known stains, own statistics, nothing to see."""

import warnings

import numpy as np
import pytest

from gliobench.stains import (
    COMPARED,
    fit_macenko,
    fit_ratio,
    fit_reinhard,
    levels_of_density,
    mean_macenko,
    mean_reinhard,
    move_macenko,
    move_ratio,
    move_reinhard,
)
from gliorun import demo
from gliorun.measuring.colour import DENSITY_OF_LEVEL

METHODS = COMPARED


def unit(*vectors):
    array = np.array(vectors, dtype=float)
    return array / np.linalg.norm(array, axis=1, keepdims=True)


STAINS = unit([0.65, 0.70, 0.29], [0.25, 0.90, 0.35])
OTHERS = unit([0.55, 0.76, 0.35], [0.20, 0.95, 0.25])


def amounts(seed=0):
    """Return amounts of two stains, (200, 300, 2): pure ones, mixtures and glass."""
    random = np.random.default_rng(seed)
    mixed = random.uniform(0.0, 1.4, (200, 300, 2))
    kind = random.integers(4, size=(200, 300))
    mixed[kind == 0, 0] = 0
    mixed[kind == 1, 1] = 0
    mixed[:20] = 0
    return mixed


def tissue(seed=0):
    return demo.draw_tissue(np.full((160, 240), 0.2, np.float32), seed).pixels


def degrees_between(ours, theirs):
    return np.rad2deg(np.arccos(np.clip((np.array(ours) * theirs).sum(axis=1), -1, 1)))


def test_macenko_finds_the_stains_that_a_picture_was_drawn_with():
    image = levels_of_density(amounts() @ STAINS)
    fit = fit_macenko([image])
    assert degrees_between(fit.stains, STAINS).max() < 2
    assert fit.strong == pytest.approx((1.39, 1.39), abs=0.05)


def test_macenko_finds_stains_between_those_of_drawn_tissue():
    # nuclei lie under eosin and no place is without haematoxylin, so the pure ones are not there
    fit = fit_macenko([tissue()])
    pure = unit(demo.HAEMATOXYLIN, demo.EOSIN)
    assert degrees_between(fit.stains, pure).max() < 15
    assert degrees_between(fit.stains, pure[::-1]).min() > 15


def test_macenko_redraws_a_picture_in_other_stains():
    image, wanted = (levels_of_density(amounts() @ stains) for stains in (STAINS, OTHERS))
    moved = move_macenko(image, fit_macenko([image]), fit_macenko([wanted]))
    assert np.abs(moved.astype(int) - wanted).mean() < 1.5
    assert np.abs(image.astype(int) - wanted).mean() > 5


def test_macenko_to_its_own_stains_changes_nothing_in_a_picture_of_two_stains():
    image = levels_of_density(amounts() @ STAINS)
    own = fit_macenko([image])
    assert np.abs(move_macenko(image, own, own).astype(int) - image).max() <= 3


def test_reinhard_to_its_own_moments_changes_nothing():
    own = fit_reinhard([tissue()])
    assert np.abs(move_reinhard(tissue(), own, own).astype(int) - tissue()).max() <= 1


def test_reinhard_gives_a_picture_the_moments_of_another():
    image, target = tissue(0), levels_of_density(1.2 * DENSITY_OF_LEVEL[tissue(1)] + 0.05)
    wanted = fit_reinhard([target])
    moved = move_reinhard(image, fit_reinhard([image]), wanted)
    fit = fit_reinhard([moved])
    assert fit.mean == pytest.approx(wanted.mean, abs=0.01)
    assert fit.deviation == pytest.approx(wanted.deviation, abs=0.01)


def test_ratio_brings_the_channel_means_of_the_tissue_to_the_target():
    image = np.full((100, 100, 3), 255, np.uint8)
    image[:60] = (100, 60, 120)
    assert fit_ratio([image]) == (100, 60, 120)
    moved = move_ratio(image, (100, 60, 120), (110, 90, 90))
    assert np.array_equal(moved[0, 0], (110, 90, 90))
    assert np.array_equal(moved[99, 99], (255, 255, 191))  # clipped; glass takes the colour too
    far = move_ratio(image, (100, 60, 120), (250, 10, 120))
    assert np.array_equal(far[0, 0], (200, 30, 120))  # no more than twice or half


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_images_of_a_slide_are_measured_together(method):
    one, other = tissue(0), levels_of_density(0.6 * DENSITY_OF_LEVEL[tissue(1)])
    assert method.fit([one, other]) not in (method.fit([one]), method.fit([other]))


@pytest.mark.parametrize(
    "level", [(255, 255, 255), (0, 0, 0), (128, 128, 128), (230, 210, 228)], ids=str
)
@pytest.mark.parametrize("name", ["macenko", "reinhard"])
def test_a_picture_of_one_colour_has_no_statistic(name, level):
    method = COMPARED[name]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert method.fit([np.full((100, 100, 3), level, np.uint8)]) is None


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_glass_with_a_speck_of_tissue_has_no_statistic(method):
    image = np.full((300, 300, 3), 245, np.uint8)
    image[:40, :40] = tissue()[:40, :40]
    assert method.fit([image]) is None


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_pale_noisy_tissue_moves_to_finite_colours(method):
    pale = levels_of_density(0.15 * DENSITY_OF_LEVEL[tissue()])
    target = method.mean([method.fit([tissue(1)]), method.fit([tissue(2)])])
    source = method.fit([pale])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        moved = pale if source is None else method.move(pale, source, target)
    assert moved.shape == pale.shape
    assert moved.dtype == np.uint8
    assert moved.std() > 0


def test_a_grey_picture_has_no_two_stains():
    grey = np.repeat(np.random.default_rng(0).integers(20, 200, (100, 100, 1)), 3, axis=2)
    assert fit_macenko([grey.astype(np.uint8)]) is None


def test_means_lie_between_and_stains_keep_unit_length():
    fits = [fit_macenko([levels_of_density(amounts() @ stains)]) for stains in (STAINS, OTHERS)]
    mean = mean_macenko(fits)
    assert np.linalg.norm(mean.stains, axis=1) == pytest.approx([1, 1])
    assert degrees_between(mean.stains, np.array(fits[0].stains)).max() < 10
    lab = [fit_reinhard([tissue(seed)]) for seed in (0, 1)]
    assert mean_reinhard(lab).mean[0] == pytest.approx((lab[0].mean[0] + lab[1].mean[0]) / 2)
