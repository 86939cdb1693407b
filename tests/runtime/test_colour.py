"""Colour normalisation moves what it should and leaves the rest."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

import slides
from gliorun.measuring import colour
from gliorun.measuring.colour import StainStatistic


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
    white = statistic(tissue).white
    bordered[270:] = white, white - 2, white - 4, 255
    assert statistic(bordered) == statistic(tissue)


def test_the_palest_fat_and_stroma_do_not_move_the_statistic(tissue):
    """Otherwise a fatty slide is stretched until its stroma looks like nuclei."""
    white = statistic(tissue).white
    pink = np.array([white, round(white * np.exp(-0.17)), white, 255], np.uint8)
    fatty = np.vstack([tissue, np.broadcast_to(pink, tissue.shape)])
    assert statistic(fatty) == statistic(tissue)


def test_a_slide_that_is_faint_as_a_whole_is_measured(tissue):
    """Not by its nuclei alone, which are all that is dark there."""
    faint = tissue.copy()
    faint[..., :3] = 255 - (255 - tissue[..., :3].astype(float)) * 0.3
    ours, theirs = statistic(faint), statistic(tissue)
    assert ours.median[1] < 0.2
    assert ours.high[1] / ours.median[1] > 1.3
    assert theirs.median[1] > 0.5


@pytest.mark.parametrize("glass", [(228, 226, 230), (250, 255, 252)])
def test_glass_stays_pale_and_colourless_whatever_the_scanners_white(tissue, glass):
    light = tissue[..., :3].astype(float) / 255 * glass
    rgba = np.dstack([light.astype(np.uint8), tissue[..., 3]])
    rgba[:60, :, :3] = glass
    source = statistic(rgba)
    assert abs(source.white - max(glass)) <= 1
    pixels, _ = colour.normalise(rgba, colour.table_between(source, TARGET))
    assert pixels[:60].min() >= 245
    assert pixels[60:].mean() < 215


def test_the_statistic_does_not_depend_on_how_bright_the_scanner_is(tissue):
    dimmed = tissue.copy()
    dimmed[:60, :, :3] = 250
    dimmed[..., :3] = np.rint(dimmed[..., :3] * 0.92)
    bright = tissue.copy()
    bright[:60, :, :3] = 250
    ours, theirs = statistic(dimmed), statistic(bright)
    np.testing.assert_allclose(ours.median, theirs.median, atol=0.03)
    np.testing.assert_allclose(ours.high, theirs.high, atol=0.04)


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
