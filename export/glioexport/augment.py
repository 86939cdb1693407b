"""Random crops and their variations, drawn from a `numpy.random.Generator` alone."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from gliorun.errors import UsageError
from gliorun.measuring.colour import DENSITY_OF_LEVEL, Table, stretching
from gliorun.model.stainstatistic import StainStatistic
from gliorun.reading.windows import pad_to

Pixels = NDArray[np.uint8]
Label = NDArray[Any]
"""Nuclei: uint8 of 0 and 1, int32 with a number for each, or float32, a teacher's probability."""

STAINS = np.array([[0.650, 0.704, 0.286], [0.072, 0.990, 0.105], [0.268, 0.570, 0.776]])
"""Optical density of haematoxylin, eosin and DAB in R, G and B (Ruifrok, Johnston 2001)."""
STAINS_OF_DENSITY = np.linalg.inv(STAINS)
LUMA = np.array([0.299, 0.587, 0.114])


GAINS = ("ground_gain", "contrast_gain", "channel_gain")


@dataclass(frozen=True, slots=True)
class Augmentation:
    """How far a training crop may stray; a factor `f` is drawn from [1/f, f], log-uniform.

    `ground_gain` is by how much the match of colour may be off, in optical density of the ground;
    `contrast_gain` by how much that of nuclei beyond it varies; `channel_gain` is the same for
    each channel of both.
    """

    scale: float = 1.35
    ground_gain: float = 1.2
    contrast_gain: float = 1.4
    channel_gain: float = 1.12
    stain_factor: float = 1.7
    channel_factor: float = 1.3
    channel_shift: float = 0.12
    gamma: float = 1.5
    grey_share: float = 0.1
    blur_share: float = 0.25
    blur_sigma_px: float = 1.5
    noise_share: float = 0.25
    noise_level: float = 10.0
    jpeg_share: float = 0.25
    jpeg_quality: int = 40

    def __post_init__(self) -> None:
        for name in (*GAINS, "scale", "stain_factor", "channel_factor", "gamma"):
            self._must(name, 1, math.inf)
        for name in ("grey_share", "blur_share", "noise_share", "jpeg_share"):
            self._must(name, 0, 1)
        for name in ("channel_shift", "blur_sigma_px", "noise_level"):
            self._must(name, 0, math.inf)
        self._must("jpeg_quality", 1, 95)

    def _must(self, name: str, low: float, high: float) -> None:
        value = getattr(self, name)
        if not low <= value <= high or math.isinf(value):  # also refuses NaN
            must = f"{low} or more" if math.isinf(high) else f"from {low} to {high}"
            raise UsageError(f"{name} is {value}; it must be {must}")


PLAIN = Augmentation(1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 95)
"""Crops, rotations and flips only, as the paper does."""
MATCHED = Augmentation(
    stain_factor=1.0, channel_factor=1.0, channel_shift=0.0, gamma=1.0, grey_share=0.0
)
"""All but the colour, other than by how much its match may be off."""


def augment(
    pixels: Pixels,
    nuclei: Label,
    side: int,
    how: Augmentation,
    random: np.random.Generator,
    target: StainStatistic | None = None,
) -> tuple[Pixels, Label]:
    """Return one (side, side, 3) crop and its (side, side) label, of the types they came in.

    `target` is the colour that the pixels are in, without which its match is not varied.
    """
    crop, label = _turn(*_crop(pixels, nuclei, side, how, random), random)
    if target is not None:
        table = _mismatch(target, how, random)
        crop = np.stack([table[c][crop[..., c]] for c in range(3)], axis=-1)
    return _degrade(_stain(crop, how, random), how, random), label


def _mismatch(target: StainStatistic, how: Augmentation, random: np.random.Generator) -> Table:
    """Return a table that moves the matched colour as far as the match may be off."""
    of_channel = _factor(how.ground_gain, random) * _factor(how.channel_gain, random, 3)
    beyond = _factor(how.contrast_gain, random) * _factor(how.channel_gain, random, 3)
    return stretching(target, of_channel, beyond)


def _factor(
    limit: float, random: np.random.Generator, size: int | None = None
) -> NDArray[np.float64]:
    return np.asarray(np.exp(random.uniform(-np.log(limit), np.log(limit), size)))


def _crop(
    pixels: Pixels, nuclei: Label, side: int, how: Augmentation, random: np.random.Generator
) -> tuple[Pixels, Label]:
    covered = round(side / float(_factor(how.scale, random)))
    pixels, nuclei = pad_to(pixels, covered), pad_to(nuclei, covered)
    top = int(random.integers(pixels.shape[0] - covered + 1))
    left = int(random.integers(pixels.shape[1] - covered + 1))
    place = np.s_[top : top + covered, left : left + covered]
    crop, label = pixels[place], nuclei[place]
    if covered != side:
        crop = np.asarray(Image.fromarray(crop).resize((side, side), Image.Resampling.BILINEAR))
        exact = np.issubdtype(label.dtype, np.integer)
        between = Image.Resampling.NEAREST if exact else Image.Resampling.BILINEAR
        label = np.asarray(Image.fromarray(label).resize((side, side), between))
    return crop, label


def _turn(crop: Pixels, label: Label, random: np.random.Generator) -> tuple[Pixels, Label]:
    quarters, flip = int(random.integers(4)), bool(random.integers(2))
    crop, label = np.rot90(crop, quarters), np.rot90(label, quarters)
    return (crop[:, ::-1], label[:, ::-1]) if flip else (crop, label)


def _stain(crop: Pixels, how: Augmentation, random: np.random.Generator) -> Pixels:
    """Vary the amount of each stain, then each channel, then the contrast."""
    stains = (STAINS_OF_DENSITY * _factor(how.stain_factor, random, 3)) @ STAINS
    mixing = stains * _factor(how.channel_factor, random, 3)
    shift = random.uniform(-how.channel_shift, how.channel_shift, 3)
    density = DENSITY_OF_LEVEL.astype(np.float32)[crop] @ mixing.astype(np.float32)
    density += shift.astype(np.float32)
    gamma = np.float32(_factor(how.gamma, random))
    light = np.exp(-np.maximum(density, 0)) ** gamma
    if random.random() < how.grey_share:
        light = np.repeat((light @ LUMA.astype(np.float32))[..., None], 3, axis=-1)
    return np.asarray(np.clip(np.rint(light * 256 - 1), 0, 255), dtype=np.uint8)


def _degrade(crop: Pixels, how: Augmentation, random: np.random.Generator) -> Pixels:
    """Blur, add noise, compress: each sometimes."""
    if random.random() < how.blur_share:
        sigma = random.uniform(min(0.3, how.blur_sigma_px), how.blur_sigma_px)
        crop = np.asarray(Image.fromarray(crop).filter(ImageFilter.GaussianBlur(sigma)))
    if random.random() < how.noise_share:
        level = random.uniform(min(1, how.noise_level), how.noise_level)
        noise = random.standard_normal(crop.shape, np.float32) * level
        crop = np.clip(crop + noise, 0, 255).astype(np.uint8)
    if random.random() < how.jpeg_share:
        encoded = io.BytesIO()
        quality = int(random.integers(how.jpeg_quality, 96))
        Image.fromarray(crop).save(encoded, "JPEG", quality=quality)
        crop = np.asarray(Image.open(encoded))
    return crop
