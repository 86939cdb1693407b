"""Colour normalisation: each channel's optical density is moved and scaled to a target.

The paper normalises "based on RGB channel ratios" (its Eq. 1 is lost). A ratio of intensities is
a shift of optical density; we shift *and* scale it, so that both the pale ground (median) and the
dark nuclei (98th percentile) of the tissue meet the target. That is a table of 256 levels per
channel. It is our choice, made by validation accuracy on a laboratory the network has not seen.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gliorun import kernels

Table = NDArray[np.uint8]
Levels = NDArray[np.int64]

GLASS_LEVEL = 225
"""A pixel whose darkest channel reaches this level is glass, not tissue."""
HIGH_QUANTILE = 0.98
MIN_TISSUE_PX = 2_000
GAIN_RANGE = (0.3, 6.0)

DENSITY_OF_LEVEL = -np.log((np.arange(256) + 1) / 256)
"""Optical density (natural logarithm) of each 8-bit level."""


@dataclass(frozen=True, slots=True)
class StainStatistic:
    """Optical density of the tissue, one value for each of R, G and B."""

    median: tuple[float, float, float]
    high: tuple[float, float, float]


def empty_levels() -> Levels:
    """Return a histogram with no pixel in it: (3, 256) int64."""
    return np.zeros((3, 256), dtype=np.int64)


def add_levels(rgba: NDArray[np.uint8], counts: Levels) -> None:
    """Add the tissue pixels of `rgba`, (H, W, 4) uint8, to `counts`."""
    kernels.count_levels(rgba, GLASS_LEVEL, counts)


def measure(counts: Levels) -> StainStatistic | None:
    """Return the statistic of a histogram, or None if it holds too little tissue to trust."""
    if counts[0].sum() < MIN_TISSUE_PX:
        return None

    def density_at(quantile: float) -> tuple[float, float, float]:
        share = np.cumsum(counts, axis=1) / counts.sum(axis=1, keepdims=True)
        # the darkest levels are the highest densities
        red, green, blue = (int(np.searchsorted(channel, 1 - quantile)) for channel in share)
        return (
            float(DENSITY_OF_LEVEL[red]),
            float(DENSITY_OF_LEVEL[green]),
            float(DENSITY_OF_LEVEL[blue]),
        )

    return StainStatistic(density_at(0.5), density_at(HIGH_QUANTILE))


def mean_statistic(statistics: Iterable[StainStatistic]) -> StainStatistic:
    """Return the mean of several statistics: the target that a training set is moved to."""
    values = np.array([[s.median, s.high] for s in statistics])
    median, high = values.mean(axis=0).round(4).tolist()
    return StainStatistic(tuple(median), tuple(high))


def identity_table() -> Table:
    """Return the table that changes nothing: (3, 256) uint8."""
    return np.tile(np.arange(256, dtype=np.uint8), (3, 1))


def table_between(source: StainStatistic | None, target: StainStatistic | None) -> Table:
    """Return the (3, 256) uint8 table that moves `source` to `target`.

    Without a source (too little tissue) or a target (a model trained without), nothing changes.
    """
    if source is None or target is None:
        return identity_table()
    return np.stack(
        [
            _channel_table(source.median[c], source.high[c], target.median[c], target.high[c])
            for c in range(3)
        ]
    )


def _channel_table(median: float, high: float, to_median: float, to_high: float) -> Table:
    gain = np.clip((to_high - to_median) / max(high - median, 1e-3), *GAIN_RANGE)
    density = to_median + gain * (DENSITY_OF_LEVEL - median)
    levels = np.clip(np.rint(256 * np.exp(-density) - 1), 0, 255)
    return np.asarray(levels, dtype=np.uint8)


def normalise(rgba: NDArray[np.uint8], table: Table) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return normalised pixels, (H, W, 3) uint8, and the valid mask, (H, W) uint8 of 0 and 1."""
    height, width, _ = rgba.shape
    pixels = np.empty((height, width, 3), dtype=np.uint8)
    valid = np.empty((height, width), dtype=np.uint8)
    kernels.normalise(rgba, table, pixels, valid)
    return pixels, valid
