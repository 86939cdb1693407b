"""Write the tables of all slides of a folder: summary.csv, and index.html with thumbnails."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from gliorun import templates
from gliorun.atomic import replacing
from gliorun.batch.again import Again
from gliorun.measuring.density import CLASS_NAMES
from gliorun.reading.files import is_there
from gliorun.sliderecord import Record
from gliorun.templates.tables import data_tables
from gliorun.words import plain
from gliorun.writers import THUMBNAIL, palette

TABLE, INDEX = "summary.csv", "index.html"
COLUMNS = (
    "name", "state", "reason", "mean_density", "densest_field", "densest_square", "nuclei_per_mm2",
    "tiles_measured", "tiles_without_value", "mpp", "mpp_source", "calibration", "warnings",
    "same_as", "tries", "changed_at", "seconds", "tiles_per_s", "bottleneck", "gliorun",
    "model_sha256", "outputs", "slide",
)  # fmt: skip
TROUBLE = ("failed", "failed, not there", "under way")
"""States of slides without a map, in the order of the index."""
MOST_IN_A_COMMAND = 20
"""Failed slides for which one command is shown; Windows limits a line to 8191 characters."""
OPENS = ("html", "png", "qc.png")
"""What a thumbnail leads to: the first of these outputs that there is."""

Row = dict[str, Any]
"""The values of one slide in the table, by column."""


def write(
    folder: Path,
    records: list[Record],
    again: Again | None = None,
    faults: Mapping[str, str] | None = None,
) -> None:
    """Write both tables, each atomically.

    Parameters
    ----------
    folder : Path
    records : list of Record
    again : Again, optional
        How a slide is tried again.
    faults : mapping of str to str, optional
        What a watch lacks now, such as a share, and since when (ISO 8601).
    """
    rows = [(record, _row(record)) for record in records]
    with replacing(folder / INDEX) as partial:
        text = _index(rows, again or Again(), faults or {})
        partial.write_text(text, encoding="utf-8", newline="\n")
    with replacing(folder / TABLE) as partial:  # last, because a spreadsheet may hold it open
        _write_table(partial, [row for _, row in rows])


def _write_table(path: Path, rows: list[Row]) -> None:
    # the byte-order mark has Excel read UTF-8
    with path.open("w", newline="", encoding="utf-8-sig") as stream:
        table = csv.DictWriter(stream, COLUMNS, lineterminator="\n")
        table.writeheader()
        table.writerows(rows)


def _state(record: Record) -> str:
    if record.state == "started":
        return "under way"
    if record.state == "failed" and record.path is not None and not is_there(record.path):
        return "failed, not there"
    return record.state


def _row(record: Record) -> Row:
    run = record.figures if record.state == "done" else {}
    row: Row = {
        "name": record.name,
        "state": _state(record),
        "reason": record.reason.removeprefix(f"{record.path or record.name}: "),
        "mean_density": _fixed(_at(run, "density", "mean")),
        "densest_field": _fixed(_at(run, "hot_spots", 0, "density")),
        "densest_square": _at(run, "hot_spots", 0, "square"),
        "nuclei_per_mm2": _number(_at(run, "nuclei", "nuclei_per_mm2")),
        "tiles_measured": _at(run, "tiles", "measured"),
        "tiles_without_value": _whole(_summed(_at(run, "tiles"), ("measured", "no_tissue"))),
        "mpp": _at(run, "scale", "x_mpp"),
        "mpp_source": _at(run, "scale", "source"),
        "calibration": record.calibration,
        "warnings": "; ".join(record.warnings),
        "same_as": record.same_as,
        "tries": record.tries,
        "changed_at": record.changed_at,
        "seconds": _fixed_seconds(_at(run, "seconds")),
        "tiles_per_s": record.pace.get("tiles_per_s"),
        "bottleneck": record.pace.get("bottleneck"),
        "gliorun": record.made_with.get("gliorun"),
        "model_sha256": _at(run, "model", "weights_sha256"),
        "outputs": " ".join(record.outputs) if record.state == "done" else "",
        "slide": "" if record.path is None else record.slide,
    }
    return {k: plain(v) if isinstance(v, str) else v for k, v in row.items()}


def _at(values: Any, *keys: str | int) -> Any:
    """Return the nested value under some keys, or None: another version may have written it."""
    for key in keys:
        try:
            values = values[key]
        except (KeyError, IndexError, TypeError):
            return None
    return values


def _number(value: Any) -> float | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number else None


def _fixed(value: Any) -> str | None:
    number = _number(value)
    return None if number is None else f"{number:.6f}"


def _summed(values: Any, leave_out: tuple[str, ...] = ()) -> float | None:
    """Return the sum of the numbers in a dict without some keys; None if it is not a dict."""
    if not isinstance(values, dict):
        return None
    numbers = [_number(value) for name, value in values.items() if name not in leave_out]
    return sum(number for number in numbers if number is not None)


def _fixed_seconds(stages: Any) -> str | None:
    """Return the duration of all stages; the waiting times are part of them."""
    waits = tuple(name for name in stages if "waiting" in name) if isinstance(stages, dict) else ()
    seconds = _summed(stages, waits)
    return None if seconds is None else f"{seconds:.1f}"


def _whole(value: float | None) -> int | None:
    return None if value is None else round(value)


@dataclass(frozen=True, slots=True)
class _Shown:
    """A finished slide as the index page shows it."""

    name: str
    slide: str
    thumbnail: str
    links: list[tuple[str, str]]
    opens: str
    classes: list[tuple[str, str, float]]
    row: Row
    mean: float
    densest: float
    warnings: tuple[str, ...]
    hint: str


def index_of(records: list[Record], views: Mapping[str, str], shown: tuple[str, ...]) -> str:
    """Return the index as `--view` shows it.

    `views` is the page of each slide by its name, and `shown` are the suffixes of the outputs that
    can be opened there.
    """
    rows = [(record, _row(record)) for record in records]
    return _index(rows, Again(), {}, views, shown)


def _index(
    rows: list[tuple[Record, Row]],
    again: Again,
    faults: Mapping[str, str],
    views: Mapping[str, str] | None = None,
    shown: tuple[str, ...] = ("",),
) -> str:
    trouble = sorted(
        (row for _, row in rows if row["state"] in TROUBLE),
        key=lambda row: TROUBLE.index(row["state"]),
    )
    failed = [row["slide"] for row in trouble if row["state"] == "failed" and row["slide"]]
    return templates.render(
        "index.html",
        library=data_tables(),
        faults=[(plain(text), since) for text, since in faults.items()],
        trouble=[(row, again.command([row["slide"]]) if row["slide"] else "") for row in trouble],
        command=again.command(failed) if 1 < len(failed) <= MOST_IN_A_COMMAND else "",
        done=[
            _shown(record, row, (views or {}).get(record.name, ""), shown)
            for record, row in rows
            if record.state == "done"
        ],
        classes=list(zip(palette.class_colours(palette.DEFAULT), CLASS_NAMES, strict=True)),
        table=TABLE,
    )


def _shown(record: Record, row: Row, view: str, suffixes: tuple[str, ...]) -> _Shown:
    name = _at(record.made_with, "look", "palette")
    colours = palette.class_colours(name if name in palette.NAMES else palette.DEFAULT)
    links = [
        (output[len(record.name) :].removeprefix("."), quote(output))
        for output in record.outputs
        if not output.endswith(THUMBNAIL) and output.endswith(suffixes)
    ]
    opens = next((link for suffix in OPENS for label, link in links if label == suffix), "")
    if view:
        links, opens = [("view", view), *links], view
    return _Shown(
        plain(record.name),
        row["slide"],
        quote(record.name + THUMBNAIL),
        links,
        opens,
        [
            (
                colour,
                label,
                100 * (_number(_at(record.figures, "density", "class_shares", label)) or 0),
            )
            for colour, label in zip(colours, CLASS_NAMES, strict=True)
        ],
        row,
        100 * float(row["mean_density"] or -1),
        100 * float(row["densest_field"] or -1),
        tuple(plain(warning) for warning in record.warnings),
        plain(str(_at(record.figures, "hint") or "")),
    )
