"""Convert labels of nuclei to GeoJSON that people correct in QuPath, and back.

Coordinates are px of the image, origin top left, x right, y down. Outlines run along the edges of
the pixels, and a pixel belongs to an outline that its centre lies in, as QuPath draws masks. So
a round trip reproduces labels pixel for pixel.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from reprlib import repr as brief
from typing import Any

import numpy as np
from numpy.typing import NDArray
from skimage.measure import label, regionprops
from skimage.segmentation import relabel_sequential

from gliorun.errors import GlioError
from gliorun.measuring import kernels
from gliorun.measuring.within import pixels_within
from gliorun.words import plain

Labels = NDArray[np.int32]
"""(H, W): 0 is background, every other value one nucleus."""
Ring = NDArray[np.float64]
"""(N, 2): corners x, y; the last joins the first."""
Polygon = list[Ring]
"""The outer ring, then holes."""

NUCLEUS = "Nucleus"
GREEN = [0, 170, 0]
"""Colour of the outlines, visible on both haematoxylin and eosin."""
OUTLINED = ("annotation", "detection", "cell", "unknown")
"""Types of QuPath objects that may be nuclei; the others are tiles and cores of arrays."""
FARTHEST_PX = 1e7
"""Largest coordinate; no image is larger."""
LONGEST_NAME = 80
"""Longest name that is shown, as anyone may have written the file."""
AGAIN = "export it from QuPath again"


@dataclass(frozen=True, slots=True, eq=False)
class Outlines:
    """The content of a GeoJSON file.

    Parameters
    ----------
    nuclei : list of list of Polygon
        The polygons of each nucleus, mostly one.
    ignored : Counter of str
        Number of other objects, by description.
    """

    nuclei: list[list[Polygon]]
    ignored: Counter[str]


def to_geojson(labels: Labels) -> str:
    """Return a FeatureCollection (RFC 7946) of annotations, the smallest label first.

    QuPath opens it by drag and drop; annotations are the objects that its tools can edit. A
    nucleus of several parts is a MultiPolygon. The outlines are valid polygons: parts are
    4-connected, so that no ring meets itself.
    """
    features = [
        _feature(region.image, region.bbox[1], region.bbox[0]) for region in regionprops(labels)
    ]
    lines = ",\n".join(json.dumps(feature, separators=(",", ":")) for feature in features)
    return f'{{"type":"FeatureCollection","features":[\n{lines}\n]}}\n'


def read_outlines(path: Path, further_classes: Collection[str] = ()) -> Outlines:
    """Read the GeoJSON of a FeatureCollection, of an array of features or of one feature.

    An annotation, detection or cell is a nucleus if it has no class, the class "Nucleus" or one of
    `further_classes`; capital letters and what follows a colon ("Nucleus: Positive") do not
    matter. For a cell its nucleus is used. All other objects are ignored, and counted.

    Raises
    ------
    GlioError
        The file is missing, no GeoJSON, has a coordinate that is no pixel, or has objects of
        which none is a nucleus.
    """
    wanted = {name.casefold() for name in (NUCLEUS, *further_classes)}
    outlines = Outlines([], Counter())
    for number, feature in enumerate(_features(path), start=1):
        where = f"{path}: object {number}"
        if not isinstance(feature, dict) or feature.get("type") != "Feature":
            raise GlioError(f"{where} is no Feature; export the objects from QuPath as GeoJSON")
        properties = _object(feature, "properties", where)
        object_type = properties.get("objectType", "unknown")
        if object_type not in OUTLINED:
            outlines.ignored[f"objects of type {object_type}"] += 1
            continue
        name = _class_name(properties.get("classification"), where)
        if name and name.casefold() not in wanted:
            outlines.ignored[f"of class {name}"] += 1
            continue
        is_cell = object_type == "cell" or "nucleusGeometry" in feature
        shape = _object(feature, "nucleusGeometry" if is_cell else "geometry", where)
        if shape.get("type") not in ("Polygon", "MultiPolygon"):
            what = "cell" if is_cell else shape.get("type", "no geometry")
            outlines.ignored[f"without an outline ({what})"] += 1
            continue
        polygons = _polygons(shape, where)
        if polygons:
            outlines.nuclei.append(polygons)
        else:
            outlines.ignored["without an outline (empty)"] += 1
    if outlines.ignored and not outlines.nuclei:
        raise GlioError(
            f"{path}: no nucleus, only {counted(outlines.ignored)}; pass --class for other classes"
        )
    return outlines


def draw_labels(nuclei: list[list[Polygon]], shape: tuple[int, int]) -> Labels:
    """Return labels of `shape` (H, W), numbered 1, 2, … in the order of the nuclei.

    What lies outside is cut off. Where nuclei overlap, the later one is on top. A nucleus of
    which no pixel is left has no number.
    """
    labels: Labels = np.zeros(shape, dtype=np.int32)
    for number, polygons in enumerate(nuclei, start=1):
        for polygon in polygons:
            _draw(polygon, labels, number)
    return np.asarray(relabel_sequential(labels)[0], dtype=np.int32)


def lies_outside(nucleus: list[Polygon], shape: tuple[int, int]) -> bool:
    """Tell whether no part of a nucleus lies over an image of `shape` (H, W)."""
    return all(
        (polygon[0].max(axis=0) <= 0).any() or (polygon[0].min(axis=0) >= shape[::-1]).any()
        for polygon in nucleus
    )


def area_px(nucleus: list[Polygon]) -> float:
    """Return the area of a nucleus in px, holes left out, wherever it lies."""
    return sum(
        _ring_area(outer) - sum(_ring_area(hole) for hole in holes) for outer, *holes in nucleus
    )


def counted(things: Counter[str]) -> str:
    """Return a Counter as text: "2 of class Tumor, 1 without an outline (Point)"."""
    return ", ".join(
        f"{number} {plain(thing[:LONGEST_NAME])}" for thing, number in sorted(things.items())
    )


def _feature(nucleus: NDArray[np.bool_], left: int, top: int) -> dict[str, Any]:
    """Return the annotation of a nucleus, given as a mask whose corner is at (left, top)."""
    parts = label(nucleus, connectivity=1)
    polygons = [
        [np.add(ring, (left, top)).tolist() for ring in _outlines((parts == part).astype(np.uint8))]
        for part in range(1, parts.max() + 1)
    ]
    if len(polygons) == 1:
        geometry = {"type": "Polygon", "coordinates": polygons[0]}
    else:
        geometry = {"type": "MultiPolygon", "coordinates": polygons}
    classification = {"name": NUCLEUS, "color": GREEN}
    properties = {"objectType": "annotation", "classification": classification}
    return {"type": "Feature", "geometry": geometry, "properties": properties}


def _outlines(part: NDArray[np.uint8]) -> list[NDArray[np.int32]]:
    """Return the closed rings of pixel corners x, y of a 4-connected mask, the outer one first."""
    counts = np.empty(len(part), np.int64)
    kernels.count_runs(part, counts)
    runs = np.empty((int(counts.sum()), 3), np.int32)
    kernels.find_runs(part, runs)
    after, ends = np.empty(2 * len(runs), np.int64), np.empty(len(runs), np.int64)
    corners = np.empty((4 * len(runs), 2), np.int32)
    kernels.link_sides(runs, after)
    kernels.trace_outlines(runs, after, corners, ends)
    stops = ends[ends > 0].tolist()
    starts = [0, *stops[:-1]]
    return [
        np.concatenate([corners[start:stop], corners[start : start + 1]])
        for start, stop in zip(starts, stops, strict=True)
    ]


def _features(path: Path) -> list[Any]:
    """Return the features of a GeoJSON file in any of the three forms that QuPath writes."""
    try:
        value = json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise GlioError(
            f"{path}: cannot be read ({error.strerror}); check that you may read it"
        ) from error
    except (ValueError, RecursionError) as error:
        raise GlioError(f"{path}: not GeoJSON, or cut short ({error}); {AGAIN}") from error
    if isinstance(value, list):
        return value
    object_type = value.get("type") if isinstance(value, dict) else None
    if object_type == "Feature":
        return [value]
    if object_type == "FeatureCollection" and isinstance(value.get("features"), list):
        return list(value["features"])
    raise GlioError(f"{path}: no GeoJSON of objects; export them from QuPath as GeoJSON")


def _object(feature: dict[str, Any], name: str, where: str) -> dict[str, Any]:
    """Return a member of a feature that is an object; an empty one where it is absent or null."""
    value = feature.get(name)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise GlioError(f"{where}: its {name} is {brief(value)}, not an object; {AGAIN}")
    return value


def _class_name(classification: Any, where: str) -> str:
    """Return the first name of a QuPath class in any of its forms; empty for none."""
    name = classification
    if isinstance(classification, dict):
        names = classification.get("names") or [classification.get("name")]
        name = names[0] if isinstance(names, list) else names
    if not isinstance(name, str | None):
        raise GlioError(
            f"{where}: its classification is {brief(classification)}, not a name; {AGAIN}"
        )
    return (name or "").partition(":")[0].strip()


def _polygons(shape: dict[str, Any], where: str) -> list[Polygon]:
    """Return the polygons of a geometry."""
    coordinates = shape.get("coordinates")
    polygons = [coordinates] if shape["type"] == "Polygon" else coordinates
    if not isinstance(polygons, list) or not all(isinstance(rings, list) for rings in polygons):
        raise GlioError(
            f"{where}: its coordinates are {brief(coordinates)}, not rings of [x, y]; {AGAIN}"
        )
    return [[_ring(ring, where) for ring in rings] for rings in polygons if rings]


def _ring(corners: Any, where: str) -> Ring:
    """Return a ring; a third coordinate is dropped."""
    try:
        ring = np.asarray(corners)
    except (ValueError, RecursionError) as error:
        raise GlioError(
            f"{where}: a ring is {brief(corners)}, not a list of [x, y]; {AGAIN}"
        ) from error
    if ring.dtype.kind not in "iuf" or ring.ndim != 2 or ring.shape[1] < 2:
        raise GlioError(f"{where}: a ring is {brief(corners)}, not a list of [x, y]; {AGAIN}")
    ring = ring[:, :2].astype(np.float64)
    wrong = ~(np.abs(ring) <= FARTHEST_PX)
    if wrong.any():
        raise GlioError(f"{where}: a coordinate is {ring[wrong][0]:g}; it must be a pixel; {AGAIN}")
    return ring


def _ring_area(ring: Ring) -> float:
    """Return the area of a ring in px (shoelace formula)."""
    x, y = (ring - ring[0]).T
    return abs(float(x @ np.roll(y, -1) - y @ np.roll(x, -1))) / 2


def _draw(polygon: Polygon, labels: Labels, number: int) -> None:
    """Set the pixels of `labels` that lie in a polygon to `number`."""
    corner = np.clip(np.floor(polygon[0].min(axis=0)), 0, labels.shape[::-1]).astype(int)
    end = np.clip(np.ceil(polygon[0].max(axis=0)), 0, labels.shape[::-1]).astype(int)
    window = labels[corner[1] : end[1], corner[0] : end[0]]
    outer, *holes = (_inside(ring - corner, window.shape) for ring in polygon)
    for hole in holes:
        outer &= ~hole
    window[outer] = number


def _inside(ring: Ring, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Return the pixels, (H, W) bool, whose centres lie inside a ring.

    One that is open is closed, and of one that crosses itself the loops count.
    """
    height, width = shape
    return pixels_within(np.hstack([ring, np.roll(ring, -1, axis=0)]), (height, width))
