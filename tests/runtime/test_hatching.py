"""Every reason has its own hatching, and no tile is too small for it."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from gliorun.measuring.tile import Status
from gliorun.writers.hatching import REASONS, lines, period


def test_every_status_but_two_is_a_reason():
    assert set(REASONS) == set(Status) - {Status.NO_TISSUE, Status.MEASURED}


@pytest.mark.parametrize("tile_dots", [1, 4, 8, 24, 140, 2000])
def test_every_tile_large_enough_for_a_line_has_one(tile_dots):
    step = period(tile_dots)
    assert 4 <= step <= 12
    for reason in REASONS:
        on_line = lines(reason, 240, 240, step)
        assert on_line.shape == (240, 240)
        assert 0.03 < on_line.mean() < 0.5
        for corner in range(0, 240 - max(step, 1), 7):
            assert on_line[corner : corner + step, corner : corner + step].any()


def test_reasons_look_different():
    drawn = [lines(reason, 48, 48, 12) for reason in REASONS[:7]]
    for one, other in combinations(drawn, 2):
        assert (one != other).mean() > 0.1


def test_hatching_runs_on_from_tile_to_tile():
    whole = lines(Status.UNREADABLE, 48, 96, 12)
    np.testing.assert_array_equal(whole[:, 48:], whole[:, :48])
