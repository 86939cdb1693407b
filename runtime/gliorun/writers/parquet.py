"""Parquet: the cells of the map and the nuclei as tables for programs, with their types."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pyarrow as pa
from pyarrow.parquet import ParquetWriter

from gliorun import __version__
from gliorun.writers import table
from gliorun.writers.result import Result

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
    fields = [pa.field(column.name, TYPES[column.value_type]) for column in rows_of.columns]
    schema = pa.schema(fields, metadata={METADATA_KEY: json.dumps(_about(result)).encode()})
    with ParquetWriter(path, schema, compression="zstd") as writer:
        while rows := list(islice(rows_of.rows, BATCH_ROWS)):
            columns = zip(*rows, strict=True)
            arrays = [
                pa.array(values, field.type) for values, field in zip(columns, schema, strict=True)
            ]
            writer.write_batch(pa.record_batch(arrays, schema=schema))


def _about(result: Result) -> dict[str, object]:
    """Return what a table hangs on; pandas ignores it, and pyarrow shows it in the schema."""
    return {
        "gliorun": __version__,
        "slide": result.slide_name,
        "x_mpp": result.scale.x_mpp,
        "y_mpp": result.scale.y_mpp,
        "mpp_source": result.scale.source,
        "model_sha256": result.card.weights_sha256,
        "warnings": result.warnings,
    }
