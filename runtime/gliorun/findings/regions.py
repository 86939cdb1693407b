"""What is measured in each region of a slide, and by how much two regions differ."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, islice

import numpy as np
from numpy.typing import NDArray

from gliorun.findings.blocks import Cells, block_side, blocks_of, cells_of
from gliorun.findings.bootstrap import Interval, interval_of_difference
from gliorun.findings.hotspots import HotSpot, find_hot_spots
from gliorun.findings.nuclei import Nucleus
from gliorun.measuring.density import DensityMap
from gliorun.measuring.regions import InRegions
from gliorun.measuring.tissue import Tissue
from gliorun.reading.regions import Region
from gliorun.reading.scale import Scale

FEWEST_BLOCKS = 12
"""A region of fewer blocks has no interval, which would be too narrow."""
NUCLEI_AT_ONCE = 10_000
MOST_COMPARED = 12
"""Of more regions none are compared, as the pairs would be too many to look at."""


@dataclass(frozen=True, slots=True, eq=False)
class RegionResult:
    """What was measured in one region.

    Parameters
    ----------
    region : Region
    area_mm2 : float
        Of its outline on the slide.
    tissue_mm2 : float
        Tissue in it that has a value.
    density, density_low, density_high : float
        Nucleus area / tissue area, by the deciding, the inner and the outer outline of nuclei, 0
        to 1; NaN without a value.
    class_shares : (6,) float64
        Share of its tissue in each class, by the cells of the map.
    nuclei : int or None
        Nuclei whose centre lies in it; None if none were counted.
    hot_spot : HotSpot or None
        The densest field that lies mostly in it.
    """

    region: Region
    area_mm2: float
    tissue_mm2: float
    density: float
    density_low: float
    density_high: float
    class_shares: NDArray[np.float64]
    nuclei: int | None
    hot_spot: HotSpot | None

    @property
    def nuclei_per_mm2(self) -> float | None:
        """Nuclei a mm² of tissue; None where there is no tissue, or none were counted."""
        if self.nuclei is None or not self.tissue_mm2:
            return None
        return self.nuclei / self.tissue_mm2


@dataclass(frozen=True, slots=True)
class RegionDifference:
    """Density of `first` less that of `second`, 0 to 1, and its 95 % interval.

    `first` and `second` are names. `block_um` is the side of the blocks that the interval is of,
    None where density is alike over so long ways that there are none. The interval is None where
    a region has too few blocks.
    """

    first: str
    second: str
    difference: float
    interval: Interval | None
    block_um: float | None = None

    @property
    def in_points(self) -> str:
        """The difference in points, hundredths of the tissue, with its interval, as text."""
        text = _points(self.difference)
        if self.interval is None:
            return f"{text} (too small for an interval)"
        low, high = self.interval
        return f"{text} [{_points(low)}, {_points(high)}]"


def _points(share: float) -> str:
    """Return a share as points with its sign, the minus as wide as the plus."""
    return f"{100 * share:+.1f}".replace("-", "−")


def results_of(
    sums: InRegions,
    tissue: Tissue,
    scale: Scale,
    *,
    cell_px: int,
    hot_spot_mm2: float,
    nuclei: Iterable[Nucleus] | None = None,
) -> tuple[tuple[RegionResult, ...], tuple[RegionDifference, ...]]:
    """Return what was measured in each region, and how they differ pair by pair.

    Regions that overlap, and more than `MOST_COMPARED`, are not compared. `cell_px` is the side
    of a cell of the map, whose classes are those of the regions.
    """
    counts = None if nuclei is None else nuclei_in(sums.regions, nuclei)
    results: list[RegionResult] = []
    parts: list[Cells] = []
    compares = len(sums.regions) <= MOST_COMPARED
    for number, region in enumerate(sums.regions):
        density = sums.map_of(number, tissue)
        px_mm2 = _px_mm2(density, scale)
        spots = find_hot_spots(density, scale, area_mm2=hot_spot_mm2, count=1)
        low, high = density.mean_band()
        results.append(
            RegionResult(
                region,
                area_mm2=region.area_l0 * scale.x_mpp * scale.y_mpp / 1e6,
                tissue_mm2=float(density.tissue_px.sum()) * px_mm2,
                density=density.mean_density(),
                density_low=low,
                density_high=high,
                class_shares=_class_shares(density, cell_px),
                nuclei=None if counts is None else int(counts[number]),
                hot_spot=spots[0] if spots else None,
            )
        )
        if compares:
            parts.append(cells_of(density))
        cell_um, cell_side_px = density.cell_l0[0] * scale.x_mpp, density.cell_px
    if not compares:
        return tuple(results), ()
    side = block_side(parts, cell_px=cell_side_px, cell_um=cell_um)
    differences = [
        RegionDifference(
            ours.region.name,
            theirs.region.name,
            ours.density - theirs.density,
            None
            if side is None
            else _interval(blocks_of(of_ours, side), blocks_of(of_theirs, side)),
            None if side is None else round(side * cell_um, 1),
        )
        for (ours, of_ours), (theirs, of_theirs) in combinations(
            zip(results, parts, strict=True), 2
        )
        if not math.isnan(ours.density - theirs.density) and not ours.region.overlaps(theirs.region)
    ]
    return tuple(results), tuple(differences)


def _class_shares(density: DensityMap, cell_px: int) -> NDArray[np.float64]:
    """Return the share of the tissue in each class in cells of `cell_px`, summed from finer."""
    cells = density.merged(cell_px // density.cell_px)
    cells.least_valid_share = density.least_valid_share
    return cells.class_shares()


def _px_mm2(density: DensityMap, scale: Scale) -> float:
    """Return the area of a model px in mm²."""
    width, height = density.cell_l0
    return width * scale.x_mpp * height * scale.y_mpp / density.cell_px**2 / 1e6


def nuclei_within(regions: Sequence[Region], nuclei: Iterable[Nucleus]) -> Iterator[Nucleus]:
    """Yield the nuclei that have their centre of gravity in any of the regions."""
    remaining = iter(nuclei)
    while some := list(islice(remaining, NUCLEI_AT_ONCE)):
        yield from (some[index] for index in np.flatnonzero(_held(regions, some).any(axis=0)))


def nuclei_in(regions: Sequence[Region], nuclei: Iterable[Nucleus]) -> NDArray[np.int64]:
    """Return how many nuclei have their centre of gravity in each region, (regions,)."""
    counts = np.zeros(len(regions), np.int64)
    remaining = iter(nuclei)
    while some := list(islice(remaining, NUCLEI_AT_ONCE)):
        counts += _held(regions, some).sum(axis=1)
    return counts


def _held(regions: Sequence[Region], nuclei: Sequence[Nucleus]) -> NDArray[np.bool_]:
    """Tell of each region which nuclei it holds, (regions, nuclei)."""
    x_l0, y_l0 = np.array([nucleus.centroid_l0 for nucleus in nuclei]).T
    return np.array([region.holds(x_l0, y_l0) for region in regions])


def _interval(ours: NDArray[np.float64], theirs: NDArray[np.float64]) -> Interval | None:
    if min(len(ours), len(theirs)) < FEWEST_BLOCKS:
        return None
    return interval_of_difference(ours, theirs)
