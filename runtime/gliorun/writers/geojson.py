"""tiles.geojson: the map and the hot spots as objects that QuPath opens by drag and drop.

QuPath crops a slide to the bounds that OpenSlide names and counts from their corner. So do all
coordinates in GeoJSON; those in every other output are of the whole scan area.
"""

from __future__ import annotations

import json
import math
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gliorun.findings.hotspots import HotSpot
from gliorun.findings.outline import DECIMALS
from gliorun.measuring.density import CLASS_NAMES, classify
from gliorun.measuring.tile import Status
from gliorun.measuring.tissue import NO_VALUE_CLASS
from gliorun.model.calibration import Calibration
from gliorun.reading.tiles import Box
from gliorun.writers import palette
from gliorun.writers.result import Result

if TYPE_CHECKING:
    from gliorun.findings.regions import RegionResult

Ring = list[list[float]]
"""Corners x, y in level-0 px from the corner of what QuPath shows; the last is the first."""
NOTE = (
    "Coordinates are level-0 px as QuPath shows the slide: less origin_l0, the corner of its "
    "openslide.bounds. Add origin_l0 for level-0 px of the whole scan area, as in density.csv."
)


@dataclass(frozen=True, slots=True)
class PathClass:
    """A class of objects in QuPath: its name, and its colour as "#27479c"."""

    name: str
    colour: str


PER_MM2 = "Nuclei per mm^2"
"""Name of the measurement of nuclei a mm² of tissue."""
NO_VALUE = PathClass(NO_VALUE_CLASS, palette.NO_VALUE)
REGION = PathClass("Region", palette.REGION)
HOT_SPOT = PathClass("Hot spot", "#000000")


@dataclass(frozen=True, slots=True)
class Feature:
    """One object of QuPath.

    Parameters
    ----------
    object_id : str
        A UUID, as `object_id` gives it, by which programs know the object again.
    object_type : str
        "tile", "annotation" or "detection".
    polygons : list of list of rings
        Of each polygon the outer ring, then its holes.
    path_class : PathClass
    measurements : dict of str to float
    name : str
        Empty for none.
    locked : bool
        Whether QuPath refuses to move it by the mouse.
    """

    object_id: str
    object_type: str
    polygons: list[list[Ring]]
    path_class: PathClass
    measurements: dict[str, float] = field(default_factory=dict)
    name: str = ""
    locked: bool = False

    def to_json(self) -> str:
        """Return the object as one line of GeoJSON (RFC 7946) with QuPath's properties.

        The text is ASCII, so that no reader mistakes its encoding.
        """
        colour = list(bytes.fromhex(self.path_class.colour[1:]))
        properties = {
            "objectType": self.object_type,
            **({"name": self.name} if self.name else {}),
            "classification": {"name": self.path_class.name, "color": colour},
            **({"isLocked": True} if self.locked else {}),
            "measurements": self.measurements,
        }
        geometry: dict[str, object] = {"type": "MultiPolygon", "coordinates": self.polygons}
        if len(self.polygons) == 1:
            geometry = {"type": "Polygon", "coordinates": self.polygons[0]}
        feature = {
            "type": "Feature",
            "id": self.object_id,
            "geometry": geometry,
            "properties": properties,
        }
        return json.dumps(feature, allow_nan=False, separators=(",", ":"))


def object_id(slide_name: str, *parts: object) -> str:
    """Return the UUID of an object: the same in every run that finds it in its place."""
    return str(uuid.uuid5(uuid.NAMESPACE_OID, " ".join(map(str, ("gliorun", slide_name, *parts)))))


def write_features(
    path: Path,
    features: Iterable[Feature],
    *,
    origin_l0: tuple[int, int],
    calibration: Calibration | None = None,
    warnings: tuple[str, ...] = (),
) -> None:
    """Write a FeatureCollection one feature per line, without collecting the features.

    Its head holds the origin of the coordinates, the calibration and the warnings, which QuPath
    ignores.
    """
    head = {
        "type": "FeatureCollection",
        "note": NOTE,
        "origin_l0": origin_l0,
        "calibration": None if calibration is None else str(calibration),
        "warnings": warnings,
    }
    with path.open("w", encoding="ascii", newline="\n") as stream:
        stream.write(json.dumps(head, separators=(",", ":"))[:-1] + ',"features":[')
        separator = "\n"
        for feature in features:
            stream.write(separator + feature.to_json())
            separator = ",\n"
        stream.write("\n]}\n")


