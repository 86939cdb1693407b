"""Every numba loop: arrays in, `out` filled, nothing checked, nothing allocated.

Each kernel has a slow numpy twin in `tests/naive.py`. They are serial: the pipeline calls them
from several threads, and `parallel=True` is not safe there.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar, cast

import numba
import numpy as np
from numba.core.caching import (
    CompileResultCacheImpl,
    FunctionCache,
    UserProvidedCacheLocator,
    UserWideCacheLocator,
)
from numba.core.dispatcher import Dispatcher

F = TypeVar("F", bound=Callable[..., Any])

OPAQUE = 128
"""Alpha from which a pixel belongs to the slide."""
BLOCK = 4
"""Side in px of the blocks that a coarser level of a mask takes the mean of."""
NOWHERE = 2**31 - 1
"""A column right of every run."""
SQUARE = 8
"""Side in px of the squares that a tile's quality is judged by: 4 µm at half a µm per px."""


class CacheFiles(CompileResultCacheImpl):  # type: ignore[misc]
    """Where compiled kernels are kept: in `NUMBA_CACHE_DIR`, else in the user's folder of caches.

    By itself numba would keep them beside the source. pip does not know of such files: they outlive
    the package, and the folder left behind hides another install of it.
    """

    _locator_classes = (UserProvidedCacheLocator, UserWideCacheLocator)


class ForgivingCache(FunctionCache):  # type: ignore[misc]
    """numba's cache of compiled kernels, which no result depends on.

    numba's own raises where a file of it is damaged or the disk is full; then this one compiles
    anew, or keeps nothing.
    """

    _impl_class = CacheFiles

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        try:
            return super().load_overload(sig, target_context)
        except Exception:  # whatever reading damaged pickles and machine code may raise
            with suppress(OSError):
                self.flush()
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        with suppress(OSError):
            super().save_overload(sig, data)


def kernel(function: F) -> F:
    """Compile `function` without the GIL, cached where some folder can be written."""
    compiled = numba.njit(nogil=True)(function)
    if isinstance(compiled, Dispatcher):  # else compilation is switched off
        with suppress(RuntimeError):  # no folder to be had: compile in every process instead
            compiled._cache = ForgivingCache(function)  # type: ignore[attr-defined]
    return cast(F, compiled)


@kernel
def count_levels(rgba: Any, nuclei: Any, nucleus_level: int, counts: Any) -> None:
    """Add a tile's opaque pixels off the nuclei to a histogram of each channel, by darkness.

    Parameters
    ----------
    rgba : (H, W, 4) uint8, straight alpha
    nuclei : (H, W) uint8
    nucleus_level : int
        Level of `nuclei` from which a pixel is nucleus.
    counts : (64, 3, 256) int64, added to
        A pixel whose darkest channel is `d` counts in `counts[d // 4]`.
    """
    height, width = rgba.shape[0], rgba.shape[1]
    for i in range(height):
        for j in range(width):
            if rgba[i, j, 3] >= OPAQUE and nuclei[i, j] < nucleus_level:
                red, green, blue = rgba[i, j, 0], rgba[i, j, 1], rgba[i, j, 2]
                darkest = min(red, green, blue) // 4
                counts[darkest, 0, red] += 1
                counts[darkest, 1, green] += 1
                counts[darkest, 2, blue] += 1


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
def count_nuclei(
    levels: Any, valid: Any, outlines: Any, cell_px: int, nucleus_px: Any, valid_px: Any
) -> None:
    """Count the pixels of one tile within each of three outlines, cell by cell.

    Parameters
    ----------
    levels : (H, W) uint8
    valid : (H, W) uint8, not 0 inside the slide
    outlines : (int, int, int)
        Levels from which a pixel lies within each outline, 1 to 255.
    cell_px : int
        Side of a cell in px of the tile; cell (i // cell_px, j // cell_px) holds pixel (i, j).
    nucleus_px : (3, ceil(H / cell_px), ceil(W / cell_px)) int64, filled
        Valid pixels within each outline.
    valid_px : (ceil(H / cell_px), ceil(W / cell_px)) int64, filled
    """
    height, width = levels.shape
    first, second, third = np.uint8(outlines[0]), np.uint8(outlines[1]), np.uint8(outlines[2])
    nucleus_px[:] = 0
    valid_px[:] = 0
    for i in range(height):
        row = i // cell_px
        for column in range(valid_px.shape[1]):
            left, right = column * cell_px, min((column + 1) * cell_px, width)
            # one-dimensional, without indices that might be negative: the compiler makes vectors
            levels_there, valid_there = levels[i][left:right], valid[i][left:right]
            within_first = within_second = within_third = inside = np.int32(0)
            for j in range(levels_there.shape[0]):
                of_slide = np.int32(valid_there[j] != 0)
                inside += of_slide
                within_first += of_slide * np.int32(levels_there[j] >= first)
                within_second += of_slide * np.int32(levels_there[j] >= second)
                within_third += of_slide * np.int32(levels_there[j] >= third)
            nucleus_px[0, row, column] += within_first
            nucleus_px[1, row, column] += within_second
            nucleus_px[2, row, column] += within_third
            valid_px[row, column] += inside


