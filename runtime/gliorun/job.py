"""Run one slide: open it, measure it, write the outputs and summarise the result."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from gliorun import demo, identity, pipeline, writers
from gliorun.atomic import remove_leftovers
from gliorun.errors import GlioError, UsageError
from gliorun.findings.hotspots import COUNT, FIELD_MM2, HotSpot, check_fields, find_hot_spots
from gliorun.findings.nuclei import (
    NucleusCounts,
    compare_counts,
    find_nuclei,
    nuclei_per_cell,
)
from gliorun.measuring.checkpoint import Checkpoint, checkpoint
from gliorun.measuring.density import check_cells
from gliorun.measuring.masks import MaskStore
from gliorun.measuring.survey import tile_grid
from gliorun.model import shipped
from gliorun.model.engine import Compute, Engine, compute_here, open_model
from gliorun.progress import EveryMinute, RunProgress, goes_on, plain, tiles, warnings_in_words
from gliorun.reading.slide import Slide
from gliorun.settings import Settings
from gliorun.writers.record import run_record

REFERENCE_MODEL = shipped.MODELS / "reference.xml"
DEFAULT_MODEL = shipped.MODEL


def model_path(named: Path | None) -> Path:
    """Return the IR that `--model` names: a file, or a model that ships with gliorun.

    Raises
    ------
    GlioError
        No shipped model has that name, and it is not a file name.
    """
    if named is None:
        return DEFAULT_MODEL
    names = shipped.models()
    if str(named) in names:
        return names[str(named)]
    if not named.suffix:
        raise GlioError(f"{named}: no such model; pass a file (.xml) or {' or '.join(names)}")
    return named


@dataclass(frozen=True, slots=True)
class Plan:
    """The outputs to write, and the model and settings for them.

    Hot spots are `hot_spots` square fields of `hot_spot_mm2` each. A checkpoint is saved every
    `checkpoint_s` seconds, or never if that is 0. It is deleted once the outputs are in place,
    unless `keeps_checkpoint` is set because the caller still has to move them.
    """

    outputs: list[Path]
    model: Path
    settings: Settings
    compute: Compute = field(default_factory=Compute)
    appearance: writers.Appearance = field(default_factory=writers.Appearance)
    hot_spots: int = COUNT
    hot_spot_mm2: float = FIELD_MM2
    checkpoint_s: float = 10.0
    keeps_checkpoint: bool = False

    def __post_init__(self) -> None:
        check_fields(self.hot_spots, self.hot_spot_mm2)
        if not self.checkpoint_s >= 0:
            raise UsageError(f"checkpoint is {self.checkpoint_s:g} s; it must be 0 (none) or more")


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of a slide: a summary, notes for the user, and the run record as plain values."""

    summary: str
    warnings: tuple[str, ...]
    hint: str | None
    run: dict[str, Any]


def settled(plan: Plan) -> Plan:
    """Return the plan with the precision that its model has on this machine.

    Raises
    ------
    GlioError
        The model cannot be read.
    """
    return replace(plan, compute=compute_here(plan.model, plan.compute))


def made_with(plan: Plan) -> identity.Values:
    """Return everything besides the slide that the outputs of a plan depend on.

    Raises
    ------
    GlioError
        The model cannot be read.
    """
    of_map = identity.of_map(plan.model, settled(plan).compute, plan.settings)
    return identity.of_outputs(of_map, plan.appearance, plan.hot_spots, plan.hot_spot_mm2)


def open_engine(plan: Plan) -> Engine:
    """Read and compile the model of a plan; the engine is reused from slide to slide.

    Raises
    ------
    UsageError
        The cells of the plan do not divide the tiles of the model.
    GlioError
        The model cannot be used.
    """
    engine = open_model(plan.model, plan.compute)
    check_cells(plan.settings.cell_px, engine.card.tile_px)  # fail before a slide is opened
    return engine


def run(path: Path, plan: Plan, quiet: bool, verbose: bool = False) -> str:
    """Measure a slide, write the outputs and return a summary line.

    `quiet` hides progress and hints, but never warnings, without which a map must not be read. The
    summary, the last line of a run, states the number of warnings.

    Raises
    ------
    GlioError
        Something the user can act on; every output is then as it was before.
    """
    console, always = Console(stderr=True, quiet=quiet), Console(stderr=True)

    def say(line: str) -> None:
        if verbose:
            console.print(line, highlight=False, soft_wrap=True, markup=False)

    waits = pipeline.Waits()
    with _shown_progress(console, path, waits) as progress:
        outcome = measure(path, plan, lambda: open_engine(plan), progress, waits, say)
    name = plain(path.name)
    for warning in outcome.warnings:
        line = Text.assemble(("warning:", "yellow"), f" {name}: {warning}")
        always.print(line, soft_wrap=True)
    if outcome.hint:
        console.print(Text(f"{name}: {outcome.hint}"), soft_wrap=True)
    summary = outcome.summary
    if outcome.warnings:
        summary += f", {warnings_in_words(len(outcome.warnings))}"
    return plain(f"{', '.join(str(output) for output in plan.outputs)}: {summary}")


