"""gliobench compare: the same tiles, in turns, and what is made of the times."""

import numpy as np
import pytest

from gliobench.backends import Backend
from gliobench.compare import compare, table
from gliorun.errors import GlioError


def threshold(level, calls=None, name=""):
    def masks(windows):
        if calls is not None:
            calls.append(name)
        for window in windows:
            yield (window[..., 0] > level).astype(np.uint8)

    return masks


@pytest.fixture
def windows():
    random = np.random.default_rng(0)
    return [random.integers(0, 256, (16, 16, 3), dtype=np.uint8) for _ in range(4)]


def test_backends_take_turns_after_one_warm_up_each(windows):
    calls = []
    backends = [Backend(name, threshold(100, calls, name)) for name in "abc"]
    compare(backends, windows, rounds=2)
    assert calls == ["a", "b", "c"] + ["a", "b", "c"] * 2


def test_the_reference_agrees_with_itself_and_has_ratio_one(windows):
    reference, other = compare(
        [Backend("a", threshold(100)), Backend("b", threshold(200))], windows, rounds=3
    )
    assert reference.ratios == (1.0, 1.0, 1.0)
    assert reference.agreement.dice == 1.0
    assert reference.agreement.density_error_points == 0.0
    assert other.agreement.dice < 0.8
    expected = np.mean([100 * np.mean((w[..., 0] > 100) & (w[..., 0] <= 200)) for w in windows])
    assert other.agreement.density_error_points == pytest.approx(expected)


def test_ratios_are_times_of_the_same_round(windows):
    first, second = compare(
        [Backend("a", threshold(1)), Backend("b", threshold(1))], windows, rounds=3
    )
    for ratio, ours, reference in zip(second.ratios, second.tiles_s, first.tiles_s, strict=True):
        assert ratio == pytest.approx(ours / reference)


def test_nothing_to_compare_is_refused(windows):
    with pytest.raises(GlioError, match="at least one tile"):
        compare([Backend("a", threshold(1))], [], rounds=1)
    with pytest.raises(GlioError, match="one round"):
        compare([Backend("a", threshold(1))], windows, rounds=0)


def test_the_table_names_every_backend_and_its_spread(windows):
    text = table(compare([Backend("a", threshold(1)), Backend("b", threshold(9))], windows, 2))
    lines = text.splitlines()
    assert lines[0].startswith("| backend | tiles/s | × a |")
    assert lines[2].startswith("| a |")
    assert lines[3].startswith("| b |")
    assert "1.00 (1.00–1.00)" in lines[2]
