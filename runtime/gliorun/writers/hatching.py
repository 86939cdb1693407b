"""Hatch tiles without a value, with a different pattern for every reason."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from gliorun.measuring.tile import Status

PERIOD_DOTS = (4, 12)
"""Least and largest distance of two lines; small tiles have finer lines, so that all have some."""

Mask = NDArray[np.bool_]
_PATTERNS: tuple[Callable[[Mask, Mask, Mask, Mask], Mask], ...] = (
    lambda rising, falling, level, upright: rising,
    lambda rising, falling, level, upright: falling,
    lambda rising, falling, level, upright: rising | falling,
    lambda rising, falling, level, upright: level & upright,
    lambda rising, falling, level, upright: level,
    lambda rising, falling, level, upright: upright,
    lambda rising, falling, level, upright: level | upright,
)
REASONS = tuple(status for status in Status if status not in (Status.NO_TISSUE, Status.MEASURED))
"""The reasons for which a tile has no value."""


def period(tile_dots: int) -> int:
    """Return the distance of the lines for tiles of that many dots."""
    least, largest = PERIOD_DOTS
    return min(max(tile_dots // 2, least), largest)


def lines(reason: Status, height: int, width: int, period: int) -> Mask:
    """Tell which of (height, width) dots lie on a line of a reason's hatching."""
    y, x = np.ogrid[:height, :width]
    thick = max(1, period // 4)
    directions = [at % period < thick for at in (x + y, x - y, y + 0 * x, x + 0 * y)]
    return _PATTERNS[REASONS.index(reason) % len(_PATTERNS)](*directions)
