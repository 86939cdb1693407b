"""report.html: the map over the slide, hot spots, quality and run record, in one file.

The page carries all it needs, and its content security policy forbids every request.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gliorun import templates
from gliorun.measuring.density import CLASS_NAMES, SPARSE_SHARE, DensityMap
from gliorun.measuring.tile import Status
from gliorun.writers import evidence, kinds, palette, viewer
from gliorun.writers.account import account
from gliorun.writers.result import Result

if TYPE_CHECKING:
    from gliorun.findings.regions import RegionResult


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
    density, colours = result.density, palette.class_colours(palette_name)
    classes = list(zip(colours, CLASS_NAMES, density.class_shares(), strict=True))[::-1]
    width_um, height_um = _size_um(result)
    text = templates.render(
        "report.html",
        ink=viewer.INK,
        font=viewer.FONT,
        no_value=palette.NO_VALUE,
        name=result.slide_name,
        intended_use=result.card.intended_use,
        figures=_figures(result),
        classes=classes,
        some_lack_value=bool(kinds.lacks_value(density.status).any()),
        area="tissue" if density.per_tissue else "tile",
        doubtful=_doubtful(density),
        hot_spots=result.hot_spots,
        regions=[_region(of, colours) for of in result.regions],
        shape=height_um / width_um,
        differences=[(pair.first, pair.second, pair.in_points) for pair in result.differences],
        field_mm2=f"{result.hot_spots[0].area_mm2:g}" if result.hot_spots else "",
        evidence=[evidence.shown(exhibit) for exhibit in result.evidence],
        decides=evidence.DECIDES,
        band=evidence.BAND,
        counting=_counting(result),
        quality=_quality(result),
        warnings=result.warnings,
        account=account(result.run | {"palette": palette_name}, result.card),
        record=_record(result.run),
        scripts=viewer.scripts(result, colours),
    )
    path.write_text(text, encoding="utf-8", newline="\n")


def _figures(result: Result) -> list[tuple[str, str]]:
    """Return the figures at the head of the page, as (name, value)."""
    mean, (low, high) = result.density.mean_density(), result.density.mean_band()
    band = "" if low == high or math.isnan(mean) else f", {100 * low:.1f} to {100 * high:.1f}"
    x_mpp, y_mpp = result.scale.x_mpp, result.scale.y_mpp
    width_um, height_um = _size_um(result)
    mpp = f"{x_mpp:.4g}" if x_mpp == y_mpp else f"{x_mpp:.4g} × {y_mpp:.4g}"
    return [
        (f"mean density{band}", "no value" if math.isnan(mean) else f"{100 * mean:.1f} %"),
        ("tiles measured", f"{result.density.measured_tiles():,}"),
        ("slide", f"{width_um / 1000:.3g} × {height_um / 1000:.3g} mm"),
        (f"µm/px ({result.scale.source})", mpp),
    ]


def _size_um(result: Result) -> tuple[float, float]:
    """Return the width and height of the slide in µm."""
    width_l0, height_l0 = result.density.grid.size_l0
    return width_l0 * result.scale.x_mpp, height_l0 * result.scale.y_mpp


@dataclass(frozen=True, slots=True)
class _Region:
    """What a region's line of the table says; `shares` are colour, words and share of a class."""

    name: str
    class_name: str
    area: str
    tissue: str
    density: str
    band: str
    shares: tuple[tuple[str, str, float], ...]
    nuclei: str
    nuclei_per_mm2: str
    hot_spot: str


def _region(of: RegionResult, colours: Sequence[str]) -> _Region:
    """Return a region's line; what it has no value of is a dash."""

    def percent(value: float) -> str:
        return "–" if math.isnan(value) else f"{100 * value:.1f} %"

    low, high = of.density_low, of.density_high
    nuclei, per_mm2, spot = of.nuclei, of.nuclei_per_mm2, of.hot_spot
    return _Region(
        of.region.name,
        of.region.class_name or "–",
        f"{of.area_mm2:.3g}",
        f"{of.tissue_mm2:.3g}",
        percent(of.density),
        "" if math.isnan(low) or low == high else f"{100 * low:.1f}–{100 * high:.1f}",
        tuple(
            (colour, f"{name}: {percent(share)}", share)
            for colour, name, share in zip(colours, CLASS_NAMES, of.class_shares, strict=True)
            if share > 0
        )[::-1],
        "–" if nuclei is None else f"{nuclei:,}",
        "–" if per_mm2 is None else f"{per_mm2:,.0f}",
        "–" if spot is None else f"{percent(spot.density)} in {spot.square}",
    )


def _doubtful(density: DensityMap) -> list[str]:
    """Return in words which cells have a value that is not to be leant on."""
    with_value = int((~np.isnan(density.density)).sum())
    notes = []
    if straddling := int(density.straddling.sum()):
        notes.append(
            f"{straddling:,} of {with_value:,} cells would have another class were outlines drawn "
            "a little further in or out."
        )
    if density.per_tissue and (sparse := int(density.sparse.sum())):
        notes.append(
            f"{sparse:,} cells with less than {100 * SPARSE_SHARE:g} % tissue are drawn paler: few "
            "nuclei decide them."
        )
    return notes


def _counting(result: Result) -> list[tuple[str, str]]:
    """Return how counting nuclei differs from measuring their area, if they were counted."""
    comparison = result.comparison
    if comparison is None:
        return []

    def share(value: float | None) -> str:
        return "–" if value is None else f"{100 * value:.1f} %"

    correlation = comparison.rank_correlation
    return [
        ("nuclei, each once", f"{comparison.nuclei:,}"),
        ("nuclei/mm² of tissue", f"{comparison.nuclei_per_mm2:,.0f}"),
        *_densest(result),
        ("of them across the border of two cells", share(comparison.crossing_share)),
        (
            "nuclei too many or too few for the area of their cell",
            share(comparison.displaced_share),
        ),
        ("tissue whose class would differ by count", share(comparison.other_class_share)),
        (
            "same order of cells by count as by area (1 is the same)",
            "–" if correlation is None else f"{correlation:.3f}",
        ),
    ]


def _densest(result: Result) -> list[tuple[str, str]]:
    """Return nuclei/mm² of the densest field, if there is one."""
    values = [result.field_nuclei_per_mm2(spot) for spot in result.hot_spots[:1]]
    return [("nuclei/mm² in hot spot 1", f"{v:,.0f}") for v in values if v is not None]


def _quality(result: Result) -> list[tuple[str, str]]:
    """Return the share of tissue and the number of tiles of each status that occurs, as text."""
    status = result.density.status
    share = float(result.tissue.mask.mean())
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
