"""Write the tables of all slides of a folder: summary.csv, and index.html with thumbnails."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import Environment

from gliorun.atomic import replacing
from gliorun.batch.ledger import Record
from gliorun.measuring.density import CLASS_NAMES
from gliorun.progress import plain
from gliorun.reading.files import is_there
from gliorun.writers import THUMBNAIL, palette

TABLE, INDEX = "summary.csv", "index.html"
COLUMNS = (
    "name", "state", "reason", "mean_density", "densest_field", "densest_square",
    "tiles_measured", "tiles_without_value", "mpp", "mpp_source", "warnings", "same_as",
    "tries", "changed_at", "seconds", "tiles_per_s", "bottleneck", "gliorun", "model_sha256",
    "outputs", "slide",
)  # fmt: skip


Row = dict[str, Any]
"""The values of one slide in the table, by column."""


def write(folder: Path, records: list[Record]) -> None:
    """Write both tables, each atomically."""
    rows = [(record, _row(record)) for record in records]
    with replacing(folder / INDEX) as partial:
        _write_index(partial, rows)
    with replacing(folder / TABLE) as partial:  # last, because a spreadsheet may hold it open
        _write_table(partial, [row for _, row in rows])


def _write_table(path: Path, rows: list[Row]) -> None:
    with path.open("w", newline="", encoding="utf-8") as stream:
        table = csv.DictWriter(stream, COLUMNS, lineterminator="\n")
        table.writeheader()
        table.writerows(rows)


def _state(record: Record) -> str:
    if record.state == "started":
        return "under way"
    if record.state == "failed" and not is_there(Path(record.slide)):
        return "failed, not there"
    return record.state


def _row(record: Record) -> Row:
    run = record.figures if record.state == "done" else {}
    row: Row = {
        "name": record.name,
        "state": _state(record),
        "reason": record.reason.removeprefix(f"{record.slide}: "),
        "mean_density": _fixed(_at(run, "density", "mean")),
        "densest_field": _fixed(_at(run, "hot_spots", 0, "density")),
        "densest_square": _at(run, "hot_spots", 0, "square"),
        "tiles_measured": _at(run, "tiles", "measured"),
        "tiles_without_value": _whole(_summed(_at(run, "tiles"), ("measured", "no_tissue"))),
        "mpp": _at(run, "scale", "x_mpp"),
        "mpp_source": _at(run, "scale", "source"),
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
        "slide": record.slide,
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
    classes: list[tuple[str, str, float]]
    row: Row
    warnings: tuple[str, ...]
    hint: str


def _write_index(path: Path, rows: list[tuple[Record, Row]]) -> None:
    page = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(PAGE)
    text = page.render(
        failed=[row for _, row in rows if row["state"] == "failed"],
        gone=[row for _, row in rows if row["state"] == "failed, not there"],
        under_way=[row for _, row in rows if row["state"] == "under way"],
        done=[_shown(record, row) for record, row in rows if record.state == "done"],
        classes=list(zip(palette.class_colours(palette.DEFAULT), CLASS_NAMES, strict=True)),
        table=TABLE,
    )
    path.write_text(text, encoding="utf-8", newline="\n")


def _shown(record: Record, row: Row) -> _Shown:
    name = _at(record.made_with, "look", "palette")
    colours = palette.class_colours(name if name in palette.NAMES else palette.DEFAULT)
    links = [
        (output[len(record.name) :].removeprefix("."), quote(output))
        for output in record.outputs
        if not output.endswith(THUMBNAIL)
    ]
    return _Shown(
        plain(record.name),
        plain(record.slide),
        quote(record.name + THUMBNAIL),
        links,
        [
            (
                colour,
                label,
                100 * (_number(_at(record.figures, "density", "class_shares", label)) or 0),
            )
            for colour, label in zip(colours, CLASS_NAMES, strict=True)
        ],
        row,
        tuple(plain(warning) for warning in record.warnings),
        plain(str(_at(record.figures, "hint") or "")),
    )


PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src 'self' file:;
  style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Nucleus density of {{ done | length }} slides</title>
<style>
* { box-sizing: border-box; margin: 0; padding: 0 }
body { font: 14px/1.45 system-ui, "Segoe UI", "DejaVu Sans", sans-serif; color: #101828;
  max-width: 1500px; margin: auto; padding: 20px 28px 40px }
h1 { font-size: 20px; font-weight: 600 }
h2 { font-size: 15px; font-weight: 600; margin: 26px 0 8px }
p, small, th { color: #475467; font-size: 12px; font-weight: 400 }
table { border-collapse: collapse; width: 100% }
th { text-align: left; padding: 4px 16px 4px 0; border-bottom: 1px solid #d0d5dd }
td { padding: 8px 16px 8px 0; vertical-align: top; border-bottom: 1px solid #eaecf0;
  font-variant-numeric: tabular-nums; overflow-wrap: anywhere }
td.number, th.number { text-align: right; white-space: nowrap }
td small { display: block }
img { display: block; max-width: 326px; border: 1px solid #eaecf0 }
a { color: #175cd3; margin-right: 8px; white-space: nowrap }
.failed td:first-child { border-left: 3px solid #d92d20; padding-left: 10px }
.warning { color: #93370d }
.hint { max-width: 220px; margin-left: auto; white-space: normal }
.bar { display: flex; width: 220px; height: 12px; margin-top: 4px; background: #f2f4f7 }
.key span { display: inline-block; margin-right: 16px }
.key i { display: inline-block; width: 12px; height: 12px; margin-right: 5px;
  vertical-align: -1px }
</style>
</head>
<body>
<h1>Nucleus density of {{ done | length }} slide{{ "" if done | length == 1 else "s" }}</h1>
<p>Research use only; not a medical device. The same as a table: <a href="{{ table }}">{{ table }}
</a></p>
{% if failed %}
<h2>{{ failed | length }} could not be measured</h2>
<table class="failed">
<tr><th>slide</th><th>why</th><th class="number">tries</th><th>last try (UTC)</th></tr>
{% for row in failed %}
<tr><td>{{ row.name }}<small>{{ row.slide }}</small></td><td>{{ row.reason }}</td>
<td class="number">{{ row.tries }}</td><td>{{ row.changed_at[:16] | replace("T", " ") }}</td></tr>
{% endfor %}
</table>
{% endif %}
{% for rows, heading in ((gone, "failed and are not there"), (under_way, "under way")) %}
{% if rows %}
<h2>{{ rows | length }} {{ heading }}</h2>
<table>
{% for row in rows %}
<tr><td>{{ row.name }}<small>{{ row.slide }}</small></td><td>{{ row.reason }}</td></tr>
{% endfor %}
</table>
{% endif %}
{% endfor %}
{% if done %}
<h2>Measured</h2>
<p class="key">Nucleus area / tile area, share of tissue:
{% for colour, label in classes %}
<span><i style="background: {{ colour }}"></i>{{ label }}</span>
{% endfor %}
</p>
<table>
<tr><th>slide and map</th><th>name</th><th class="number">mean density</th>
<th class="number">densest field</th><th class="number">tiles</th><th>measured (UTC)</th></tr>
{% for slide in done %}
<tr>
<td><img src="{{ slide.thumbnail }}" alt="" loading="lazy"></td>
<td>{{ slide.name }}<small>{{ slide.slide }}</small>
<div>{% for label, link in slide.links %}<a href="{{ link }}">{{ label }}</a>{% endfor %}</div>
{% if slide.row.same_as %}<small>same content as {{ slide.row.same_as }}</small>{% endif %}
{% for warning in slide.warnings %}<small class="warning">{{ warning }}</small>{% endfor %}
</td>
<td class="number">{% if slide.row.mean_density %}
{{ "%.1f" % (100 * slide.row.mean_density | float) }} %{% else %}no value{% endif %}
<div class="bar">{% for colour, label, share in slide.classes %}{% if share %}
<div style="width: {{ "%.2f" % share }}%; background: {{ colour }}"
 title="{{ label }}: {{ "%.1f" % share }} % of tissue"></div>{% endif %}{% endfor %}</div></td>
<td class="number">{% if slide.row.densest_field %}
{{ "%.1f" % (100 * slide.row.densest_field | float) }} %
<small>{{ slide.row.densest_square }}</small>{% else %}–{% endif %}
{% if slide.hint %}<small class="hint">{{ slide.hint }}</small>{% endif %}</td>
<td class="number">{{ slide.row.tiles_measured }}
{% if slide.row.tiles_without_value %}<small>{{ slide.row.tiles_without_value }} without value
</small>{% endif %}</td>
<td>{{ slide.row.changed_at[:16] | replace("T", " ") }}
<small>{{ slide.row.seconds }} s, {{ slide.row.tiles_per_s }} tiles/s</small></td>
</tr>
{% endfor %}
</table>
{% endif %}
</body>
</html>
"""
