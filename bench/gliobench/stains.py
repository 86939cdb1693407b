"""The colour normalisation of the runtime, and other methods to compare it with.

Each fits a statistic to the images of one slide and moves them to the statistic of a target. Small
reference code in plain numpy, to compare with; the runtime does not use it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from gliorun.measuring.colour import DENSITY_OF_LEVEL, MIN_TISSUE_PX

Pixels = NDArray[np.uint8]
Density = NDArray[np.float64]
Statistic = TypeVar("Statistic")

SAMPLE_PX = 200_000
"""Approximate number of pixels of a slide that a statistic is fitted to, evenly spaced."""


@dataclass(frozen=True, slots=True)
class Method(Generic[Statistic]):
    """One way to normalise colour.

    `fit` measures the images of one slide, (H, W, 3) uint8, None if they show too little tissue;
    `mean` makes a target of many slides; `move` takes an image from its own statistic to the
    target.
    """

    fit: Callable[[list[Pixels]], Statistic | None]
    mean: Callable[[Iterable[Statistic]], Statistic]
    move: Callable[[Pixels, Statistic, Statistic], Pixels]


# --- the paper's, as we read it ----------------------------------------------------------------

GLASS_LEVEL = 225
"""A pixel whose darkest channel reaches this level is glass."""
MOST_GAIN = 2.0


def fit_ratio(images: list[Pixels]) -> tuple[float, ...] | None:
    """Return the mean level of each channel over the tissue; None if there is too little."""
    pixels = _tissue(images)
    return None if pixels is None else tuple(pixels.mean(axis=0).tolist())


def mean_ratio(fits: Iterable[tuple[float, ...]]) -> tuple[float, ...]:
    """Return the mean of several slides' channel means."""
    return tuple(np.mean(list(fits), axis=0).tolist())


def move_ratio(image: Pixels, source: tuple[float, ...], target: tuple[float, ...]) -> Pixels:
    """Multiply each channel by the ratio of its means: I' = clip(I · t / m).

    So we read the paper's Eq. 1, which is lost: "based on RGB channel ratios". No channel gains
    or loses more than `MOST_GAIN` times.
    """
    gain = np.clip(np.array(target) / np.maximum(source, 1), 1 / MOST_GAIN, MOST_GAIN)
    return np.asarray(np.clip(np.rint(image * gain), 0, 255), dtype=np.uint8)


# --- Macenko -----------------------------------------------------------------------------------

MIN_DENSITY = 0.15
"""β of the paper: a pixel with less optical density in any channel is not stained. As in the
authors' own and the usual ports, the logarithm is the natural one."""
ANGLE_QUANTILES = (0.01, 0.99)
STRONG_QUANTILE = 0.99
MIN_SPREAD_RAD = 0.02
"""Angle between the two stains below which there is but one."""


@dataclass(frozen=True, slots=True)
class TwoStains:
    """Optical density of haematoxylin and eosin in R, G and B (unit length), and the amount of
    each that 99 % of the stained pixels stay below."""

    stains: tuple[tuple[float, float, float], tuple[float, float, float]]
    strong: tuple[float, float]


def fit_macenko(images: list[Pixels]) -> TwoStains | None:
    """Find the two stains of a slide; None if it shows too little, or only one.

    The stained pixels are projected on the plane of the first two eigenvectors of their optical
    density; the extreme angles in that plane, the 1st and the 99th percentile, are the stains
    (Macenko et al., A method for normalizing histology slides for quantitative analysis, ISBI
    2009). Haematoxylin is the one that takes more red.
    """
    density = DENSITY_OF_LEVEL[_sample(images)]
    density = density[(density >= MIN_DENSITY).all(axis=1)]
    if len(density) * _step(images) < MIN_TISSUE_PX:
        return None
    _, vectors = np.linalg.eigh(np.cov(density, rowvar=False))
    plane = vectors[:, [2, 1]]
    plane = plane * np.where(plane[0] < 0, -1, 1)
    on_plane = density @ plane
    low, high = np.quantile(np.arctan2(on_plane[:, 1], on_plane[:, 0]), ANGLE_QUANTILES)
    if high - low < MIN_SPREAD_RAD:
        return None
    ends = np.array([[np.cos(a), np.sin(a)] for a in (low, high)]) @ plane.T
    ends = ends[np.argsort(-ends[:, 0])]
    strong = np.quantile(_amounts(density, ends), STRONG_QUANTILE, axis=0)
    return None if strong.min() <= 0 else _two_stains(ends, strong)


def mean_macenko(fits: Iterable[TwoStains]) -> TwoStains:
    """Return the mean of several slides' stains, of unit length again."""
    all_fits = list(fits)
    stains = np.mean([fit.stains for fit in all_fits], axis=0)
    stains /= np.linalg.norm(stains, axis=1, keepdims=True)
    return _two_stains(stains, np.mean([fit.strong for fit in all_fits], axis=0))


