"""The figures that decide whether a converted model may leave."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import pytest
from numpy.typing import NDArray

from glioexport import parity
from gliorun.errors import GlioError

Pixels = NDArray[np.uint8]


def threshold_at(level: int):
    """Return a predictor that calls pixels darker than `level` nucleus."""

    def predict(windows: Iterable[Pixels]) -> Iterator[Pixels]:
        for window in windows:
            yield (window[..., 0] < level).astype(np.uint8)

    return predict


def ramp() -> Pixels:
    """Return a (10, 10, 3) window with one pixel of each level from 0 to 99."""
    return np.repeat(np.arange(100, dtype=np.uint8).reshape(10, 10, 1), 3, axis=-1)


def test_the_same_model_agrees_wholly_and_passes_a_tolerance_of_nothing() -> None:
    found = parity.compare(threshold_at(10), {"twin": threshold_at(10)}, [ramp()] * 3)
    assert found["twin"].dice == 1
    assert found["twin"].images == 3
    parity.check(found, parity.Tolerance(0, 1))


def test_a_density_difference_is_in_points_and_is_named_with_its_model() -> None:
    found = parity.compare(
        threshold_at(10), {"A": threshold_at(10), "B": threshold_at(11)}, [ramp()]
    )
    assert found["B"].density_error_points == pytest.approx(1)
    parity.check(found, parity.Tolerance(1.01, 0))
    with pytest.raises(
        GlioError, match=r"^B: mean density difference .* 1\.000 points, more than 0"
    ):
        parity.check(found, parity.Tolerance(0.3, 0))


def test_a_lost_density_class_is_named_with_its_model() -> None:
    found = parity.compare(threshold_at(9), {"B": threshold_at(7)}, [ramp()])  # 9 % and 7 %
    with pytest.raises(GlioError, match=r"^B: 0\.0% of the tiles keep their density class"):
        parity.check(found, parity.Tolerance(100, 0.5))


def test_a_model_that_swallows_a_window_is_not_compared() -> None:
    def lazy(windows: Iterable[Pixels]) -> Iterator[Pixels]:
        yield from list(threshold_at(5)(windows))[1:]

    with pytest.raises(ValueError, match="zip"):
        parity.compare(threshold_at(5), {"lazy": lazy}, [ramp()] * 2)


def test_the_table_has_a_line_for_each_model() -> None:
    found = parity.compare(
        threshold_at(10), {"A": threshold_at(10), "B": threshold_at(11)}, [ramp()]
    )
    lines = parity.table(found).splitlines()
    assert len(lines) == 4
    assert lines[3].startswith("| B | 1 | 0.9524 | 1.000 points")
