"""One job of the command line: open, measure, write, and say what came out."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from gliorun import demo, writers
from gliorun import pipeline as line
from gliorun.engine import open_model
from gliorun.reading.slide import Slide

DEFAULT_MODEL = Path(__file__).parent / "models" / "nucleus.xml"


@dataclass(frozen=True, slots=True)
class Plan:
    """What to write, with which model and settings."""

    outputs: list[Path]
    model: Path
    settings: line.Settings
    requests: int | None = None


def run(path: Path, plan: Plan, quiet: bool) -> str:
    """Measure a slide, write the outputs and return a summary line.

    Raises
    ------
    GlioError
        Something the user can act on; then no output has been touched.
    """
    writers.check_outputs(plan.outputs)
    console = Console(stderr=True, quiet=quiet)
    started = time.monotonic()
    with Slide(path) as slide:
        engine = open_model(plan.model, requests=plan.requests)
        with _progress(console) as progress:
            measured = line.measure(slide, engine.card, engine.predict, plan.settings, progress)
        for warning in measured.warnings:
            console.print(
                f"[yellow]warning:[/] {path.name}: {warning}", highlight=False, soft_wrap=True
            )
        result = writers.Result(path.name, measured, engine.card)
        for output in plan.outputs:
            writers.write(output, result)
    names = ", ".join(str(output) for output in plan.outputs)
    return (
        f"{names}: mean density {100 * measured.density.mean_density():.1f} % of "
        f"{measured.density.measured_tiles():,} tiles, {time.monotonic() - started:.1f} s"
    )


def run_demo(plan: Plan, quiet: bool) -> str:
    """Write the synthetic slide to a temporary folder and run on it."""
    writers.check_outputs(plan.outputs)
    with tempfile.TemporaryDirectory(prefix="gliorun-") as folder:
        path = Path(folder) / "demo.svs"
        demo.write_demo(path)
        return run(path, plan, quiet)


@contextmanager
def _progress(console: Console) -> Generator[line.Progress]:
    bar = Progress(
        TextColumn("tiles"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[pace]}"),
        TimeRemainingColumn(),
        console=console,
    )
    task = bar.add_task("tiles", total=None, pace="")
    started: float | None = None
    with ExitStack() as shown:

        def show(done: int, total: int) -> None:
            nonlocal started
            if started is None:  # the bar and its clock start with the first tile
                started = time.monotonic()
                shown.enter_context(bar)
            elapsed = time.monotonic() - started
            pace = f"{(done - 1) / elapsed:.1f} tiles/s" if elapsed > 0 else ""
            bar.update(task, completed=done, total=total, pace=pace)

        yield show
