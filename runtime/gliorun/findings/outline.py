"""Simplify the outline of a nucleus: a third of the corners, the same area."""

from __future__ import annotations

import numpy as np
import shapely
from numpy.typing import NDArray

from gliorun.findings.nuclei import Nucleus, shapes_in
from gliorun.reading.tiles import Box

TOLERANCE_PX = 0.5
"""How far, in model px, a corner may lie from the line that replaces it."""
DECIMALS = 1
"""Digits after the point of a corner in level-0 px: it moves by a twentieth of a px at most."""
MOST_GROWTH_PX = 0.5
"""How far a corner may move where a ring is enlarged to its area; else the outline is kept."""

Ring = NDArray[np.float64]
"""(N, 2): corners x, y; the last is the first."""


def simple_outlines_l0(nucleus: Nucleus) -> list[Ring]:
    """Return the outlines of a nucleus as `Nucleus.outlines_l0` does, with fewer corners.

    The stairs along the edges of pixels become straight lines between the middles of these edges;
    then corners within `TOLERANCE_PX` of the line that replaces them are left out (Douglas and
    Peucker 1973). That cuts more off than it adds, so each ring is enlarged about its middle to the
    area that it had, and corners are rounded. A ring that would vanish or move too far, and an
    outline that would cross itself, is kept as it is.
    """
    exact_l0 = nucleus.outlines_l0()
    rings_l0 = [
        (_simple(ring_l0 / nucleus.px_l0) * nucleus.px_l0).round(DECIMALS) for ring_l0 in exact_l0
    ]
    is_sound = shapely.Polygon(rings_l0[0], rings_l0[1:]).is_valid
    return rings_l0 if is_sound else exact_l0


def areas_l0(
    mask: NDArray[np.bool_], px_l0: tuple[float, float], shown_l0: Box, *, simplify: bool
) -> list[list[Ring]]:
    """Return the outlines of every part of a mask, (H, W): of each its outer ring, then its holes.

    They are cut at a part of the slide and count from its corner. Parts that meet once they are
    simplified become one, so that together they are a valid area.
    """
    shapes = shapes_in(np.ascontiguousarray(mask, dtype=np.uint8))
    parts = [Nucleus(runs, px_l0, area_um2=0.0, centroid_l0=(0.0, 0.0)) for runs in shapes]
    rings = [simple_outlines_l0(part) if simplify else part.outlines_l0() for part in parts]
    union = shapely.union_all([shapely.Polygon(outer, holes) for outer, *holes in rings])
    shown = shapely.intersection(union, shapely.box(*shown_l0))
    polygons = [part for part in shapely.get_parts(shown) if part.area > 0]
    return [
        [np.asarray(ring.coords) - shown_l0[:2] for ring in (polygon.exterior, *polygon.interiors)]
        for polygon in shapely.orient_polygons(polygons)
    ]


def _simple(stairs: Ring) -> Ring:
    """Return a ring of few corners with the area of one along the edges of pixels."""
    line = shapely.linestrings(_middles(stairs))
    corners = shapely.get_coordinates(line.simplify(TOLERANCE_PX, preserve_topology=False))
    area, wanted = _area(corners), _area(stairs)
    if len(corners) < 4 or area * wanted <= 0:
        return stairs
    from_middle = corners - corners[:-1].mean(axis=0)
    growth = np.sqrt(wanted / area) - 1
    if abs(growth) * np.abs(from_middle).max() > MOST_GROWTH_PX:
        return stairs
    return np.asarray(corners + growth * from_middle)


def _middles(stairs: Ring) -> Ring:
    """Return the middles of the pixels' edges along a closed ring, the first one also last."""
    sides = np.diff(stairs, axis=0)
    lengths = np.abs(sides).sum(axis=1).round().astype(np.int64)
    starts = np.repeat(stairs[:-1], lengths, axis=0)
    steps = np.repeat(sides / lengths[:, None], lengths, axis=0)
    number = np.arange(len(steps)) - np.repeat(lengths.cumsum() - lengths, lengths)
    middles = starts + steps * (number + 0.5)[:, None]
    return np.concatenate([middles, middles[:1]])


def _area(ring: Ring) -> float:
    """Return the signed area of a closed ring: the sum of x dy."""
    x, y = (ring - ring[0]).T
    return float(((x[:-1] + x[1:]) * np.diff(y)).sum()) / 2
