"""Hot spots: the densest fields of a slide, the objective choice of where to grade."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gliorun.defaults import HOT_SPOT_MM2, HOT_SPOTS
from gliorun.errors import UsageError
from gliorun.findings.squares import Squares
from gliorun.measuring.density import DensityMap
from gliorun.reading.scale import Scale

Array = NDArray[np.float64]

MIN_TISSUE_SHARE = 0.75
"""A field with less measured tissue is not a hot spot: the less there is to average, the denser
it can be by chance, so the densest fields would hang over the rim of the tissue."""
MOST_OF_TISSUE = 0.25
"""Share of a slide's tissue that a field covers at most."""
SHRUNK, LEAST_MM2 = (1, 0.5, 0.2, 0.1, 0.05, 0.02, 0.01), 0.02
"""Parts of the area that are tried in turn, and the area below which nothing is tried: a field then
holds few nuclei."""
MANY_CELLS = 20
"""A field of more cells a side moves by so small steps that it need not end with a cell."""
SAME = 1e-9
"""Densities, shares and lengths (in cells) closer than this are equal."""


@dataclass(frozen=True, slots=True)
class HotSpot:
    """One square field, in level-0 px; densities and `tissue_share` from 0 to 1.

    `density` is nucleus area / area, as in a cell of the map; `density_low` and
    `density_high` are the same by the inner and by the outer outline of each nucleus.
    `tissue_share` is the share of the field that is tissue with a value. `square` names the map's
    square that holds the field's centre; `area_mm2` is what was asked for, or what of it fits.
    """

    rank: int
    minx: int
    miny: int
    width: int
    height: int
    square: str
    density: float
    density_low: float
    density_high: float
    tissue_share: float
    area_mm2: float


def check_fields(count: int, area_mm2: float) -> None:
    """Raise UsageError unless the number of fields and their area are above 0."""
    if not (math.isfinite(area_mm2) and area_mm2 > 0) or count < 1:
        raise UsageError(
            f"{count} fields of {area_mm2:g} mm²: --hot-spots and --hot-spot-mm2 must be above 0"
        )


def find_hot_spots(
    density: DensityMap, scale: Scale, *, area_mm2: float = HOT_SPOT_MM2, count: int = HOT_SPOTS
) -> tuple[HotSpot, ...]:
    """Return up to `count` of the densest fields, of `area_mm2` or as much of it as fits.

    A field fits that covers at most `MOST_OF_TISSUE` of the measured tissue and lies within the
    slide; of a larger one it could not be said where the slide is dense. Where none of the fields
    fits or none is found, a smaller area is tried, down to `LEAST_MM2` or the area that was asked
    for; `HotSpot.area_mm2` says which.

    Raises
    ------
    GlioError
        The area or the count is not above 0.
    """
    check_fields(count, area_mm2)
    px_mm2 = scale.x_mpp * scale.y_mpp / 1e6
    model_px_mm2 = math.prod(density.cell_l0) * px_mm2 / density.cell_px**2
    most_mm2 = MOST_OF_TISSUE * float(density.tissue_px.sum()) * model_px_mm2
    across, down = density.grid.size_l0
    most_mm2 = min(most_mm2, (across * scale.x_mpp / 1000) ** 2, (down * scale.y_mpp / 1000) ** 2)
    for share in SHRUNK:
        smaller_mm2 = float(f"{area_mm2 * share:.6g}")
        if smaller_mm2 < min(LEAST_MM2, area_mm2):
            break
        if smaller_mm2 <= most_mm2:
            fields = find_fields(density, scale, area_mm2=smaller_mm2, count=count)
            if fields:
                return fields
    return ()


