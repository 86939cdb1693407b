"""Find the tissue of a slide on its overview."""

from __future__ import annotations

import math
from collections.abc import Generator
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from gliorun.errors import GlioError
from gliorun.measuring.colour import DENSITY_OF_LEVEL
from gliorun.measuring.drawn import on_whole, place_of
from gliorun.measuring.kernels import OPAQUE
from gliorun.measuring.within import in_window, pixels_within
from gliorun.reading.images import NO_IMAGE, read_mask
from gliorun.reading.regions import read_regions, union_of
from gliorun.reading.scale import Scale
from gliorun.reading.slide import UNREAD, Rgba, resized
from gliorun.reading.tiles import Box, TileSpec

Mask = NDArray[np.bool_]
Array = NDArray[np.float64]
Level = TypeVar("Level", np.bool_, np.uint8)

PIXEL_UM = 5.0
"""Side of the pixels that tissue is found on, µm, on every slide: what is a hole and where a rim
lies must not depend on how much glass is around. The 40x levels of most scanners that are 16
times smaller are a little finer."""
MOST_PX = 26_000_000
"""There are no more of them, at 4 bytes, so that memory is bounded; on glass of more than 25 by
26 mm they are larger than `PIXEL_UM`."""
BLUR_UM = 5.0
"""Standard deviation that colour is smoothed with, so that single pixels are neither tissue nor
holes."""
PORE_UM = 5.0
"""Half the width of pores that belong to the tissue."""
BLOCK_ROWS, REACH_ROWS = 512, 16
"""Rows of an overview that tissue is found on at once, and rows around them that they depend on:
the blur reaches 4, filling 2 and the rim 3."""
PALEST = 0.3
"""Tissue is what lies this share of the way from the colourfulness of the glass to the median of
the tissue, so that as much is found however strongly it is stained."""
RIM_PX = 2
COVERED = 0.4
"""At its rim tissue must have this share of the colourfulness of the tissue within `RIM_PX`: a
pixel that it covers by less is glass. Where `PALEST` alone decided, dark tissue and that seen
through coarser levels of a slide was larger."""
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


@dataclass(frozen=True, slots=True, eq=False)
class Tissue:
    """Tissue on an overview.

    Parameters
    ----------
    mask : (H, W) bool
    px_per_l0 : (float, float)
        Overview px per level-0 px along x and y.
    inside : (H, W) bool, optional
        Where the slide has pixels, transparent ones excepted; None where it has them everywhere.
    """

    mask: Mask
    px_per_l0: tuple[float, float]
    inside: Mask | None = None

    def share(self, spec: TileSpec) -> float:
        """Return the share of a tile that is tissue, 0 to 1; outside the slide is not tissue."""
        x_scale, y_scale = self.px_per_l0
        left, top = int(spec.x_l0 * x_scale), int(spec.y_l0 * y_scale)
        right = max(left + 1, round((spec.x_l0 + spec.width_l0) * x_scale))
        bottom = max(top + 1, round((spec.y_l0 + spec.height_l0) * y_scale))
        return float(self.mask[top:bottom, left:right].sum()) / ((right - left) * (bottom - top))

    def shares(self, columns_l0: Array, rows_l0: Array) -> Array:
        """Return the share of tissue in each cell between successive edges in level-0 px.

        n + 1 column edges and m + 1 row edges give (m, n) shares, 0 to 1, of what of a cell has
        pixels; 0 where it has none.
        """
        edges = rows_l0 * self.px_per_l0[1], columns_l0 * self.px_per_l0[0]
        if self.inside is None:
            rows, columns = (
                np.diff(np.clip(along, 0, side))
                for along, side in zip(edges, self.mask.shape, strict=True)
            )
            area = np.outer(rows, columns)
        else:
            area = _areas(self.inside, *edges)
        shares = np.zeros(area.shape)
        np.divide(_areas(self.mask, *edges), area, out=shares, where=area > 0)
        return np.asarray(np.clip(shares, 0, 1))

    def on(self, overview: Tissue) -> Tissue:
        """Return this tissue at the pixels of another one, and only where those have pixels."""
        rows, columns = (
            np.minimum((np.arange(side) + 0.5) / theirs * ours, end - 1).astype(np.intp)
            for side, theirs, ours, end in zip(
                overview.mask.shape,
                overview.px_per_l0[::-1],
                self.px_per_l0[::-1],
                self.mask.shape,
                strict=True,
            )
        )
        mask = self.mask[np.ix_(rows, columns)]
        return replace(overview, mask=mask if overview.inside is None else mask & overview.inside)

    def touches(self, spec: TileSpec) -> bool:
        """Tell whether a tile holds enough tissue to be measured."""
        return self.share(spec) >= MIN_SHARE


