"""Regions drawn in QuPath, as it exports them: GeoJSON, plain or packed with gzip."""

from __future__ import annotations

import gzip
import json
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from reprlib import repr as brief
from typing import Any

from gliorun.errors import GlioError
from gliorun.reading.drawing import Drawing, Drawings, Ring, bytes_of, ring_of

REGIONS = ("annotation", "tmacore", "unknown")
"""Types of QuPath objects that are regions; the others are cells, detections and tiles."""
TYPES_OF_0_2 = {
    "PathAnnotationObject": "annotation",
    "TMACoreObject": "tmacore",
    "PathCellObject": "cell",
    "PathDetectionObject": "detection",
    "PathTileObject": "tile",
    "PathRootObject": "root",
}
"""QuPath 0.2 wrote the type of an object as its identity."""
PACKED = b"\x1f\x8b"
AGAIN = "export the annotations from QuPath as GeoJSON again"


def read_geojson(path: Path) -> Drawings:
    """Read a FeatureCollection, an array of features or one feature (RFC 7946).

    Annotations and cores are regions; other objects, those without an area and cores that are
    missing are counted. QuPath shows a slide cropped to its bounds, and counts from their
    corner.

    Raises
    ------
    GlioError
        The file is no GeoJSON of objects, or is damaged.
    OSError
        It cannot be read.
    """
    passed_over: Counter[str] = Counter()
    drawings = []
    for number, feature in enumerate(_nested(_features(path, _value(path))), start=1):
        where = f"{path}: object {number}"
        if not isinstance(feature, dict) or feature.get("type") != "Feature":
            raise GlioError(f"{where} is no Feature; {AGAIN}")
        properties = _object(feature, "properties", where)
        object_type = _type(feature, properties)
        geometry = _object(feature, "geometry", where)
        polygons = _polygons(geometry, where)
        if object_type not in REGIONS:
            passed_over[f"of type {brief(object_type)}"] += 1
        elif properties.get("isMissing") is True:
            passed_over["that are missing cores"] += 1
        elif not polygons:
            passed_over[f"without an area ({geometry.get('type', 'no geometry')})"] += 1
        else:
            class_name = _class_name(properties.get("classification"), where)
            drawings.append(Drawing(_text(properties.get("name"), where), class_name, polygons))
    return Drawings(tuple(drawings), True, dict(passed_over))


def _value(path: Path) -> Any:
    """Return the JSON value of a file."""
    try:
        with path.open("rb") as stream:
            is_packed = stream.read(2) == PACKED
            stream.seek(0)
            unpacked = gzip.GzipFile(fileobj=stream) if is_packed else stream
            content = bytes_of(path, unpacked.read)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise GlioError(f"{path}: damaged or cut short ({error}); {AGAIN}") from error
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise GlioError(f"{path}: not GeoJSON, or cut short ({error}); {AGAIN}") from error


def _features(path: Path, value: Any) -> list[Any]:
    """Return the features of any of the three forms that QuPath writes."""
    if isinstance(value, list):
        return value
    object_type = value.get("type") if isinstance(value, dict) else None
    if object_type == "Feature":
        return [value]
    if object_type == "FeatureCollection" and isinstance(value.get("features"), list):
        return list(value["features"])
    raise GlioError(f"{path}: no GeoJSON of objects; {AGAIN}")


def _nested(features: Iterable[Any]) -> Iterator[Any]:
    """Yield features, after each those that lie below it in the hierarchy of QuPath's objects."""
    remaining = list(features)[::-1]
    while remaining:
        feature = remaining.pop()
        yield feature
        properties = feature.get("properties") if isinstance(feature, dict) else None
        children = properties.get("childObjects") if isinstance(properties, dict) else None
        if isinstance(children, list):
            remaining += children[::-1]


def _type(feature: dict[str, Any], properties: dict[str, Any]) -> Any:
    """Return the type of an object in lower case: of QuPath 0.4 and newer, 0.3 or 0.2."""
    object_type = properties.get("objectType", properties.get("object_type"))
    if object_type is None:
        return TYPES_OF_0_2.get(str(feature.get("id")), "unknown")
    return object_type.replace("_", "").lower() if isinstance(object_type, str) else object_type


def _object(feature: dict[str, Any], name: str, where: str) -> dict[str, Any]:
    """Return a member of a feature that is an object; an empty one where it is absent or null."""
    value = feature.get(name)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise GlioError(f"{where}: its {name} is {brief(value)}, not an object; {AGAIN}")
    return value


def _class_name(classification: Any, where: str) -> str:
    """Return the name of a QuPath class in any of its forms; empty for none."""
    name = classification
    if isinstance(classification, dict):
        name = classification.get("names") or classification.get("name")
    if isinstance(name, list):
        return ": ".join(_text(part, where) for part in name)
    return _text(name, where)


def _text(value: Any, where: str) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        raise GlioError(f"{where}: its name or class is {brief(value)}, not text; {AGAIN}")
    return value.strip()


def _polygons(geometry: dict[str, Any], where: str) -> tuple[tuple[Ring, ...], ...]:
    """Return the polygons of a geometry; none where it has no area."""
    coordinates = geometry.get("coordinates")
    if geometry.get("type") == "GeometryCollection":
        parts = geometry.get("geometries")
        if not isinstance(parts, list) or not all(
            isinstance(part, dict) and part.get("type") != "GeometryCollection" for part in parts
        ):
            raise GlioError(f"{where}: its geometry is {brief(parts)}, not a list; {AGAIN}")
        return tuple(polygon for part in parts for polygon in _polygons(part, where))
    if geometry.get("type") not in ("Polygon", "MultiPolygon"):
        return ()
    polygons = [coordinates] if geometry["type"] == "Polygon" else coordinates
    if not isinstance(polygons, list) or not all(isinstance(rings, list) for rings in polygons):
        raise GlioError(
            f"{where}: its coordinates are {brief(coordinates)}, not rings of [x, y]; {AGAIN}"
        )
    return tuple(tuple(ring_of(ring, where) for ring in rings) for rings in polygons if rings)
