"""Compare a density map with the true nuclei of its slide, cell by cell."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gliorun.errors import GlioError
from gliorun.measuring.density import classify
from gliorun.model.calibration import Calibration
from gliorun.reading import images

Box = tuple[int, int, int, int]
"""Left, top, right, bottom in level-0 px."""


@dataclass(frozen=True, slots=True)
class Truth:
    """Measured against true densities of the same cells; errors in points."""

    cells: int
    mean_error_points: float
    bias_points: float
    worst_points: float
    correlation: float
    class_agreement: float


def read_cells(path: Path, within: Box | None = None) -> list[tuple[Box, float]]:
    """Read the cells with a value of a density.csv, those wholly inside `within` if given.

    Their density is of the whole cell, glass included, as that of the truth is.
    """
    try:
        with path.open(newline="", encoding="utf-8") as lines:
            cells = [
                (_box(row), float(row["density_of_tile"]))
                for row in csv.DictReader(lines)
                if row["density_of_tile"]
            ]
    except OSError as error:
        raise GlioError(f"{path}: cannot be read ({error.strerror}); check its name") from error
    except (KeyError, ValueError, TypeError) as error:
        raise GlioError(
            f"{path}: not a density.csv of gliorun ({type(error).__name__}: {error}); "
            "pass what it wrote"
        ) from error
    if within is None:
        return cells
    left, top, right, bottom = within
    return [
        (box, density)
        for box, density in cells
        if left <= box[0] and top <= box[1] and box[2] <= right and box[3] <= bottom
    ]


def calibration_of(path: Path) -> str:
    """Return the name and level of the calibration of a density.csv; empty for none.

    Raises
    ------
    GlioError
        The file cannot be read.
    """
    try:
        with path.open(newline="", encoding="utf-8") as lines:
            return next(csv.DictReader(lines), {}).get("calibration") or ""
    except (OSError, ValueError) as error:
        raise GlioError(f"{path}: cannot be read ({error}); check its name") from error


def check_calibration(path: Path, calibration: Calibration) -> None:
    """Refuse a density.csv that was measured with another calibration, or with none.

    Raises
    ------
    GlioError
        It was.
    """
    stated = calibration_of(path)
    if stated != str(calibration):
        how = f"calibrated to {stated}" if stated else "without a calibration"
        raise GlioError(
            f"{path}: was measured {how}, not to {calibration}; measure it with gliorun "
            "--calibration"
        )


def against_truth(cells: list[tuple[Box, float]], mask: NDArray[np.bool_]) -> Truth:
    """Compare cells with a level-0 nucleus mask, (H, W) bool.

    Raises
    ------
    GlioError
        There are fewer than two cells, or one lies outside the mask.
    """
    height, width = mask.shape
    if any(box[2] > width or box[3] > height for box, _ in cells):
        raise GlioError(
            f"a cell lies outside the mask of {width} x {height} px; pass the mask at level 0"
        )
    true = [mask[top:bottom, left:right].mean() for (left, top, right, bottom), _ in cells]
    return _compare(cells, np.array(true))


def against_cells(cells: list[tuple[Box, float]], truth: list[tuple[Box, float]]) -> Truth:
    """Compare cells with the true densities of the same cells, as 'gliobench giant' writes them.

    Raises
    ------
    GlioError
        There are fewer than two cells, or the truth has none of one's place and size.
    """
    density_of_box = dict(truth)
    missing = [box for box, _ in cells if box not in density_of_box]
    if missing:
        raise GlioError(f"the truth has no cell {missing[0]}; measure cells of one tile each")
    return _compare(cells, np.array([density_of_box[box] for box, _ in cells]))


def _compare(cells: list[tuple[Box, float]], true: NDArray[np.float64]) -> Truth:
    if len(cells) < 2:
        raise GlioError("there are fewer than two cells to compare; pass a wider --within")
    measured = np.array([density for _, density in cells])
    points = 100 * (measured - true)
    return Truth(
        cells=len(cells),
        mean_error_points=float(np.abs(points).mean()),
        bias_points=float(points.mean()),
        worst_points=float(np.abs(points).max()),
        correlation=float(np.corrcoef(measured, true)[0, 1]),
        class_agreement=float((classify(measured) == classify(true)).mean()),
    )


def read_mask(path: Path) -> NDArray[np.bool_]:
    """Read a mask image, any value above 0 a nucleus, as (H, W) bool."""
    try:
        return images.read_mask(path)
    except images.NO_IMAGE as error:
        raise GlioError(
            f"{path}: cannot be read as a mask ({error}); pass a PNG or TIFF"
        ) from error


def _box(row: dict[str, str]) -> Box:
    left, top = int(row["minx"]), int(row["miny"])
    return left, top, left + int(row["width"]), top + int(row["height"])
