"""Nuclei go one by one, and what is left is a tile as it might have been."""

from __future__ import annotations

import numpy as np
import pytest

from glioexport.erase import MARGIN_PX, REACH_PX, erase, instances
from gliorun import demo

SHARES = (1.0, 0.5, 0.1, 0.0)


@pytest.fixture(scope="module")
def tissue() -> demo.SyntheticTissue:
    return demo.draw_tissue(np.full((300, 420), 0.12, np.float32), seed=5)


def test_each_step_keeps_its_share_of_the_nuclei(tissue: demo.SyntheticTissue) -> None:
    label = instances(tissue.nuclei)
    steps = erase(tissue.pixels, label, SHARES)
    assert steps is not None
    for step, share in zip(steps, SHARES, strict=True):
        left = len(np.unique(label[step.nuclei > 0]))
        assert left == round(label.max() * share)
    np.testing.assert_array_equal(steps[0].pixels, tissue.pixels)
    np.testing.assert_array_equal(steps[0].nuclei, tissue.nuclei)


def test_what_is_far_from_a_nucleus_that_went_stays_as_it_was(tissue: demo.SyntheticTissue) -> None:
    label = instances(tissue.nuclei)
    steps = erase(tissue.pixels, label, SHARES)
    assert steps is not None
    for step in steps:
        changed = (step.pixels != tissue.pixels).any(axis=-1)
        gone = (label > 0) & (step.nuclei == 0)
        rows, columns = np.nonzero(gone)
        for row, column in zip(*np.nonzero(changed), strict=True):
            near = (np.abs(rows - row) <= REACH_PX) & (np.abs(columns - column) <= REACH_PX)
            assert near.any()
        kept = step.nuclei > 0
        assert not changed[kept].any()


def test_where_a_nucleus_was_it_looks_like_the_ground(tissue: demo.SyntheticTissue) -> None:
    steps = erase(tissue.pixels, instances(tissue.nuclei), (0.0,))
    assert steps is not None
    was = tissue.nuclei > 0
    ground = tissue.pixels[~was][:, 0].astype(float)
    covered = steps[0].pixels[was][:, 0].astype(float)
    assert abs(np.median(covered) - np.median(ground)) < 4
    assert np.median(tissue.pixels[was][:, 0]) < np.median(ground) - 50
    assert np.quantile(covered, 0.01) > np.quantile(ground, 0.001) - 15


def test_the_same_seed_takes_the_same_nuclei_and_another_one_others(
    tissue: demo.SyntheticTissue,
) -> None:
    label = instances(tissue.nuclei)
    first, again, other = (erase(tissue.pixels, label, (0.5,), seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first[0].pixels, again[0].pixels)
    assert (first[0].nuclei != other[0].nuclei).any()


def test_a_tile_that_is_all_nucleus_has_nothing_to_cover_it_with() -> None:
    label = np.zeros((60, 60), np.int32)
    label[MARGIN_PX:-MARGIN_PX, MARGIN_PX:-MARGIN_PX] = 1
    assert erase(np.full((60, 60, 3), 90, np.uint8), label, (0.0,)) is None


def test_a_tile_without_nuclei_is_the_same_at_each_step() -> None:
    pixels = np.full((40, 50, 3), 200, np.uint8)
    steps = erase(pixels, np.zeros((40, 50), np.int32), SHARES)
    assert steps is not None
    assert all((step.pixels == pixels).all() and not step.nuclei.any() for step in steps)


def test_parts_of_a_mere_mask_are_numbered_and_instances_keep_apart() -> None:
    mask = np.array([[255, 255, 0, 255], [0, 0, 0, 255]], np.uint8)
    np.testing.assert_array_equal(instances(mask), [[1, 1, 0, 2], [0, 0, 0, 2]])
    touching = np.array([[7, 7, 900, 900, 0]], np.uint16)
    np.testing.assert_array_equal(instances(touching), [[1, 1, 2, 2, 0]])
