"""Regions drawn in Aperio ImageScope: the XML that it keeps beside a slide."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from xml.etree.ElementTree import Element

import numpy as np

from gliorun.errors import GlioError
from gliorun.reading.annotationxml import corners_of
from gliorun.reading.drawing import Drawing, Drawings, Ring

ROOT = "Annotations"
FREEHAND, RECTANGLE, ELLIPSE = "0", "1", "2"
"""Types of region that have an area; the others are arrows, rulers and points."""
ELLIPSE_CORNERS = 360
DESCRIPTION = "Description"
"""Name of the attribute that each layer has, whether it is filled in or not."""


def drawings_in(root: Element, path: Path) -> Drawings:
    """Return the regions of all layers; a layer's name, or else what describes it, is their class.

    What is drawn with the negative pen (`NegativeROA`) is taken out of its layer's regions. As
    in QuPath, what is drawn counts from the corner of the slide's bounds.

    Raises
    ------
    GlioError
        A region cannot be understood, or the file is one of HALO.
    """
    if root.find("Annotation/Regions/Region/Vertices/V") is not None:
        raise GlioError(
            f"{path}: was written by HALO, whose coordinates gliorun does not read; export the "
            "annotations as GeoJSON"
        )
    drawings: list[Drawing] = []
    passed_over: Counter[str] = Counter()
    for layer, annotation in enumerate(root.iter("Annotation"), start=1):
        added, taken_out = [], []
        for number, region in enumerate(annotation.iter("Region"), start=1):
            where = f"{path}: region {number} of layer {layer}"
            shape = _ring(region, where)
            if shape is None:
                passed_over[f"without an area (type {region.get('Type')})"] += 1
            elif region.get("NegativeROA", "0") == "1":
                taken_out.append(shape)
            else:
                added.append((region.get("Text", "").strip(), shape))
        class_name = _layer_name(annotation)
        drawings += [
            Drawing(name, class_name, ((shape,),), tuple(taken_out)) for name, shape in added
        ]
    return Drawings(tuple(drawings), True, dict(passed_over))


def _layer_name(annotation: Element) -> str:
    """Return the name of a layer; without one its first attribute, mostly its description."""
    name = annotation.get("Name", "").strip()
    attribute = annotation.find("Attributes/Attribute")
    if name or attribute is None:
        return name
    described, what = attribute.get("Value", "").strip(), attribute.get("Name", "").strip()
    return described or ("" if what == DESCRIPTION else what)


def _ring(region: Element, where: str) -> Ring | None:
    """Return the outline of a region; None where its type has no area.

    A rectangle or an ellipse may have two opposite corners of the box around it instead of all.
    """
    region_type = region.get("Type", FREEHAND)
    if region_type not in (FREEHAND, RECTANGLE, ELLIPSE):
        return None
    corners = corners_of(list(region.iter("Vertex")), where)
    if region_type == FREEHAND or len(corners) > 5:
        return corners
    low, high = corners.min(axis=0), corners.max(axis=0)
    if region_type == RECTANGLE and len(corners) > 2:
        return corners  # of a view that is turned it lies askew
    if region_type == RECTANGLE:
        return np.array([low, (high[0], low[1]), high, (low[0], high[1])])
    if not _is_box(corners):
        raise GlioError(f"{where}: an ellipse whose box lies askew; draw it again by hand")
    angle = np.arange(ELLIPSE_CORNERS) * 2 * np.pi / ELLIPSE_CORNERS
    circle = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    return np.asarray((low + high) / 2 + circle * (high - low) / 2)


def _is_box(corners: Ring) -> bool:
    """Tell whether all corners are those of an upright box."""
    ends = corners.min(axis=0), corners.max(axis=0)
    return bool(((corners == ends[0]) | (corners == ends[1])).all())
