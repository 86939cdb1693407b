"""One job of the command line: open, measure, write, and say what came out."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from gliorun import demo, writers
from gliorun import pipeline as line
from gliorun.engine import open_model
from gliorun.errors import GlioError
from gliorun.hotspots import HotSpot, check_fields, find_hot_spots
from gliorun.masks import MaskStore
from gliorun.nuclei import compare_counts, find_nuclei, nuclei_per_cell
from gliorun.reading.slide import Slide
from gliorun.writers.record import run_record

MODELS = Path(__file__).parent / "models"
REFERENCE_MODEL = MODELS / "reference.xml"
STUDENT_MODEL = MODELS / "student.xml"
DEFAULT_MODEL = STUDENT_MODEL


def model_path(named: Path | None) -> Path:
    """Return the IR for what `--model` says: a file, or the name of a model that ships.

    Raises
    ------
    GlioError
        It is neither.
    """
    if named is None:
        return DEFAULT_MODEL
    shipped = {path.stem: path for path in sorted(MODELS.glob("*.xml"))}
    if str(named) in shipped:
        return shipped[str(named)]
    if not named.suffix:
        raise GlioError(f"{named}: no such model; pass a file (.xml) or {' or '.join(shipped)}")
    return named


@dataclass(frozen=True, slots=True)
class Plan:
    """What to write, with which model and settings.

    Hot spots are `hot_spots` square fields of `hot_spot_mm2` each.
    """

    outputs: list[Path]
    model: Path
    settings: line.Settings
    requests: int | None = None
    look: writers.Look = field(default_factory=writers.Look)
    hot_spots: int = 5
    hot_spot_mm2: float = 1.0

    def __post_init__(self) -> None:
        check_fields(self.hot_spots, self.hot_spot_mm2)


def run(path: Path, plan: Plan, quiet: bool) -> str:
    """Measure a slide, write the outputs and return a summary line.

    Raises
    ------
    GlioError
        Something the user can act on; then no output has been touched.
    """
    writers.check_outputs(plan.outputs)
    suffixes = {writers.suffix_of(output) for output in plan.outputs}
    console = Console(stderr=True, quiet=quiet)
    started_at = datetime.now(timezone.utc)
    watch = _Stopwatch()
    with ExitStack() as held:
        slide = held.enter_context(Slide(path))
        engine = open_model(plan.model, requests=plan.requests)
        watch.lap("open")
        keep, masks = None, None
        if suffixes & set(writers.MASK_SUFFIXES):
            grid = line.tile_grid(slide, engine.card, plan.settings)
            masks = held.enter_context(MaskStore(grid, engine.card.tile_px))
            keep = masks.add
        with _progress(console) as progress:
            measured = line.measure(
                slide, engine.card, engine.predict, plan.settings, progress, keep
            )
        watch.lap("measure")
        for warning in measured.warnings:
            console.print(
                f"[yellow]warning:[/] {path.name}: {warning}", highlight=False, soft_wrap=True
            )
        spots = find_hot_spots(
            measured.density,
            measured.scale,
            area_mm2=plan.hot_spot_mm2,
            count=plan.hot_spots,
        )
        if not spots:
            console.print(
                f"{path.name}: no field of {plan.hot_spot_mm2:g} mm² is mostly measured and holds "
                "nuclei; try a smaller --hot-spot-mm2",
                highlight=False,
                soft_wrap=True,
            )
        counts, comparison = None, None
        if masks is not None and writers.NUCLEI in suffixes:
            counts = nuclei_per_cell(find_nuclei(masks, measured.scale), measured.density)
            comparison = compare_counts(counts, measured.density, measured.scale)
        watch.lap("summarise")
        record = run_record(
            slide_name=path.name,
            properties=slide.properties,
            measured=measured,
            card=engine.card,
            settings=plan.settings,
            hot_spots=spots,
            started_at=started_at,
            seconds=watch.laps,
            counts=comparison,
        )
        result = writers.Result(path.name, measured, engine.card, spots, record, masks, counts)
        for output in plan.outputs:
            writers.write(output, result, plan.look)
    names = ", ".join(str(output) for output in plan.outputs)
    return (
        f"{names}: mean density {100 * measured.density.mean_density():.1f} % of "
        f"{measured.density.measured_tiles():,} tiles{_densest(spots)}, {watch.total_s():.1f} s"
    )


def _densest(spots: tuple[HotSpot, ...]) -> str:
    return f", densest field {100 * spots[0].density:.1f} % in {spots[0].square}" if spots else ""


class _Stopwatch:
    """Seconds of one stage after another."""

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._started = self._last = time.monotonic()

    def lap(self, stage: str) -> None:
        now = time.monotonic()
        self.laps[stage] = now - self._last
        self._last = now

    def total_s(self) -> float:
        return time.monotonic() - self._started


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
