"""What each cell of a map is, as the pages that show a map have it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gliorun.measuring.density import CLASS_NAMES, DensityMap, classify
from gliorun.measuring.tile import Status

MAX_CELLS = 1_000_000
"""A finer map is shown tile by tile, so that the file stays small."""


def coarse_enough(density: DensityMap) -> DensityMap:
    """Return the map, or if it has more than `MAX_CELLS` cells the map of its tiles."""
    n = density.cells_a_tile
    if n == 1 or density.valid_px.size <= MAX_CELLS:
        return density
    return density.merged(n)


def of_cells(
    status: NDArray[np.uint8], values: NDArray[np.float64], sparse: NDArray[np.bool_]
) -> tuple[NDArray[np.uint8], list[str]]:
    """Return what each cell is, (rows, columns) uint8, and the name of every kind.

    A kind is a class; or after the classes the status of a cell without a value; or after these the
    class of a cell with little tissue.
    """
    classes = classify(values)
    kinds = np.where(classes >= 0, classes, len(CLASS_NAMES) + status)
    kinds = np.where(sparse & (classes >= 0), len(CLASS_NAMES) + len(Status) + classes, kinds)
    of_classes = [f"class {name}" for name in CLASS_NAMES]
    names = [
        *of_classes,
        *(status.words for status in Status),
        *(f"{name}, little tissue" for name in of_classes),
    ]
    names[len(CLASS_NAMES) + Status.MEASURED] = "too little of it on the slide"
    return kinds.astype(np.uint8), names


def permille(values: NDArray[np.float64]) -> NDArray[np.uint16]:
    """Return the density of each cell in tenths of a per cent; 65535 = no value."""
    return np.where(np.isnan(values), 65535, np.rint(1000 * np.nan_to_num(values))).astype(
        np.uint16
    )


def lacks_value(status: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Tell which tiles or cells hold tissue and yet were not measured."""
    return ~np.isin(status, (Status.NO_TISSUE, Status.MEASURED))
