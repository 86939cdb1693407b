"""Bootstrap intervals: of means over images, drawn by patient; of regions, drawn in blocks."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import NDArray

Interval = tuple[float, float]

RESAMPLES = 2000
LEVEL = 0.95
SEED = 0


def clusters(images: Sequence[tuple[str, str]]) -> list[Hashable]:
    """Return what each image, (patient, id), is drawn with: its patient, so far as known.

    Images of one patient are alike, so that to draw them singly would make intervals too narrow.
    An image of no known patient stands for itself. So do all images of a set of one patient; its
    interval then says nothing about other patients.
    """
    patients: list[Hashable] = [(patient, "" if patient else id_) for patient, id_ in images]
    return patients if len(set(patients)) > 1 else [id_ for _, id_ in images]


def intervals_of_means(
    values: NDArray[np.float64], drawn_with: Sequence[Hashable]
) -> list[Interval] | None:
    """Return the bootstrap interval of each column's mean, or None for a single cluster.

    Whole clusters are drawn with replacement, the images within them are kept: for nested samples
    this is closer to the truth than to draw anew on both levels (Davison, Hinkley 1997, section
    3.8). The interval holds the middle `LEVEL` of the `RESAMPLES` means (percentile bootstrap,
    Efron 1979); below about twenty clusters it is somewhat too narrow. Seeded: the same values
    give the same interval.

    Parameters
    ----------
    values : (images, figures)
    drawn_with : sequence of hashable
        The cluster of each image.
    """
    names = list(dict.fromkeys(drawn_with))
    if len(names) < 2:
        return None
    place = {name: number for number, name in enumerate(names)}
    member = np.zeros((len(names), len(values)))
    member[[place[name] for name in drawn_with], np.arange(len(values))] = 1
    random = np.random.default_rng(SEED)
    times = random.multinomial(len(names), np.full(len(names), 1 / len(names)), RESAMPLES)
    means = (times @ (member @ values)) / (times @ member.sum(axis=1))[:, None]
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    return [(float(a), float(b)) for a, b in zip(low, high, strict=True)]


def interval_of_difference(ours: NDArray[np.float64], theirs: NDArray[np.float64]) -> Interval:
    """Return the bootstrap interval of the difference of two ratios of sums.

    Of each side whole rows are drawn with replacement, by itself. A row is a block of neighbours,
    which are alike: drawn singly they would make the interval too narrow (block bootstrap, Hall
    1985). The interval holds the middle `LEVEL` of the differences; the fewer rows, the more it is
    too narrow. Seeded: the same rows give the same interval.

    Parameters
    ----------
    ours, theirs : (N, 2) and (M, 2)
        Numerator and denominator of each row, the denominator above 0.
    """
    random = np.random.default_rng(SEED)

    def ratios(rows: NDArray[np.float64]) -> NDArray[np.float64]:
        times = random.multinomial(len(rows), np.full(len(rows), 1 / len(rows)), RESAMPLES)
        above, below = (times @ rows).T
        return np.asarray(above / below)

    low, high = np.quantile(ratios(ours) - ratios(theirs), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)
