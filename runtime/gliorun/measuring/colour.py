"""Colour normalisation: each channel's optical density is stretched to a target.

The paper normalises "based on RGB channel ratios" (its Eq. 1 is lost). A ratio of intensities is
a shift of optical density, which would colour the glass; we stretch optical density instead, in
two pieces that leave the glass white: from glass to the pale ground (median of the tissue), and
from there to the dark nuclei (98th percentile). That is a table of 256 levels per channel. It is
our choice, made by validation accuracy on a laboratory the network has not seen.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gliorun.measuring import kernels

Table = NDArray[np.uint8]
Levels = NDArray[np.int64]

WHITE_QUANTILE = 0.999
DIMMEST_WHITE = 225
"""The glass is as bright as the brightest channel's 99.9th percentile, but never dimmer than
this: a dense tumour may show no glass at all."""
MIN_TISSUE_DENSITY = 0.2
"""Optical density, over the glass, of the darkest channel of the palest tissue. With the palest
stroma and fat counted as well, the median falls, and everything is stretched into nuclei: from
0.12 to 0.2, Dice rises by 0.01 to 0.04 on pale tissue and stays as it is on dense glioma."""
FAINT_TISSUE_DENSITY = 0.12
"""The same on a slide that is stained faintly as a whole: there the tissue itself is this pale."""
FAINT_SHARE = 0.4
"""Share of the pixels above the faint density that must lie above the other one, or the slide is
faint. The least among 107 slides of six sources is 0.52."""
HIGH_QUANTILE = 0.98
MIN_TISSUE_PX = 2_000
GAIN_RANGE = (0.3, 6.0)

DENSITY_OF_LEVEL = -np.log((np.arange(256) + 1) / 256)
"""Optical density (natural logarithm) of each 8-bit level."""


@dataclass(frozen=True, slots=True)
class StainStatistic:
    """Optical density of the tissue over the glass, one value for each of R, G and B.

    `white` is the level of the glass, 0 to 255.
    """

    median: tuple[float, float, float]
    high: tuple[float, float, float]
    white: int = 255


def empty_levels() -> Levels:
    """Return a histogram with no pixel in it: (64, 3, 256) int64."""
    return np.zeros((64, 3, 256), dtype=np.int64)


def add_levels(rgba: NDArray[np.uint8], counts: Levels) -> None:
    """Add the pixels of `rgba`, (H, W, 4) uint8, to `counts`."""
    kernels.count_levels(rgba, counts)


def measure(counts: Levels) -> StainStatistic | None:
    """Return the statistic of a histogram, or None if it holds too little tissue to trust."""
    white = max(*_level_at(counts.sum(axis=0), WHITE_QUANTILE), DIMMEST_WHITE)
    tissue, any_tissue = (
        counts[: int(white * np.exp(-palest)) // 4].sum(axis=0)
        for palest in (MIN_TISSUE_DENSITY, FAINT_TISSUE_DENSITY)
    )
    if tissue[0].sum() < FAINT_SHARE * any_tissue[0].sum():
        tissue = any_tissue
    if tissue[0].sum() < MIN_TISSUE_PX:
        return None

    def density_at(quantile: float) -> tuple[float, float, float]:
        # the darkest levels are the highest densities
        red, green, blue = DENSITY_OF_LEVEL[_level_at(tissue, 1 - quantile)]
        glass = DENSITY_OF_LEVEL[white]
        return float(red - glass), float(green - glass), float(blue - glass)

    return StainStatistic(density_at(0.5), density_at(HIGH_QUANTILE), white)


def _level_at(histogram: Levels, quantile: float) -> list[int]:
    """Return the level below which a share of each channel's pixels lies."""
    share = np.cumsum(histogram, axis=1) / np.maximum(histogram.sum(axis=1, keepdims=True), 1)
    return [int(np.searchsorted(channel, quantile)) for channel in share]


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
    density = np.maximum(DENSITY_OF_LEVEL - DENSITY_OF_LEVEL[source.white], 0)
    return np.stack(
        [
            _channel_table(
                density, (source.median[c], source.high[c]), (target.median[c], target.high[c])
            )
            for c in range(3)
        ]
    )


def _channel_table(
    density: NDArray[np.float64], source: tuple[float, float], target: tuple[float, float]
) -> NDArray[np.uint8]:
    """Return the new level of each density: one gain up to the median, another one beyond."""
    median, high = source
    to_median, to_high = target
    pale = np.clip(to_median / max(median, 1e-3), *GAIN_RANGE)
    dark = np.clip((to_high - to_median) / max(high - median, 1e-3), *GAIN_RANGE)
    moved = pale * np.minimum(density, median) + dark * np.maximum(density - median, 0)
    return np.asarray(np.clip(np.rint(256 * np.exp(-moved) - 1), 0, 255), dtype=np.uint8)


def normalise(rgba: NDArray[np.uint8], table: Table) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return normalised pixels, (H, W, 3) uint8, and the valid mask, (H, W) uint8 of 0 and 1."""
    height, width, _ = rgba.shape
    pixels = np.empty((height, width, 3), dtype=np.uint8)
    valid = np.empty((height, width), dtype=np.uint8)
    kernels.normalise(rgba, table, pixels, valid)
    return pixels, valid
