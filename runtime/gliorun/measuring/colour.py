"""Colour normalisation: the ground of the tissue, what is not nucleus, is moved to a target.

The paper normalises "based on RGB channel ratios" (its Eq. 1 is lost). A ratio of intensities is
a shift of optical density, which would colour the glass; we multiply optical density instead,
which leaves the glass white: each channel by what moves the median of the ground to its target,
and what is darker than the ground by one common factor, so that nuclei keep their hue and their
contrast. That is a table of 256 levels per channel.

Nothing here depends on nuclei. Before, the tissue was also stretched until its 98th percentile
reached a target. That percentile is nucleus only while there are enough of them: tissue with few
was stretched until its ground looked like nuclei.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from gliorun.measuring import kernels
from gliorun.model.stainstatistic import Densities, StainStatistic, White

Table = NDArray[np.uint8]
Levels = NDArray[np.int64]

WHITE_QUANTILE = 0.999
DIMMEST_WHITE = 225
"""Where no glass is seen, the brightest channel's 99.9th percentile stands for it, but never less
than this: a dense tumour may show no glass at all."""
DARK_SCANNER = 200
"""A scan whose brightest channel stays below this level everywhere has glass that is grey: even
dense tissue lets more red light through on any other."""
MIN_TISSUE_DENSITY = 0.2
"""Optical density, over the glass, of the darkest channel of the palest tissue. With the palest
stroma and fat counted as well, the median falls, and everything is stretched into nuclei: from
0.12 to 0.2, Dice rises by 0.01 to 0.04 on pale tissue and stays as it is on dense glioma."""
FAINT_TISSUE_DENSITY = 0.12
"""The same on a slide that is stained faintly as a whole: there the tissue itself is this pale."""
FAINT_SHARE = 0.4
"""Share of the pixels above the faint density that must lie above the other one, or the slide is
faint. The least among 107 slides of six sources is 0.52."""
MIN_TISSUE_PX = 2_000
GAIN_RANGE = (0.3, 4.0)

DENSITY_OF_LEVEL = -np.log((np.arange(256) + 1) / 256)
"""Optical density (natural logarithm) of each 8-bit level."""


def empty_levels() -> Levels:
    """Return a histogram with no pixel in it: (64, 3, 256) int64."""
    return np.zeros((64, 3, 256), dtype=np.int64)


def add_levels(
    rgba: NDArray[np.uint8],
    counts: Levels,
    nuclei: NDArray[np.uint8] | None = None,
    nucleus_level: int = 1,
) -> None:
    """Add the pixels of `rgba`, (H, W, 4) uint8, to `counts`.

    `nuclei` is (H, W) uint8, `nucleus_level` or more on a nucleus, whose pixels do not count.
    """
    if nuclei is None:
        nuclei = np.zeros(rgba.shape[:2], dtype=np.uint8)
    kernels.count_levels(rgba, nuclei, nucleus_level, counts)


def measure(counts: Levels, white: White | None = None) -> StainStatistic | None:
    """Return the statistic of a histogram, or None if it holds too little tissue to trust.

    `white` is the level of the glass in each channel where it is known.
    """
    white = white or _white_of(counts.sum(axis=0))
    tissue, any_tissue = (
        counts[: int(max(white) * np.exp(-palest)) // 4].sum(axis=0)
        for palest in (MIN_TISSUE_DENSITY, FAINT_TISSUE_DENSITY)
    )
    if tissue[0].sum() < FAINT_SHARE * any_tissue[0].sum():
        tissue = any_tissue
    if tissue[0].sum() < MIN_TISSUE_PX:
        return None
    density = DENSITY_OF_LEVEL[_level_at(tissue, 0.5)] - DENSITY_OF_LEVEL[list(white)]
    return StainStatistic(_three(np.maximum(density, 1e-3)), white)


def _white_of(histogram: Levels) -> White:
    """Return the level that stands for the glass, of a (3, 256) histogram of all pixels."""
    brightest = max(_level_at(histogram, WHITE_QUANTILE))
    level = brightest if brightest < DARK_SCANNER else max(brightest, DIMMEST_WHITE)
    return level, level, level


def _level_at(histogram: Levels, quantile: float) -> list[int]:
    """Return the level below which a share of each channel's pixels lies."""
    share = np.cumsum(histogram, axis=1) / np.maximum(histogram.sum(axis=1, keepdims=True), 1)
    return [int(np.searchsorted(channel, quantile)) for channel in share]


def mean_statistic(statistics: Iterable[StainStatistic]) -> StainStatistic:
    """Return the mean of several statistics: the target that a training set is moved to."""
    return StainStatistic(_three(np.mean([s.ground for s in statistics], axis=0).round(4)))


def _three(values: NDArray[np.float64]) -> Densities:
    red, green, blue = map(float, values)
    return red, green, blue


def identity_table() -> Table:
    """Return the table that changes nothing: (3, 256) uint8."""
    return np.tile(np.arange(256, dtype=np.uint8), (3, 1))


def table_between(source: StainStatistic | None, target: StainStatistic | None) -> Table:
    """Return the (3, 256) uint8 table that moves `source` to `target`.

    Without a source (too little tissue) or a target (a model trained without), nothing changes.
    """
    if source is None or target is None:
        return identity_table()
    of_channel = np.divide(target.ground, source.ground)
    common = sum(target.ground) / sum(source.ground)
    return stretching(source, of_channel, common)


def stretching(
    source: StainStatistic, of_channel: NDArray[np.float64], beyond: NDArray[np.float64] | float
) -> Table:
    """Return the (3, 256) uint8 table that multiplies optical density over the glass.

    Up to the ground of `source` by `of_channel`, (3,), and what is more than that by `beyond`, a
    number or (3,), both within `GAIN_RANGE`.
    """
    ground = np.array(source.ground)[:, None]
    density = np.maximum(DENSITY_OF_LEVEL - DENSITY_OF_LEVEL[list(source.white)][:, None], 0)
    pale = np.minimum(density, ground)
    gains = (np.clip(gain, *GAIN_RANGE) for gain in (of_channel, np.broadcast_to(beyond, 3)))
    below, above = (gain[:, None] for gain in gains)
    moved = below * pale + above * (density - pale)
    return np.asarray(np.clip(np.rint(256 * np.exp(-moved) - 1), 0, 255), dtype=np.uint8)


def normalise(rgba: NDArray[np.uint8], table: Table) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return normalised pixels, (H, W, 3) uint8, and the valid mask, (H, W) uint8 of 0 and 1."""
    height, width, _ = rgba.shape
    pixels = np.empty((height, width, 3), dtype=np.uint8)
    valid = np.empty((height, width), dtype=np.uint8)
    kernels.normalise(rgba, table, pixels, valid)
    return pixels, valid