@kernel
def mean_blocks(image: Any, out: Any) -> None:
    """Fill each pixel of `out` with the rounded mean of the block of `image` that it covers.

    Parameters
    ----------
    image : (H, W) uint8
    out : (ceil(H / BLOCK), ceil(W / BLOCK)) uint8, filled
        Blocks at the right and lower border may be cut.
    """
    height, width = image.shape
    for row in range(out.shape[0]):
        bottom = min((row + 1) * BLOCK, height)
        whole = width // BLOCK if bottom == (row + 1) * BLOCK else 0
        for column in range(whole):  # of a fixed size, so that the compiler makes vectors
            total = 0
            for i in range(BLOCK):
                for j in range(BLOCK):
                    total += image[row * BLOCK + i, column * BLOCK + j]
            out[row, column] = (2 * total + BLOCK**2) // (2 * BLOCK**2)
        for column in range(whole, out.shape[1]):
            right = min((column + 1) * BLOCK, width)
            total, area = 0, (bottom - row * BLOCK) * (right - column * BLOCK)
            for i in range(row * BLOCK, bottom):
                for j in range(column * BLOCK, right):
                    total += image[i, j]
            out[row, column] = (2 * total + area) // (2 * area)


@kernel
def count_runs(mask: Any, counts: Any) -> None:
    """Count the runs of each row: stretches of pixels that are not 0.

    Parameters
    ----------
    mask : (H, W) uint8
    counts : (H,) int64, filled
    """
    height, width = mask.shape
    for i in range(height):
        counts[i] = 0
        before = False
        for j in range(width):
            inside = mask[i, j] != 0
            if inside and not before:
                counts[i] += 1
            before = inside


@kernel
def find_runs(mask: Any, runs: Any) -> None:
    """List the runs of a mask, row by row.

    Parameters
    ----------
    mask : (H, W) uint8, not 0 inside
    runs : (N, 3) int32, filled: row, first column, column after the last
    """
    height, width = mask.shape
    n = 0
    for i in range(height):
        before = False
        for j in range(width):
            inside = mask[i, j] != 0
            if inside and not before:
                runs[n, 0], runs[n, 1] = i, j
            if before and not inside:
                runs[n, 2] = j
                n += 1
            before = inside
        if before:
            runs[n, 2] = width
            n += 1


@kernel
def find_root(roots: Any, i: int) -> int:
    """Follow `roots`, (N,) int64, from `i` to the one that names itself, shortening the way."""
    while roots[i] != i:
        roots[i] = roots[roots[i]]
        i = roots[i]
    return i


