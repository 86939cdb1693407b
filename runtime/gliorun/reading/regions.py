"""Regions that a person has drawn on a slide; the only module that imports shapely."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely import LinearRing, LineString, MultiPolygon, Point, Polygon
from shapely.geometry.base import BaseGeometry

from gliorun.errors import GlioError
from gliorun.reading import annotationxml, asap, imagescope, qupath
from gliorun.reading.drawing import Drawing, Drawings, Ring
from gliorun.reading.files import check_file
from gliorun.reading.tiles import Box, TileSpec
from gliorun.words import plain

MOST_REGIONS = 200
MOST_CORNERS = 5_000_000
MOST_CROSSINGS = 1000
"""An outline that crosses itself more often is a scribble."""
SAME_AREA = 0.01
"""Relative difference up to which two readings of an outline that crosses itself are one: where a
hand that draws an outline comes back to its beginning, it overlaps it by some 0.1 %."""
CUT_OFF = 0.01
"""Share of a region that may lie off the slide without a warning."""
LONGEST_NAME = 60
FEW_PX = 1.0
"""A region of a smaller area, in level-0 px, is a slip of the pen."""


@dataclass(frozen=True, slots=True, eq=False)
class Region:
    """One region of a slide.

    Parameters
    ----------
    name : str
        Of the regions of a slide no two have the same.
    class_name : str
        Empty for none.
    outline : Polygon or MultiPolygon
        What of it lies on the slide, valid, in level-0 px of the whole scan area.
    edges_l0 : (N, 4) float64
        x, y of the two ends of every side of its rings.
    """

    name: str
    class_name: str
    outline: Polygon | MultiPolygon
    edges_l0: NDArray[np.float64] = field(repr=False)

    @property
    def area_l0(self) -> float:
        """Area in square level-0 px."""
        return float(self.outline.area)

    def rings_l0(self) -> list[list[Ring]]:
        """Return the closed rings of each polygon, the outer one first."""
        return [
            [np.asarray(ring.coords) for ring in (polygon.exterior, *polygon.interiors)]
            for polygon in _parts(self.outline)
        ]

    def label_l0(self) -> tuple[float, float]:
        """Return a point well inside it."""
        point = self.outline.representative_point()
        return float(point.x), float(point.y)

    def holds(self, x_l0: NDArray[np.float64], y_l0: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Tell which points lie inside."""
        shapely.prepare(self.outline)
        return np.asarray(shapely.contains_xy(self.outline, x_l0, y_l0))

    def touches(self, specs: Sequence[TileSpec]) -> NDArray[np.bool_]:
        """Tell which tiles share an area with it."""
        corners = np.array(
            [(s.x_l0, s.y_l0, s.x_l0 + s.width_l0, s.y_l0 + s.height_l0) for s in specs], float
        ).reshape(-1, 4)
        shapely.prepare(self.outline)
        boxes = shapely.box(*corners.T)
        shares = shapely.intersects(self.outline, boxes) & ~shapely.touches(self.outline, boxes)
        return np.asarray(shares)

    def overlaps(self, other: Region) -> bool:
        """Tell whether two regions share more than a line."""
        return float(shapely.intersection(self.outline, other.outline).area) > FEW_PX


@dataclass(frozen=True, slots=True, eq=False)
class Regions:
    """The regions of a slide, at least one, and what is doubtful about them."""

    regions: tuple[Region, ...]
    warnings: tuple[str, ...] = ()


IGNORED = "*"
"""End of the names of classes that are to be left out, as in QuPath's own "Ignore*"."""


def union_of(areas: Regions, left_out: str) -> Region | None:
    """Return what all areas of a file cover, less those that are to be ignored; None for nothing.

    Areas of the class `left_out` are passed over: they say what a measurement found. Those whose
    class ends with `IGNORED` are cut out of the others.
    """
    wanted, cut = [], []
    for area in areas.regions:
        if area.class_name.endswith(IGNORED):
            cut.append(area.outline)
        elif area.class_name != left_out:
            wanted.append(area.outline)
    outline = _areal(shapely.difference(shapely.union_all(wanted), shapely.union_all(cut)))
    return None if outline.area < FEW_PX else Region("", "", outline, _edges(outline))