def overview_px(size_l0: tuple[int, int], scale: Scale) -> int:
    """Return the longest side of the overview that the tissue of a slide is found on."""
    finest = (side / side_l0 for side, side_l0 in zip(_size(size_l0, scale), size_l0, strict=True))
    return math.ceil(max(size_l0) * max(finest))


def _size(size_l0: tuple[int, int], scale: Scale) -> tuple[int, int]:
    """Return the width and height, in square px, that the tissue of a slide is found on."""
    width_um, height_um = size_l0[0] * scale.x_mpp, size_l0[1] * scale.y_mpp
    pixel_um = max(PIXEL_UM, math.sqrt(width_um * height_um / MOST_PX))
    return max(1, round(width_um / pixel_um)), max(1, round(height_um / pixel_um))


def find_tissue(overview: Rgba, size_l0: tuple[int, int], scale: Scale) -> Tissue:
    """Find stained tissue on an overview, (H, W, 4) uint8 RGBA, of a slide of `size_l0` px.

    Stained tissue is coloured, glass and grey borders are not: the spread of the optical density
    over R, G and B is smoothed and cut between the glass and the tissue. What could not be read
    counts as tissue, so that its tiles are tried and reported.
    """
    size = _size(size_l0, scale)
    if overview.shape[1] > size[0] + 1 or overview.shape[0] > size[1] + 1:
        overview = resized(overview, size)
    height, width = overview.shape[:2]
    pixel_um = max(size_l0[0] * scale.x_mpp / width, size_l0[1] * scale.y_mpp / height)
    opaque = overview[..., 3] >= OPAQUE
    levels, tissue = _colour_levels(overview), np.empty((height, width), np.bool_)
    counts = np.zeros(256, np.int64)
    for rows, around in _blocks(height):
        smooth = _smooth(levels[around], pixel_um)[_within(rows, around)]
        counts += np.bincount(smooth[opaque[rows]], minlength=256)
    threshold = _threshold(counts)
    for rows, around in _blocks(height):
        tissue[rows] = _coloured(levels[around], threshold, pixel_um)[_within(rows, around)]
    tissue &= opaque
    unread = overview[..., 3] == UNREAD
    inside = opaque | unread
    return Tissue(
        tissue | unread,
        (width / size_l0[0], height / size_l0[1]),
        None if inside.all() else inside,
    )


def _blocks(height: int) -> Generator[tuple[slice, slice]]:
    """Yield blocks of rows, and with them the rows that have a say in what they become.

    In between a pixel needs many times the byte that it has before and after.
    """
    for top in range(0, height, BLOCK_ROWS):
        end = min(top + BLOCK_ROWS, height)
        yield slice(top, end), slice(max(top - REACH_ROWS, 0), end + REACH_ROWS)


def _within(rows: slice, around: slice) -> slice:
    return slice(rows.start - around.start, rows.stop - around.start)