@kernel
def join_runs(runs: Any, roots: Any) -> None:
    """Name the 4-connected shape of each run: union-find over neighbouring rows.

    Parameters
    ----------
    runs : (N, 3) int32, sorted by row and column; runs of one row do not touch
    roots : (N,) int64, filled with the number of the shape's first run
    """
    count = runs.shape[0]
    above = 0
    for i in range(count):
        roots[i] = i
        row, start, end = runs[i, 0], runs[i, 1], runs[i, 2]
        while runs[above, 0] < row - 1 or (runs[above, 0] == row - 1 and runs[above, 2] <= start):
            above += 1
        k = above
        while runs[k, 0] == row - 1 and runs[k, 1] < end:
            ours, theirs = find_root(roots, i), find_root(roots, k)
            roots[max(ours, theirs)] = min(ours, theirs)
            k += 1
    for i in range(count):
        roots[i] = roots[roots[i]]


@kernel
def link_line(runs: Any, above: int, below: int, end: int, after: Any) -> None:
    """Link the sides that end on the line between two rows of a shape, for `link_sides`.

    Parameters
    ----------
    runs : (N, 3) int32; the row above the line is runs[above:below], the other runs[below:end]
    after : (2 N,) int64, filled for the sides that leave their row on this line
    """
    over, under = 2 * above, 2 * below
    first, first_leaves = -1, False
    while over < 2 * below or under < 2 * end:
        x_over = runs[over // 2, 1 + over % 2] if over < 2 * below else NOWHERE
        x_under = runs[under // 2, 1 + under % 2] if under < 2 * end else NOWHERE
        # at one place a left side comes before a right side
        if x_over < x_under or (x_over == x_under and over % 2 == 0):
            side, leaves = over, over % 2 == 1  # a right side leaves its row downwards
            over += 1
        else:
            side, leaves = under, under % 2 == 0  # a left side leaves it upwards
            under += 1
        if first < 0:
            first, first_leaves = side, leaves
            continue
        if first_leaves:
            after[first] = side
        else:
            after[side] = first
        first = -1


@kernel
def link_sides(runs: Any, after: Any) -> None:
    """Link the sides of a shape's runs to outlines, which keep the shape on their right.

    Run k has a left side, 2 k, which an outline takes upwards, and a right side, 2 k + 1, which
    it takes downwards. On a line between two rows the sides that end there pair up from left to
    right. Where runs meet at a corner only, the outline crosses over from one to the other, so
    that no outline meets itself.

    Parameters
    ----------
    runs : (N, 3) int32, one 4-connected shape, sorted by row and column
    after : (2 N,) int64, filled with the side that follows each side
    """
    above = below = 0
    while True:
        end = below
        while end < runs.shape[0] and runs[end, 0] == runs[below, 0]:
            end += 1
        link_line(runs, above, below, end, after)
        if end == below:
            return
        above, below = below, end


@kernel
def trace_outlines(runs: Any, after: Any, corners: Any, ends: Any) -> None:
    """Walk along the linked sides of a shape and list the corners of its outlines.

    Parameters
    ----------
    runs : (N, 3) int32, as for `link_sides`
    after : (2 N,) int64, from `link_sides`; used up
    corners : (4 N, 2) int32, filled with x, y of pixel corners, the outer outline first
    ends : (N,) int64, filled: outline k is corners[ends[k - 1] : ends[k]]; then 0
    """
    corner = outline = 0
    for k in range(runs.shape[0]):
        side = 2 * k  # every outline has a left side
        if after[side] < 0:
            continue
        while after[side] >= 0:
            following = after[side]
            after[side] = -1
            x, next_x = runs[side // 2, 1 + side % 2], runs[following // 2, 1 + following % 2]
            if x != next_x:
                y = runs[side // 2, 0] + side % 2
                corners[corner, 0], corners[corner, 1] = x, y
                corners[corner + 1, 0], corners[corner + 1, 1] = next_x, y
                corner += 2
            side = following
        ends[outline] = corner
        outline += 1
    for k in range(outline, ends.shape[0]):
        ends[k] = 0


@kernel
def draw_runs(runs: Any, top: int, left: int, mask: Any) -> None:
    """Set the pixels of runs to 1.

    Parameters
    ----------
    runs : (N, 3) int32, as of `find_runs`
    top, left : int
        Row and column of the first pixel of `mask`.
    mask : (H, W) uint8
    """
    for k in range(runs.shape[0]):
        for j in range(runs[k, 1] - left, runs[k, 2] - left):
            mask[runs[k, 0] - top, j] = 1


@kernel
def distances_to_edge(mask: Any, below: Any, out: Any) -> None:
    """Measure how far each pixel of a shape is from the nearest pixel that is not of it.

    Columns first, then rows (Saito, Toriwaki 1994).

    Parameters
    ----------
    mask : (H, W) uint8, not 0 inside; its border is 0
    below : (H, W) int32, scratch
    out : (H, W) int32, filled: squared Euclidean distance in px, 0 outside
    """
    height, width = mask.shape
    for j in range(width):
        below[0, j] = 0
        for i in range(1, height):
            below[i, j] = below[i - 1, j] + 1 if mask[i, j] != 0 else 0
        for i in range(height - 2, -1, -1):
            below[i, j] = min(below[i, j], below[i + 1, j] + 1)
    for i in range(height):
        for j in range(width):
            nearest = below[i, j] * below[i, j]
            step = 1
            while step * step < nearest:  # the border is 0, so it never steps over it
                for beside in (below[i, j - step], below[i, j + step]):
                    nearest = min(nearest, beside * beside + step * step)
                step += 1
            out[i, j] = nearest


@kernel
def flood(
    heights: Any, order: Any, rise: int, basins: Any, roots: Any, peaks: Any, met: Any
) -> int:
    """Divide a shape along the valleys between its hills: watershed by flooding from the peaks.

    Where two hills meet, the lower one is one of its own if it rises above the pass between them
    by `rise` or more; else it is a part of the higher one.

    Parameters
    ----------
    heights : (H * W,) int32
    order : (N,) int64, the pixels of the shape, the highest first; none on the border
    rise : int
    basins : (H, W) int32, of 0, filled with the number, from 1, of each pixel's hill
    roots, peaks, met : (N + 1,) int64, filled up to the number of hills
        A hill that is part of another names it in `roots`, else itself; the height of its peak;
        the hill it met first, or 0.

    Returns
    -------
    int
        How many hills there are, before those that are part of another are taken together.
    """
    width = basins.shape[1]
    flat = basins.reshape(-1)
    count = 0
    for pixel in order:
        own = 0
        for beside in (pixel - width, pixel - 1, pixel + 1, pixel + width):
            if flat[beside] != 0:
                hill = find_root(roots, flat[beside])
                if (
                    own == 0
                    or peaks[hill] > peaks[own]
                    or (peaks[hill] == peaks[own] and hill < own)
                ):
                    own = hill
        if own == 0:
            count += 1
            flat[pixel], roots[count], peaks[count], met[count] = count, count, heights[pixel], 0
            continue
        flat[pixel] = own
        for beside in (pixel - width, pixel - 1, pixel + 1, pixel + width):
            if flat[beside] != 0:
                hill = find_root(roots, flat[beside])
                if hill != own:
                    if peaks[hill] - heights[pixel] < rise:
                        roots[hill] = own
                    elif met[hill] == 0:
                        met[hill] = own
    return count


@kernel
def find_label_runs(labels: Any, runs: Any, names: Any) -> int:
    """List the runs of equal labels above 0, row by row, and return how many there are.

    Parameters
    ----------
    labels : (H, W) int32
    runs : (N, 3) int32, filled as by `find_runs`; N at least the number of runs
    names : (N,) int32, filled with the label of each run
    """
    height, width = labels.shape
    n = 0
    for i in range(height):
        before = 0
        for j in range(width):
            label = labels[i, j]
            if label != before:
                if before != 0:
                    runs[n - 1, 2] = j
                if label != 0:
                    runs[n, 0], runs[n, 1], names[n] = i, j, label
                    n += 1
            before = label
        if before != 0:
            runs[n - 1, 2] = width
    return n


@kernel
def shrink(rgba: Any, side: int, rgb: Any, light: Any) -> None:
    """Average squares of `side` x `side` px; what is left over at the right and below is not seen.

    Parameters
    ----------
    rgba : (H, W, 4) uint8, straight alpha
    rgb : (H // side, W // side, 3) uint8, filled: rounded mean
    light : (H // side, W // side) float32, filled
        Luma, 0 to 255 (ITU-R BT.601); -1 where a pixel of the square lies outside the slide.
    """
    if side == 2:  # nearly always; of a fixed size, so that the compiler makes vectors
        average(rgba, 2, rgb, light)
    else:
        average(rgba, side, rgb, light)


@kernel
def average(rgba: Any, side: int, rgb: Any, light: Any) -> None:
    """Do what `shrink` says; arguments are the same."""
    share = np.float32(1 / (side * side))
    for i in range(light.shape[0]):
        for j in range(light.shape[1]):
            red = green = blue = np.int32(0)
            alpha = np.uint8(255)
            for y in range(side):
                for x in range(side):
                    red += rgba[i * side + y, j * side + x, 0]
                    green += rgba[i * side + y, j * side + x, 1]
                    blue += rgba[i * side + y, j * side + x, 2]
                    alpha = min(alpha, rgba[i * side + y, j * side + x, 3])
            r, g, b = np.float32(red) * share, np.float32(green) * share, np.float32(blue) * share
            rgb[i, j, 0] = np.uint8(r + np.float32(0.5))
            rgb[i, j, 1] = np.uint8(g + np.float32(0.5))
            rgb[i, j, 2] = np.uint8(b + np.float32(0.5))
            luma = np.float32(0.299) * r + np.float32(0.587) * g + np.float32(0.114) * b
            light[i, j] = luma if alpha >= OPAQUE else np.float32(-1)


@kernel
def look_at_squares(rgb: Any, light: Any, span: Any, slope: Any, mean: Any) -> None:
    """Measure contrast, steepest slope and mean colour of squares of `SQUARE` px.

    Squares lie side by side, one px within the border. Around the steepest point of an edge its
    width is span / slope, as an edge of that slope would need that many px to rise by the span.

    Parameters
    ----------
    rgb : (H, W, 3) uint8
    light : (H, W) float32, below 0 outside the slide
    span : ((H - 2) // SQUARE, (W - 2) // SQUARE) float32, filled
        Lightest less darkest px; -1 where the square or a px beside it lies outside the slide.
    slope : as `span`, filled
        Largest gradient by central differences, in levels per px; 0 where `span` is -1.
    mean : (*span.shape, 3) uint8, filled: rounded mean
    """
    for row in range(span.shape[0]):
        for column in range(span.shape[1]):
            top, left = row * SQUARE + 1, column * SQUARE + 1
            darkest, lightest, steepest = light[top, left], light[top, left], np.float32(0)
            red = green = blue = np.int32(0)
            outside = light[top, left]
            for y in range(SQUARE):
                for x in range(SQUARE):
                    i, j = top + y, left + x
                    west, east = light[i, j - 1], light[i, j + 1]
                    north, south = light[i - 1, j], light[i + 1, j]
                    darkest, lightest = min(darkest, light[i, j]), max(lightest, light[i, j])
                    outside = min(outside, west, east, north, south)
                    along, down = east - west, south - north
                    steepest = max(steepest, along * along + down * down)
                    red += rgb[i, j, 0]
                    green += rgb[i, j, 1]
                    blue += rgb[i, j, 2]
            outside = min(outside, darkest)
            span[row, column] = lightest - darkest if outside >= 0 else -1
            slope[row, column] = np.sqrt(steepest) / 2 if outside >= 0 else 0
            mean[row, column, 0] = (2 * red + SQUARE**2) // (2 * SQUARE**2)
            mean[row, column, 1] = (2 * green + SQUARE**2) // (2 * SQUARE**2)
            mean[row, column, 2] = (2 * blue + SQUARE**2) // (2 * SQUARE**2)
