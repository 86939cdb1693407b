"""The figures that decide whether a converted model may leave."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from glioexport import parity
from glioexport.parity import Parity, Tolerance
from gliorun.errors import GlioError

Pixels = NDArray[np.uint8]


def below(level: int) -> Pixels:
    """Return a (10, 10) mask of `level` nucleus pixels: as many points of density."""
    return (np.arange(100).reshape(10, 10) < level).astype(np.uint8)


def of(ours: list[int], keras: list[int]) -> Parity:
    return parity.parity_of(map(below, ours), [below(level) for level in keras])


def test_the_same_masks_agree_wholly_and_pass_a_tolerance_of_nothing() -> None:
    compared = of([10, 10, 10], [10, 10, 10])
    assert compared.agreement.dice == 1
    assert compared.agreement.images == 3
    parity.check({"twin": compared}, Tolerance(0, 1))


def test_a_density_difference_is_in_points_and_is_named_with_its_model() -> None:
    figures = {"A": of([10], [10]), "B": of([11], [10])}
    assert figures["B"].agreement.density_error_points == pytest.approx(1)
    parity.check(figures, Tolerance(1.01, 0))
    with pytest.raises(
        GlioError, match=r"^B: mean density difference .* 1\.000 points, more than 0"
    ):
        parity.check(figures, Tolerance(0.3, 0))


def test_a_lost_density_class_is_named_with_its_model() -> None:
    figures = {"B": of([7], [9])}
    with pytest.raises(GlioError, match=r"^B: 0\.0% of the tiles keep their density class"):
        parity.check(figures, Tolerance(100, 0.5))


def test_tiles_near_an_edge_are_those_that_the_worst_difference_could_carry_over() -> None:
    # edges at 2, 4, 8, 16 and 20 points; the worst difference is 2
    compared = of([12, 7, 40, 0, 100], [10, 7, 40, 0, 100])
    assert compared.agreement.density_worst_points == pytest.approx(2)
    assert compared.tiles_near_edge == 3  # 10 is 2 from 8, 7 is 1 from 8, 0 is 2 from 2
    assert of([10, 10], [10, 10]).tiles_near_edge == 0
    assert of([8], [8]).tiles_near_edge == 1  # on the edge itself


def test_excess_is_the_figure_that_misses_most_in_tolerances() -> None:
    tolerance = Tolerance(0.5, 0.9)
    compared = of([10, 11], [10, 10]).agreement  # 0.5 points, no class lost
    assert parity.excess(compared, tolerance) == pytest.approx(1)
    lost = replace(compared, class_agreement=0.6)
    assert parity.excess(lost, tolerance) == pytest.approx(4)
    assert parity.excess(of([10], [10]).agreement, Tolerance(0, 1)) == 0


def test_a_model_that_swallows_a_window_is_not_compared() -> None:
    with pytest.raises(ValueError, match="zip"):
        of([5], [5, 5])


@pytest.mark.parametrize("level", [0, 100])
def test_a_reference_that_finds_nothing_or_everything_certifies_nothing(level: int) -> None:
    with pytest.raises(GlioError, match=r"--pixel-range and --output"):
        parity.check_reference([below(level), below(level)])
    parity.check_reference([below(level), below(50)])


def test_the_largest_difference_is_that_of_any_pixel() -> None:
    ours = [np.zeros((1, 2, 2), np.float32), np.array([[[0, 0.2], [0, -0.7]]], np.float32)]
    zeros = [np.zeros((1, 2, 2), np.float32)] * 2
    assert parity.largest_difference(ours, zeros) == pytest.approx(0.7)


def test_the_table_has_a_line_for_each_model() -> None:
    lines = parity.table({"A": of([10], [10]), "B": of([11], [10])}).splitlines()
    assert len(lines) == 4
    assert lines[3] == "| B | 1 | 0.9524 | 1.000 points | 1.000 | 100.0% | 0 |"


def test_the_values_are_the_figures_and_the_tiles_near_an_edge() -> None:
    values = parity.values({"A": of([9], [8])})["A"]
    assert values["density_worst_points"] == pytest.approx(1)
    assert values["tiles_near_class_edge"] == 1


def test_a_certificate_of_few_tiles_says_what_it_does_not_rule_out() -> None:
    said = parity.caution({"ONNX": of([10, 10], [10, 10]), "INT8": of([10, 12], [10, 10])})
    assert said is not None
    assert "only 2 tiles compared, 0 of them in another class" in said
    assert "between 0% and 84% may change" in said  # 1 - 0.025 ** (1 / 2)
    changed = parity.caution({"INT8": of([12, 7, 7], [12, 7, 12])})
    assert changed is not None
    assert "1 of them in another class" in changed
    enough = [10] * parity.ENOUGH_TILES
    assert parity.caution({"INT8": of(enough, enough)}) is None
