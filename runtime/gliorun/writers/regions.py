"""regions.csv: one line a region."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import Any

from gliorun.findings.regions import RegionResult
from gliorun.measuring.density import CLASS_NAMES
from gliorun.writers.result import Result

COLUMNS = (
    "region", "class", "area_mm2", "tissue_mm2", "density", "density_low", "density_high",
    *(f"share {name}" for name in CLASS_NAMES),
    "nuclei", "nuclei_per_mm2", "hot_spot_density", "hot_spot_square",
    "minx", "miny", "width", "height",
)  # fmt: skip


def write_regions(path: Path, result: Result) -> None:
    """Write every region in the order of its file; without a value a field is empty.

    The byte-order mark has spreadsheets read UTF-8.
    """
    with path.open("w", newline="", encoding="utf-8-sig") as stream:
        table = csv.writer(stream, lineterminator="\n")
        table.writerow((*COLUMNS, *result.of_all_lines))
        for region in result.regions:
            table.writerow((*row_of(region), *result.of_all_lines.values()))


def row_of(result: RegionResult) -> tuple[Any, ...]:
    """Return the values of `COLUMNS`."""
    region, spot = result.region, result.hot_spot
    left, top, right, bottom = region.outline.bounds
    per_mm2 = result.nuclei_per_mm2
    return (
        as_text(region.name),
        as_text(region.class_name),
        f"{result.area_mm2:.6f}",
        f"{result.tissue_mm2:.6f}",
        *map(share, (result.density, result.density_low, result.density_high)),
        *map(share, result.class_shares.tolist()),
        result.nuclei,
        None if per_mm2 is None else f"{per_mm2:.2f}",
        None if spot is None else share(spot.density),
        None if spot is None else spot.square,
        math.floor(left),
        math.floor(top),
        math.ceil(right) - math.floor(left),
        math.ceil(bottom) - math.floor(top),
    )


def share(value: float) -> str:
    """Return a share from 0 to 1 as text; empty for NaN."""
    return "" if math.isnan(value) else f"{value:.6f}"


def as_text(name: str) -> str:
    """Return a name that no spreadsheet takes for a formula."""
    return f"'{name}" if name.startswith(("=", "+", "-", "@")) else name