def read_regions(path: Path, size_l0: tuple[int, int], bounds_l0: Box | None = None) -> Regions:
    """Read the regions of a slide of `size_l0` px: of QuPath, ImageScope or ASAP.

    What is drawn over the slide's border is cut off there.

    Raises
    ------
    GlioError
        The file is missing, damaged or of no known kind, holds no region, or one whose area is
        in doubt or that lies off the slide.
    """
    check_file(path, "file of regions", "check its name, and that its disk is there")
    try:
        drawings = _drawings(path)
    except OSError as error:
        raise GlioError(
            f"{path}: cannot be read ({error.strerror or error}); check that you may read it"
        ) from error
    if not drawings.drawings:
        only = _counted(drawings.passed_over)
        raise GlioError(
            f"{path}: holds no region{f', only objects {only}' if only else ''}; draw an area "
            "around what is to be measured"
        )
    if len(drawings.drawings) > MOST_REGIONS:
        raise GlioError(
            f"{path}: {len(drawings.drawings):,} regions are more than {MOST_REGIONS}; "
            "export only those to measure"
        )
    corners = sum(map(_corners, drawings.drawings))
    if corners > MOST_CORNERS:
        raise GlioError(
            f"{path}: {corners:,} corners are more than {MOST_CORNERS:,}; simplify the outlines"
        )
    left, top, _, _ = bounds_l0 if drawings.crops and bounds_l0 else (0, 0, 0, 0)
    warnings = list(drawings.warnings)
    if drawings.passed_over:
        warnings.append(f"the file of regions also holds objects that are none: "
                        f"{_counted(drawings.passed_over)}")  # fmt: skip
    regions = []
    for drawing, name in zip(drawings.drawings, _names(drawings.drawings), strict=True):
        region = _region(drawing, name, (left, top), size_l0, path, warnings)
        if region is not None:
            regions.append(region)
    if not regions:
        raise GlioError(f"{path}: none of its regions has an area; draw around what to measure")
    return Regions(tuple(regions), tuple(warnings))


def _drawings(path: Path) -> Drawings:
    """Read a file by what it holds: XML begins with <, whatever the file is called."""
    with path.open("rb") as stream:
        begin = stream.read(64).removeprefix(b"\xef\xbb\xbf").lstrip()
    if not begin.startswith((b"<", b"\xff\xfe", b"\xfe\xff")):
        return qupath.read_geojson(path)
    root = annotationxml.read_root(path)
    if root.tag == imagescope.ROOT:
        return imagescope.drawings_in(root, path)
    if root.tag == asap.ROOT:
        return asap.drawings_in(root, path)
    raise GlioError(
        f"{path}: its XML begins with {plain(root.tag[:LONGEST_NAME])}, and is neither "
        "ImageScope's nor ASAP's; export GeoJSON from QuPath"
    )


def _corners(drawing: Drawing) -> int:
    rings = [ring for polygon in drawing.polygons for ring in polygon]
    return sum(len(ring) for ring in (*rings, *drawing.cut))


def _names(drawings: Sequence[Drawing]) -> list[str]:
    """Return a name for each region: its own, else its class; of equal ones, each its number."""
    bare = [
        plain((drawing.name or drawing.class_name or "Region")[:LONGEST_NAME])
        for drawing in drawings
    ]
    often, taken, names = Counter(bare), set(bare), []
    seen: Counter[str] = Counter()
    for name in bare:
        unique = name
        while often[name] > 1 and (unique == name or unique in taken):
            seen[name] += 1
            unique = f"{name} {seen[name]}"
        taken.add(unique)
        names.append(unique)
    return names


def _region(
    drawing: Drawing,
    name: str,
    corner_l0: tuple[int, int],
    size_l0: tuple[int, int],
    path: Path,
    warnings: list[str],
) -> Region | None:
    """Return a region from what was drawn, and add what is doubtful; None where it has no area."""
    where = f"{path}: region '{name}'"
    drawn, crosses = _outline(drawing, corner_l0, where)
    if drawn.area < FEW_PX:
        warnings.append(f"region '{name}' has no area and is left out")
        return None
    if crosses:
        warnings.append(
            f"the outline of region '{name}' crosses itself; what it encloses is measured, "
            f"{drawn.area:.0f} px"
        )
    outline = _areal(shapely.intersection(drawn, shapely.box(0, 0, *size_l0)))
    cut_off = 1 - outline.area / drawn.area
    if outline.area < FEW_PX:
        x, y = (round(value) for value in drawn.bounds[:2])
        raise GlioError(
            f"{where} lies off the slide: it begins at {x}, {y} px, and the slide has "
            f"{size_l0[0]} x {size_l0[1]}; is the file of another slide?"
        )
    if cut_off > CUT_OFF:
        warnings.append(f"{100 * cut_off:.0f} % of region '{name}' lie off the slide: cut off")
    class_name = plain(drawing.class_name[:LONGEST_NAME])
    return Region(name, class_name, outline, _edges(outline))


def _outline(
    drawing: Drawing, corner_l0: tuple[int, int], where: str
) -> tuple[Polygon | MultiPolygon, bool]:
    """Return what a drawing encloses, and whether an outline of it crosses itself.

    Raises
    ------
    GlioError
        What it encloses depends on how one reads it.
    """
    parts, crosses = [], False
    for outer, *holes in drawing.polygons:
        if len(outer) < 3:
            continue
        polygon = Polygon(outer + corner_l0, [h + corner_l0 for h in holes if len(h) >= 3])
        parts.append(_valid(polygon, where))
        crosses |= not polygon.is_valid
    union = _areal(shapely.union_all(parts))
    _check_same(union.area, sum(part.area for part in parts), where)
    cut = [_valid(Polygon(ring + corner_l0), where) for ring in drawing.cut if len(ring) >= 3]
    return _areal(shapely.difference(union, shapely.union_all(cut))), crosses


