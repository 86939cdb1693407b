"""Run one slide: open it, measure it, write the outputs and summarise the result."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, closing, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from gliorun import demo, identity, writers
from gliorun.atomic import remove_leftovers
from gliorun.errors import GlioError
from gliorun.findings.hotspots import HotSpot
from gliorun.hashname import hash_name, without_names
from gliorun.measuring.checkpoint import Checkpoint, checkpoint
from gliorun.measuring.survey import Scene, Survey, survey
from gliorun.model import golden
from gliorun.model.engine import EXACT, Engine, open_model
from gliorun.plan import Plan, check_regions, check_sources_stay, open_engine, sources_of
from gliorun.reading.slide import Slide
from gliorun.reporting.lines import Lines
from gliorun.reporting.progress import RunProgress
from gliorun.settings import Settings
from gliorun.sliderun import SlideRun, Stopwatch, in_regions, mask_store
from gliorun.words import plain, tiles, warnings_in_words


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of a slide: a summary, notes for the user, and the run record as plain values."""

    summary: str
    warnings: tuple[str, ...]
    hint: str | None
    run: dict[str, Any]


def run(path: Path, plan: Plan, quiet: bool, verbose: bool = False) -> str:
    """Measure a slide, write the outputs and return a summary line.

    `quiet` hides progress and hints, but never warnings, without which a map must not be read. The
    summary, the last line of a run, states the number of warnings.

    Raises
    ------
    GlioError
        Something the user can act on; every output is then as it was before.
    """
    lines = Lines(RunProgress({}), quiet=quiet, verbose=verbose and not quiet, dated=False)
    lines.started(path)
    with closing(lines):
        tell = partial(lines.tiles, path)
        outcome = measure(path, plan, lambda: open_engine(plan), tell, lines.say)
    console, always = Console(stderr=True, quiet=quiet), Console(stderr=True)
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


Tiles = Callable[[int, int, str], None]
"""Called with tiles done, total tiles, and the stage that the run waits for most: once before the
first tile is measured, then after each."""
Say = Callable[[str], None]
"""Called with one line for each automatic choice."""


def no_tiles(done: int, total: int, bottleneck: str) -> None:
    """Show no progress."""


def say_nothing(line: str) -> None:
    """Show no choice."""


def measure(
    path: Path,
    plan: Plan,
    engine_of: Callable[[], Engine],
    tiles_done: Tiles = no_tiles,
    say: Say = say_nothing,
) -> Outcome:
    """Measure a slide with the engine that `engine_of` gives and write the outputs.

    Raises
    ------
    GlioError
        Something the user can act on; every output is then as it was before.
    """
    check_outputs(path, plan)
    with ExitStack() as held:
        slide_run = open_run(path, plan, engine_of, held)
        watch, checkpoint = slide_run.watch, slide_run.checkpoint
        waits = watch.waits
        _tell(say, plan, slide_run)
        result = result_of(
            slide_run, plan, lambda done, total: tiles_done(done, total, waits.bottleneck)
        )
        spots, warnings = result.hot_spots, result.warnings
        density = result.density
        say(f"waited {waits.reading_s:.1f} s for tiles and {waits.network_s:.1f} s for the network")
        writers.write(plan.outputs, result, plan.appearance)
        if checkpoint is not None:
            checkpoint.finished = not plan.keeps_checkpoint
    summary = (
        f"mean density {100 * density.mean_density():.1f} % of "
        f"{tiles(density.measured_tiles())}{_densest(spots)}"
        f"{_calibrated(plan.settings)}, {watch.total_s():.1f} s"
    )
    return Outcome(summary, warnings, _hint(spots, plan), result.run)


def check_outputs(path: Path, plan: Plan) -> None:
    """Refuse outputs that cannot be written, before the work starts.

    Raises
    ------
    UsageError
        One takes the place of what is read, has an unknown suffix, or is of regions without any.
    GlioError
        One cannot be written.
    """
    check_sources_stay(plan.outputs, sources_of(path, plan.settings))
    writers.check_outputs(plan.outputs)
    check_regions(plan.outputs, plan.settings)


def open_run(path: Path, plan: Plan, engine_of: Callable[[], Engine], held: ExitStack) -> SlideRun:
    """Open and survey a slide, with what an earlier run has kept of it; `held` closes it.

    Raises
    ------
    GlioError
        The slide or the model cannot be used.
    """
    watch = Stopwatch()
    slide = held.enter_context(Slide(path, cache_mb=plan.settings.cache_mb))
    engine = engine_of()
    watch.lap("open")
    return _slide_run(plan, survey(slide, engine.card, plan.settings), engine, watch, held)


