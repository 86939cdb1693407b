"""tissue.geojson: the tissue and the tiles without a value, as annotations to correct."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gliorun.findings.outline import areas_l0
from gliorun.measuring.tile import Status
from gliorun.writers.geojson import (
    NO_VALUE,
    Feature,
    PathClass,
    Ring,
    object_id,
    plain_ring,
    write_features,
)
from gliorun.writers.result import Result

TISSUE = PathClass("Tissue", "#2c7a4b")


def write_areas(path: Path, result: Result) -> None:
    """Write the tissue as one annotation, and one for each reason that tiles have no value.

    The tissue may be corrected in QuPath and given back as `--tissue-mask`; its outlines are
    simplified by up to half a pixel of the overview. Tiles without a value are locked: they are
    what the measurement says, and not read again.
    """
    origin_l0 = result.shown_l0[:2]
    write_features(
        path,
        _features(result),
        origin_l0=origin_l0,
        calibration=result.calibration,
        warnings=result.warnings,
    )


def _features(result: Result) -> Iterator[Feature]:
    tissue, density, name = result.tissue, result.density, result.slide_name
    px_l0 = (1 / tissue.px_per_l0[0], 1 / tissue.px_per_l0[1])
    parts = areas_l0(tissue.mask, px_l0, result.shown_l0, simplify=True)
    if parts:
        identity = object_id(name, "tissue")
        yield Feature(identity, "annotation", _plain(parts), TISSUE, name=TISSUE.name)
    for status in Status:
        if status <= Status.MEASURED:
            continue
        tiles, tile_l0 = density.status == status, density.grid.tile_l0
        parts = areas_l0(tiles, tile_l0, result.shown_l0, simplify=False)
        if parts:
            identity, why = object_id(name, "without a value", status.name), status.words
            yield Feature(identity, "annotation", _plain(parts), NO_VALUE, name=why, locked=True)


def _plain(areas: list[list[NDArray[np.float64]]]) -> list[list[Ring]]:
    return [[plain_ring(ring) for ring in rings] for rings in areas]
