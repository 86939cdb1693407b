"""report.html: the map over the slide, hot spots, quality and run record, in one file.

The page carries all it needs, and its content security policy forbids every request.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jinja2 import Environment

from gliorun.findings.nuclei import compare_counts
from gliorun.measuring.density import CLASS_NAMES, Status
from gliorun.writers import palette, viewer
from gliorun.writers.result import Result


def write_report(path: Path, result: Result, palette_name: str = palette.DEFAULT) -> None:
    """Write the report of one run.

    Parameters
    ----------
    path : Path
    result : Result
        All its text is escaped.
    palette_name : str
        One of `palette.NAMES`.
    """
    density, colours = result.measured.density, palette.class_colours(palette_name)
    classes = list(zip(colours, CLASS_NAMES, density.class_shares(), strict=True))[::-1]
    page = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(PAGE)
    text = page.render(
        ink=viewer.INK,
        quiet=viewer.QUIET,
        font=viewer.FONT,
        no_value=palette.NO_VALUE,
        name=result.slide_name,
        intended_use=result.card.intended_use,
        figures=_figures(result),
        classes=classes,
        some_lack_value=bool(viewer.lacks_value(density.status).any()),
        hot_spots=result.hot_spots,
        counting=_counting(result),
        quality=_quality(result),
        warnings=result.measured.warnings,
        record=_record(result.run),
        scripts=viewer.scripts(result, colours),
    )
    path.write_text(text, encoding="utf-8", newline="\n")


def _figures(result: Result) -> list[tuple[str, str]]:
    """Return the figures at the head of the page, as (name, value)."""
    measured = result.measured
    mean = measured.density.mean_density()
    x_mpp, y_mpp = measured.scale.x_mpp, measured.scale.y_mpp
    width_l0, height_l0 = measured.density.grid.size_l0
    mpp = f"{x_mpp:.4g}" if x_mpp == y_mpp else f"{x_mpp:.4g} × {y_mpp:.4g}"
    return [
        ("mean density", "no value" if math.isnan(mean) else f"{100 * mean:.1f} %"),
        ("tiles measured", f"{measured.density.measured_tiles():,}"),
        ("slide", f"{width_l0 * x_mpp / 1000:.3g} × {height_l0 * y_mpp / 1000:.3g} mm"),
        (f"µm/px ({measured.scale.source})", mpp),
    ]


def _counting(result: Result) -> list[tuple[str, str]]:
    """Return how counting nuclei differs from measuring their area, if they were counted."""
    if result.counts is None:
        return []
    comparison = compare_counts(result.counts, result.measured.density, result.measured.scale)

    def share(value: float | None) -> str:
        return "–" if value is None else f"{100 * value:.1f} %"

    correlation = comparison.rank_correlation
    return [
        ("nuclei", f"{comparison.nuclei:,}"),
        ("nuclei a mm² of tissue", f"{comparison.nuclei_per_mm2:,.0f}"),
        ("cut by the border of a cell", share(comparison.crossing_share)),
        ("in another cell than their share of the area", share(comparison.displaced_share)),
        ("tissue that would have another class", share(comparison.other_class_share)),
        ("rank correlation with the area", "–" if correlation is None else f"{correlation:.3f}"),
    ]


def _quality(result: Result) -> list[tuple[str, str]]:
    """Return the share of tissue and the number of tiles of each status that occurs, as text."""
    status = result.measured.density.status
    share = float(result.measured.tissue.mask.mean())
    tiles = {tile_status: int((status == tile_status).sum()) for tile_status in Status}
    return [
        ("tissue on the slide", f"{100 * share:.1f} %"),
        *(
            (f"tiles · {tile_status.words}", f"{number:,}")
            for tile_status, number in tiles.items()
            if number
        ),
    ]


def _record(run: dict[str, Any]) -> dict[str, list[tuple[str, str]]]:
    """Return a run record as groups of (name, value), one per nested entry; the rest is "run"."""
    groups: dict[str, list[tuple[str, str]]] = {"run": []}
    for key, value in run.items():
        if isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
            value = {str(number): _text(item) for number, item in enumerate(value, 1)}
        if isinstance(value, dict):
            groups.setdefault(_words(key), []).extend(_flat(value))
        else:
            groups["run"].append((_words(key), _text(value)))
    return {name: lines for name, lines in groups.items() if lines}


def _flat(values: dict[str, Any], path: str = "") -> Iterator[tuple[str, str]]:
    for key, value in values.items():
        name = f"{path}{_words(key)}"
        if isinstance(value, dict):
            yield from _flat(value, f"{name} · ")
        else:
            yield name, _text(value)


def _words(key: str) -> str:
    return key.replace("_", " ")


def _text(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(_text(item) for item in value) or "none"
    if isinstance(value, dict):
        return "; ".join(f"{name} {line}" for name, line in _flat(value))
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data: blob:;
  style-src 'unsafe-inline'; script-src 'unsafe-inline' 'unsafe-eval'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ name }} – nucleus density</title>
<style>
* { box-sizing: border-box; margin: 0; padding: 0 }
body { font: 14px/1.45 {{ font | safe }}; color: {{ ink }}; max-width: 1900px; margin: auto;
  padding: 20px 28px 28px }
header, main { display: grid; gap: 0 28px; grid-template-columns: minmax(0, 1fr) 384px }
header { align-items: end; padding-bottom: 14px; border-bottom: 1px solid #e4e7ec;
  grid-template-columns: minmax(0, 1fr) auto }
h1 { font-size: 20px; font-weight: 600; white-space: nowrap; overflow: hidden;
  text-overflow: ellipsis }
h2 { font-size: 14px; font-weight: 600; margin-bottom: 8px }
small, header p, header dt, .bar p, .head, caption, .lines td:first-child { color: {{ quiet }};
  font-size: 12px; font-weight: 400 }
small { margin-left: 4px }
header dl { display: flex; gap: 28px; text-align: right; white-space: nowrap }
header dl div { display: flex; flex-direction: column-reverse }
header dd { font-size: 18px; font-weight: 600; font-variant-numeric: tabular-nums }
main { padding: 16px 0 22px }
.bar { display: flex; gap: 28px; align-items: center; margin-bottom: 6px }
#opacity { flex: 0 0 240px }
#map { height: calc(100vh - 170px); min-height: 440px }
aside section + section { margin-top: 20px; padding-top: 16px; border-top: 1px solid #e4e7ec }
table { border-collapse: collapse; width: 100% }
td { padding: 2px 0; vertical-align: baseline; font-variant-numeric: tabular-nums }
.classes td:first-child { width: 24px }
.classes td:nth-child(2) { width: 84px; white-space: nowrap }
.classes td:nth-child(4) { width: 60px; text-align: right }
i, b { display: block; height: 14px; transform: translateY(2px) }
i { width: 14px; box-shadow: inset 0 0 0 1px #00000026 }
b { box-shadow: inset 0 0 0 1px #00000026 }
.hatched { background: repeating-linear-gradient(135deg, {{ no_value }} 0 3px,
  #475467 3px 4px) }
ol { list-style: none; margin: 0 -8px; max-height: 250px; overflow: auto }
li { position: relative; display: grid; align-items: center; padding: 4px 8px;
  grid-template-columns: 34px 62px 70px 62px 1fr; font-variant-numeric: tabular-nums }
li span:nth-last-child(-n+3) { text-align: right }
li div { position: absolute; inset: 0 }
em { font: 600 12px {{ font | safe }}; color: white; background: {{ ink }}; padding: 1px 6px }
.lines td:last-child { text-align: right; overflow-wrap: anywhere }
.lines td:first-child { padding-right: 16px }
.warning { background: #fffaeb; border-left: 3px solid #f79009; padding: 6px 10px;
  margin-bottom: 8px; overflow-wrap: anywhere }
.record { border-top: 1px solid #e4e7ec; padding-top: 16px }
.record div { columns: 3 380px; column-gap: 40px }
.record table { margin-bottom: 14px }
.record tr { break-inside: avoid; border-top: 1px solid #f2f4f7 }
caption { break-after: avoid; text-align: left; font-weight: 600; color: {{ ink }} }
caption::first-letter { text-transform: uppercase }
@media (max-width: 1180px) {
  main { grid-template-columns: minmax(0, 1fr) 320px; gap: 0 20px }
  header { grid-template-columns: minmax(0, 1fr) }
  header dl { text-align: left; padding-top: 10px; flex-wrap: wrap; row-gap: 6px }
  li { grid-template-columns: 28px 46px 58px 54px 1fr }
  .bar p { display: none }
}
@media (max-width: 820px) { main { grid-template-columns: minmax(0, 1fr) } }
</style>
</head>
<body>
<header>
  <div>
    <h1 title="{{ name }}">{{ name }}</h1>
    <p>Nucleus density report. {{ intended_use }}</p>
  </div>
  <dl>
  {% for name, value in figures %}
    <div><dt>{{ name }}</dt><dd>{{ value }}</dd></div>
  {% endfor %}
  </dl>
</header>
<main>
  <section class="view">
    <div class="bar">
      <div id="opacity"></div>
      <p>Wheel zooms, drag moves. Point at a tile for its density and its level-0 corner.</p>
    </div>
    <div id="map"></div>
  </section>
  <aside>
    <section>
      <h2>Density classes <small>nucleus area / tile area, share of tissue</small></h2>
      <table class="classes">
      {% for colour, name, share in classes %}
        <tr>
          <td><i style="background: {{ colour }}"></i></td>
          <td>{{ name }}</td>
          <td><b style="width: {{ "%.2f" % (100 * share) }}%; background: {{ colour }}"></b></td>
          <td>{{ "%.1f" % (100 * share) }} %</td>
        </tr>
      {% endfor %}
      {% if some_lack_value %}
        <tr><td><i class="hatched"></i></td><td colspan="3">tissue without a value</td></tr>
      {% endif %}
      </table>
    </section>
    <section>
      <h2>Hot spots <small>the densest fields; click to go there</small></h2>
      {% if hot_spots %}
      <ol>
        <li class="head">
          <span></span><span>square</span><span>density</span><span>tissue</span>
          <span>corner x, y (px)</span>
        </li>
      {% for spot in hot_spots %}
        <li>
          <div id="spot-{{ spot.rank }}"></div>
          <span><em>{{ spot.rank }}</em></span><span>{{ spot.square }}</span>
          <span>{{ "%.1f" % (100 * spot.density) }} %</span>
          <span>{{ "%.0f" % (100 * spot.tissue_share) }} %</span>
          <span>{{ "{:,}, {:,}".format(spot.minx, spot.miny) }}</span>
        </li>
      {% endfor %}
      </ol>
      {% else %}
      <p>None: no field holds enough measured tissue.</p>
      {% endif %}
    </section>
    {% if counting %}
    <section>
      <h2>Counting instead <small>nuclei counted, beside their area</small></h2>
      <table class="lines">
      {% for name, value in counting %}
        <tr><td>{{ name }}</td><td>{{ value }}</td></tr>
      {% endfor %}
      </table>
    </section>
    {% endif %}
    <section>
      <h2>Quality</h2>
      {% for warning in warnings %}
      <p class="warning">{{ warning }}</p>
      {% else %}
      <p>No warnings.</p>
      {% endfor %}
      <table class="lines">
      {% for name, value in quality %}
        <tr><td>{{ name }}</td><td>{{ value }}</td></tr>
      {% endfor %}
      </table>
    </section>
  </aside>
</main>
<section class="record">
  <h2>Run record</h2>
  <div>
  {% for group, lines in record.items() %}
    <table class="lines">
      <caption>{{ group }}</caption>
    {% for name, value in lines %}
      <tr><td>{{ name }}</td><td>{{ value }}</td></tr>
    {% endfor %}
    </table>
  {% endfor %}
  </div>
</section>
{% for script in scripts %}
<script>{{ script | safe }}</script>
{% endfor %}
</body>
</html>
"""
