"""How well nucleus masks agree: Dice, density, density class."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gliorun.measuring.density import classify

Mask = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Agreement:
    """Agreement of masks with reference masks, one mask an image.

    `dice` is the mean over images, `dice_pooled` the value over all pixels. Density differences
    are in points (hundredths of the image's area), mask minus reference.
    """

    images: int
    dice: float
    dice_pooled: float
    density_error_points: float
    density_bias_points: float
    density_worst_points: float
    class_agreement: float


def dice(mask: Mask, reference: Mask) -> float:
    """Return the Dice coefficient of two masks (not 0 = nucleus); 1 if both are empty."""
    ours, theirs = mask != 0, reference != 0
    total = int(ours.sum()) + int(theirs.sum())
    return 1.0 if total == 0 else 2 * int((ours & theirs).sum()) / total


def agreement(pairs: Iterable[tuple[Mask, Mask]]) -> Agreement:
    """Compare (mask, reference) pairs; the masks of a pair have one shape.

    Raises
    ------
    ValueError
        There is no pair.
    """
    dices, densities, shared, total = [], [], 0, 0
    for mask, reference in pairs:
        dices.append(dice(mask, reference))
        ours, theirs = mask != 0, reference != 0
        densities.append((ours.mean(), theirs.mean()))
        shared += int((ours & theirs).sum())
        total += int(ours.sum()) + int(theirs.sum())
    if not dices:
        raise ValueError("there is nothing to compare")
    ours_density, reference_density = np.array(densities).T
    points = 100 * (ours_density - reference_density)
    return Agreement(
        images=len(dices),
        dice=float(np.mean(dices)),
        dice_pooled=2 * shared / total if total else 1.0,
        density_error_points=float(np.abs(points).mean()),
        density_bias_points=float(points.mean()),
        density_worst_points=float(np.abs(points).max()),
        class_agreement=float((classify(ours_density) == classify(reference_density)).mean()),
    )
