"""Figures of nucleus masks against the truth, with bootstrap intervals.

Dice, density error and class agreement are those of `gliorun.findings.agreement`, taken image by
image.
Where a share is of nothing, it is 1 if that is right and 0 if not: an empty mask has precision 1
on an image without a nucleus and 0 on any other; recall on an image without a nucleus is 1 for an
empty mask and 0 for any other. So F1 is Dice on every image, the empty ones included.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gliorun.findings.agreement import agreement
from gliorun.findings.bootstrap import Interval, clusters, intervals_of_means
from gliorun.measuring.density import CLASS_NAMES, classify

Mask = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Counts:
    """Pixels of one image or of many: nucleus in both, in the mask alone, in the truth alone,
    in neither."""

    both: int
    mask_only: int
    truth_only: int
    neither: int

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            self.both + other.both,
            self.mask_only + other.mask_only,
            self.truth_only + other.truth_only,
            self.neither + other.neither,
        )

    @property
    def accuracy(self) -> float:
        """Share of the pixels that are right, background included."""
        right = self.both + self.neither
        return right / (right + self.mask_only + self.truth_only)

    @property
    def precision(self) -> float:
        """Share of the mask that is nucleus."""
        predicted = self.both + self.mask_only
        return self.both / predicted if predicted else float(self.truth_only == 0)

    @property
    def recall(self) -> float:
        """Share of the nuclei that the mask has."""
        true = self.both + self.truth_only
        return self.both / true if true else float(self.mask_only == 0)

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall; on pixels, this is Dice."""
        total = self.precision + self.recall
        return 2 * self.precision * self.recall / total if total else 0.0


@dataclass(frozen=True, slots=True)
class Score:
    """One image's mask against its truth.

    `patient` is empty where it is not known. Densities are from 0 to 1, the error, mask minus
    truth, is in points (hundredths of the image's area).
    """

    id: str
    patient: str
    counts: Counts
    dice: float
    density: float
    true_density: float
    error_points: float
    same_class: bool


def score(id_: str, patient: str, mask: Mask, truth: Mask) -> Score:
    """Compare a mask with the true one; both (H, W), not 0 = nucleus."""
    ours, true = mask != 0, truth != 0
    agreed = agreement([(mask, truth)])
    return Score(
        id=id_,
        patient=patient,
        counts=Counts(
            both=int((ours & true).sum()),
            mask_only=int((ours & ~true).sum()),
            truth_only=int((~ours & true).sum()),
            neither=int((~ours & ~true).sum()),
        ),
        dice=agreed.dice,
        density=float(ours.mean()),
        true_density=float(true.mean()),
        error_points=agreed.density_bias_points,
        same_class=agreed.class_agreement == 1,
    )


@dataclass(frozen=True, slots=True)
class Measures:
    """The paper's five measures (its Eq. 7 to 11), from 0 to 1."""

    accuracy: float
    dice: float
    precision: float
    recall: float
    f1: float


@dataclass(frozen=True, slots=True)
class Intervals:
    """Bootstrap intervals of the means over images."""

    dice: Interval
    density_error_points: Interval
    density_bias_points: Interval
    class_agreement: Interval


@dataclass(frozen=True, slots=True)
class Figures:
    """Figures of one model on one set of images.

    `mean` is the mean of the images' values, `pooled` the value over all their pixels. Density
    errors are in points: mean absolute, mean signed (mask minus truth), 95th percentile and
    largest absolute. `confusion` counts images, rows the true density class and columns the
    mask's. `intervals` is None for a single image; `resampled` says what was drawn for them.
    """

    images: int
    nucleus_share: float
    mean: Measures
    pooled: Measures
    density_error_points: float
    density_bias_points: float
    density_p95_points: float
    density_worst_points: float
    class_agreement: float
    confusion: tuple[tuple[int, ...], ...]
    resampled: str
    intervals: Intervals | None


@dataclass(frozen=True, slots=True)
class Difference:
    """Mean difference between two models on the same images, with its interval."""

    dice: float
    density_error_points: float
    dice_interval: Interval | None
    density_error_interval: Interval | None


def figures(scores: Sequence[Score]) -> Figures:
    """Sum up the scores of a set of images.

    Raises
    ------
    ValueError
        There is no image.
    """
    if not scores:
        raise ValueError("there is nothing to sum up")
    pooled = scores[0].counts
    for s in scores[1:]:
        pooled += s.counts
    error = np.array([s.error_points for s in scores])
    dice = np.array([s.dice for s in scores])
    same = np.array([s.same_class for s in scores], dtype=np.float64)
    intervals = intervals_of_means(
        np.stack([dice, np.abs(error), error, same], axis=1), _clusters(scores)
    )
    return Figures(
        images=len(scores),
        nucleus_share=(pooled.both + pooled.truth_only)
        / (pooled.both + pooled.mask_only + pooled.truth_only + pooled.neither),
        mean=Measures(
            accuracy=float(np.mean([s.counts.accuracy for s in scores])),
            dice=float(dice.mean()),
            precision=float(np.mean([s.counts.precision for s in scores])),
            recall=float(np.mean([s.counts.recall for s in scores])),
            f1=float(np.mean([s.counts.f1 for s in scores])),
        ),
        pooled=Measures(pooled.accuracy, pooled.f1, pooled.precision, pooled.recall, pooled.f1),
        density_error_points=float(np.abs(error).mean()),
        density_bias_points=float(error.mean()),
        density_p95_points=float(np.quantile(np.abs(error), 0.95)),
        density_worst_points=float(np.abs(error).max()),
        class_agreement=float(same.mean()),
        confusion=_confusion(scores),
        resampled=_resampled(scores),
        intervals=None if intervals is None else Intervals(*intervals),
    )


def difference(scores: Sequence[Score], baseline: Sequence[Score]) -> Difference:
    """Return how far `scores` lie above `baseline`, image by image: both are of the same images.

    Raises
    ------
    ValueError
        They are not of the same images in the same order.
    """
    if [s.id for s in scores] != [b.id for b in baseline]:
        raise ValueError("the scores are not of the same images")
    gains = np.array(
        [
            (s.dice - b.dice, abs(s.error_points) - abs(b.error_points))
            for s, b in zip(scores, baseline, strict=True)
        ]
    )
    intervals = intervals_of_means(gains, _clusters(scores))
    dice, error = gains.mean(axis=0)
    return Difference(float(dice), float(error), *(intervals or (None, None)))


def _clusters(scores: Sequence[Score]) -> list[Hashable]:
    return clusters([(s.patient, s.id) for s in scores])


def _resampled(scores: Sequence[Score]) -> str:
    patients = {s.patient for s in scores}
    if patients == {""}:
        return f"{len(scores)} images"
    if len(patients) == 1:
        return f"{len(scores)} images of one patient"
    return f"{len(set(_clusters(scores)))} patients"


def _confusion(scores: Sequence[Score]) -> tuple[tuple[int, ...], ...]:
    counts = np.zeros((len(CLASS_NAMES), len(CLASS_NAMES)), dtype=np.int64)
    true = classify([s.true_density for s in scores])
    classes = classify([s.density for s in scores])
    np.add.at(counts, (true, classes), 1)
    return tuple(tuple(row) for row in counts.tolist())
