"""The levels whose outlines lie about a pixel inside and outside those of the nuclei.

Where people draw the outline of a nucleus differs by about a pixel, so every density is told with
what it would be by an outline a pixel further in and a pixel further out.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

Levels = NDArray[np.uint8]
Mask = NDArray[np.bool_]


def band_of(levels: Iterable[Levels], nucleus_level: int) -> tuple[int, int]:
    """Return the levels of the inner and of the outer outline.

    They are those by which the area of all tiles together is closest to that of the nuclei eroded
    and dilated by one pixel; of equals, the closest to `nucleus_level`.

    Parameters
    ----------
    levels : iterable of (H, W) uint8
        What the network gives for each tile.
    nucleus_level : int
        Level from which a pixel is nucleus.
    """
    counts = np.zeros(256, dtype=np.int64)
    eroded = dilated = 0
    for of_tile in levels:
        counts += np.bincount(of_tile.ravel(), minlength=256)
        nuclei = of_tile >= nucleus_level
        eroded += int((~_dilated(~nuclei)).sum())
        dilated += int(_dilated(nuclei).sum())
    area_from = counts[::-1].cumsum()[::-1]
    inner = nucleus_level + int(np.abs(area_from[nucleus_level:] - eroded).argmin())
    outer = nucleus_level - int(np.abs(area_from[nucleus_level:0:-1] - dilated).argmin())
    return inner, outer


def _dilated(mask: Mask) -> Mask:
    """Return a mask and the four neighbours of its pixels; nothing comes in at the border."""
    wide = np.pad(mask, 1)
    return np.asarray(mask | wide[:-2, 1:-1] | wide[2:, 1:-1] | wide[1:-1, :-2] | wide[1:-1, 2:])
