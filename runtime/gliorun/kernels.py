"""Every numba loop: arrays in, `out` filled, nothing checked, nothing allocated.

Each kernel has a slow numpy twin in `tests/naive.py`. They are serial: the pipeline calls them
from several threads, and `parallel=True` is not safe there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba

F = TypeVar("F", bound=Callable[..., Any])

OPAQUE = 128
"""Alpha from which a pixel belongs to the slide."""


def kernel(function: F) -> F:
    """Compile `function` without the GIL, cached where some folder can be written."""
    try:
        compiled = numba.njit(nogil=True, cache=True)(function)
    except RuntimeError:  # no writable cache folder: compile in every process instead
        compiled = numba.njit(nogil=True)(function)
    return cast(F, compiled)


@kernel
def count_levels(rgba: Any, glass: int, counts: Any) -> None:
    """Add the tissue pixels of a tile to a histogram of each channel.

    Parameters
    ----------
    rgba : (H, W, 4) uint8, straight alpha
    glass : int
        A pixel is tissue if it is opaque and its darkest channel lies below this level.
    counts : (3, 256) int64, added to
    """
    height, width = rgba.shape[0], rgba.shape[1]
    for i in range(height):
        for j in range(width):
            red, green, blue = rgba[i, j, 0], rgba[i, j, 1], rgba[i, j, 2]
            if rgba[i, j, 3] >= OPAQUE and min(red, green, blue) < glass:
                counts[0, red] += 1
                counts[1, green] += 1
                counts[2, blue] += 1


@kernel
def normalise(rgba: Any, table: Any, out: Any, valid: Any) -> None:
    """Look every channel up, and put white where the slide has no pixel.

    Parameters
    ----------
    rgba : (H, W, 4) uint8, straight alpha
    table : (3, 256) uint8, new level of each level of each channel
    out : (H, W, 3) uint8, filled
    valid : (H, W) uint8, filled: 1 inside the slide, 0 outside
    """
    height, width = rgba.shape[0], rgba.shape[1]
    for i in range(height):
        for j in range(width):
            if rgba[i, j, 3] >= OPAQUE:
                for c in range(3):
                    out[i, j, c] = table[c, rgba[i, j, c]]
                valid[i, j] = 1
            else:
                for c in range(3):
                    out[i, j, c] = 255
                valid[i, j] = 0


@kernel
def count_nuclei(mask: Any, valid: Any, cell_px: int, nucleus_px: Any, valid_px: Any) -> None:
    """Add the pixels of one tile to its cells.

    Parameters
    ----------
    mask : (H, W) uint8, not 0 on a nucleus
    valid : (H, W) uint8, not 0 inside the slide
    cell_px : int
        Side of a cell in px of the tile; cell (i // cell_px, j // cell_px) holds pixel (i, j).
    nucleus_px, valid_px : (ceil(H / cell_px), ceil(W / cell_px)) int64, added to
    """
    height, width = mask.shape
    for i in range(height):
        row = i // cell_px
        for j in range(width):
            if valid[i, j]:
                column = j // cell_px
                valid_px[row, column] += 1
                if mask[i, j]:
                    nucleus_px[row, column] += 1
