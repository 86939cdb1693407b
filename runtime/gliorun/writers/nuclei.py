"""nuclei.geojson: every nucleus with its outline, as detections that QuPath opens."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from gliorun.findings.nuclei import Nucleus, find_nuclei
from gliorun.writers.geojson import Feature, PathClass, Ring, write_features
from gliorun.writers.result import Result

NUCLEUS = PathClass("Nucleus", "#c80000")


def write_nuclei(path: Path, result: Result) -> None:
    """Write each nucleus once, from top to bottom, as its masks are read: nothing is collected.

    Outlines follow the edges of the mask's pixels exactly, in level-0 px to a hundredth, from the
    corner of what QuPath shows.

    Raises
    ------
    ValueError
        The run kept no masks.
    """
    if result.masks is None:
        raise ValueError(f"{path}: needs the masks of the run")
    nuclei = find_nuclei(result.masks, result.measured.scale)
    origin_l0 = result.shown_l0[:2]
    features = (_feature(nucleus, origin_l0) for nucleus in nuclei)
    write_features(path, features, origin_l0=origin_l0, warnings=result.measured.warnings)


def _feature(nucleus: Nucleus, origin_l0: tuple[int, int]) -> Feature:
    x, y = (place - start for place, start in zip(nucleus.centroid_l0, origin_l0, strict=True))
    return Feature(
        "detection",
        [_hundredths(ring - origin_l0) for ring in nucleus.outlines_l0()],
        NUCLEUS,
        {
            "Area µm^2": round(nucleus.area_um2, 3),
            "Centre x px": round(x, 2),
            "Centre y px": round(y, 2),
        },
    )


def _hundredths(ring: NDArray[np.float64]) -> Ring:
    """Return a ring rounded to hundredths; whole numbers as ints, which are shorter."""
    whole = ring.astype(np.int64)
    values = whole if (whole == ring).all() else ring.round(2)
    return cast(Ring, values.tolist())
