"""Fixed-size windows over an image of any size."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]


def starts(side: int, window: int) -> list[int]:
    """Return where windows of `window` px start so that they cover `side` px; the last fits."""
    last = max(side - window, 0)
    return [*range(0, last, window), last]


def pad_to(image: Pixels, side: int) -> Pixels:
    """Mirror `image`, (H, W, ...), at its right and lower border up to `side` px a side."""
    missing = [(0, max(side - image.shape[0], 0)), (0, max(side - image.shape[1], 0))]
    if not any(after for _, after in missing):
        return image
    return np.pad(image, missing + [(0, 0)] * (image.ndim - 2), mode="symmetric")


def windows(image: Pixels, side: int) -> Iterator[Pixels]:
    """Yield (side, side, ...) windows that cover `image`, row by row."""
    padded = pad_to(image, side)
    for top in starts(image.shape[0], side):
        for left in starts(image.shape[1], side):
            yield padded[top : top + side, left : left + side]


def segment(
    image: Pixels, predict: Callable[[Iterable[Pixels]], Iterable[Pixels]], side: int
) -> Pixels:
    """Return the nucleus mask, (H, W) uint8, of `image`, (H, W, 3) uint8, of any size.

    `predict` turns (side, side, 3) windows into (side, side) masks, in order. A small image is
    mirrored up to one window.
    """
    height, width = image.shape[:2]
    mask = np.zeros((max(height, side), max(width, side)), dtype=np.uint8)
    places = ((top, left) for top in starts(height, side) for left in starts(width, side))
    for (top, left), part in zip(places, predict(windows(image, side)), strict=True):
        mask[top : top + side, left : left + side] = part
    return mask[:height, :width]
