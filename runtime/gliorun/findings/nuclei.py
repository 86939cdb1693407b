"""Nuclei: each once, also where tiles cut it or others touch it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gliorun.measuring import kernels
from gliorun.measuring.density import DensityMap, classify
from gliorun.measuring.masks import Mask, MaskStore
from gliorun.reading.scale import Scale
from gliorun.reading.tiles import Box

MIN_NUCLEUS_UM2 = 5.0
"""A smaller shape is a speck and no nucleus: a disc 2.5 µm across. Of the nuclei that people
outlined in the training tiles 1.4 % are smaller (0.02 to 2 % by source)."""

RISE_UM = 0.5
"""How far the distance from the edge must rise on both sides of a waist for two nuclei. Half as
much counts gliomas a little better, but cuts long nuclei of epithelium (`gliobench count`)."""
LEVELS_A_PX = 64
"""Steps of the distance from the edge, so that nothing hangs on how sums of floats are rounded."""
MOST_SPLIT_PX = 2**24
"""A shape whose box has more px, 1 mm a side, is ink or damage and is not split."""

Runs = NDArray[np.int32]
"""(N, 3): row, first column and column after the last, in model px from the slide's corner."""


@dataclass(frozen=True, slots=True, eq=False)
class Nucleus:
    """One nucleus, a 4-connected part of the masks.

    Parameters
    ----------
    runs : (N, 3) int32
        Its pixels, sorted by row and column.
    px_l0 : (float, float)
        Width and height of a model px in level-0 px.
    area_um2 : float
    centroid_l0 : (float, float)
        x and y of its centre of gravity in level-0 px.
    """

    runs: Runs
    px_l0: tuple[float, float]
    area_um2: float
    centroid_l0: tuple[float, float]

    def box_l0(self) -> tuple[float, float, float, float]:
        """Return the left and upper edge, width and height of its bounding box in level-0 px."""
        left, top = int(self.runs[:, 1].min()), int(self.runs[0, 0])
        right, bottom = int(self.runs[:, 2].max()), int(self.runs[-1, 0]) + 1
        width, height = self.px_l0
        return left * width, top * height, (right - left) * width, (bottom - top) * height

    def outlines_l0(self) -> list[NDArray[np.float64]]:
        """Return the closed rings of corners x, y in level-0 px along the edges of the pixels.

        The outer ring comes first and has a positive area (sum of x dy), holes a negative one.
        No ring meets itself, so together they are a valid polygon.
        """
        count = len(self.runs)
        after = np.empty(2 * count, np.int64)
        corners, ends = np.empty((4 * count, 2), np.int32), np.empty(count, np.int64)
        kernels.link_sides(self.runs, after)
        kernels.trace_outlines(self.runs, after, corners, ends)
        rings, start = [], 0
        for end in ends[ends > 0].tolist():
            ring = np.concatenate([corners[start:end], corners[start : start + 1]])
            rings.append(ring * self.px_l0)
            start = end
        return rings


@dataclass(frozen=True, slots=True, eq=False)
class NucleusCounts:
    """Nuclei of a slide, counted once each.

    Parameters
    ----------
    per_cell : (rows, columns) int64
        Nuclei whose centre of gravity lies in each cell of the map.
    crossing : int
        Nuclei that lie in more than one cell, which counting cell by cell counts several times.
    per_field : tuple of int
        Nuclei whose centre of gravity lies in each of the fields that were asked for.
    """

    per_cell: NDArray[np.int64]
    crossing: int
    per_field: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class CountComparison:
    """Count-based density beside area density, over the cells that have a value (paper, Fig. 9).

    Parameters
    ----------
    nuclei : int
    crossing_share : float
        Share of the nuclei that lie in more than one cell, 0 to 1.
    nuclei_per_mm2 : float
    displaced_share : float or None
        Share of the nuclei that would have to lie in another cell for the count to be
        proportional to the area, 0 to 1; None without nuclei.
    other_class_share : float or None
        Share of the area of the cells that would have another class if every nucleus had the
        mean area, 0 to 1; None without nuclei.
    rank_correlation : float or None
        Spearman's, of count and area per area of a cell; None if either is the same everywhere.
    """

    nuclei: int
    crossing_share: float
    nuclei_per_mm2: float
    displaced_share: float | None
    other_class_share: float | None
    rank_correlation: float | None


def find_nuclei(masks: MaskStore, scale: Scale) -> Iterator[Nucleus]:
    """Yield every nucleus of a slide, nuclei that touch each for itself, from top to bottom.

    Each shape of the masks that is no speck is split by itself, when all of it has been read, so
    that the borders of tiles decide nothing.
    """
    px_l0 = px_l0_of(masks)
    px_um2 = px_l0[0] * scale.x_mpp * px_l0[1] * scale.y_mpp
    for shape in find_shapes(masks, scale):
        for runs in split(shape.runs, px_um2):
            yield from _nucleus(runs, px_l0, px_um2)


