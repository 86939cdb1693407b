"""Where a slide has tissue, seen on its overview."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from gliorun.errors import GlioError
from gliorun.measuring.colour import DENSITY_OF_LEVEL
from gliorun.measuring.kernels import OPAQUE
from gliorun.reading.images import NO_IMAGE, read_mask
from gliorun.reading.slide import UNREAD
from gliorun.reading.tiles import TileSpec

Mask = NDArray[np.bool_]

COLOUR_RANGE = (0.03, 0.15)
"""Bounds of the threshold on colourfulness (optical density): below the first is scanner noise,
and pale tissue must not be lost beside dark tissue."""
MIN_SHARE = 0.05
"""Share of a tile that must be tissue for the tile to be measured."""
DIMMEST_SLIDE = 100
"""Level of the brightest pixels of a slide, glass or pale tissue, below which light was not shone
through it, or its pixels are of more than 8 bits and do not fill their range."""
DARK = 0.3
"""Optical density from which a pixel shows something other than glass."""
SAME_ASPECT = 0.02
"""Relative difference of aspect up to which a mask is of the slide it is given for."""


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
    opaque = overview[..., 3] >= OPAQUE
    levels = np.where(opaque, np.clip(colourfulness(overview) * 255, 0, 255).astype(np.uint8), 0)
    smooth = np.asarray(Image.fromarray(levels).filter(ImageFilter.GaussianBlur(2)))
    low, high = (round(bound * 255) for bound in COLOUR_RANGE)
    threshold = min(max(otsu_level(smooth[opaque]), low), high)
    sharp = _filled(levels > threshold)  # smoothing carries colour past the rim
    found = (smooth > threshold) & sharp & opaque
    found = _filled(_grown(_shrunk(found, 1), 1))  # less specks
    height, width = overview.shape[:2]
    mask = (found & opaque) | (overview[..., 3] == UNREAD)
    return Tissue(mask, (width / size_l0[0], height / size_l0[1]))


def colourfulness(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the spread of the optical density over R, G and B of (..., 3 or 4) uint8 pixels."""
    red, green, blue = pixels[..., 0], pixels[..., 1], pixels[..., 2]
    density = DENSITY_OF_LEVEL.astype(np.float32)
    darkest, brightest = (choose(choose(red, green), blue) for choose in (np.minimum, np.maximum))
    return np.asarray(density[darkest] - density[brightest])


def _grown(mask: Mask, reach_px: int) -> Mask:
    """Return a mask grown to every px within a square of `reach_px` to either side."""
    for axis in (0, 1):
        grown = mask.copy()
        for step in range(1, reach_px + 1):
            ahead, behind = [slice(None)] * 2, [slice(None)] * 2
            ahead[axis], behind[axis] = slice(step, None), slice(None, -step)
            grown[tuple(ahead)] |= mask[tuple(behind)]
            grown[tuple(behind)] |= mask[tuple(ahead)]
        mask = grown
    return mask


def _shrunk(mask: Mask, reach_px: int) -> Mask:
    return ~_grown(~mask, reach_px)


def _filled(mask: Mask) -> Mask:
    """Return a mask without pores of up to 6 px; its rim stays where it is."""
    return _shrunk(_grown(mask, 3), 3)


def check_light(overview: NDArray[np.uint8]) -> None:
    """Refuse an overview, (H, W, 4) uint8 RGBA, that is no bright-field image in colour.

    Raises
    ------
    GlioError
        It is too dark, or shows much and nothing of it in colour.
    """
    some = overview[::4, ::4]
    pixels = some[some[..., 3] >= OPAQUE][:, :3]
    if not len(pixels):
        return
    if np.quantile(pixels.max(axis=-1), 0.99) < DIMMEST_SLIDE:
        raise GlioError(
            "too dark for a stained section in bright field; is it fluorescence, or an image of "
            "more than 8 bits that does not fill its range?"
        )
    dark = DENSITY_OF_LEVEL[pixels.min(axis=-1)] >= DARK
    coloured = colourfulness(pixels) >= COLOUR_RANGE[0]
    if dark.mean() > MIN_SHARE and not (dark & coloured).any():
        raise GlioError("a grey-level image; the model needs haematoxylin and eosin in colour")


def read_tissue(path: Path, size_l0: tuple[int, int]) -> Tissue:
    """Read tissue from a mask of any size in the shape of the slide; `read_mask` says what counts.

    Raises
    ------
    GlioError
        The file is no image, is of another shape than a slide of `size_l0` px, or shows nothing.
    """
    try:
        mask = read_mask(path)
    except NO_IMAGE as error:
        raise GlioError(
            f"{path}: not an image that can be read ({error}); --tissue-mask takes a PNG or TIFF"
        ) from error
    height, width = mask.shape
    if abs(width / height * size_l0[1] / size_l0[0] - 1) > SAME_ASPECT:
        raise GlioError(
            f"{path}: {width} x {height} px do not have the shape of the slide, "
            f"{size_l0[0]} x {size_l0[1]} px; draw it over the whole slide, at any size"
        )
    if not mask.any():
        raise GlioError(f"{path}: marks no tissue; pixels with a channel above 0 are tissue")
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