def write_tiles(path: Path, result: Result, palette_name: str = palette.DEFAULT) -> None:
    """Write regions and hot spots as annotations, every cell of every tile with tissue as a tile.

    Annotations are locked, so that no slip of the mouse moves them. Cells are clipped to what
    QuPath shows, and have the number of their nuclei if they were counted. One without a value has
    the class "No value", no density, and a name that says why.

    Raises
    ------
    GlioError
        There is no palette of that name.
    """
    colours = palette.class_colours(palette_name)
    path_classes = [
        PathClass(f"Nucleus density {name}", colour)
        for name, colour in zip(CLASS_NAMES, colours, strict=True)
    ]
    shown_l0 = result.shown_l0
    origin_l0 = shown_l0[:2]
    regions = (_region(of, origin_l0, result.slide_name) for of in result.regions)
    hot_spots = (_hot_spot(spot, origin_l0, result) for spot in result.hot_spots)
    cells = _cells(result, path_classes)
    write_features(
        path,
        chain(regions, hot_spots, cells),
        origin_l0=origin_l0,
        calibration=result.calibration,
        warnings=result.warnings,
    )


def rectangle(left: float, top: float, right: float, bottom: float) -> Ring:
    """Return the ring of a rectangle; x right, y down, its area is positive."""
    return [[left, top], [right, top], [right, bottom], [left, bottom], [left, top]]


def plain_ring(ring: NDArray[np.float64]) -> Ring:
    """Return a ring as short numbers: to a tenth of a px, whole ones without a point."""
    return [
        [int(value) if value.is_integer() else value for value in corner]
        for corner in ring.round(DECIMALS).tolist()
    ]


def _region(of: RegionResult, origin_l0: tuple[int, int], slide_name: str) -> Feature:
    polygons: list[list[Ring]] = [
        [(ring - origin_l0).tolist() for ring in rings] for rings in of.region.rings_l0()
    ]
    numbers = {
        "Nucleus density %": 100 * of.density,
        "Tissue mm^2": of.tissue_mm2,
        PER_MM2: math.nan if of.nuclei_per_mm2 is None else of.nuclei_per_mm2,
    }
    return Feature(
        object_id(slide_name, "region", of.region.name),
        "annotation",
        polygons,
        PathClass(of.region.class_name, palette.REGION) if of.region.class_name else REGION,
        {name: round(value, 4) for name, value in numbers.items() if not math.isnan(value)},
        of.region.name,
        locked=True,
    )


def _hot_spot(spot: HotSpot, origin_l0: tuple[int, int], result: Result) -> Feature:
    left, top = spot.minx - origin_l0[0], spot.miny - origin_l0[1]
    per_mm2 = result.field_nuclei_per_mm2(spot)
    return Feature(
        object_id(result.slide_name, "hot spot", spot.minx, spot.miny, spot.width, spot.height),
        "annotation",
        [[rectangle(left, top, left + spot.width, top + spot.height)]],
        HOT_SPOT,
        {
            "Nucleus density %": round(100 * spot.density, 4),
            "Tissue fraction": round(spot.tissue_share, 4),
            **({} if per_mm2 is None else {PER_MM2: round(per_mm2, 4)}),
        },
        f"Hot spot {spot.rank} ({spot.square})",
        locked=True,
    )


def _cells(result: Result, path_classes: list[PathClass]) -> Iterator[Feature]:
    density, counts, shown_l0 = result.density, result.counts, result.shown_l0
    values, shares, status = density.density, density.valid_share, density.cell_status
    classes, of_tile = classify(values), density.density_of_tile
    nuclei_per_mm2 = result.cell_nuclei_per_mm2()
    for row, statuses in enumerate(status):
        for column in np.flatnonzero(statuses != Status.NO_TISSUE).tolist():
            box_l0 = density.cell_box(row, column)
            left, top, right, bottom = _within(box_l0, shown_l0)
            if right <= left or bottom <= top:
                continue  # a cell of an edge tile that lies entirely outside the shown part
            identity = object_id(result.slide_name, "cell", *box_l0)
            ring = rectangle(left, top, right, bottom)
            measurements: dict[str, float] = {
                "Valid fraction": round(float(shares[row, column]), 4),
                "Tissue fraction": round(float(density.tissue_share[row, column]), 4),
            }
            cell_status = Status(statuses[column])
            if counts is not None and cell_status == Status.MEASURED:
                measurements["Nuclei"] = int(counts.per_cell[row, column])
            value = float(values[row, column])
            if np.isnan(value):
                why = _reason(cell_status)
                yield Feature(identity, "tile", [[ring]], NO_VALUE, measurements, why)
            else:
                measurements = {
                    "Nucleus density %": round(100 * value, 4),
                    "Density of tile %": round(100 * float(of_tile[row, column]), 4),
                    **measurements,
                }
                if counts is not None:
                    measurements[PER_MM2] = round(float(nuclei_per_mm2[row, column]), 4)
                path_class = path_classes[classes[row, column]]
                yield Feature(identity, "tile", [[ring]], path_class, measurements)


def _within(box: Box, shown_l0: Box) -> Box:
    """Return the visible part of a box, relative to the corner of the shown part of the slide."""
    left, top, right, bottom = shown_l0
    return (
        max(box[0], left) - left,
        max(box[1], top) - top,
        min(box[2], right) - left,
        min(box[3], bottom) - top,
    )


def _reason(status: Status) -> str:
    """Return why a cell of a tile has no value."""
    if status == Status.MEASURED:
        return "mostly outside the slide"
    return status.words
