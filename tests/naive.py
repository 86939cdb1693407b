"""Slow, obvious numpy twins of the kernels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
OPAQUE = 128


def count_levels(rgba: Pixels, nuclei: Pixels) -> NDArray[np.int64]:
    """Return the histogram of each channel over the opaque pixels off the nuclei, by darkness."""
    pixels = rgba[(rgba[..., 3] >= OPAQUE) & (nuclei == 0)][:, :3]
    darkest = pixels.min(axis=1) // 4
    return np.array(
        [
            [np.bincount(pixels[darkest == step][:, c], minlength=256) for c in range(3)]
            for step in range(64)
        ]
    )


def normalise(rgba: Pixels, table: Pixels) -> tuple[Pixels, Pixels]:
    """Return the pixels looked up, white where not opaque, and the opaque mask."""
    opaque = rgba[..., 3] >= OPAQUE
    looked_up = np.stack([table[c][rgba[..., c]] for c in range(3)], axis=-1)
    return np.where(opaque[..., None], looked_up, 255).astype(np.uint8), opaque.astype(np.uint8)


def count_nuclei(
    levels: Pixels, valid: Pixels, outlines: tuple[int, int, int], cell_px: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return pixels within each outline, and valid pixels, of each cell."""
    height, width = levels.shape
    shape = (-(-height // cell_px), -(-width // cell_px))
    nucleus_px, valid_px = np.zeros((3, *shape), np.int64), np.zeros(shape, np.int64)
    for row, column in np.ndindex(shape):
        cell = np.s_[row * cell_px : (row + 1) * cell_px, column * cell_px : (column + 1) * cell_px]
        inside = valid[cell] != 0
        valid_px[row, column] = inside.sum()
        for outline, level in enumerate(outlines):
            nucleus_px[outline, row, column] = ((levels[cell] >= level) & inside).sum()
    return nucleus_px, valid_px


def mean_blocks(image: Pixels, side: int) -> Pixels:
    """Return the mean of each block of `side` px, halves rounded up."""
    rows, columns = (-(-length // side) for length in image.shape)
    means = np.zeros((rows, columns), np.uint8)
    for row, column in np.ndindex(rows, columns):
        block = image[row * side : (row + 1) * side, column * side : (column + 1) * side]
        means[row, column] = int(np.floor(block.mean() + 0.5))
    return means


def find_runs(mask: Pixels) -> NDArray[np.int32]:
    """Return row, first column and column after the last of each run."""
    runs = []
    for i, row in enumerate(mask != 0):
        edges = np.diff(np.concatenate([[0], row, [0]]).astype(int))
        starts, ends = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)
        runs += [(i, start, end) for start, end in zip(starts, ends, strict=True)]
    return np.array(runs, np.int32).reshape(-1, 3)


def join_runs(runs: NDArray[np.int32]) -> NDArray[np.int64]:
    """Return the first run of each run's shape: spread names until nothing changes."""
    names = np.arange(len(runs))
    row, start, end = runs.T
    touch = (abs(row[:, None] - row) == 1) & (start[:, None] < end) & (start < end[:, None])
    while True:
        spread = np.where(touch, names, len(runs)).min(axis=1, initial=len(runs))
        if (np.minimum(names, spread) == names).all():
            return names
        names = np.minimum(names, spread)


def outlines(mask: Pixels) -> set[tuple[tuple[int, int], ...]]:
    """Return the outlines of a shape: corners (x, y) clockwise, the smallest first.

    Walk pixel edge by pixel edge with the shape on the right; where two ways lead on, turn left.
    """
    inside = np.pad(mask != 0, 1)
    leaving: dict[tuple[int, int], list[tuple[int, int]]] = {}  # directions (dx, dy) by corner
    for i, j in np.argwhere(inside):
        x, y = int(j) - 1, int(i) - 1
        for corner, direction, beyond in (
            ((x, y), (1, 0), inside[i - 1, j]),
            ((x + 1, y), (0, 1), inside[i, j + 1]),
            ((x + 1, y + 1), (-1, 0), inside[i + 1, j]),
            ((x, y + 1), (0, -1), inside[i, j - 1]),
        ):
            if not beyond:
                leaving.setdefault(corner, []).append(direction)
    names = set()
    edges = {(corner, direction) for corner, ways in leaving.items() for direction in ways}
    while edges:
        edge, walked = next(iter(edges)), []
        while edge in edges:
            edges.remove(edge)
            (x, y), (dx, dy) = edge
            ways = leaving[x + dx, y + dy]
            edge = (x + dx, y + dy), ((dy, -dx) if len(ways) == 2 else ways[0])
            if edge[1] != (dx, dy):
                walked.append(edge[0])
        first = walked.index(min(walked))
        names.add((*walked[first:], *walked[:first]))
    return names


def hot_spots(density, scale, area_mm2, count, min_share, many_cells):
    """Return (minx, miny, width, height, density, share) of each field, the densest first.

    Every field is summed anew, cell by cell, by the area that the two have in common.
    """
    slide_width, slide_height = density.grid.size_l0
    width = min(1000 * area_mm2**0.5 / scale.x_mpp, slide_width)
    height = min(1000 * area_mm2**0.5 / scale.y_mpp, slide_height)
    cell_width, cell_height = density.cell_l0
    rows, columns = density.valid_px.shape
    cells = []  # place inside the slide, and what counts
    for row, column in np.ndindex(rows, columns):
        left, top = column * cell_width, row * cell_height
        right = min(left + cell_width, slide_width)
        bottom = min(top + cell_height, slide_height)
        if right > left and bottom > top and not np.isnan(density.density[row, column]):
            valid_px = density.valid_px[row, column]
            tissue_px = valid_px * density.tissue_share[row, column]
            nucleus_px = min(density.nucleus_px[row, column], tissue_px)
            counts = nucleus_px, tissue_px
            cells.append(((left, top, right, bottom), counts))

    def starts(count, side, end, length):
        edges = [min(k * side, end) for k in range(count + 1)]
        last = [] if length <= side else edges if length <= many_cells * side else edges[-1:]
        ends = [edge - length for edge in last]
        places = sorted([*edges, *ends])
        inside = [max(place, 0) for place in places if -1e-6 < place < end - length + 1e-6]
        return [p for k, p in enumerate(inside) if k == 0 or p > inside[k - 1] + 1e-6]

    fields = []
    for y in starts(rows, cell_height, slide_height, height):
        for x in starts(columns, cell_width, slide_width, width):
            nucleus = seen = 0.0
            for (left, top, right, bottom), (nucleus_px, tissue_px) in cells:
                across = max(0, min(right, x + width) - max(left, x)) / (right - left)
                down = max(0, min(bottom, y + height) - max(top, y)) / (bottom - top)
                nucleus += nucleus_px * across * down
                seen += tissue_px * across * down
            share = seen / (width / cell_width * height / cell_height * density.cell_px**2)
            if share > min_share - 1e-9 and nucleus / seen > 1e-9:
                fields.append((x, y, nucleus / seen, min(share, 1)))

    densest = []
    while fields and len(densest) < count:
        best = max(field[2] for field in fields)
        x, y, value, share = next(field for field in fields if field[2] >= best - 1e-9)
        size = round(x + width) - round(x), round(y + height) - round(y)
        densest.append((round(x), round(y), *size, value, share))
        fields = [
            field
            for field in fields
            if abs(field[0] - x) > width - 1e-6 or abs(field[1] - y) > height - 1e-6
        ]
    return densest


def shrink(rgba: Pixels, side: int) -> tuple[Pixels, NDArray[np.float64]]:
    """Return mean colour, rounded, and luma of squares of `side` px; luma -1 if not all opaque."""
    shape = rgba.shape[0] // side, rgba.shape[1] // side
    rgb, light = np.zeros((*shape, 3), np.uint8), np.zeros(shape)
    for row, column in np.ndindex(shape):
        square = rgba[row * side : (row + 1) * side, column * side : (column + 1) * side]
        mean = square[..., :3].mean(axis=(0, 1))
        rgb[row, column] = np.floor(mean + 0.5)
        opaque = (square[..., 3] >= OPAQUE).all()
        light[row, column] = mean @ (0.299, 0.587, 0.114) if opaque else -1
    return rgb, light


def look_at_squares(
    rgb: Pixels, light: NDArray[np.float32], side: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], Pixels]:
    """Return span, steepest slope and mean colour of squares one px within the border."""
    shape = max(light.shape[0] - 2, 0) // side, max(light.shape[1] - 2, 0) // side
    span, slope, mean = np.zeros(shape), np.zeros(shape), np.zeros((*shape, 3), np.uint8)
    for row, column in np.ndindex(shape):
        top, left = row * side, column * side
        around = light[top : top + side + 2, left : left + side + 2].astype(np.float64)
        within = around[1:-1, 1:-1]
        down, across = (step[1:-1, 1:-1] for step in np.gradient(around))
        cross = np.r_[around[1:-1].ravel(), around[:, 1:-1].ravel()]
        inside = (cross >= 0).all()
        span[row, column] = within.max() - within.min() if inside else -1
        slope[row, column] = np.hypot(down, across).max() if inside else 0
        colours = rgb[top + 1 : top + 1 + side, left + 1 : left + 1 + side]
        mean[row, column] = np.floor(colours.mean(axis=(0, 1)) + 0.5)
    return span, slope, mean


def distances_to_edge(mask: np.ndarray) -> np.ndarray:
    """Return the squared distance of each pixel to the nearest pixel that is 0."""
    outside = np.argwhere(mask == 0)
    squared = np.zeros(mask.shape, np.int64)
    for i, j in np.argwhere(mask):
        squared[i, j] = ((outside - (i, j)) ** 2).sum(axis=1).min()
    return squared


def flood(heights: np.ndarray, mask: np.ndarray, rise: int) -> np.ndarray:
    """Return the hill of each pixel, (H, W), named by the place of its peak; -1 outside."""
    order = sorted(np.argwhere(mask).tolist(), key=lambda at: (-heights[tuple(at)], at))
    hill_of: dict[tuple[int, int], int] = {}
    peaks: list[int] = []
    for i, j in order:
        beside = {hill_of[at] for at in ((i - 1, j), (i, j - 1), (i, j + 1), (i + 1, j))
                  if at in hill_of}  # fmt: skip
        if not beside:
            hill_of[i, j] = len(peaks)
            peaks.append(int(heights[i, j]))
            continue
        own = min(beside, key=lambda hill: (-peaks[hill], hill))
        hill_of[i, j] = own
        for hill in beside - {own}:
            if peaks[hill] - heights[i, j] < rise:
                hill_of = {at: own if of == hill else of for at, of in hill_of.items()}
    hills = np.full(mask.shape, -1)
    for at, hill in hill_of.items():
        hills[at] = hill
    return hills
