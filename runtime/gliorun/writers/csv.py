"""density.csv: one line a cell, in level-0 pixels."""

from __future__ import annotations

import csv
from pathlib import Path

from gliorun.writers import table
from gliorun.writers.result import Result


def write_density(path: Path, result: Result) -> None:
    """Write every cell of every tile with tissue, row by row, as `table.cells` has them.

    A field without a value is empty.
    """
    cells = table.cells(result)
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(column.name for column in cells.columns)
        for row in cells.rows:
            writer.writerow(map(_text, row, cells.columns))


def _text(value: table.Value, column: table.Column) -> table.Value:
    if value is not None and column.value_type is float:
        return f"{value:.{column.decimals}f}"
    return value
