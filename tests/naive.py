"""Slow, obvious numpy twins of the kernels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
OPAQUE = 128


def count_levels(rgba: Pixels, glass: int) -> NDArray[np.int64]:
    """Return the histogram of each channel over the opaque pixels that are not glass."""
    pixels = rgba[rgba[..., 3] >= OPAQUE][:, :3]
    tissue = pixels[pixels.min(axis=1) < glass]
    return np.stack([np.bincount(tissue[:, c], minlength=256) for c in range(3)])


def normalise(rgba: Pixels, table: Pixels) -> tuple[Pixels, Pixels]:
    """Return the pixels looked up, white where not opaque, and the opaque mask."""
    opaque = rgba[..., 3] >= OPAQUE
    looked_up = np.stack([table[c][rgba[..., c]] for c in range(3)], axis=-1)
    return np.where(opaque[..., None], looked_up, 255).astype(np.uint8), opaque.astype(np.uint8)


def count_nuclei(
    mask: Pixels, valid: Pixels, cell_px: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return nucleus and valid pixels of each cell."""
    height, width = mask.shape
    shape = (-(-height // cell_px), -(-width // cell_px))
    nucleus_px, valid_px = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    for row, column in np.ndindex(shape):
        cell = np.s_[row * cell_px : (row + 1) * cell_px, column * cell_px : (column + 1) * cell_px]
        inside = valid[cell] != 0
        valid_px[row, column] = inside.sum()
        nucleus_px[row, column] = ((mask[cell] != 0) & inside).sum()
    return nucleus_px, valid_px
