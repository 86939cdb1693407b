"""Where a slide has tissue, seen on its overview."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from gliorun.colour import DENSITY_OF_LEVEL
from gliorun.kernels import OPAQUE
from gliorun.reading.slide import UNREAD
from gliorun.reading.tiles import TileSpec

COLOUR_RANGE = (0.03, 0.15)
"""Bounds of the threshold on colourfulness (optical density): below the first is scanner noise,
and pale tissue must not be lost beside dark tissue."""
MIN_SHARE = 0.05
"""Share of a tile that must be tissue for the tile to be measured."""


@dataclass(frozen=True, slots=True, eq=False)
class Tissue:
    """Tissue on an overview.

    Parameters
    ----------
    mask : (H, W) bool
    px_per_l0 : (float, float)
        Overview px per level-0 px along x and y.
    """

    mask: NDArray[np.bool_]
    px_per_l0: tuple[float, float]

    def share(self, spec: TileSpec) -> float:
        """Return the share of a tile that is tissue, 0 to 1; outside the slide is not tissue."""
        x_scale, y_scale = self.px_per_l0
        left, top = int(spec.x_l0 * x_scale), int(spec.y_l0 * y_scale)
        right = max(left + 1, round((spec.x_l0 + spec.width_l0) * x_scale))
        bottom = max(top + 1, round((spec.y_l0 + spec.height_l0) * y_scale))
        return float(self.mask[top:bottom, left:right].sum()) / ((right - left) * (bottom - top))

    def shares(
        self, columns_l0: NDArray[np.float64], rows_l0: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Return the share of tissue in each cell between successive edges in level-0 px.

        n + 1 column edges and m + 1 row edges give (m, n) shares, 0 to 1.
        """
        table = np.pad(self.mask.cumsum(axis=0).cumsum(axis=1), ((1, 0), (1, 0)))

        def span(edges_l0: NDArray[np.float64], scale: float, side: int) -> NDArray[np.int64]:
            starts = np.minimum((edges_l0[:-1] * scale).astype(np.int64), side - 1)
            ends = np.clip(np.rint(edges_l0[1:] * scale).astype(np.int64), starts + 1, side)
            return np.stack([starts, ends])

        height, width = self.mask.shape
        left, right = span(columns_l0, self.px_per_l0[0], width)
        top, bottom = span(rows_l0, self.px_per_l0[1], height)
        inside = (
            table[np.ix_(bottom, right)]
            - table[np.ix_(top, right)]
            - table[np.ix_(bottom, left)]
            + table[np.ix_(top, left)]
        )
        return np.asarray(inside / np.outer(bottom - top, right - left))

    def touches(self, spec: TileSpec) -> bool:
        """Tell whether a tile holds enough tissue to be measured."""
        return self.share(spec) >= MIN_SHARE


def find_tissue(overview: NDArray[np.uint8], size_l0: tuple[int, int]) -> Tissue:
    """Find stained tissue on an overview, (H, W, 4) uint8 RGBA, of a slide of `size_l0` px.

    Stained tissue is coloured, glass and grey borders are not: the spread of the optical density
    over R, G and B is smoothed and cut at Otsu's threshold (Otsu 1979), kept within bounds. What
    could not be read counts as tissue, so that its tiles are tried and reported.
    """
    density = DENSITY_OF_LEVEL[overview[..., :3]]
    colour = density.max(axis=-1) - density.min(axis=-1)
    opaque = overview[..., 3] >= OPAQUE
    levels = np.where(opaque, np.clip(colour * 255, 0, 255), 0).astype(np.uint8)
    smooth = np.asarray(Image.fromarray(levels).filter(ImageFilter.GaussianBlur(2)))
    low, high = (round(bound * 255) for bound in COLOUR_RANGE)
    threshold = min(max(otsu_level(smooth[opaque]), low), high)
    found = Image.fromarray(((smooth > threshold) & opaque).astype(np.uint8) * 255)
    # drop specks, then fill pores
    found = found.filter(ImageFilter.MinFilter(3)).filter(ImageFilter.MaxFilter(3))
    found = found.filter(ImageFilter.MaxFilter(7)).filter(ImageFilter.MinFilter(7))
    height, width = overview.shape[:2]
    mask = ((np.asarray(found) > 0) & opaque) | (overview[..., 3] == UNREAD)
    return Tissue(mask, (width / size_l0[0], height / size_l0[1]))


def otsu_level(levels: NDArray[np.uint8]) -> int:
    """Return Otsu's threshold of 8-bit levels: the split with the largest variance between."""
    counts = np.bincount(levels.ravel(), minlength=256).astype(np.float64)
    below = np.cumsum(counts)
    above = below[-1] - below
    mass = np.cumsum(counts * np.arange(256))
    with np.errstate(divide="ignore", invalid="ignore"):
        between = below * above * (mass / below - (mass[-1] - mass) / above) ** 2
    between[~np.isfinite(between)] = 0
    return int(np.argmax(between))
