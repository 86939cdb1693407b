"""Colour normalisation moves what it should and leaves the rest."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

import slides
from gliorun.measuring import colour
from gliorun.model.stainstatistic import StainStatistic


@pytest.fixture(scope="module")
def tissue() -> NDArray[np.uint8]:
    pixels = slides.all_tissue(320, 240)
    return np.dstack([pixels, np.full((240, 320), 255, np.uint8)])


def statistic(rgba: NDArray[np.uint8]) -> StainStatistic | None:
    counts = colour.empty_levels()
    colour.add_levels(rgba, counts)
    return colour.measure(counts)


TARGET = StainStatistic(ground=(0.45, 0.75, 0.35))


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
    np.testing.assert_allclose(moved.ground, TARGET.ground, atol=0.02)
    assert np.abs(np.subtract(source.ground, TARGET.ground)).max() > 0.05  # it had a way to go


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
    white = statistic(tissue).white[0]
    bordered[270:] = white, white - 2, white - 4, 255
    assert statistic(bordered) == statistic(tissue)


def test_the_palest_fat_and_stroma_do_not_move_the_statistic(tissue):
    """Otherwise a fatty slide is stretched until its stroma looks like nuclei."""
    white = statistic(tissue).white[0]
    pink = np.array([white, round(white * np.exp(-0.17)), white, 255], np.uint8)
    fatty = np.vstack([tissue, np.broadcast_to(pink, tissue.shape)])
    assert statistic(fatty) == statistic(tissue)


def test_a_slide_that_is_faint_as_a_whole_is_measured(tissue):
    """Not by its nuclei alone, which are all that is dark there."""
    faint = tissue.copy()
    faint[..., :3] = 255 - (255 - tissue[..., :3].astype(float)) * 0.3
    ours, theirs = statistic(faint), statistic(tissue)
    assert 0.12 < ours.ground[1] < 0.2
    assert theirs.ground[1] > 0.5


@pytest.mark.parametrize("glass", [(228, 226, 230), (250, 255, 252)])
def test_glass_stays_pale_and_colourless_whatever_the_scanners_white(tissue, glass):
    light = tissue[..., :3].astype(float) / 255 * glass
    rgba = np.dstack([light.astype(np.uint8), tissue[..., 3]])
    rgba[:60, :, :3] = glass
    source = statistic(rgba)
    assert abs(source.white[0] - max(glass)) <= 1
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
    np.testing.assert_allclose(ours.ground, theirs.ground, atol=0.03)


def test_outside_the_slide_is_white_and_not_valid(tissue):
    rgba = tissue.copy()
    rgba[:10] = 0
    pixels, valid = colour.normalise(rgba, colour.identity_table())
    assert (pixels[:10] == 255).all()
    assert not valid[:10].any()
    assert valid[10:].all()
    np.testing.assert_array_equal(pixels[10:], rgba[10:, :, :3])


def test_the_mean_of_statistics_is_taken_channel_by_channel():
    other = StainStatistic(ground=(0.55, 0.85, 0.45))
    mean = colour.mean_statistic([TARGET, other])
    assert mean.ground == pytest.approx((0.5, 0.8, 0.4))


def test_nuclei_do_not_move_the_ground(tissue):
    """However many there are: their pixels do not count."""
    nuclei = np.zeros(tissue.shape[:2], np.uint8)
    nuclei[: nuclei.shape[0] // 2] = 1
    dense = tissue.copy()
    dense[nuclei == 1, :3] = 60, 40, 110
    counts, bare = colour.empty_levels(), colour.empty_levels()
    colour.add_levels(dense, counts, nuclei)
    colour.add_levels(tissue[nuclei[:, 0] == 0], bare)
    assert colour.measure(counts) == colour.measure(bare)
    assert statistic(dense).ground[0] > 2 * colour.measure(bare).ground[0]


def test_nuclei_keep_their_contrast_in_proportion_to_the_ground():
    """One gain for what is darker than the ground, so that their hue stays that of the slide."""
    source = StainStatistic(ground=(0.2, 0.5, 0.3), white=(240, 240, 240))
    table = colour.table_between(source, TARGET)
    common = sum(TARGET.ground) / sum(source.ground)

    def density(levels, white):
        return -np.log((np.asarray(levels) + 1) / (white + 1))

    at_ground = np.rint(241 * np.exp(-np.array(source.ground)) - 1).astype(int)
    moved = [int(table[c, at_ground[c]]) for c in range(3)]
    np.testing.assert_allclose(density(moved, 255), TARGET.ground, atol=0.01)
    darker = np.rint(241 * np.exp(-np.add(source.ground, 0.3)) - 1).astype(int)
    moved = [int(table[c, darker[c]]) for c in range(3)]
    wanted = np.add(TARGET.ground, common * 0.3)
    np.testing.assert_allclose(density(moved, 255), wanted, atol=0.02)


def test_a_scanner_whose_glass_is_grey_has_its_own_white(tissue):
    """Its brightest pixels are glass, although a dense section on any other is as dark."""
    grey = tissue.copy()
    grey[..., :3] = np.rint(tissue[..., :3] * 0.65)
    source = statistic(grey)
    assert source.white[0] < 170
    np.testing.assert_allclose(source.ground, statistic(tissue).ground, atol=0.05)


def test_the_glass_of_the_overview_goes_before_what_tiles_show(tissue):
    counts = colour.empty_levels()
    colour.add_levels(tissue, counts)
    assert colour.measure(counts, (250, 245, 248)).white == (250, 245, 248)
