"""gliobench untrained: untrained students in turns, compared with the first line."""

import numpy as np
import pytest

from gliobench.backends import Network, open_untrained
from gliobench.untrained import SHAPES, Speed, measure, table
from glioexport.student import student_settings
from gliorun.errors import GlioError


def test_networks_take_turns_after_one_warm_up_each():
    calls = []

    def masks_of(name):
        def masks(windows):
            calls.append((name, len(windows)))
            yield from windows

        return masks

    windows = [np.zeros((8, 8, 3), np.uint8)] * 6
    speeds = measure([Network(n, masks_of(n), 7) for n in "ab"], windows, 2, lambda line: None)
    assert calls == [("a", 4), ("b", 4)] + [("a", 6), ("b", 6)] * 2
    assert [(s.name, s.weights, len(s.tiles_s), len(s.cpu_ms)) for s in speeds] == [
        ("a", 7, 2, 2),
        ("b", 7, 2, 2),
    ]


def test_ratios_are_to_the_first_line_round_by_round():
    first = Speed("reference", 1_000, (10.0, 20.0, 30.0), (30.0, 40.0, 50.0))
    other = Speed("small", 200, (20.0, 80.0, 90.0), (10.0, 10.0, 10.0))
    assert (
        "| small | 200 | 80 (20–90) | 10.0 (10.0–10.0) | 3.00 (2.00–4.00) | 4.00 (3.00–5.00) |"
        in (table([first, other]))
    )


@pytest.mark.parametrize(("windows", "rounds"), [([], 1), ([np.zeros((8, 8, 3), np.uint8)], 0)])
def test_nothing_to_measure_is_refused(windows, rounds):
    with pytest.raises(GlioError, match="at least one tile and one round"):
        measure([], windows, rounds, print)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_shapes_that_are_measured_by_default_can_be_trained(shape):
    assert student_settings(shape.split()).trained.classes == 1


def test_a_shape_that_does_not_fit_is_named():
    with pytest.raises(GlioError, match="levels=8"):
        open_untrained(["stem=4 levels=8"], [], print)


@pytest.mark.release
def test_an_untrained_student_runs_as_int8_beside_the_reference():
    windows = [np.full((480, 480, 3), level, np.uint8) for level in (40, 200)]
    reference, student = open_untrained(["stem=4 filters=4 levels=1"], windows, print)
    assert reference.weights == 1_945_538
    assert student.weights < 10_000
    for network in (reference, student):
        assert [mask.shape for mask in network.masks(windows)] == [(480, 480)] * 2
