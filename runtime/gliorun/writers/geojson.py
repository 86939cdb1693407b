"""tiles.geojson: the map and the hot spots as objects that QuPath opens by drag and drop."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

import numpy as np

from gliorun.findings.hotspots import HotSpot
from gliorun.measuring.density import CLASS_NAMES, DensityMap, Status, classify
from gliorun.writers import palette
from gliorun.writers.result import Result

Ring = list[list[float]]
"""Corners x, y in level-0 px; the last is the first."""


@dataclass(frozen=True, slots=True)
class PathClass:
    """A class of objects in QuPath: its name, and its colour as "#27479c"."""

    name: str
    colour: str


NO_VALUE = PathClass("No value", palette.NO_VALUE)
HOT_SPOT = PathClass("Hot spot", "#000000")


@dataclass(frozen=True, slots=True)
class Feature:
    """One object of QuPath.

    Parameters
    ----------
    object_type : str
        "tile", "annotation" or "detection".
    rings : list of rings
        The outer ring, then holes.
    path_class : PathClass
    measurements : dict of str to float
    name : str
        Empty for none.
    """

    object_type: str
    rings: list[Ring]
    path_class: PathClass
    measurements: dict[str, float] = field(default_factory=dict)
    name: str = ""

    def to_json(self) -> str:
        """Return the object as one line of GeoJSON (RFC 7946) with QuPath's properties.

        The text is ASCII, so that no reader mistakes its encoding.
        """
        colour = list(bytes.fromhex(self.path_class.colour[1:]))
        properties = {
            "objectType": self.object_type,
            **({"name": self.name} if self.name else {}),
            "classification": {"name": self.path_class.name, "color": colour},
            "measurements": self.measurements,
        }
        geometry = {"type": "Polygon", "coordinates": self.rings}
        feature = {"type": "Feature", "geometry": geometry, "properties": properties}
        return json.dumps(feature, allow_nan=False, separators=(",", ":"))


def write_features(path: Path, features: Iterable[Feature]) -> None:
    """Write a FeatureCollection, one feature a line, as they come."""
    with path.open("w", encoding="ascii", newline="\n") as stream:
        stream.write('{"type":"FeatureCollection","features":[')
        separator = "\n"
        for feature in features:
            stream.write(separator + feature.to_json())
            separator = ",\n"
        stream.write("\n]}\n")


def write_tiles(path: Path, result: Result, palette_name: str = palette.DEFAULT) -> None:
    """Write the hot spots as annotations and every cell of every tile with tissue as a tile.

    Coordinates are level-0 px, origin top left, clipped to the slide. A cell without a value has
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
    hot_spots = (_hot_spot(spot) for spot in result.hot_spots)
    write_features(path, chain(hot_spots, _cells(result.measured.density, path_classes)))


def rectangle(left: float, top: float, right: float, bottom: float) -> Ring:
    """Return the ring of a rectangle; x right, y down, its area is positive."""
    return [[left, top], [right, top], [right, bottom], [left, bottom], [left, top]]


def _hot_spot(spot: HotSpot) -> Feature:
    return Feature(
        "annotation",
        [rectangle(spot.minx, spot.miny, spot.minx + spot.width, spot.miny + spot.height)],
        HOT_SPOT,
        {
            "Nucleus density %": round(100 * spot.density, 4),
            "Tissue fraction": round(spot.tissue_share, 4),
        },
        f"Hot spot {spot.rank} ({spot.square})",
    )


def _cells(density: DensityMap, path_classes: list[PathClass]) -> Iterator[Feature]:
    values, shares, status = density.density, density.valid_share, density.cell_status
    classes = classify(values)
    for row, statuses in enumerate(status):
        for column in np.flatnonzero(statuses != Status.NO_TISSUE).tolist():
            left, top, right, bottom = density.cell_box(row, column)
            if right <= left or bottom <= top:
                continue  # a cell of an edge tile that lies wholly outside the slide
            ring = rectangle(left, top, right, bottom)
            measurements = {"Valid fraction": round(float(shares[row, column]), 4)}
            value = float(values[row, column])
            if np.isnan(value):
                why = _reason(Status(statuses[column]))
                yield Feature("tile", [ring], NO_VALUE, measurements, why)
            else:
                measurements = {"Nucleus density %": round(100 * value, 4), **measurements}
                yield Feature("tile", [ring], path_classes[classes[row, column]], measurements)


def _reason(status: Status) -> str:
    """Say why a cell of a tile has no value."""
    if status == Status.MEASURED:
        return "mostly outside the slide"
    return status.words