class Stopwatch:
    """When a run began, and the seconds of one stage after another."""

    def __init__(self) -> None:
        self.started_at = datetime.now(timezone.utc)
        self.laps: dict[str, float] = {}
        self._started = self._last = time.monotonic()

    def lap(self, stage: str) -> None:
        """Note that a stage has ended."""
        now = time.monotonic()
        self.laps[stage] = now - self._last
        self._last = now

    def total_s(self) -> float:
        """Return the seconds since the run began."""
        return time.monotonic() - self._started


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """One run of one slide, which is open, with a model, which is compiled.

    `masks` keeps the nucleus masks and `journal` how far the run has come, if they are wanted;
    `watch` and `waits` are filled as it goes.
    """

    slide: Slide
    engine: Engine
    settings: Settings
    hot_spots: int
    hot_spot_mm2: float
    masks: MaskStore | None = None
    journal: Checkpoint | None = None
    watch: Stopwatch = field(default_factory=Stopwatch)
    waits: pipeline.Waits = field(default_factory=pipeline.Waits)

    def result(self, progress: pipeline.Progress, *, counts_nuclei: bool) -> writers.Result:
        """Measure the slide, find its hot spots and, if asked and kept, count its nuclei.

        Raises
        ------
        GlioError
            Something the user can act on.
        """
        measured = pipeline.measure(
            self.slide,
            self.engine.card,
            self.engine.predict,
            self.settings,
            progress,
            keep=None if self.masks is None else self.masks.add,
            journal=self.journal,
            waits=self.waits,
        )
        self.watch.lap("measure")
        if self.journal is not None:
            self.journal.save(measured.density)  # a disk that is full now costs no tile
        spots = find_hot_spots(
            measured.density, measured.scale, area_mm2=self.hot_spot_mm2, count=self.hot_spots
        )
        counts = None
        if self.masks is not None and counts_nuclei:
            counts = nuclei_per_cell(find_nuclei(self.masks, measured.scale), measured.density)
        name = plain(self.slide.path.name)  # else no text, in another encoding than the system's
        card, bounds_l0 = self.engine.card, self.slide.bounds_l0
        record = self._record(name, measured, spots, counts)
        return writers.Result(name, measured, card, spots, record, self.masks, counts, bounds_l0)

    def _record(
        self,
        name: str,
        measured: pipeline.SlideDensity,
        spots: tuple[HotSpot, ...],
        counts: NucleusCounts | None,
    ) -> dict[str, Any]:
        comparison = None
        if counts is not None:
            comparison = compare_counts(counts, measured.density, measured.scale)
        self.watch.lap("summarise")
        waited_s = {
            "waiting for reading": self.waits.reading_s,
            "waiting for network": self.waits.network_s,
        }
        return run_record(
            slide_name=name,
            properties=self.slide.properties,
            measured=measured,
            card=self.engine.card,
            compute=self.engine.choices(),
            settings=self.settings,
            hot_spots=spots,
            started_at=self.watch.started_at,
            resumed_tiles=0 if self.journal is None else self.journal.restored_tiles,
            seconds=self.watch.laps | waited_s,
            counts=comparison,
        )