def result_of(
    slide_run: SlideRun,
    plan: Plan,
    tell: Callable[[int, int], None],
    scene: Scene | None = None,
) -> writers.Result:
    """Measure what no checkpoint knows, and return what a plan's outputs need.

    Raises
    ------
    GlioError
        Something the user can act on; what was measured is in the checkpoint.
    """
    warnings, stain = slide_run.measure(tell, scene)
    name = ""
    if plan.hides_names:
        path = slide_run.surveyed.slide.path
        name = hash_name(path)
        warnings = tuple(without_names(warning, path, name) for warning in warnings)
    spots = slide_run.hot_spots(plan.hot_spot_mm2, plan.hot_spots)
    return slide_run.result(
        warnings,
        spots,
        slide_run.evidence(spots, stain) if plan.shows_evidence else (),
        fields=(plan.hot_spots, plan.hot_spot_mm2),
        counts_nuclei=plan.counts_nuclei,
        keep_patient=plan.keep_patient,
        hash_name=name,
    )


def _slide_run(
    plan: Plan, surveyed: Survey, engine: Engine, watch: Stopwatch, held: ExitStack
) -> SlideRun:
    """Return a run with what an earlier one has kept; `held` closes the files."""
    density, masks = surveyed.fine_map(), None
    checkpoint = held.enter_context(_checkpoint(plan, surveyed, engine))
    if checkpoint is not None:  # it is locked, so leftovers are from a killed process
        remove_leftovers(*plan.outputs)
    if plan.keeps_masks:
        masks = held.enter_context(mask_store(surveyed, checkpoint))
    regions = in_regions(surveyed, density)
    if checkpoint is not None:
        checkpoint.restore(density, masks, regions)
    return SlideRun(surveyed, engine, density, masks, checkpoint, watch, regions)


def _checkpoint(
    plan: Plan, surveyed: Survey, engine: Engine
) -> AbstractContextManager[Checkpoint | None]:
    """Return the checkpoint of a run; its key covers all that its map and masks depend on."""
    if not (plan.checkpoint_s and plan.outputs):
        return nullcontext()
    key = identity.key_of(
        identity.of_slide(surveyed.slide.path),
        identity.of_map(plan.model, engine.compute, plan.settings),
        plan.keeps_masks,
    )
    return checkpoint(plan.outputs[0].parent, key, plan.checkpoint_s)


def _tell(say: Say, plan: Plan, slide_run: SlideRun) -> None:
    """Report the automatic choices for this machine and slide."""
    card, settings, scale = slide_run.surveyed.card, plan.settings, slide_run.surveyed.scale
    choices = slide_run.engine.choices()
    say(f"model: {card.name} {card.precision}, {card.tile_px} px at {card.mpp} µm/px")
    say("network: " + ", ".join(f"{what} {value}" for what, value in choices.items()))
    say(
        f"reading: threads {settings.readers}, tiles ahead {settings.tiles_ahead(card.tile_px)}, "
        f"cache {settings.cache_mb:g} MB"
    )
    width, height = slide_run.density.grid.size_l0
    say(f"slide: {width} x {height} px, {scale.x_mpp:g} µm/px from {scale.source}")
    none = "none can be kept" if plan.checkpoint_s else "none"
    has_checkpoint = slide_run.checkpoint is not None
    say(f"checkpoint: {f'every {plan.checkpoint_s:g} s' if has_checkpoint else none}")


def _hint(spots: tuple[HotSpot, ...], plan: Plan) -> str | None:
    if not spots:
        return (
            f"no field of {plan.hot_spot_mm2:g} mm² or a part of it is mostly measured and holds "
            "nuclei: there are no hot spots"
        )
    if spots[0].area_mm2 != plan.hot_spot_mm2:
        return (
            f"hot spots are fields of {spots[0].area_mm2:g} mm², as none of "
            f"{plan.hot_spot_mm2:g} mm² fits on so little tissue"
        )
    return None


def _calibrated(settings: Settings) -> str:
    return f", calibrated to {settings.calibration}" if settings.calibration else ""


def _densest(spots: tuple[HotSpot, ...]) -> str:
    return f", densest field {100 * spots[0].density:.1f} % in {spots[0].square}" if spots else ""


def run_demo(plan: Plan, quiet: bool, verbose: bool = False) -> str:
    """Write the synthetic slide to a temporary folder and measure it, with small hot spots.

    Before that, the masks of this machine are compared with the certificate of the model.

    Raises
    ------
    GlioError
        They are others, or something else the user can act on.
    """
    plan = replace(plan, hot_spot_mm2=min(plan.hot_spot_mm2, demo.HOT_SPOT_MM2))
    writers.check_outputs(plan.outputs)
    check_certificate(plan)
    with tempfile.TemporaryDirectory(prefix="gliorun-") as folder:
        path = Path(folder) / "demo.svs"
        demo.write_demo(path)
        return run(path, plan, quiet, verbose)


def check_certificate(plan: Plan) -> None:
    """Refuse a processor that does not give the masks of the model's certificate.

    Other devices are not compared, nor is a model without a certificate.

    Raises
    ------
    GlioError
        It gives others.
    """
    if plan.compute.device != EXACT.device:
        return
    comparison = golden.compare(open_model(plan.model, EXACT))
    if comparison is not None and not comparison.agrees:
        raise GlioError(
            f"{plan.model.stem}: this machine does not give the masks of its certificate: "
            f"{comparison}; do not trust its results, and see 'gliobench doctor'"
        )
