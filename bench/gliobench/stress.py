"""Changes that another scanner or laboratory might make to a tile, to see what a model bears."""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from gliobench.stains import levels_of_density
from glioexport.augment import STAINS, STAINS_OF_DENSITY
from gliorun.measuring.colour import DENSITY_OF_LEVEL

Pixels = NDArray[np.uint8]


def stain(image: Pixels, haematoxylin: float, eosin: float) -> Pixels:
    """Multiply the amount of each stain in an image, (H, W, 3) uint8.

    Colour deconvolution (Ruifrok, Johnston 2001); what is neither stain stays.
    """
    mixing = (STAINS_OF_DENSITY * np.array([haematoxylin, eosin, 1.0])) @ STAINS
    return levels_of_density(DENSITY_OF_LEVEL[image] @ mixing)


def turn_hue(image: Pixels, degrees: float) -> Pixels:
    """Turn the colours about the grey axis; greys, black and white stay."""
    angle = np.deg2rad(degrees)
    cross = np.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]]) / np.sqrt(3)
    turn = np.cos(angle) * np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) / 3
    return np.asarray(np.clip(np.rint(image @ turn.T), 0, 255), dtype=np.uint8)


def jpeg(image: Pixels, quality: int) -> Pixels:
    """Compress and read again, with the colour at half resolution as scanners keep it."""
    encoded = io.BytesIO()
    Image.fromarray(image).save(encoded, "JPEG", quality=quality, subsampling="4:2:0")
    return np.asarray(Image.open(encoded))


def blur(image: Pixels, sigma_px: float) -> Pixels:
    """Blur with a Gaussian."""
    return np.asarray(Image.fromarray(image).filter(ImageFilter.GaussianBlur(sigma_px)))


def coarse(image: Pixels, factor: int) -> Pixels:
    """Shrink by area, as a coarser scan, and enlarge again as the runtime does (bicubic)."""
    height, width = image.shape[:2]
    size = (max(1, round(width / factor)), max(1, round(height / factor)))
    small = Image.fromarray(image).resize(size, Image.Resampling.BOX)
    return np.asarray(small.resize((width, height), Image.Resampling.BICUBIC))


CHANGES: dict[str, Callable[[Pixels], Pixels]] = {
    "both stains × 0.7": partial(stain, haematoxylin=0.7, eosin=0.7),
    "both stains × 1.3": partial(stain, haematoxylin=1.3, eosin=1.3),
    "haematoxylin × 0.7": partial(stain, haematoxylin=0.7, eosin=1.0),
    "haematoxylin × 1.3": partial(stain, haematoxylin=1.3, eosin=1.0),
    "hue −15°": partial(turn_hue, degrees=-15),
    "hue +15°": partial(turn_hue, degrees=15),
    "JPEG quality 50": partial(jpeg, quality=50),
    "blur σ 1 px": partial(blur, sigma_px=1),
    "20x (0.5 µm/px)": partial(coarse, factor=2),
}
