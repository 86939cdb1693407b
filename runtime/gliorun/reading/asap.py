"""Regions drawn in ASAP: its XML, in which a group is a class."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from xml.etree.ElementTree import Element

from gliorun.errors import GlioError
from gliorun.reading.annotationxml import corners_of
from gliorun.reading.drawing import Drawing, Drawings

ROOT = "ASAP_Annotations"
SPLINE, AREAS = "Spline", ("Polygon", "Rectangle", "Spline")
NO_GROUP = "None"


def drawings_in(root: Element, path: Path) -> Drawings:
    """Return the polygons, rectangles and splines; coordinates are of the whole scan area.

    A spline is taken as the polygon of its points, which a warning says.

    Raises
    ------
    GlioError
        An annotation cannot be understood.
    """
    drawings = []
    passed_over: Counter[str] = Counter()
    splines = 0
    for number, annotation in enumerate(root.iter("Annotation"), start=1):
        where = f"{path}: annotation {number}"
        annotation_type = annotation.get("Type", "")
        if annotation_type not in AREAS:
            passed_over[f"without an area ({annotation_type or 'no type'})"] += 1
            continue
        splines += annotation_type == SPLINE
        try:
            corners = sorted(
                annotation.iter("Coordinate"), key=lambda corner: int(corner.get("Order", "0"))
            )
        except ValueError as error:
            raise GlioError(
                f"{where}: the order of a corner is no whole number ({error})"
            ) from error
        group = annotation.get("PartOfGroup", NO_GROUP).strip()
        drawings.append(
            Drawing(
                annotation.get("Name", "").strip(),
                "" if group == NO_GROUP else group,
                ((corners_of(corners, where),),),
            )
        )
    warnings: tuple[str, ...] = ()
    if splines:
        warnings = (
            f"{splines} regions are splines; they are measured as polygons through their points",
        )
    return Drawings(tuple(drawings), False, dict(passed_over), warnings)
