"""Which pixels lie inside an outline."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Edges = NDArray[np.float64]
"""(N, 4): x, y of the two ends of every side of closed rings."""


def pixels_within(edges: Edges, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Return the pixels, (H, W) bool, whose centres lie inside rings in px of that image.

    A centre lies inside if rings cross its row an odd number of times on its left (even-odd
    rule). Pixels of adjoining images are decided alike, so that no pixel between two outlines
    that share a side is in both or in neither.
    """
    height, width = shape
    x, y, next_x, next_y = edges[
        (np.maximum(edges[:, 1], edges[:, 3]) > 0)
        & (np.minimum(edges[:, 1], edges[:, 3]) < height)
        & (np.minimum(edges[:, 0], edges[:, 2]) < width)
    ].T
    # rows whose centres, at row + 0.5, lie in [upper end, lower end) of each side
    first = np.clip(np.ceil(np.minimum(y, next_y) - 0.5), 0, height).astype(np.int64)
    after = np.clip(np.ceil(np.maximum(y, next_y) - 0.5), 0, height).astype(np.int64)
    count = after - first
    side = np.repeat(np.arange(len(x)), count)
    row = np.arange(len(side)) - np.repeat(np.cumsum(count) - count, count) + first[side]
    share = (row + 0.5 - y[side]) / (next_y - y)[side]
    crossing = x[side] + share * (next_x - x)[side]
    column = np.clip(np.ceil(crossing - 0.5), 0, width).astype(np.int64)
    crossings = np.zeros((height, width + 1), dtype=np.int64)
    np.add.at(crossings, (row, column), 1)
    return np.asarray(np.cumsum(crossings[:, :width], axis=1) % 2 == 1)


def in_window(edges_l0: Edges, corner_l0: tuple[float, float], px_l0: tuple[float, float]) -> Edges:
    """Return sides in the px, `px_l0` wide and high, of an image whose corner is at `corner_l0`."""
    return np.asarray((edges_l0 - corner_l0 * 2) / (px_l0 * 2))
