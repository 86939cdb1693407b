"""nuclei.geojson: every nucleus with its outline, as detections that QuPath opens."""

from __future__ import annotations

from pathlib import Path

from gliorun.findings.nuclei import Nucleus
from gliorun.findings.outline import simple_outlines_l0
from gliorun.writers.geojson import Feature, PathClass, object_id, plain_ring, write_features
from gliorun.writers.result import Result

NUCLEUS = PathClass("Nucleus", "#c80000")


def write_nuclei(path: Path, result: Result) -> None:
    """Write each nucleus once, from top to bottom, as its masks are read: nothing is collected.

    Outlines are simplified (`findings.outline`), in level-0 px from the corner of what QuPath
    shows; the area is that of the mask.

    Raises
    ------
    ValueError
        The run kept no masks.
    """
    if result.masks is None:
        raise ValueError(f"{path}: needs the masks of the run")
    nuclei = result.nuclei()
    origin_l0 = result.shown_l0[:2]
    features = (_feature(nucleus, origin_l0, result.slide_name) for nucleus in nuclei)
    write_features(
        path,
        features,
        origin_l0=origin_l0,
        calibration=result.calibration,
        warnings=result.warnings,
    )


def _feature(nucleus: Nucleus, origin_l0: tuple[int, int], slide_name: str) -> Feature:
    x, y = (place - start for place, start in zip(nucleus.centroid_l0, origin_l0, strict=True))
    first_row, first_column, _ = nucleus.runs[0].tolist()
    return Feature(
        object_id(slide_name, "nucleus", first_row, first_column),
        "detection",
        [[plain_ring(ring - origin_l0) for ring in simple_outlines_l0(nucleus)]],
        NUCLEUS,
        {
            "Area µm^2": round(nucleus.area_um2, 3),
            "Centre x px": round(x, 2),
            "Centre y px": round(y, 2),
        },
    )
