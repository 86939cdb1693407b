"""Run all measurements in turn, into one folder."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gliobench import backends, document, giant, machine
from gliobench.compare import CompareFigures, compare
from gliobench.doctor import doctor_markdown, examine
from gliobench.plots import write_charts
from gliobench.report import compare_markdown, speed_markdown
from gliobench.sidebyside import read_all, report_markdown
from gliobench.speed import SpeedFigures, measure_speed
from gliobench.tune import TuneFigures, tune
from gliobench.ways import Target
from gliorun.atomic import cannot_write
from gliorun.errors import GlioError, UsageError
from gliorun.model.shipped import DEFAULT_MODEL

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Effort:
    """How long to measure: tiles and rounds of `compare`, and the budget of `speed`."""

    tiles: int
    rounds: int
    budget_s: float


QUICK, FULL = Effort(8, 3, 120), Effort(32, 5, 600)


def compare_models(
    model: Path | None,
    converted: Path | None,
    further: Sequence[Path],
    tiles: Path | None,
    count: int,
    rounds: int,
    say: Say,
) -> CompareFigures:
    """Compare every way to run a model, and further models; by default the shipped one.

    Raises
    ------
    GlioError
        A file is missing or cannot be used.
    """
    if converted is None and model is not None:
        raise UsageError(f"{model}: a model of your own needs --converted")
    if tiles is not None and not tiles.is_dir():
        raise GlioError(f"{tiles}: no such folder of tiles; check its name")
    with tempfile.TemporaryDirectory(prefix="gliobench-") as folder:
        if converted is None:
            converted = Path(folder) / "converted"
            backends.convert_reference(converted, tiles, say)
            further = [DEFAULT_MODEL, *further]
        chosen, card = backends.backends_of(model or backends.reference_model(), converted)
        chosen += [backends.further_backend(path, card.tile_px) for path in further]
        windows, source = backends.comparison_windows(tiles, card)
        windows = windows[:: max(1, len(windows) // count)][:count]
        return compare(chosen, windows, source, rounds, say)


def speed_of(
    slide: Path | None,
    model: Path | None,
    mpp: float | None,
    keras_file: Path | None,
    rounds: int,
    budget_s: float,
    say: Say,
) -> SpeedFigures:
    """Measure a job on a slide, or on a synthetic one of 0.1 gigapixel."""
    with _target(slide, model, mpp) as target:
        return measure_speed(
            target, keras_file=keras_file, rounds=rounds, budget_s=budget_s, say=say
        )


def tune_of(
    slide: Path | None,
    model: Path | None,
    mpp: float | None,
    rounds: int,
    budget_s: float,
    say: Say,
) -> TuneFigures:
    """Search faster settings on a slide, or on a synthetic one of 0.1 gigapixel."""
    with _target(slide, model, mpp) as target:
        return tune(target, rounds=rounds, budget_s=budget_s, say=say)


@contextmanager
def _target(slide: Path | None, model: Path | None, mpp: float | None) -> Generator[Target]:
    """Give a slide to measure, a synthetic one where none is named."""
    with tempfile.TemporaryDirectory(prefix="gliobench-") as folder:
        if slide is None:
            slide = Path(folder) / "synthetic.svs"
            giant.write_giant(slide, giant.GiantSpec(0.1))
        yield Target(slide, model or DEFAULT_MODEL, mpp)


@dataclass(frozen=True, slots=True)
class _Report:
    """What has been measured so far: a JSON file in `out` and a section of the report for each."""

    out: Path
    written: list[Path] = field(default_factory=list)
    sections: list[str] = field(default_factory=list)

    def keep(self, measurement: str, values: dict[str, Any], text: str) -> None:
        """Write the values, and remember the text."""
        self.written.append(self.out / f"{measurement}.json")
        document.write(self.written[-1], values)
        self.sections.append(f"## {measurement}\n\n{text}")

    def finish(self) -> str:
        """Draw the charts, write `report.md`, and return its text."""
        measured = read_all(self.written)
        charts = write_charts(self.out, measured)
        text = "\n\n".join(
            [
                f"# gliobench on {machine.describe()}",
                report_markdown(measured),
                *self.sections,
                *(f"![{chart.stem}]({chart.name})" for chart in charts),
            ]
        )
        document.write_text(self.out / "report.md", text)
        return text


def measure_all(out: Path, tiles: Path | None, slide: Path | None, effort: Effort, say: Say) -> str:
    """Run doctor, compare, speed and, on labelled tiles, accuracy; return the report.

    `out` gets a JSON file of each, the charts and `report.md`.

    Raises
    ------
    GlioError
        Keras is not installed, the folder cannot be written, or something cannot be measured.
    """
    if not backends.has_keras():  # said before the first minute is spent
        raise GlioError(
            "all compares with Keras, which is missing; pip install 'gliorun[bench]', or run "
            "'gliobench doctor' alone"
        )
    try:
        out.mkdir(exist_ok=True)
    except OSError as error:
        raise cannot_write(out, error) from error
    report = _Report(out)

    def keep(measurement: str, figures: Any, text: str) -> None:
        report.keep(measurement, document.as_values(document.seal(measurement), figures), text)

    say("== doctor")
    fit = examine(None, say)
    keep("doctor", fit, _indented(doctor_markdown(fit)))
    say("== compare")
    networks = compare_models(None, None, (), tiles, effort.tiles, effort.rounds, say)
    keep("compare", networks, compare_markdown(networks))
    say("== speed")
    job = speed_of(slide, None, None, None, effort.rounds, effort.budget_s, say)
    keep("speed", job, speed_markdown(job))
    if tiles is not None and (tiles / "index.csv").is_file():
        say("== accuracy")
        _keep_accuracy(report, tiles, say)
    return report.finish()


def _keep_accuracy(report: _Report, tiles: Path, say: Say) -> None:
    from gliobench import accuracy, scorecard

    results = accuracy.accuracy(
        tiles,
        backends.open_segmenters(backends.shipped_models()),
        sets=(),
        split="val",
        colour="card",
        stress=False,
        say=say,
    )
    report.keep("accuracy", scorecard.as_values(results, "card"), scorecard.markdown(results))


def _indented(text: str) -> str:
    """Return text as a code block of Markdown."""
    return "\n".join(f"    {line}" if line else "" for line in text.splitlines())