def split(shape: Runs, px_um2: float) -> list[Runs]:
    """Return the nuclei of a shape: watershed of the distance from its edge (Vincent, Soille 1991).

    Two nuclei that touch leave a waist: where the distance from the edge rises by `RISE_UM` or
    more on both sides of it, the shape is cut there. None is a speck: that stays with the
    nucleus it was cut from. Together they have the shape's pixels.

    Parameters
    ----------
    shape : Runs
        4-connected, sorted by row and column; so are those returned.
    px_um2 : float
        Area of a pixel.
    """
    row, start, end = shape.T
    area_px = int((end - start).sum())
    top, left = int(row[0]) - 1, int(start.min()) - 1
    height, width = int(row[-1]) - top + 2, int(end.max()) - left + 1
    if area_px * px_um2 < 2 * MIN_NUCLEUS_UM2 or height * width > MOST_SPLIT_PX:
        return [shape]
    mask = np.zeros((height, width), np.uint8)
    kernels.draw_runs(shape, top, left, mask)
    heights = _heights(mask)
    pixels = np.flatnonzero(mask)
    order = pixels[np.argsort(-heights[pixels], kind="stable")]
    basins = np.zeros((height, width), np.int32)
    roots, peaks, met = (np.empty(area_px + 1, np.int64) for _ in range(3))
    rise = round(RISE_UM / math.sqrt(px_um2) * LEVELS_A_PX)
    hills = int(kernels.flood(heights, order, rise, basins, roots, peaks, met))
    if hills == 1:
        return [shape]
    roots[0] = 0
    names = _without_specks(roots[: hills + 1], met, basins, MIN_NUCLEUS_UM2 / px_um2)
    if names.max() == 1:
        return [shape]
    labels = names[basins]
    runs, of_run = np.empty((area_px, 3), np.int32), np.empty(area_px, np.int32)
    count = int(kernels.find_label_runs(labels, runs, of_run))
    by_nucleus = np.argsort(of_run[:count], kind="stable")
    ends = np.flatnonzero(np.diff(of_run[by_nucleus])) + 1
    return np.split(runs[by_nucleus] + np.array([top, left, left], np.int32), ends)


def _heights(mask: Mask) -> NDArray[np.int32]:
    """Return the smoothed distance from the edge of a shape, (H * W,), in `LEVELS_A_PX` a px."""
    squared = np.empty(mask.shape, np.int32)
    kernels.distances_to_edge(mask, np.empty(mask.shape, np.int32), squared)
    heights = np.sqrt(squared)
    for _ in range(2):  # along columns, then along rows
        wide = np.zeros((len(heights) + 4, heights.shape[1]))
        wide[2:-2] = heights
        heights = (wide[:-4] + wide[4:] + 4 * (wide[1:-3] + wide[3:-1]) + 6 * wide[2:-2]).T / 16
    levels: NDArray[np.int32] = np.rint(heights * LEVELS_A_PX).astype(np.int32).ravel()
    return levels


def _without_specks(
    roots: NDArray[np.int64], met: NDArray[np.int64], basins: NDArray[np.int32], least_px: float
) -> NDArray[np.int32]:
    """Return the number of the nucleus of each hill, 1, 2, …; 0 stays 0."""

    def root(hill: int) -> int:
        while roots[hill] != hill:
            hill = int(roots[hill])
        return hill

    own = np.array([root(hill) for hill in range(len(roots))])
    area = np.bincount(own[basins.ravel()], minlength=len(roots))
    for hill in range(len(roots) - 1, 0, -1):  # later hills are lower
        if own[hill] == hill and area[hill] < least_px and met[hill]:
            into = root(int(met[hill]))
            roots[hill] = into  # a higher hill, so never this one
            area[into] += area[hill]
    own = np.array([root(hill) for hill in range(len(roots))])
    return np.asarray(np.unique(own, return_inverse=True)[1], np.int32)


def find_shapes(masks: MaskStore, scale: Scale) -> Iterator[Nucleus]:
    """Yield every shape of the masks that is not a speck, from top to bottom.

    Shapes are 4-connected: two that meet at a corner only are two, and the outline of
    one never meets itself. Memory holds one row of tiles and the shapes that reach its lower
    border. Corners are placed as if tiles were not rounded to level-0 px, so off by at most
    half a level-0 px.
    """
    px_l0 = px_l0_of(masks)
    px_um2 = px_l0[0] * scale.x_mpp * px_l0[1] * scale.y_mpp
    unfinished: Runs = np.empty((0, 3), np.int32)
    for row, strip in enumerate(masks.rows()):
        runs = np.concatenate([unfinished, _runs_of(strip, row * masks.tile_px)])
        last_row = (row + 1) * masks.tile_px - 1
        waiting = [unfinished[:0]]
        for shape in _shapes_of(runs):
            if shape[-1, 0] == last_row:
                waiting.append(shape)
            else:
                yield from _nucleus(shape, px_l0, px_um2)
        unfinished = np.concatenate(waiting)
        unfinished = unfinished[np.lexsort((unfinished[:, 1], unfinished[:, 0]))]
    for shape in _shapes_of(unfinished):
        yield from _nucleus(shape, px_l0, px_um2)


