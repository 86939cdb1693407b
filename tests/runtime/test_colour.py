"""Colour normalisation moves what it should and leaves the rest."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

import slides
from gliorun import colour
from gliorun.colour import StainStatistic


@pytest.fixture(scope="module")
def tissue() -> NDArray[np.uint8]:
    pixels = slides.all_tissue(320, 240)
    return np.dstack([pixels, np.full((240, 320), 255, np.uint8)])


def statistic(rgba: NDArray[np.uint8]) -> StainStatistic | None:
    counts = colour.empty_levels()
    colour.add_levels(rgba, counts)
    return colour.measure(counts)


TARGET = StainStatistic(median=(0.45, 0.75, 0.35), high=(0.9, 1.3, 0.7))


@pytest.mark.parametrize(("source", "target"), [(None, TARGET), (TARGET, None), (None, None)])
def test_nothing_changes_without_a_source_or_a_target(source, target):
    table = colour.table_between(source, target)
    np.testing.assert_array_equal(table, np.stack([np.arange(256)] * 3))


def test_a_slide_that_is_its_own_target_keeps_its_colours():
    table = colour.table_between(TARGET, TARGET).astype(int)
    assert np.abs(table - np.arange(256)).max() <= 1


def test_the_statistic_of_normalised_tissue_is_the_target(tissue):
    source = statistic(tissue)
    table = colour.table_between(source, TARGET)
    pixels, valid = colour.normalise(tissue, table)
    moved = statistic(np.dstack([pixels, valid * 255]))
    np.testing.assert_allclose(moved.median, TARGET.median, atol=0.02)
    np.testing.assert_allclose(moved.high, TARGET.high, atol=0.03)
    assert np.abs(np.subtract(source.median, TARGET.median)).max() > 0.05  # it had a way to go


def test_a_table_never_turns_darker_into_paler(tissue):
    table = colour.table_between(statistic(tissue), TARGET).astype(int)
    assert (np.diff(table, axis=1) >= 0).all()


def test_too_little_tissue_has_no_statistic(tissue):
    enough = tissue[:40, :60]  # 2,400 px
    assert statistic(enough) is not None
    assert statistic(enough[:30]) is None  # 1,800 px


def test_glass_and_transparent_pixels_are_not_tissue(tissue):
    bordered = np.zeros((300, 320, 4), np.uint8)
    bordered[:240] = tissue
    bordered[270:] = 240, 238, 236, 255
    assert statistic(bordered) == statistic(tissue)


def test_outside_the_slide_is_white_and_not_valid(tissue):
    rgba = tissue.copy()
    rgba[:10] = 0
    pixels, valid = colour.normalise(rgba, colour.identity_table())
    assert (pixels[:10] == 255).all()
    assert not valid[:10].any()
    assert valid[10:].all()
    np.testing.assert_array_equal(pixels[10:], rgba[10:, :, :3])


def test_the_mean_of_statistics_is_taken_channel_by_channel():
    other = StainStatistic(median=(0.55, 0.85, 0.45), high=(1.1, 1.5, 0.9))
    mean = colour.mean_statistic([TARGET, other])
    assert mean.median == pytest.approx((0.5, 0.8, 0.4))
    assert mean.high == pytest.approx((1.0, 1.4, 0.8))