def measure(
    path: Path,
    plan: Plan,
    engine_of: Callable[[], Engine],
    progress: pipeline.Progress,
    waits: pipeline.Waits | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> Outcome:
    """Measure a slide with the engine that `engine_of` gives and write the outputs.

    `waits` is updated during the run, and `say` receives one line per automatic choice.

    Raises
    ------
    GlioError
        Something the user can act on; every output is then as it was before.
    """
    check_sources_stay(plan.outputs, sources_of(path, plan.settings))
    writers.check_outputs(plan.outputs)
    suffixes = {writers.suffix_of(output) for output in plan.outputs}
    keeps_masks = bool(suffixes & set(writers.MASK_SUFFIXES))
    watch, waits = Stopwatch(), waits or pipeline.Waits()
    with ExitStack() as held:
        slide = held.enter_context(Slide(path, cache_mb=plan.settings.cache_mb))
        engine = engine_of()
        journal = held.enter_context(_checkpoint(plan, slide, engine, keeps_masks))
        if journal is not None:  # the checkpoint is locked, so leftovers are from a killed process
            remove_leftovers(*plan.outputs)
        masks = None
        if keeps_masks:
            masks = held.enter_context(_mask_store(slide, engine, plan, journal))
        _tell(say, plan, slide, engine, journal)
        watch.lap("open")
        slide_run = Run(
            slide, engine, plan.settings, plan.hot_spots, plan.hot_spot_mm2, masks, journal,
            watch=watch, waits=waits,
        )  # fmt: skip
        result = slide_run.result(progress, counts_nuclei=writers.NUCLEI in suffixes)
        say(f"waited {waits.reading_s:.1f} s for tiles and {waits.network_s:.1f} s for the network")
        writers.write(plan.outputs, result, plan.appearance)
        if journal is not None:
            journal.finished = not plan.keeps_checkpoint
    measured, spots = result.measured, result.hot_spots
    summary = (
        f"mean density {100 * measured.density.mean_density():.1f} % of "
        f"{tiles(measured.density.measured_tiles())}{_densest(spots)}, "
        f"{watch.total_s():.1f} s"
    )
    return Outcome(summary, measured.warnings, _hint(spots, plan), result.run)


def sources_of(path: Path, settings: Settings) -> list[Path]:
    """Return the files that a run reads."""
    return [path] if settings.tissue_mask is None else [path, settings.tissue_mask]


def check_sources_stay(outputs: list[Path], sources: list[Path]) -> None:
    """Refuse an output that would take the place of what is read.

    Raises
    ------
    UsageError
        One would.
    """
    for output in outputs:
        for source in sources:
            try:
                is_same = output.samefile(source)
            except OSError:  # missing or unreachable: reported when it is opened
                continue
            if is_same:
                raise UsageError(f"{output}: is read by this run; name another file to write")


def _checkpoint(
    plan: Plan, slide: Slide, engine: Engine, keeps_masks: bool
) -> AbstractContextManager[Checkpoint | None]:
    """Return the checkpoint of a run; its key covers all that its map and masks depend on."""
    if not plan.checkpoint_s:
        return nullcontext()
    key = identity.key_of(
        identity.of_slide(slide.path),
        identity.of_map(plan.model, engine.compute, plan.settings),
        keeps_masks,
    )
    return checkpoint(plan.outputs[0].parent, key, plan.checkpoint_s)


def _mask_store(slide: Slide, engine: Engine, plan: Plan, journal: Checkpoint | None) -> MaskStore:
    grid = tile_grid(slide, engine.card, plan.settings)
    if journal is None:
        return MaskStore(grid, engine.card.tile_px)
    return journal.mask_store(grid, engine.card.tile_px)


def _tell(
    say: Callable[[str], None],
    plan: Plan,
    slide: Slide,
    engine: Engine,
    journal: Checkpoint | None,
) -> None:
    """Report the automatic choices for this machine and slide."""
    card, settings = engine.card, plan.settings
    scale = slide.scale(settings.mpp)
    say(f"model: {card.name} {card.precision}, {card.tile_px} px at {card.mpp} µm/px")
    say("network: " + ", ".join(f"{what} {value}" for what, value in engine.choices().items()))
    say(
        f"reading: threads {settings.readers}, tiles ahead {settings.tiles_ahead(card.tile_px)}, "
        f"cache {settings.cache_mb:g} MB"
    )
    width, height = slide.size_l0
    say(f"slide: {width} x {height} px, {scale.x_mpp:g} µm/px from {scale.source}")
    none = "none can be kept" if plan.checkpoint_s else "none"
    say(f"checkpoint: {none if journal is None else f'every {plan.checkpoint_s:g} s'}")


def _hint(spots: tuple[HotSpot, ...], plan: Plan) -> str | None:
    if spots:
        return None
    return (
        f"no field of {plan.hot_spot_mm2:g} mm² is mostly measured and holds nuclei; "
        "try a smaller --hot-spot-mm2"
    )


def _densest(spots: tuple[HotSpot, ...]) -> str:
    return f", densest field {100 * spots[0].density:.1f} % in {spots[0].square}" if spots else ""


def run_demo(plan: Plan, quiet: bool, verbose: bool = False) -> str:
    """Write the synthetic slide to a temporary folder and measure it, with small hot spots."""
    plan = replace(plan, hot_spot_mm2=min(plan.hot_spot_mm2, demo.HOT_SPOT_MM2))
    writers.check_outputs(plan.outputs)
    with tempfile.TemporaryDirectory(prefix="gliorun-") as folder:
        path = Path(folder) / "demo.svs"
        demo.write_demo(path)
        return run(path, plan, quiet, verbose)


@contextmanager
def _shown_progress(
    console: Console, path: Path, waits: pipeline.Waits
) -> Generator[pipeline.Progress]:
    """Yield a function that shows the progress of a slide: a bar, or a line a minute in a log."""
    bar = Progress(
        TextColumn("tiles"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[pace]}"),
        TimeRemainingColumn(),
        console=console,
    )
    task = bar.add_task("tiles", total=None, pace="")
    progress = RunProgress({})
    progress.start(path)
    minutes = EveryMinute(progress)
    with ExitStack() as shown:

        def tell(line: str) -> None:
            console.print(
                plain(f"{path.name}: {line}"), highlight=False, soft_wrap=True, markup=False
            )

        def show(done: int, total: int) -> None:
            is_first = progress.step(done, total)
            if is_first and done:
                tell(goes_on(done, total))
            if not console.is_terminal:
                line = minutes.line(done, total, waits.bottleneck, is_first=is_first)
                if line is not None:
                    tell(line)
                return
            if is_first:
                shown.enter_context(bar)
            pace = f"{progress.slide_tiles_per_s:.1f} tiles/s, {waits.bottleneck}-bound"
            bar.update(task, completed=done, total=total, pace="writing" if done == total else pace)

        yield show
