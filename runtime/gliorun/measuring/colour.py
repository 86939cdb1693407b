"""Colour normalisation: ground and nuclei are each moved to a target of optical density.

The paper normalises "based on RGB channel ratios" (its Eq. 1 is lost). A ratio of intensities is
a shift of optical density, which would colour the glass; we stretch optical density instead, in
two pieces that leave the glass white: from the glass to the ground (median of the tissue that is
not nucleus), and from there to the nuclei (their median). That is a table of 256 levels per
channel. Neither median depends on how many nuclei there are, which a high percentile of the whole
tissue does: with it, tissue with few nuclei was stretched until its ground looked like nuclei.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gliorun.measuring import kernels

Table = NDArray[np.uint8]
Levels = NDArray[np.int64]
Densities = tuple[float, float, float]
"""Optical densities (natural logarithm) of R, G and B."""

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
MIN_NUCLEUS_PX = 500
"""Fewer pixels of nuclei say nothing about their stain: some five nuclei."""
GAIN_RANGE = (0.3, 8.0)
CHANNEL_RANGE = 1.5
"""The gain of a channel beyond the ground may differ from the common one by this factor: the hue
of haematoxylin varies between laboratories, and a channel that hardly tells nuclei from ground
must not be stretched into noise."""

DENSITY_OF_LEVEL = -np.log((np.arange(256) + 1) / 256)
"""Optical density (natural logarithm) of each 8-bit level."""


@dataclass(frozen=True, slots=True)
class StainStatistic:
    """Median optical density of ground and nuclei over the glass, for each of R, G and B.

    `white` is the level of the glass in each channel, 0 to 255.
    """

    ground: Densities
    nucleus: Densities
    white: tuple[int, int, int] = (255, 255, 255)


def empty_levels() -> Levels:
    """Return a histogram with no pixel in it, of ground and of nuclei: (2, 64, 3, 256) int64."""
    return np.zeros((2, 64, 3, 256), dtype=np.int64)


def add_levels(
    rgba: NDArray[np.uint8], counts: Levels, nuclei: NDArray[np.uint8] | None = None
) -> None:
    """Add the pixels of `rgba`, (H, W, 4) uint8, to `counts`.

    `nuclei` is (H, W) uint8, not 0 on a nucleus; without it, all is ground.
    """
    if nuclei is None:
        nuclei = np.zeros(rgba.shape[:2], dtype=np.uint8)
    kernels.count_levels(rgba, nuclei, counts)


def measure(
    counts: Levels,
    white: tuple[int, int, int] | None = None,
    usual: StainStatistic | None = None,
) -> StainStatistic | None:
    """Return the statistic of a histogram, or None if it holds too little tissue to trust.

    `white` is the level of the glass in each channel where it is known. Where hardly any nucleus
    was counted, nuclei are taken to be as much darker than the ground, in proportion, as in
    `usual`; without it, they are taken to be twice as dark.
    """
    white = white or _white_of(counts.sum(axis=(0, 1)))
    of_ground, of_nuclei = counts
    ground, any_ground = (
        of_ground[: int(max(white) * np.exp(-palest)) // 4].sum(axis=0)
        for palest in (MIN_TISSUE_DENSITY, FAINT_TISSUE_DENSITY)
    )
    if ground[0].sum() < FAINT_SHARE * any_ground[0].sum():
        ground = any_ground
    nuclei = of_nuclei.sum(axis=0)
    if ground[0].sum() + nuclei[0].sum() < MIN_TISSUE_PX or not ground.any():
        return None
    glass = DENSITY_OF_LEVEL[list(white)]

    def median(histogram: Levels) -> NDArray[np.float64]:
        return np.asarray(DENSITY_OF_LEVEL[_level_at(histogram, 0.5)] - glass)

    pale = np.maximum(median(ground), 1e-3)
    if nuclei[0].sum() >= MIN_NUCLEUS_PX:
        dark = median(nuclei)
    else:
        dark = pale * (2.0 if usual is None else np.divide(usual.nucleus, usual.ground))
    return StainStatistic(_three(pale), _three(dark), white)


def _white_of(histogram: Levels) -> tuple[int, int, int]:
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
    values = np.array([[s.ground, s.nucleus] for s in statistics])
    ground, nucleus = values.mean(axis=0).round(4)
    return StainStatistic(_three(ground), _three(nucleus))


def _three(values: NDArray[np.float64]) -> Densities:
    red, green, blue = map(float, values)
    return red, green, blue


def identity_table() -> Table:
    """Return the table that changes nothing: (3, 256) uint8."""
    return np.tile(np.arange(256, dtype=np.uint8), (3, 1))


def table_between(source: StainStatistic | None, target: StainStatistic | None) -> Table:
    """Return the (3, 256) uint8 table that moves `source` to `target`.

    One gain of optical density up to the ground, another one beyond. Without a source (too little
    tissue) or a target (a model trained without), nothing changes.
    """
    if source is None or target is None:
        return identity_table()
    ground, contrast = np.array(source.ground), np.subtract(source.nucleus, source.ground)
    pale = np.clip(np.divide(target.ground, np.maximum(ground, 1e-3)), *GAIN_RANGE)
    to_contrast = np.subtract(target.nucleus, target.ground)
    common = to_contrast.sum() / max(contrast.sum(), 1e-3)
    of_channel = to_contrast / np.maximum(contrast, 1e-3)
    dark = np.clip(of_channel, common / CHANNEL_RANGE, common * CHANNEL_RANGE)
    dark = np.clip(dark, *GAIN_RANGE)
    density = np.maximum(DENSITY_OF_LEVEL - DENSITY_OF_LEVEL[list(source.white)][:, None], 0)
    below = np.minimum(density, ground[:, None])
    moved = pale[:, None] * below + dark[:, None] * (density - below)
    return np.asarray(np.clip(np.rint(256 * np.exp(-moved) - 1), 0, 255), dtype=np.uint8)


def normalise(rgba: NDArray[np.uint8], table: Table) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return normalised pixels, (H, W, 3) uint8, and the valid mask, (H, W) uint8 of 0 and 1."""
    height, width, _ = rgba.shape
    pixels = np.empty((height, width, 3), dtype=np.uint8)
    valid = np.empty((height, width), dtype=np.uint8)
    kernels.normalise(rgba, table, pixels, valid)
    return pixels, valid
