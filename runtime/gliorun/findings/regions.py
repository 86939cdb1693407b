"""What is measured in each region of a slide, and by how much two regions differ."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, islice

import numpy as np
from numpy.typing import NDArray

from gliorun.findings.bootstrap import Interval, interval_of_difference
from gliorun.findings.hotspots import HotSpot, find_hot_spots
from gliorun.findings.nuclei import Nucleus
from gliorun.measuring.density import DensityMap
from gliorun.measuring.regions import InRegions
from gliorun.measuring.tissue import Tissue
from gliorun.reading.regions import Region
from gliorun.reading.scale import Scale

BLOCK_UM = 480.0
"""Side of the blocks that the bootstrap draws: four tiles. On a real section density correlates
with itself by 0.49, 0.27, 0.11 and 0 at 30, 60, 120 and 240 µm, so that such blocks are nearly
independent; where it is alike over longer ways, intervals are too narrow."""
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
        Share of its tissue in each class.
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
    """Density of `first` less that of `second`, 0 to 1, and its 95 % interval, None if too small.

    `first` and `second` are names.
    """

    first: str
    second: str
    difference: float
    interval: Interval | None

    @property
    def in_points(self) -> str:
        """The difference in points, hundredths of the tissue, with its interval, as text."""
        text = f"{100 * self.difference:+.1f}"
        if self.interval is None:
            return f"{text} (too small for an interval)"
        low, high = self.interval
        return f"{text} [{100 * low:+.1f}, {100 * high:+.1f}]"


def results_of(
    sums: InRegions,
    tissue: Tissue,
    scale: Scale,
    *,
    hot_spot_mm2: float,
    nuclei: Iterable[Nucleus] | None = None,
) -> tuple[tuple[RegionResult, ...], tuple[RegionDifference, ...]]:
    """Return what was measured in each region, and how they differ pair by pair.

    Regions that overlap, and more than `MOST_COMPARED`, are not compared.
    """
    counts = None if nuclei is None else nuclei_in(sums.regions, nuclei)
    results, blocks = [], []
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
                class_shares=density.class_shares(),
                nuclei=None if counts is None else int(counts[number]),
                hot_spot=spots[0] if spots else None,
            )
        )
        blocks.append(blocks_of(density, scale))
    if len(results) > MOST_COMPARED:
        return tuple(results), ()
    differences = [
        RegionDifference(
            results[one].region.name,
            results[other].region.name,
            results[one].density - results[other].density,
            _interval(blocks[one], blocks[other]),
        )
        for one, other in combinations(range(len(results)), 2)
        if not math.isnan(results[one].density - results[other].density)
        and not results[one].region.overlaps(results[other].region)
    ]
    return tuple(results), tuple(differences)


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


def blocks_of(density: DensityMap, scale: Scale) -> NDArray[np.float64]:
    """Return nucleus and tissue px, (N, 2), of the blocks of a map that hold tissue."""
    width_l0, height_l0 = density.cell_l0
    across = max(1, round(BLOCK_UM / (width_l0 * scale.x_mpp)))
    down = max(1, round(BLOCK_UM / (height_l0 * scale.y_mpp)))
    tissue_px = density.tissue_px
    pair = np.stack([np.minimum(density.nucleus_px, tissue_px), tissue_px], axis=-1)
    rows, columns, _ = pair.shape
    pair = np.pad(pair, ((0, -rows % down), (0, -columns % across), (0, 0)))
    rows, columns, _ = pair.shape
    shape = rows // down, down, columns // across, across, 2
    blocks = pair.reshape(shape).sum(axis=(1, 3)).reshape(-1, 2)
    return np.asarray(blocks[blocks[:, 1] > 0])


def _interval(ours: NDArray[np.float64], theirs: NDArray[np.float64]) -> Interval | None:
    if min(len(ours), len(theirs)) < FEWEST_BLOCKS:
        return None
    return interval_of_difference(ours, theirs)