def _colour_levels(overview: Rgba) -> NDArray[np.uint8]:
    """Return the colourfulness of an overview, (H, W), 255 for 1 and more; 0 where transparent."""
    levels = np.empty(overview.shape[:2], np.uint8)
    for rows, _ in _blocks(len(overview)):
        colour = np.clip(colourfulness(overview[rows]) * 255, 0, 255)
        levels[rows] = np.where(overview[rows, :, 3] >= OPAQUE, colour, 0)
    return levels


def _smooth(levels: NDArray[np.uint8], pixel_um: float) -> NDArray[np.uint8]:
    blur = ImageFilter.GaussianBlur(BLUR_UM / pixel_um)
    return np.asarray(Image.fromarray(levels).filter(blur))


def _coloured(levels: NDArray[np.uint8], threshold: int, pixel_um: float) -> Mask:
    """Return where levels of colourfulness are those of tissue."""
    smooth = _smooth(levels, pixel_um)
    # Smoothing carries colour past the rim, so a pixel must be coloured before and after.
    stained = _filled(levels > threshold, round(PORE_UM / pixel_um)) & (smooth > threshold)
    rim = np.nonzero(stained & ~_shrunk(stained, 1))
    stained[rim] = levels[rim] >= COVERED * _grown(smooth, RIM_PX)[rim]
    return stained


def _threshold(counts: NDArray[np.int64]) -> int:
    """Return the level of colourfulness above which a pixel is tissue, from its histogram.

    Otsu's threshold (Otsu 1979) parts glass from tissue; where between their medians the tissue
    ends does not depend on how much there is of either, as his threshold does.
    """
    low, high = (round(bound * 255) for bound in COLOUR_RANGE)
    split = min(max(otsu_level(counts), low), high)
    glass = min(_median_level(counts[: split + 1]), low)
    tissue = split + 1 + _median_level(counts[split + 1 :])
    return min(max(round(glass + PALEST * (tissue - glass)), low), high)


def _median_level(counts: NDArray[np.int64]) -> int:
    return int(np.searchsorted(np.cumsum(counts), counts.sum() / 2))


