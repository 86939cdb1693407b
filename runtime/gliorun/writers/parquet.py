"""Parquet: the cells of the map and the nuclei as tables for programs, with their types."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from itertools import compress, islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow.parquet import ParquetWriter

from gliorun import __version__
from gliorun.writers import table
from gliorun.writers.result import Result

if TYPE_CHECKING:
    from gliorun.reading.regions import Region

BATCH_ROWS = 2**16
"""Rows in memory at a time; each batch is a row group of the file."""
TYPES = {int: pa.int64(), float: pa.float64(), str: pa.string()}
METADATA_KEY = b"gliorun"
PLACE = (
    table.Column("x", float),
    table.Column("y", float),
    table.Column("area_um2", float),
)
"""Columns that cells have in common with nuclei: centre in level-0 px, and area."""


def write_cells(path: Path, result: Result) -> None:
    """Write the columns of density.csv, and the centre and area of each cell."""
    cells, scale = table.cells(result), result.scale

    def placed() -> Iterator[table.Row]:
        for row in cells.rows:
            left, top, width, height = (float(value or 0) for value in row[:4])
            area_um2 = width * scale.x_mpp * height * scale.y_mpp
            yield (left + width / 2, top + height / 2, area_um2, *row)

    _write(path, table.Table((*PLACE, *cells.columns), placed()), result)


def write_nuclei(path: Path, result: Result) -> None:
    """Write every nucleus once, as its masks are read: nothing is collected.

    Raises
    ------
    ValueError
        The run kept no masks.
    """
    _write(path, table.nuclei(result), result)


def _write(path: Path, rows_of: table.Table, result: Result) -> None:
    """Write a table whose first columns are `x` and `y`; the last is `region` where there are any.

    That holds the names of the regions in which the place lies, joined by "; ", null for none.
    """
    regions = result.drawn_regions
    fields = [pa.field(column.name, TYPES[column.value_type]) for column in rows_of.columns]
    if regions:
        fields.append(pa.field("region", pa.string()))
    schema = pa.schema(fields, metadata={METADATA_KEY: json.dumps(_about(result)).encode()})
    with ParquetWriter(path, schema, compression="zstd") as writer:
        while rows := list(islice(rows_of.rows, BATCH_ROWS)):
            columns: list[Sequence[table.Value]] = list(zip(*rows, strict=True))
            if regions:
                columns.append(_names_at(regions, np.array(columns[:2], dtype=np.float64)))
            arrays = [
                pa.array(values, field.type) for values, field in zip(columns, schema, strict=True)
            ]
            writer.write_batch(pa.record_batch(arrays, schema=schema))


def _names_at(regions: Sequence[Region], places_l0: NDArray[np.float64]) -> list[str | None]:
    """Return the names of the regions at each of some places, (2, N): x, y."""
    held = np.array([region.holds(*places_l0) for region in regions]).T
    names = [region.name for region in regions]
    return ["; ".join(compress(names, here)) or None for here in held.tolist()]


def _about(result: Result) -> dict[str, object]:
    """Return what a table hangs on; pandas ignores it, and pyarrow shows it in the schema."""
    return {
        "gliorun": __version__,
        "slide": result.slide_name,
        "x_mpp": result.scale.x_mpp,
        "y_mpp": result.scale.y_mpp,
        "mpp_source": result.scale.source,
        "model_sha256": result.card.weights_sha256,
        "calibration": None if result.calibration is None else str(result.calibration),
        "warnings": result.warnings,
    }