def _valid(polygon: Polygon, where: str) -> Polygon | MultiPolygon:
    """Return the same area within rings that do not cross, each other or themselves."""
    if polygon.is_valid:
        return polygon
    shell = _enclosed(polygon.exterior, where)
    holes = [_enclosed(ring, where) for ring in polygon.interiors]
    rest = _areal(shapely.difference(shell, shapely.union_all(holes)))
    _check_same(rest.area, shell.area - sum(hole.area for hole in holes), where)
    return rest


def _enclosed(ring: LinearRing, where: str) -> Polygon | MultiPolygon:
    """Return what a ring encloses, even if it crosses itself.

    A figure of eight encloses both its loops, and so say all programs. Where it winds twice
    around a place, some call it inside and some outside: such a place must be tiny.
    """
    if ring.is_simple:
        return Polygon(ring)
    _check_crossings(ring, where)
    sides = shapely.get_parts(shapely.node(LineString(ring)))
    faces = [face for face in _parts(shapely.polygonize(sides)) if face.area > 0]
    windings = [_winding(ring, face.representative_point()) for face in faces]
    pairs = list(zip(faces, windings, strict=True))
    odd = sum(face.area for face, winding in pairs if winding % 2)
    enclosed = [face for face, winding in pairs if winding]
    _check_same(odd, sum(face.area for face in enclosed), where)
    return _areal(shapely.union_all(enclosed))


def _winding(ring: LinearRing, point: Point) -> int:
    """Return how often a ring winds around a point that does not lie on it."""
    x, y = np.asarray(ring.coords).T
    below = y <= point.y
    up, down = below[:-1] & ~below[1:], ~below[:-1] & below[1:]
    crossing = np.flatnonzero(up | down)
    share = (point.y - y[crossing]) / (y[crossing + 1] - y[crossing])
    left = x[crossing] + share * (x[crossing + 1] - x[crossing]) < point.x
    return int(up[crossing][left].sum()) - int(down[crossing][left].sum())


def _check_same(area: float, other_area: float, where: str) -> None:
    if abs(area - other_area) > max(SAME_AREA * max(area, other_area), FEW_PX):
        raise GlioError(
            f"{where} encloses {area:.0f} or {other_area:.0f} px, depending on how one reads "
            "outlines that overlap; draw it again without crossings"
        )


def _check_crossings(ring: LinearRing, where: str) -> None:
    """Refuse a ring that crosses itself so often that to take it apart would never end."""
    corners = np.asarray(ring.coords)
    sides = shapely.linestrings(np.stack([corners[:-1], corners[1:]], axis=1))
    tree = shapely.STRtree(sides)
    crossings, start, step = 0, 0, 16
    while start < len(sides):
        some = sides[start : start + step]
        met = tree.query(some, predicate="crosses").shape[1]
        crossings += met / 2  # each of two sides meets the other
        if crossings > MOST_CROSSINGS:
            raise GlioError(f"{where} crosses itself without end; draw it again")
        start += step
        step = min(2 * step, 2**16) if met < step else 16


def _areal(geometry: BaseGeometry) -> Polygon | MultiPolygon:
    """Return the polygons of a geometry, without lines and points."""
    parts = [part for part in _parts(geometry) if isinstance(part, Polygon) and not part.is_empty]
    return parts[0] if len(parts) == 1 else MultiPolygon(parts)


def _parts(geometry: BaseGeometry) -> list[BaseGeometry]:
    """Return the single shapes of a geometry, of whatever depth."""
    return [
        part
        for piece in shapely.get_parts(geometry)
        for part in ([piece] if piece.geom_type in ("Polygon", "LineString", "Point",
                                                    "LinearRing") else _parts(piece))
    ]  # fmt: skip


def _edges(outline: Polygon | MultiPolygon) -> NDArray[np.float64]:
    """Return the two ends of every side of the rings, (N, 4) float64, the upper one first.

    So a side that two regions share is the same numbers for both.
    """
    rings = [
        np.asarray(ring.coords)
        for polygon in _parts(outline)
        for ring in (polygon.exterior, *polygon.interiors)
    ]
    edges = np.concatenate([np.hstack([ring[:-1], ring[1:]]) for ring in rings])
    turned = edges[:, 1] > edges[:, 3]
    edges[turned] = edges[turned][:, [2, 3, 0, 1]]
    return edges


def _counted(things: dict[str, int]) -> str:
    return ", ".join(f"{number:,} {plain(thing)}" for thing, number in sorted(things.items()))
