"""Find the level of a network at which the densities of labelled fields are unbiased.

A level is what a pixel must reach to count as nucleus. Laboratories differ in where they draw
outlines, and a level moves all outlines of a network outwards or inwards.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from gliorun.errors import GlioError

LEVELS = 256
RANGE = 64
"""How far from the model's own level is searched, 4 units of the logit of the probability: at its
ends a network that is 98 % sure of a pixel, or 2 %, is overruled."""
LEAST_FIELDS = 3
CONFIDENCE = 0.95

Errors = NDArray[np.float64]
"""Density errors in points, (fields, levels): measured at each level less true."""


@dataclass(frozen=True, slots=True, eq=False)
class Field:
    """A labelled field with what the network said of it.

    Parameters
    ----------
    name : str
    inside, outside : (256,) int64
        Number of pixels of each level, within the labelled nuclei and outside of them.
    """

    name: str
    inside: NDArray[np.int64]
    outside: NDArray[np.int64]

    @classmethod
    def of(cls, name: str, levels: NDArray[np.uint8], nuclei: NDArray[np.uint8]) -> Field:
        """Count the levels, (H, W), of a field by its labels, (H, W), not 0 on a nucleus."""
        is_nucleus = nuclei != 0
        inside, outside = (
            np.bincount(levels[chosen], minlength=LEVELS) for chosen in (is_nucleus, ~is_nucleus)
        )
        return cls(name, inside, outside)

    @property
    def area_px(self) -> int:
        """Number of pixels."""
        return int(self.inside.sum() + self.outside.sum())

    @property
    def true_density(self) -> float:
        """Share of the labelled nuclei, 0 to 1."""
        return int(self.inside.sum()) / self.area_px

    def densities(self) -> NDArray[np.float64]:
        """Return the density, 0 to 1, that is measured with each level, (256,)."""
        return _at_least(self.inside + self.outside) / self.area_px

    def dices(self) -> NDArray[np.float64]:
        """Return the Dice coefficient that each level gives, (256,); 1 where both are empty."""
        both = _at_least(self.inside + self.outside) + self.inside.sum()
        return np.where(both > 0, 2 * _at_least(self.inside) / np.maximum(both, 1), 1.0)


def _at_least(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return how many pixels have each level or a higher one."""
    return np.asarray(counts[::-1].cumsum()[::-1])


@dataclass(frozen=True, slots=True)
class Judged:
    """How well some fields are measured: mean absolute error and bias in points, mean Dice."""

    density_error_points: float
    density_bias_points: float
    dice: float


@dataclass(frozen=True, slots=True, eq=False)
class Fit:
    """The level at which fields are unbiased, and what that is worth.

    Parameters
    ----------
    level : int
    before, after : Judged
        With the model's own level and with `level`.
    left_out : Judged
        Each field with the level that the other fields give.
    left_out_errors : (fields,) float64
        The errors of `left_out`, in points.
    bias_interval : (float, float)
        What remains of the bias of such fields lies within, at 95 %, in points.
    """

    level: int
    before: Judged
    after: Judged
    left_out: Judged
    left_out_errors: NDArray[np.float64]
    bias_interval: tuple[float, float]

    @property
    def gains(self) -> bool:
        """Whether fields that had no say in the level are measured better for it."""
        return self.left_out.density_error_points < self.before.density_error_points


def errors_of(fields: Sequence[Field]) -> Errors:
    """Return the density error of each field at each level."""
    return np.array([100 * (field.densities() - field.true_density) for field in fields])


def unbiased_level(errors: Errors, own_level: int) -> int:
    """Return the level within `RANGE` of the model's own whose mean error is nearest to zero.

    Of equals, as of fields that have hardly a doubtful pixel, the one nearest to its own.
    """
    lowest, highest = searched(own_level)
    levels = np.arange(lowest, highest + 1)
    bias = np.abs(errors[:, levels].mean(axis=0))
    order = np.lexsort((np.abs(levels - own_level), bias))
    return int(levels[order[0]])


def searched(own_level: int) -> tuple[int, int]:
    """Return the lowest and the highest level that are searched."""
    return max(1, own_level - RANGE), min(LEVELS - 1, own_level + RANGE)


def fit(fields: Sequence[Field], own_level: int) -> Fit:
    """Find the unbiased level of at least two fields, and judge it with each field left out."""
    errors, dices = errors_of(fields), np.array([field.dices() for field in fields])
    everyone = np.arange(len(fields))
    level = unbiased_level(errors, own_level)
    of_others = np.array(
        [unbiased_level(np.delete(errors, field, axis=0), own_level) for field in everyone]
    )
    left_out = errors[everyone, of_others]
    return Fit(
        level,
        _judged(errors[:, own_level], dices[:, own_level]),
        _judged(errors[:, level], dices[:, level]),
        _judged(left_out, dices[everyone, of_others]),
        left_out,
        interval_of_mean(left_out),
    )


def _judged(errors: NDArray[np.float64], dices: NDArray[np.float64]) -> Judged:
    return Judged(float(np.abs(errors).mean()), float(errors.mean()), float(dices.mean()))


def interval_of_mean(values: NDArray[np.float64]) -> tuple[float, float]:
    """Return the interval of the mean of a few values by Student's t, at `CONFIDENCE`."""
    count = len(values)
    factor = float(stdtrit(count - 1, (1 + CONFIDENCE) / 2))
    reach = factor * float(values.std(ddof=1)) / math.sqrt(count)
    mean = float(values.mean())
    return mean - reach, mean + reach


def check(fields: Sequence[Field], result: Fit, own_level: int) -> None:
    """Refuse a level that the fields do not support.

    Raises
    ------
    GlioError
        It lies at the rim of what is searched, or fields that had no say gain nothing from it.
    """
    lowest, highest = searched(own_level)
    if result.level in (lowest, highest):
        raise GlioError(
            f"level {result.level} is the end of the range from {lowest} to {highest}, where the "
            f"bias is still {result.after.density_bias_points:+.1f} points: these labels differ "
            "from the model by more than their outlines; check labels, stain and scale"
        )
    if not result.gains:
        raise GlioError(
            f"level {result.level} gains nothing: fields left out of the calibration have an error "
            f"of {result.left_out.density_error_points:.2f} points with it, and of "
            f"{result.before.density_error_points:.2f} with the model's own level {own_level}; "
            "keep that, or label more fields"
        )


def check_count(fields: int) -> None:
    """Refuse too few fields.

    Raises
    ------
    GlioError
        There are fewer than `LEAST_FIELDS`.
    """
    if fields < LEAST_FIELDS:
        raise GlioError(
            f"a calibration needs at least {LEAST_FIELDS} labelled fields, not {fields}; "
            "label more, 'glioexport annotate' chooses some"
        )


def check_nuclei(fields: Sequence[Field]) -> None:
    """Refuse fields without nuclei.

    Raises
    ------
    GlioError
        None holds a nucleus, so that there is no outline to compare.
    """
    if not any(field.inside.any() for field in fields):
        raise GlioError(
            "no field has a labelled nucleus, so that outlines cannot be compared; "
            "label fields with nuclei"
        )
