"""The fields that somebody has marked for his laboratory's tiles: a GeoJSON of squares.

`glioexport annotate SLIDE --at FILE --out FOLDER` cuts them out, and QuPath shows them.
"""

from __future__ import annotations

import json
import threading
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gliorun.atomic import replacing
from gliorun.batch.again import quoted
from gliorun.errors import GlioError
from gliorun.findings.squares import Squares
from gliorun.measuring.survey import Survey
from gliorun.words import plain
from gliorun.writers.geojson import NOTE

SUFFIX = ".fields.geojson"
CLASS = {"name": "Field", "color": [46, 144, 250]}
MOST = 200
"""Most fields of a slide: `annotate` takes no more regions."""
LARGEST_BYTES = 10 << 20


@dataclass(slots=True)
class Fields:
    """The fields of one slide and their file, which is read and written whole.

    Parameters
    ----------
    path : Path
        File to write.
    surveyed : Survey
    """

    path: Path
    surveyed: Survey
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def words(self) -> str:
        """The file, as a page names it."""
        return plain(str(self.path))

    @property
    def command(self) -> str:
        """The command that takes the fields up, as one types it."""
        words = ("glioexport", "annotate", self.surveyed.slide.path, "--at", self.path)
        return plain(" ".join(quoted(str(word)) for word in (*words, "--out", "mine")))

    def packed(self, fault: str = "") -> str:
        """Return the message with which a page draws the fields: boxes in level-0 px."""
        boxes: list[list[float]] = []
        try:
            boxes = [self._box_l0(feature) for feature in self._features()]
        except GlioError as error:
            fault = fault or str(error)
        return json.dumps({"kind": "fields", "boxes": boxes, "fault": fault})

    def toggled(self, x_l0: float, y_l0: float) -> str:
        """Mark the field around a point, or take back the one that holds it; return the message."""
        with self._lock:
            try:
                features = self._features()
                others = [
                    feature for feature in features if not _holds(self._box_l0(feature), x_l0, y_l0)
                ]
                if len(others) == len(features):
                    others.append(self._feature(x_l0, y_l0))
                if len(others) > MOST:
                    raise GlioError(f"{MOST} fields are marked; annotate these first")
                with replacing(self.path) as partial:
                    collection = {
                        "type": "FeatureCollection",
                        "note": NOTE,
                        "origin_l0": self.surveyed.slide.bounds_l0[:2],
                        "features": others,
                    }
                    text = json.dumps(collection, indent=1) + "\n"
                    partial.write_text(text, encoding="ascii", newline="\n")
            except GlioError as error:
                return self.packed(str(error))
            return self.packed()

    def _features(self) -> list[dict[str, Any]]:
        """Return what is marked so far.

        Raises
        ------
        GlioError
            The file is another one, or was damaged; it is not written over.
        """
        way_out = "move it away"
        try:
            if self.path.stat().st_size > LARGEST_BYTES:
                raise GlioError(f"{self.path}: too large for marked fields; {way_out}")
            content = json.loads(self.path.read_bytes())
            features = list(content["features"])
            for feature in features:
                self._box_l0(feature)
        except FileNotFoundError:
            return []
        except OSError as error:
            raise GlioError(f"{self.path}: cannot be read ({error.strerror}); {way_out}") from error
        except (ValueError, KeyError, TypeError, IndexError, RecursionError) as error:
            raise GlioError(
                f"{self.path}: holds no marked fields ({error!r}); {way_out}"
            ) from error
        return features

    def _feature(self, x_l0: float, y_l0: float) -> dict[str, Any]:
        """Return the field of one tile around a point, moved onto the slide where it sticks out.

        Coordinates are those of QuPath, which counts from the corner of the bounds.
        """
        (width, height), size_l0 = self.surveyed.grid.tile_l0, self.surveyed.slide.size_l0
        origin = self.surveyed.slide.bounds_l0
        left, top = (
            round(min(max(at - side / 2, 0), max(of_slide - side, 0))) - corner
            for at, side, of_slide, corner in zip(
                (x_l0, y_l0), (width, height), size_l0, origin[:2], strict=True
            )
        )
        right, bottom = left + round(width), top + round(height)
        ring = [[left, top], [right, top], [right, bottom], [left, bottom], [left, top]]
        square = Squares(self.surveyed.grid).name_at(x_l0, y_l0)
        return {
            "type": "Feature",
            "id": str(uuid.uuid4()),
            "geometry": {"type": "Polygon", "coordinates": [ring]},
            "properties": {
                "objectType": "annotation",
                "name": f"Field in {square}, {left}, {top}",
                "classification": CLASS,
            },
        }

    def _box_l0(self, feature: dict[str, Any]) -> list[float]:
        """Return left, top, right and bottom of a field in level-0 px of the whole scan area."""
        left_l0, top_l0, _, _ = self.surveyed.slide.bounds_l0
        ring = feature["geometry"]["coordinates"][0]
        xs, ys = [float(x) + left_l0 for x, _ in ring], [float(y) + top_l0 for _, y in ring]
        return [min(xs), min(ys), max(xs), max(ys)]


def _holds(box: list[float], x_l0: float, y_l0: float) -> bool:
    left, top, right, bottom = box
    return left <= x_l0 < right and top <= y_l0 < bottom
