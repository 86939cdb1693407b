"""Compare the documents of several machines, and give the schema that they follow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gliobench import document, machine
from gliobench.compare import CompareFigures, Row
from gliobench.doctor import DoctorFigures
from gliobench.document import DISAGREES, Envelope
from gliobench.report import ratio, spread
from gliobench.speed import SpeedFigures
from gliobench.tune import TuneFigures
from gliorun.commandline import table
from gliorun.errors import GlioError, UsageError


@dataclass(frozen=True, slots=True)
class ScoredModel:
    """A model whose accuracy was measured; `sha256` is empty for the threshold."""

    name: str
    sha256: str
    precision: str


@dataclass(frozen=True, slots=True)
class SetIntervals:
    """95 % bootstrap intervals: low and high."""

    dice: tuple[float, ...]
    density_error_points: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class SetFigures:
    """A model on one set of labelled images; `mean` has Dice and its like by name."""

    images: int
    mean: dict[str, float]
    density_error_points: float
    density_bias_points: float
    class_agreement: float
    intervals: SetIntervals | None


@dataclass(frozen=True, slots=True)
class SetResult:
    """One model on one set."""

    model: str
    set: str
    split: str
    figures: SetFigures


@dataclass(frozen=True, slots=True)
class AccuracyFigures:
    """What a report takes of `gliobench accuracy`."""

    models: tuple[ScoredModel, ...]
    results: tuple[SetResult, ...]


KINDS: dict[str, type] = {
    "doctor": DoctorFigures,
    "compare": CompareFigures,
    "speed": SpeedFigures,
    "tune": TuneFigures,
    "accuracy": AccuracyFigures,
}


@dataclass(frozen=True, slots=True, eq=False)
class Measured:
    """A document that was read: a letter for its machine, its envelope and its figures."""

    letter: str
    envelope: Envelope
    figures: Any


def schema() -> dict[str, Any]:
    """Return the JSON Schema of all documents."""
    return document.schema(KINDS)


def read_all(paths: Sequence[Path]) -> list[Measured]:
    """Read documents; those of one machine have the same letter.

    Raises
    ------
    GlioError
        There is none, or one cannot be read.
    """
    if not paths:
        raise UsageError("report needs at least one JSON file of gliobench")
    letters: dict[str, str] = {}
    measured = []
    for path in paths:
        envelope, values = document.load(path)
        if envelope.kind not in KINDS:
            raise GlioError(f"{path}: is of kind {envelope.kind!r}; known: {', '.join(KINDS)}")
        figures: Any = document.read(KINDS[envelope.kind], values.get("figures"), str(path))
        letter = letters.setdefault(machine.describe(envelope.machine), _letter(len(letters)))
        measured.append(Measured(letter, envelope, figures))
    return measured


def _letter(number: int) -> str:
    """Return A, B, … Z, A1, B1, …"""
    again, place = divmod(number, 26)
    return chr(ord("A") + place) + (str(again) if again else "")


def report_markdown(measured: Sequence[Measured]) -> str:
    """Return all figures as Markdown: the machines, then each kind of measurement."""
    parts = ["## Machines", _machines(measured)]
    for measurement in measured:
        disturbed = machine.noise(measurement.envelope.machine)
        if disturbed:
            parts.append(f"{measurement.letter}, {measurement.envelope.kind}: {disturbed}")
    for figures_type, title, rows in (
        (DoctorFigures, "Fit", _doctor),
        (CompareFigures, "Networks", _compare),
        (SpeedFigures, "Whole jobs", _speed),
        (TuneFigures, "Faster options", _tune),
        (AccuracyFigures, "Accuracy", _accuracy),
    ):
        some = [
            measurement for measurement in measured if isinstance(measurement.figures, figures_type)
        ]
        if some:
            parts += [f"## {title}", rows(some)]
    return "\n\n".join(parts)


def _tune(measured: Sequence[Measured]) -> str:
    rows = []
    for measurement in measured:
        figures: TuneFigures = measurement.figures
        options = figures.options or "none: leave the defaults"
        gain = ratio(figures.confirmed.ratios) if figures.confirmed and figures.options else "–"
        rows.append((measurement.letter, figures.model, options, gain))
    return table(("", "model", "options of gliorun", "× the defaults"), rows)


def _machines(measured: Sequence[Measured]) -> str:
    first = {measurement.letter: measurement.envelope for measurement in reversed(measured)}
    return table(
        ("", "machine", "gliorun", "OpenVINO", "measured", "load"),
        (
            (
                letter,
                machine.describe(envelope.machine),
                envelope.versions.get("gliorun", "–"),
                envelope.versions.get("openvino", "–"),
                envelope.made[:10],
                "–" if envelope.machine.load is None else f"{envelope.machine.load:.1f}",
            )
            for letter, envelope in sorted(first.items())
        ),
    )


def _doctor(measured: Sequence[Measured]) -> str:
    return table(
        ("", "fit", "min for 100 mm²", "found"),
        (
            (
                measurement.letter,
                "yes" if measurement.figures.fit else "NO",
                "–"
                if measurement.figures.minutes_a_100mm2 is None
                else f"{measurement.figures.minutes_a_100mm2:.1f}",
                "; ".join(f"{c.name}: {c.found}" for c in measurement.figures.checks if c.advice)
                or "–",
            )
            for measurement in measured
        ),
    )


def _compare(measured: Sequence[Measured]) -> str:
    """Return the backends in rows; machines, in columns, show CPU time, tiles/s and the ratio."""
    names = list(
        dict.fromkeys(row.name for measurement in measured for row in measurement.figures.rows)
    )
    rows = []
    for name in names:
        cells = []
        for measurement in measured:
            row = next((r for r in measurement.figures.rows if r.name == name), None)
            if row is None:
                cells.append("–")
            else:
                speed = f"{spread(row.cpu_s_a_tile, 3)} CPU s; {spread(row.tiles_s, 1)}"
                ranked = f", × {ratio(row.ratios)}" if row.agrees else f" {DISAGREES}, not ranked"
                cells.append(f"{speed}{ranked}")
        rows.append((name, *cells))
    head = [
        f"{measurement.letter}: CPU s a tile; tiles/s, × {measurement.figures.rows[0].name} "
        f"({measurement.figures.tiles} tiles of {measurement.figures.source})"
        for measurement in measured
    ]
    return table(("backend", *head), rows)


def _speed(measured: Sequence[Measured]) -> str:
    return table(
        (
            "", "slide", "CPU s a tile", "tiles/s", "× network alone", "× Keras script",
            "s for 100 mm²", "limit",
        ),
        (
            (
                measurement.letter,
                f"{measurement.figures.slide}, {measurement.figures.model}, "
                f"{measurement.figures.precision}",
                spread(measurement.figures.ways[0].cpu_s_a_tile, 3),
                spread(measurement.figures.ways[0].tiles_s, 1),
                _ratio(measurement.figures, "network alone"),
                _ratio(measurement.figures, "Keras script"),
                f"{measurement.figures.seconds_a_100mm2:.0f}",
                measurement.figures.bottleneck,
            )
            for measurement in measured
        ),
    )  # fmt: skip


def _ratio(figures: SpeedFigures, name: str) -> str:
    way = next((way for way in figures.ways if way.name.startswith(name)), None)
    if way is None:
        return "–"
    return ratio(way.ratios) if way.agrees else f"{DISAGREES}, not ranked"


def _accuracy(measured: Sequence[Measured]) -> str:
    return table(
        ("", "tiles", "model", "images", "Dice", "density error, points", "same class"),
        (
            (
                measurement.letter,
                f"{result.set} {result.split}",
                result.model,
                result.figures.images,
                f"{result.figures.mean['dice']:.3f}",
                f"{result.figures.density_error_points:.2f} "
                f"({result.figures.density_bias_points:+.2f})",
                f"{result.figures.class_agreement:.0%}",
            )
            for measurement in measured
            for result in measurement.figures.results
        ),
    )


@dataclass(frozen=True, slots=True)
class TradeOff:
    """One model: how fast it was, and how wrong on labelled tiles, with its interval."""

    name: str
    tiles_s: tuple[float, ...]
    error_points: float
    interval: tuple[float, ...] | None
    agrees: bool


def trade_offs(measured: Sequence[Measured]) -> dict[str, list[TradeOff]]:
    """Return accuracy against speed, by set of tiles: models by their hash, in both documents.

    Of several ways to run one file the first one counts, so of Keras the plain `predict`.
    """
    speeds: dict[str, Row] = {}
    for measurement in measured:
        if isinstance(measurement.figures, CompareFigures):
            for row in measurement.figures.rows:
                speeds.setdefault(row.sha256, row)
    by_set: dict[str, list[TradeOff]] = {}
    for measurement in measured:
        if not isinstance(measurement.figures, AccuracyFigures):
            continue
        hashes = {model.name: model.sha256 for model in measurement.figures.models}
        for result in measurement.figures.results:
            fast = speeds.get(hashes.get(result.model, ""))
            if fast is None:
                continue
            intervals = result.figures.intervals
            by_set.setdefault(f"{result.set} {result.split}", []).append(
                TradeOff(
                    fast.name,
                    fast.tiles_s,
                    result.figures.density_error_points,
                    None if intervals is None else intervals.density_error_points,
                    fast.agrees,
                )
            )
    return by_set