def shapes_in(mask: Mask) -> list[Runs]:
    """Return the 4-connected shapes of a whole mask, (H, W) uint8, not 0 inside."""
    return _shapes_of(_runs_of(mask, 0))


def px_l0_of(masks: MaskStore) -> tuple[float, float]:
    """Return the width and height of a mask's px in level-0 px."""
    width, height = masks.grid.tile_l0
    return width / masks.tile_px, height / masks.tile_px


def nuclei_per_cell(
    nuclei: Iterable[Nucleus], density: DensityMap, fields: Sequence[Box] = ()
) -> NucleusCounts:
    """Count nuclei in the cells of a map, and in fields of its slide."""
    per_field = [0] * len(fields)
    per_cell = np.zeros(density.valid_px.shape, np.int64)
    crossing = 0
    cell_width, cell_height = density.cell_l0
    last_row, last_column = per_cell.shape[0] - 1, per_cell.shape[1] - 1
    for nucleus in nuclei:
        x, y = nucleus.centroid_l0
        per_cell[min(int(y / cell_height), last_row), min(int(x / cell_width), last_column)] += 1
        for number, (left_l0, top_l0, right_l0, bottom_l0) in enumerate(fields):
            per_field[number] += left_l0 <= x < right_l0 and top_l0 <= y < bottom_l0
        top, left = nucleus.runs[0, 0], nucleus.runs[:, 1].min()
        bottom, right = nucleus.runs[-1, 0], nucleus.runs[:, 2].max() - 1
        crossing += bool(
            top // density.cell_px != bottom // density.cell_px
            or left // density.cell_px != right // density.cell_px
        )
    return NucleusCounts(per_cell, crossing, tuple(per_field))


def compare_counts(counts: NucleusCounts, density: DensityMap, scale: Scale) -> CountComparison:
    """Set the count-based density of a slide beside its area density."""
    has_value = ~np.isnan(density.density)
    count, of_cell = counts.per_cell[has_value], density.area_px[has_value]
    area = np.minimum(density.nucleus_px[has_value], of_cell)
    cell_width, cell_height = density.cell_l0
    px_mm2 = cell_width * scale.x_mpp * cell_height * scale.y_mpp / density.cell_px**2 / 1e6
    tissue_mm2 = float(density.tissue_px.sum()) * px_mm2
    total, total_area = int(counts.per_cell.sum()), int(area.sum())
    displaced, other_class = None, None
    if count.any() and total_area:
        counted_area = count / count.sum() * total_area
        displaced = float(np.abs(counted_area - area).sum() / total_area / 2)
        changed = classify(np.minimum(counted_area / of_cell, 1)) != classify(area / of_cell)
        other_class = float(of_cell[changed].sum() / of_cell.sum())
    return CountComparison(
        nuclei=total,
        crossing_share=counts.crossing / total if total else 0.0,
        nuclei_per_mm2=float(count.sum() / tissue_mm2) if tissue_mm2 else 0.0,
        displaced_share=displaced,
        other_class_share=other_class,
        rank_correlation=_rank_correlation(count / of_cell, area / of_cell),
    )


def _runs_of(strip: Mask, top: int) -> Runs:
    """Return the runs of a row of tiles, (tile_px, W), that begins at row `top`."""
    counts = np.empty(len(strip), np.int64)
    kernels.count_runs(strip, counts)
    runs = np.empty((int(counts.sum()), 3), np.int32)
    kernels.find_runs(strip, runs)
    runs[:, 0] += top
    return runs


def _shapes_of(runs: Runs) -> list[Runs]:
    """Sort runs, in order of row and column, by the 4-connected shape they belong to."""
    if not len(runs):
        return []
    roots = np.empty(len(runs), np.int64)
    kernels.join_runs(runs, roots)
    order = np.argsort(roots, kind="stable")
    return np.split(runs[order], np.flatnonzero(np.diff(roots[order])) + 1)


def _nucleus(shape: Runs, px_l0: tuple[float, float], px_um2: float) -> Iterator[Nucleus]:
    """Yield the nucleus of a shape unless it is a speck."""
    row, start, end = shape.T.astype(np.float64)
    length = end - start
    area_px = float(length.sum())
    if area_px * px_um2 < MIN_NUCLEUS_UM2:
        return
    x = float((length * (start + end)).sum()) / 2 / area_px
    y = float((length * row).sum()) / area_px + 0.5
    yield Nucleus(shape, px_l0, area_px * px_um2, (x * px_l0[0], y * px_l0[1]))


def _rank_correlation(ours: NDArray[np.float64], theirs: NDArray[np.float64]) -> float | None:
    """Return Spearman's rank correlation; None if either has one value only."""
    if len(ours) < 2 or np.ptp(ours) == 0 or np.ptp(theirs) == 0:
        return None
    return float(np.corrcoef(_ranks(ours), _ranks(theirs))[0, 1])


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the rank of each value; equal values share their mean rank."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return np.asarray((last - (counts - 1) / 2)[place])
