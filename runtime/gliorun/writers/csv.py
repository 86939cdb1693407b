"""density.csv: one line a cell, in level-0 pixels."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from gliorun.findings.hotspots import HotSpot
from gliorun.measuring.density import Status, classify
from gliorun.writers.result import Result

COLUMNS = (
    "minx",
    "miny",
    "width",
    "height",
    "density",
    "class",
    "valid_fraction",
    "tissue_fraction",
    "status",
    "hot_spot",
)


def write_density(path: Path, result: Result) -> None:
    """Write every cell of every tile with tissue, row by row.

    `density` is nucleus area / valid area from 0 to 1 and `class` 0 to 5; both are empty where
    there is no value. Coordinates are level-0 px as OpenSlide counts them: from the top left of the
    whole scan area, which QuPath may crop, and clipped to it. `valid_fraction` is the share of the
    cell that is valid, inside the slide and not transparent, `tissue_fraction` the share of that
    which is tissue on the overview (the rest is glass), `status` says why a cell has no value, and
    `hot_spot` is the rank of the hot spot that holds the cell's centre, if one does. If nuclei were
    counted, a column `nuclei` holds the number of nuclei whose centre lies in the cell, empty where
    the tile was not measured. If there are warnings, the last column `warnings` holds them in every
    line, as they are of all.
    """
    density, counts = result.measured.density, result.counts
    values, shares, status = density.density, density.valid_share, density.cell_status
    tissue = density.tissue_share
    classes = classify(values)
    doubt = ["; ".join(result.measured.warnings)] if result.measured.warnings else []
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        counted = ("nuclei",) if counts is not None else ()
        writer.writerow((*COLUMNS, *counted, *(("warnings",) if doubt else ())))
        for row, column in np.argwhere(status != Status.NO_TISSUE).tolist():
            left, top, right, bottom = density.cell_box(row, column)
            if right <= left or bottom <= top:
                continue  # a cell of an edge tile that lies entirely outside the slide
            has_value = not np.isnan(values[row, column])
            tile_status = Status(status[row, column])
            nuclei: tuple[int | str, ...] = ()
            if counts is not None:
                nuclei = (
                    int(counts.per_cell[row, column]) if tile_status == Status.MEASURED else "",
                )
            writer.writerow(
                (
                    left,
                    top,
                    right - left,
                    bottom - top,
                    f"{values[row, column]:.6f}" if has_value else "",
                    int(classes[row, column]) if has_value else "",
                    f"{shares[row, column]:.4f}",
                    f"{tissue[row, column]:.4f}",
                    tile_status.name.lower(),
                    _hot_spot_at((left + right) / 2, (top + bottom) / 2, result.hot_spots),
                    *nuclei,
                    *doubt,
                )
            )


def _hot_spot_at(x_l0: float, y_l0: float, hot_spots: tuple[HotSpot, ...]) -> int | str:
    for spot in hot_spots:
        across, down = x_l0 - spot.minx, y_l0 - spot.miny
        if 0 <= across < spot.width and 0 <= down < spot.height:
            return spot.rank
    return ""
