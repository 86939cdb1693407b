"""The cells of a map and the nuclei of a slide as tables, for CSV and Parquet alike."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from gliorun.findings.hotspots import HotSpot
from gliorun.findings.nuclei import Nucleus
from gliorun.measuring.density import NO_CLASS, DensityMap, classify
from gliorun.measuring.tile import Status
from gliorun.writers.result import Result

Value = int | float | str | None
"""A field of a table; None is "no value"."""
Row = tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table.

    Parameters
    ----------
    name : str
    value_type : type
        int, float or str.
    decimals : int
        Digits after the point of a float where the table is text.
    """

    name: str
    value_type: type[int] | type[float] | type[str]
    decimals: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """Columns, and lines with one value for each of them, made as they are asked for."""

    columns: tuple[Column, ...]
    rows: Iterator[Row]


CELL: tuple[Column, ...] = (
    Column("minx", int),
    Column("miny", int),
    Column("width", int),
    Column("height", int),
    Column("density", float, 6),
    Column("density_low", float, 6),
    Column("density_high", float, 6),
    Column("class", int),
    Column("valid_fraction", float, 4),
    Column("tissue_fraction", float, 4),
    Column("status", str),
    Column("hot_spot", int),
    Column("density_of_tile", float, 6),
)
"""Columns of every table of cells; those of nuclei, `calibration` and `warnings` may follow."""
NUCLEUS: tuple[Column, ...] = (
    Column("x", float, 2),
    Column("y", float, 2),
    Column("area_um2", float, 3),
    Column("minx", float, 2),
    Column("miny", float, 2),
    Column("width", float, 2),
    Column("height", float, 2),
    Column("class", int),
)


def cells(result: Result) -> Table:
    """Return every cell of every tile with tissue, row by row.

    `density` is nucleus area / tissue area from 0 to 1 (with `--density tile` of the valid area),
    `density_low` and `density_high` are the same by the inner and by the outer outline of each
    nucleus, `density_of_tile` is nucleus area / valid area, and `class` is 0 to 5, of `density`;
    all are None where there is no value. Coordinates are level-0 px as OpenSlide counts them: from
    the top left of the whole scan area, which QuPath may crop, and clipped to it. `valid_fraction`
    is the share of the cell that is valid, inside the slide and not transparent,
    `tissue_fraction` the share of that which is tissue on the overview (the rest is glass),
    `status` says why a cell has no value, and `hot_spot` is the rank of the hot spot that holds the
    cell's centre, if one does. If nuclei were counted, a column `nuclei` holds the number of nuclei
    whose centre lies in the cell, None where the tile was not measured, and `nuclei_per_mm2` their
    number a mm² of its tissue, None where it has no value. The last columns are of all
    cells and the same in every line: `calibration` and `warnings`, where there are such.
    """
    columns = CELL
    if result.counts is not None:
        columns += (Column("nuclei", int), Column("nuclei_per_mm2", float, 1))
    columns += tuple(Column(name, str) for name in result.of_all_lines)
    return Table(columns, _cell_rows(result))


def _cell_rows(result: Result) -> Iterator[Row]:
    density, counts = result.density, result.counts
    values, shares, status = density.density, density.valid_share, density.cell_status
    band, of_tile = (values, density.density_low, density.density_high), density.density_of_tile
    tissue = density.tissue_share
    nuclei_per_mm2 = result.cell_nuclei_per_mm2()
    classes = classify(values)
    of_all = tuple(result.of_all_lines.values())
    for row, column in np.argwhere(status != Status.NO_TISSUE).tolist():
        left, top, right, bottom = density.cell_box(row, column)
        if right <= left or bottom <= top:
            continue  # a cell of an edge tile that lies entirely outside the slide
        has_value = not np.isnan(values[row, column])
        tile_status = Status(status[row, column])
        nuclei: Row = ()
        if counts is not None:
            is_counted = tile_status == Status.MEASURED
            number = int(counts.per_cell[row, column])
            per_mm2 = float(nuclei_per_mm2[row, column])
            nuclei = (
                number if is_counted else None,
                per_mm2 if is_counted and not math.isnan(per_mm2) else None,
            )
        yield (
            left,
            top,
            right - left,
            bottom - top,
            *(float(of_map[row, column]) if has_value else None for of_map in band),
            int(classes[row, column]) if has_value else None,
            float(shares[row, column]),
            float(tissue[row, column]),
            tile_status.name.lower(),
            _hot_spot_at((left + right) / 2, (top + bottom) / 2, result.hot_spots),
            float(of_tile[row, column]) if has_value else None,
            *nuclei,
            *of_all,
        )


def _hot_spot_at(x_l0: float, y_l0: float, hot_spots: tuple[HotSpot, ...]) -> int | None:
    for spot in hot_spots:
        across, down = x_l0 - spot.minx, y_l0 - spot.miny
        if 0 <= across < spot.width and 0 <= down < spot.height:
            return spot.rank
    return None


def nuclei(result: Result) -> Table:
    """Return every nucleus once, from top to bottom.

    `x` and `y` are its centre of gravity and `minx`, `miny`, `width` and `height` its bounding box,
    in level-0 px from the top left of the whole scan area; `class` is that of the cell of the map
    which holds the centre, None where that has no value.

    Raises
    ------
    ValueError
        The run kept no masks.
    """
    if result.masks is None:
        raise ValueError(f"{result.slide_name}: needs the masks of the run")
    return Table(NUCLEUS, _nucleus_rows(result.nuclei(), result.density))


def _nucleus_rows(nuclei: Iterator[Nucleus], density: DensityMap) -> Iterator[Row]:
    classes = classify(density.density)
    cell_width, cell_height = density.cell_l0
    last_row, last_column = classes.shape[0] - 1, classes.shape[1] - 1
    for nucleus in nuclei:
        x_l0, y_l0 = nucleus.centroid_l0
        row = min(int(y_l0 / cell_height), last_row)
        density_class = int(classes[row, min(int(x_l0 / cell_width), last_column)])
        yield (
            x_l0,
            y_l0,
            nucleus.area_um2,
            *nucleus.box_l0(),
            None if density_class == NO_CLASS else density_class,
        )
