"""The unbiased level: exact at every level, judged on fields that had no say, refused in doubt."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from glioexport.unbiased import (
    RANGE,
    Field,
    check,
    check_count,
    check_nuclei,
    fit,
    interval_of_mean,
    searched,
    unbiased_level,
)
from gliorun.errors import GlioError
from gliorun.findings.agreement import agreement

OWN = 128
STEEPNESS = 6
"""How much the level of the drawn cones falls with every px."""


def cones(
    seed: int, radius_px: float, drawn_px: float, side: int = 120
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return levels and labels of five nuclei: cones whose level is `OWN` at `radius_px`, and
    discs of `drawn_px`, as a laboratory draws them."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side]
    levels = np.zeros((side, side))
    labels = np.zeros((side, side), np.uint8)
    for centre_y, centre_x in random.uniform(15, side - 15, (5, 2)):
        distance = np.hypot(y - centre_y, x - centre_x)
        levels = np.maximum(levels, OWN + STEEPNESS * (radius_px - distance))
        labels |= (distance <= drawn_px).astype(np.uint8)
    return np.clip(levels, 0, 255).astype(np.uint8), labels


def fields(count: int, radius_px: float = 9, drawn_px: float = 8) -> list[Field]:
    return [Field.of(f"f{n}", *cones(n, radius_px, drawn_px)) for n in range(count)]


def test_density_and_dice_at_every_level_are_those_of_the_mask():
    levels, labels = cones(1, 9, 8, side=90)
    field = Field.of("a", levels, labels)
    for level in (1, 77, 128, 131, 200, 255):
        of_mask = agreement([((levels >= level).astype(np.uint8), labels)])
        error = 100 * (field.densities()[level] - field.true_density)
        assert error == pytest.approx(of_mask.density_bias_points, abs=1e-12)
        assert field.dices()[level] == pytest.approx(of_mask.dice, abs=1e-12)


def test_dice_is_1_where_neither_has_a_nucleus():
    nothing = np.zeros((8, 9), np.uint8)
    assert Field.of("bare", nothing, nothing).dices()[OWN] == 1


def test_the_level_of_a_laboratory_that_draws_one_px_further_in_is_found():
    fitted = fit(fields(6), OWN)
    assert abs(fitted.level - (OWN + STEEPNESS)) <= 2
    assert fitted.before.density_bias_points > 1
    assert abs(fitted.after.density_bias_points) < 0.1
    assert fitted.after.dice > fitted.before.dice
    assert fitted.gains
    check(fields(6), fitted, OWN)


def test_each_field_is_judged_with_the_level_of_the_others():
    some = [*fields(4), Field.of("wide", *cones(9, 9, 10))]
    fitted = fit(some, OWN)
    for left_out, error in enumerate(fitted.left_out_errors):
        others = [field for n, field in enumerate(some) if n != left_out]
        level = fit(others, OWN).level
        field = some[left_out]
        assert error == pytest.approx(100 * (field.densities()[level] - field.true_density))
    assert fitted.left_out.density_error_points == np.abs(fitted.left_out_errors).mean()


def test_of_levels_that_are_equal_the_nearest_to_the_models_own_is_taken():
    certain = np.full((1, 256), 0.0)
    assert unbiased_level(certain, OWN) == OWN


def test_the_interval_of_a_mean_is_students():
    low, high = interval_of_mean(np.array([1.0, 2.0, 4.0]))
    # t(0.975, 2) = 4.3027, standard error 0.8819
    assert (low, high) == (pytest.approx(7 / 3 - 3.7946, abs=1e-3), pytest.approx(6.128, abs=1e-3))


def test_fewer_than_three_fields_are_refused():
    with pytest.raises(GlioError, match="at least 3 labelled fields, not 2"):
        check_count(2)
    check_count(3)


def test_fields_without_a_nucleus_are_refused():
    levels = cones(1, 9, 8)[0]
    bare = [Field.of(f"{n}", levels, np.zeros_like(levels)) for n in range(3)]
    with pytest.raises(GlioError, match="no field has a labelled nucleus"):
        check_nuclei(bare)


def test_a_level_at_the_end_of_the_range_is_refused():
    some = fields(4, radius_px=9, drawn_px=22)
    fitted = fit(some, OWN)
    assert fitted.level == searched(OWN)[0] == OWN - RANGE
    with pytest.raises(GlioError, match="end of the range from 64 to 192"):
        check(some, fitted, OWN)


def test_a_level_that_fields_left_out_do_not_gain_from_is_refused():
    # one is drawn as much too wide as the other is too tight, so that each misleads the others
    some = [Field.of(f"{n}", *cones(n, 9, drawn)) for n, drawn in enumerate((7, 11, 9))]
    fitted = fit(some, OWN)
    assert not fitted.gains
    with pytest.raises(GlioError, match="gains nothing"):
        check(some, fitted, OWN)