def find_fields(
    density: DensityMap, scale: Scale, *, area_mm2: float = HOT_SPOT_MM2, count: int = HOT_SPOTS
) -> tuple[HotSpot, ...]:
    """Return up to `count` square fields of `area_mm2`, the densest first, that do not overlap.

    Fields are of exactly that area, to the level-0 px: cells that a field cuts count with the
    share it covers. Along each axis they begin or end with a cell, as the densest one does; of
    many small cells, they begin with one. The densest is taken, then the densest that does not
    overlap it, and so on; of equals, the first in reading order. Fields without nuclei, or with
    less than `MIN_TISSUE_SHARE` of measured tissue, are left out, so there may be fewer. Where
    the slide is narrower than a field, the field is as narrow as the slide; a field smaller than
    a cell begins with it and has its density.

    Parameters
    ----------
    density : DensityMap
    scale : Scale
    area_mm2 : float
    count : int

    Raises
    ------
    GlioError
        The area or the count is not above 0.
    """
    check_fields(count, area_mm2)
    slide_width, slide_height = density.grid.size_l0
    side_um = 1000 * math.sqrt(area_mm2)
    width = min(side_um / scale.x_mpp, slide_width)
    height = min(side_um / scale.y_mpp, slide_height)
    left, top, share, band = _fields(density, width, height)
    remaining = band[1].copy()
    cell_width, cell_height = density.cell_l0
    squares = Squares(density.grid)
    spots: list[HotSpot] = []
    while len(spots) < count and (best := remaining.max()) > SAME:
        row, column = (int(i) for i in np.argwhere(remaining >= best - SAME)[0])
        x, y = float(left[column]), float(top[row])
        spots.append(
            HotSpot(
                rank=len(spots) + 1,
                minx=round(x),
                miny=round(y),
                width=round(x + width) - round(x),
                height=round(y + height) - round(y),
                square=squares.name_at(x + width / 2, y + height / 2),
                density=float(band[1, row, column]),
                density_low=float(band[0, row, column]),
                density_high=float(band[2, row, column]),
                tissue_share=float(share[row, column]),
                area_mm2=area_mm2,
            )
        )
        rows = np.abs(top - y) < height - SAME * cell_height
        columns = np.abs(left - x) < width - SAME * cell_width
        remaining[np.ix_(rows, columns)] = 0
    return tuple(spots)


def _fields(density: DensityMap, width: float, height: float) -> tuple[Array, Array, Array, Array]:
    """Return the fields of `width` x `height` level-0 px that begin or end with a cell.

    Their left and top edges, (columns,) and (rows,) level-0 px; the share of each that is
    measured tissue, (rows, columns), and its density by the inner, the deciding and the outer
    outline, (3, rows, columns), 0 where it is no candidate.
    """
    cell_width, cell_height = density.cell_l0
    rows, columns = density.valid_px.shape
    x_l0 = np.minimum(np.arange(columns + 1) * cell_width, density.grid.size_l0[0])
    y_l0 = np.minimum(np.arange(rows + 1) * cell_height, density.grid.size_l0[1])
    left, top = _starts(x_l0, width, cell_width), _starts(y_l0, height, cell_height)

    def summed(px: NDArray[Any]) -> Array:
        table = np.pad(px.cumsum(axis=0).cumsum(axis=1), ((1, 0), (1, 0)))
        return _rise(_rise(table, y_l0, top, height).T, x_l0, left, width).T

    area = summed(density.area_px)
    field_px = width / cell_width * height / cell_height * density.cell_px**2
    share = np.minimum(summed(density.tissue_px) / field_px, 1)
    candidate = share >= MIN_TISSUE_SHARE - SAME
    band = np.zeros((3, *area.shape))
    for outline, densities in enumerate(band):
        np.divide(summed(density.counted_px(outline)), area, out=densities, where=candidate)
    return left, top, share, band


def _starts(edges: Array, length: float, cell: float) -> Array:
    """Return where spans of `length` within `edges` begin that begin or end on one of them.

    Spans shorter than a cell begin on one, so that a cell holds no more than one of them; so do
    those of more than `MANY_CELLS`, but for the last, as they are dense enough.
    """
    ends = edges if length <= MANY_CELLS * cell else edges[-1:]
    starts = np.sort(np.concatenate([edges, ends - length])) if length > cell else edges
    starts = starts[(starts > -SAME * cell) & (starts < edges[-1] - length + SAME * cell)]
    apart = np.diff(starts, prepend=-np.inf) > SAME * cell
    return np.asarray(np.maximum(starts[apart], 0))


def _rise(table: NDArray[Any], edges: Array, starts: Array, length: float) -> Array:
    """Return the rise of `table` over `length` from each start, along axis 0.

    Between its rows, which belong to the edges, the table is linear: a cut cell counts with the
    share that is covered.
    """

    def at(places: Array) -> Array:
        rows = np.interp(places, edges, np.arange(len(edges)))
        before = np.minimum(rows.astype(np.int64), len(edges) - 2)
        share = (rows - before)[:, None]
        return np.asarray(table[before] * (1 - share) + table[before + 1] * share)

    return at(starts + length) - at(starts)