def colourfulness(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the spread of the optical density over R, G and B of (..., 3 or 4) uint8 pixels."""
    red, green, blue = pixels[..., 0], pixels[..., 1], pixels[..., 2]
    density = DENSITY_OF_LEVEL.astype(np.float32)
    darkest, brightest = (choose(choose(red, green), blue) for choose in (np.minimum, np.maximum))
    return np.asarray(density[darkest] - density[brightest])


def _grown(px: NDArray[Level], reach_px: int) -> NDArray[Level]:
    """Return the largest of the px within a square of `reach_px` to either side of each."""
    for axis in (0, 1):
        grown = px.copy()
        for step in range(1, reach_px + 1):
            ahead, behind = [slice(None)] * 2, [slice(None)] * 2
            ahead[axis], behind[axis] = slice(step, None), slice(None, -step)
            for to, start in ((tuple(ahead), tuple(behind)), (tuple(behind), tuple(ahead))):
                np.maximum(grown[to], px[start], out=grown[to])
        px = grown
    return px


def _shrunk(mask: Mask, reach_px: int) -> Mask:
    return ~_grown(~mask, reach_px)


def _filled(mask: Mask, reach_px: int) -> Mask:
    """Return a mask without pores of up to twice `reach_px`; its rim stays where it is."""
    return _shrunk(_grown(mask, reach_px), reach_px) if reach_px else mask


def _areas(mask: Mask, rows: Array, columns: Array) -> Array:
    """Return how many px of a mask are True between successive edges of rows and of columns.

    m + 1 and n + 1 edges in px give (m, n); a px that an edge cuts counts on both sides, with
    the share that lies there.
    """
    return _between(_between(mask, rows).T, columns).T


def _between(px: NDArray[Any], edges: Array) -> Array:
    """Return the sums of rows of `px`, (H, W), between m + 1 successive edges: (m, W)."""
    edges = np.clip(edges, 0, len(px))
    whole = np.minimum(edges.astype(np.intp), len(px) - 1)
    cut = px[whole] * (edges - whole)[:, None]  # the part of its row before an edge
    sums = np.array([px[start:end].sum(axis=0) for start, end in pairwise(whole)], dtype=np.float64)
    return sums + np.diff(cut, axis=0)


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


NO_VALUE_CLASS = "No value"
"""Class of the areas of a `.tissue.geojson` that are no tissue but tiles without a value."""
OUTLINED = (".geojson", ".gz", ".json", ".xml")
"""Suffixes of files of outlines, as `reading.regions` reads them; the others are images."""
FINEST_L0 = 4
"""Level-0 px a pixel that outlines are turned into, at least."""
MOST_OUTLINED_PX = 2**24
"""Most of these pixels: on the largest slides one is 5 µm, as the tissue that is found."""
STRIP_ROWS = 512


def is_outlined(path: Path) -> bool:
    """Tell whether tissue was drawn as outlines, and not as an image."""
    return path.suffix.lower() in OUTLINED


def read_outlined(
    path: Path, size_l0: tuple[int, int], bounds_l0: Box | None = None
) -> tuple[Tissue, tuple[str, ...]]:
    """Read tissue from outlines, and what is doubtful about them.

    All areas are tissue, but for those of the class `NO_VALUE_CLASS`; those whose class ends with
    "*", as QuPath's "Ignore*", are cut out.

    Raises
    ------
    GlioError
        The file cannot be used, or encloses no tissue.
    """
    areas = read_regions(path, size_l0, bounds_l0)
    tissue = union_of(areas, NO_VALUE_CLASS)
    if tissue is None:
        raise GlioError(f"{path}: marks no tissue; draw an annotation around it")
    shrink = max(FINEST_L0, math.sqrt(math.prod(size_l0) / MOST_OUTLINED_PX))
    width, height = (max(1, round(side / shrink)) for side in size_l0)
    px_l0 = size_l0[0] / width, size_l0[1] / height
    mask = np.empty((height, width), dtype=np.bool_)
    for top in range(0, height, STRIP_ROWS):
        strip = mask[top : top + STRIP_ROWS]
        edges = in_window(tissue.edges_l0, (0.0, top * px_l0[1]), px_l0)
        strip[:] = pixels_within(edges, strip.shape)
    return Tissue(mask, (1 / px_l0[0], 1 / px_l0[1])), areas.warnings


def read_tissue(path: Path, size_l0: tuple[int, int], bounds_l0: Box | None = None) -> Tissue:
    """Read tissue from a mask of any size; `read_mask` says what counts.

    It has the shape of the slide or, as QuPath draws it, of its bounds; the nearer shape decides.

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
    place_l0 = place_of(width / height, size_l0, bounds_l0)
    if place_l0 is None:
        raise GlioError(
            f"{path}: {width} x {height} px do not have the shape of the slide, "
            f"{size_l0[0]} x {size_l0[1]} px; draw it over the whole slide or, in QuPath, over "
            "all of it that QuPath shows, at any size"
        )
    if not mask.any():
        raise GlioError(f"{path}: marks no tissue; pixels with a channel above 0 are tissue")
    mask = on_whole(mask, size_l0, place_l0)
    height, width = mask.shape
    return Tissue(mask, (width / size_l0[0], height / size_l0[1]))


def otsu_level(counts: NDArray[np.int64]) -> int:
    """Return Otsu's threshold of a histogram: the level that leaves most variance between."""
    below = np.cumsum(counts.astype(np.float64))
    above = below[-1] - below
    mass = np.cumsum(counts * np.arange(len(counts), dtype=np.float64))
    with np.errstate(divide="ignore", invalid="ignore"):
        between = below * above * (mass / below - (mass[-1] - mass) / above) ** 2
    between[~np.isfinite(between)] = 0
    return int(np.argmax(between))