def move_macenko(image: Pixels, source: TwoStains, target: TwoStains) -> Pixels:
    """Redraw an image with the target's stains; what is neither stain is lost, as published."""
    amounts = _amounts(DENSITY_OF_LEVEL[image].reshape(-1, 3), np.array(source.stains))
    amounts *= np.array(target.strong) / np.array(source.strong)
    return levels_of_density(amounts @ np.array(target.stains)).reshape(image.shape)


def _amounts(density: Density, stains: NDArray[np.float64]) -> Density:
    """Return the amounts, (N, 2), of two stains that come closest to densities, (N, 3)."""
    return np.asarray(density @ np.linalg.pinv(stains))


def _two_stains(stains: NDArray[np.float64], strong: NDArray[np.float64]) -> TwoStains:
    first, second = (
        (float(red), float(green), float(blue)) for red, green, blue in stains.tolist()
    )
    return TwoStains((first, second), (float(strong[0]), float(strong[1])))


# --- Reinhard ----------------------------------------------------------------------------------

LMS_OF_RGB = np.array(
    [[0.3811, 0.5783, 0.0402], [0.1967, 0.7244, 0.0782], [0.0241, 0.1288, 0.8444]]
)
LAB_OF_LMS = np.diag([3**-0.5, 6**-0.5, 2**-0.5]) @ np.array([[1, 1, 1], [1, 1, -2], [1, -1, 0]])
MIN_DEVIATION = 1e-4


@dataclass(frozen=True, slots=True)
class LabMoments:
    """Mean and standard deviation in l, α and β."""

    mean: tuple[float, ...]
    deviation: tuple[float, ...]


def fit_reinhard(images: list[Pixels]) -> LabMoments | None:
    """Measure the tissue of a slide in lαβ; None if there is too little, or of one colour.

    Mean and deviation of each channel (Reinhard et al., Color transfer between images, IEEE CG&A
    2001). The paper takes whole images; here glass is left out, as its share varies.
    """
    pixels = _tissue(images)
    if pixels is None:
        return None
    lab = _lab(pixels)
    deviation = lab.std(axis=0)
    if deviation.min() < MIN_DEVIATION:
        return None
    return LabMoments(tuple(lab.mean(axis=0).tolist()), tuple(deviation.tolist()))


def mean_reinhard(fits: Iterable[LabMoments]) -> LabMoments:
    """Return the mean of several slides' moments."""
    mean, deviation = np.mean([[fit.mean, fit.deviation] for fit in fits], axis=0).tolist()
    return LabMoments(tuple(mean), tuple(deviation))


def move_reinhard(image: Pixels, source: LabMoments, target: LabMoments) -> Pixels:
    """Scale and shift each of l, α and β to the target's moments."""
    lab = _lab(image.reshape(-1, 3)) - np.array(source.mean)
    lab = lab * np.array(target.deviation) / np.array(source.deviation) + np.array(target.mean)
    lms = 10 ** (lab @ np.linalg.inv(LAB_OF_LMS).T)
    light = lms @ np.linalg.inv(LMS_OF_RGB).T
    return _levels_of_light(light).reshape(image.shape)


def _lab(pixels: Pixels) -> NDArray[np.float64]:
    """Return lαβ, (N, 3), of pixels, (N, 3) uint8; levels start at 1 so that black has one."""
    light = (pixels.astype(np.float64) + 1) / 256
    return np.asarray(np.log10(light @ LMS_OF_RGB.T) @ LAB_OF_LMS.T)


# --- all ---------------------------------------------------------------------------------------


def levels_of_density(density: Density) -> Pixels:
    """Return the 8-bit levels of optical densities (natural logarithm)."""
    return _levels_of_light(np.exp(-density))


def _levels_of_light(light: NDArray[np.float64]) -> Pixels:
    return np.asarray(np.clip(np.rint(256 * light - 1), 0, 255), dtype=np.uint8)


def _step(images: list[Pixels]) -> int:
    return max(1, sum(image.size // 3 for image in images) // SAMPLE_PX)


def _sample(images: list[Pixels]) -> Pixels:
    """Return about `SAMPLE_PX` pixels of a slide, (N, 3): every `_step`-th."""
    step = _step(images)
    return np.concatenate([image.reshape(-1, 3)[::step] for image in images])


def _tissue(images: list[Pixels]) -> Pixels | None:
    """Return sampled pixels of a slide that are not glass, (N, 3); None if there are too few."""
    pixels = _sample(images)
    pixels = pixels[pixels.min(axis=1) < GLASS_LEVEL]
    return pixels if len(pixels) * _step(images) >= MIN_TISSUE_PX else None


COMPARED: dict[str, Method[Any]] = {
    "ratio": Method(fit_ratio, mean_ratio, move_ratio),
    "macenko": Method(fit_macenko, mean_macenko, move_macenko),
    "reinhard": Method(fit_reinhard, mean_reinhard, move_reinhard),
}
