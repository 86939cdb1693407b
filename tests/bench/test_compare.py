"""gliobench compare: what is made of the turns, by hand, and what is not ranked."""

from pathlib import Path

import numpy as np
import pytest

from gliobench.backends import BATCHES, Backend
from gliobench.compare import (
    CompareFigures,
    Started,
    best_batch,
    close_enough,
    compare,
    rows_of,
)
from gliobench.report import compare_markdown
from gliobench.workers import Turn
from gliorun.errors import GlioError
from gliorun.findings.agreement import agreement

PEAKS = {"FP32": 100.0, "BF16": 200.0, "INT8": 400.0}
TILES, SIDE = 2, 20


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "a.xml"
    path.write_bytes(b"a model")
    return path


def masks(share):
    """Return two masks of which the upper `share` is nucleus."""
    mask = np.zeros((SIDE, SIDE), dtype=bool)
    mask[: round(share * SIDE)] = True
    return np.stack([mask] * TILES)


def turns(seconds, shares, cpu_s=0.5):
    return [
        Turn(s, cpu_s, np.packbits(masks(share), axis=-1))
        for s, share in zip(seconds, shares, strict=True)
    ]


def started(path, name, precision="FP32", source="k", gmac=10.0):
    return Started(Backend(name, "ir", path, precision, source), 1, 1.5, 80_000_000, gmac)


def rows(model, other_turns, precision="FP32", source="k"):
    both = [started(model, "Keras"), started(model, "other", precision, source)]
    reference = turns([2.0, 4.0], [0.5, 0.5])
    return rows_of(both, [reference, other_turns], (TILES, SIDE), PEAKS)


def test_speeds_are_of_each_round_and_ratios_of_the_same_round(model):
    reference, other = rows(model, turns([1.0, 1.0], [0.5, 0.5]))
    assert reference.tiles_s == (1.0, 0.5)
    assert reference.ratios == (1.0, 1.0)
    assert other.tiles_s == (2.0, 2.0)
    assert other.ratios == (2.0, 4.0)
    assert other.cpu_s_a_tile == (0.25, 0.25)
    assert (other.agrees, other.agreement.dice) == (True, 1.0)


def test_the_share_of_the_peak_is_of_its_precision_and_cpu_time(model):
    # 10 GMAC a tile are 20 operations, in 0.25 CPU s: 80 a second
    reference, other = rows(model, turns([1.0, 1.0], [0.5, 0.5]), precision="INT8")
    assert reference.peak_share == pytest.approx(0.8)
    assert other.peak_share == pytest.approx(0.2)
    lost = rows_of(
        [started(model, "Keras", gmac=None)], [turns([1.0], [0.5])], (TILES, SIDE), PEAKS
    )
    assert lost[0].peak_share is None


def test_one_round_that_goes_wrong_is_seen(model):
    _, other = rows(model, turns([1.0, 1.0], [0.5, 0.6]))
    assert not other.agrees
    assert other.agreement.images == 2 * TILES
    assert other.agreement.density_error_points == pytest.approx(5)
    assert other.agreement.density_worst_points == pytest.approx(10)


def test_another_network_may_stray_further_than_another_way_to_run_the_same():
    reference = masks(0.5)
    near = reference.copy()
    near[:, 10, :4] = True  # 4 of 400 px: 1 point
    agreed = agreement(zip(near, reference, strict=True))
    assert agreed.density_error_points == pytest.approx(1)
    assert not close_enough(agreed, same_network=True)
    assert close_enough(agreed, same_network=False)
    far = agreement(zip(masks(0.6), reference, strict=True))
    assert not close_enough(far, same_network=False)


def test_whose_source_differs_is_another_network(model):
    _, other = rows(model, turns([1.0, 1.0], [0.5, 0.5]), source="student")
    assert (other.same_network, other.agrees) == (False, True)


def test_a_backend_that_disagrees_is_marked_and_not_ranked(model):
    figures = CompareFigures(
        TILES, "x", 2, rows(model, turns([0.1, 0.1], [0.9, 0.9])), PEAKS, ("XLA: no",)
    )
    text = compare_markdown(figures)
    line = next(line for line in text.splitlines() if line.startswith("| other"))
    assert "✗ disagrees" in line
    assert "| not ranked |" in line
    assert "Keras reaches 80%" in text  # the fast one that is wrong is not the fastest
    assert "Left out: XLA: no." in text
    good = CompareFigures(TILES, "x", 2, rows(model, turns([2, 4], [0.5, 0.5])), PEAKS, ())
    assert "disagrees" not in compare_markdown(good)
    assert "| 1.00 (1.00–1.00) |" in compare_markdown(good)


def test_the_batch_of_the_least_cpu_time_is_taken_after_a_warm_up_each():
    costs = {batch: iter([9.0, cost]) for batch, cost in zip(BATCHES, (4, 2, 1, 3), strict=True)}
    tried = []

    def turn(batch):
        tried.append(batch)
        return Turn(1.0, next(costs[batch]), None)

    assert best_batch(turn, 8) == BATCHES[2]
    assert tried == [batch for batch in BATCHES for _ in range(2)]
    assert best_batch(lambda batch: Turn(1.0, 1.0 / batch, None), 3) == 2  # not 4


def test_nothing_to_compare_is_refused():
    one = [Backend("a", "ir", Path("a.xml"), "FP32", "")]
    with pytest.raises(GlioError, match="at least one tile"):
        compare(one, [], "nowhere", rounds=1)
    with pytest.raises(GlioError, match="one round"):
        compare(one, [np.zeros((16, 16, 3), np.uint8)], "nowhere", rounds=0)
