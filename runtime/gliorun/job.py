"""Run one slide: open it, measure it, write the outputs and summarise the result."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, closing, nullcontext
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.text import Text

from gliorun import demo, identity, pipeline, writers
from gliorun.atomic import remove_leftovers
from gliorun.defaults import CHECKPOINT_S, HOT_SPOT_MM2, HOT_SPOTS
from gliorun.errors import DamagedSlideError, GlioError, UsageError
from gliorun.findings.evidence import Exhibit, choose, exhibits
from gliorun.findings.hotspots import HotSpot, check_fields, find_hot_spots
from gliorun.findings.nuclei import compare_counts, nuclei_per_cell
from gliorun.measuring.checkpoint import Checkpoint, checkpoint
from gliorun.measuring.density import DensityMap, check_cells
from gliorun.measuring.masks import MaskStore
from gliorun.measuring.survey import Survey, outlines_of, survey
from gliorun.measuring.tile import LeftOut, Measured
from gliorun.model import golden
from gliorun.model.card import ModelCard
from gliorun.model.engine import EXACT, Compute, Engine, compute_here, open_model
from gliorun.model.stainstatistic import StainStatistic
from gliorun.reading.dicomheader import dicom_header
from gliorun.reading.files import fingerprint_of
from gliorun.reading.slide import Slide
from gliorun.reporting.lines import Lines
from gliorun.reporting.progress import RunProgress
from gliorun.settings import Settings
from gliorun.words import plain, tiles, warnings_in_words
from gliorun.writers.record import run_record

if TYPE_CHECKING:
    from gliorun.measuring.regions import InRegions


@dataclass(frozen=True, slots=True)
class Plan:
    """The outputs to write, and the model and settings for them.

    Hot spots are `hot_spots` square fields of `hot_spot_mm2` each. A checkpoint is saved every
    `checkpoint_s` seconds, or never if that is 0. It is deleted once the outputs are in place,
    unless `keeps_checkpoint` is set because the caller still has to move them. With `keep_patient`
    DICOM outputs name the patient and the study of a DICOM slide. With `counts`, nuclei are
    counted whatever the outputs are.
    """

    outputs: list[Path]
    model: Path
    settings: Settings
    compute: Compute = field(default_factory=Compute)
    appearance: writers.Appearance = field(default_factory=writers.Appearance)
    hot_spots: int = HOT_SPOTS
    hot_spot_mm2: float = HOT_SPOT_MM2
    checkpoint_s: float = CHECKPOINT_S
    keeps_checkpoint: bool = False
    keep_patient: bool = False
    counts: bool = False

    def __post_init__(self) -> None:
        check_fields(self.hot_spots, self.hot_spot_mm2)
        if not self.checkpoint_s >= 0:
            raise UsageError(f"checkpoint is {self.checkpoint_s:g} s; it must be 0 (none) or more")

    @property
    def keeps_masks(self) -> bool:
        """Whether an output needs the masks of the whole slide."""
        return self.counts or any(
            writers.suffix_of(output) in writers.MASK_SUFFIXES for output in self.outputs
        )

    @property
    def shows_evidence(self) -> bool:
        """Whether an output shows tiles with what was counted."""
        return any(writers.suffix_of(out) in writers.EVIDENCE_SUFFIXES for out in self.outputs)

    @property
    def counts_nuclei(self) -> bool:
        """Whether nuclei are counted: if that was asked for, or if an output needs it."""
        return self.counts or any(
            writers.suffix_of(output) in writers.COUNTING_SUFFIXES for output in self.outputs
        )


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
    return identity.of_outputs(
        of_map,
        plan.appearance,
        plan.hot_spots,
        plan.hot_spot_mm2,
        plan.keep_patient,
        counts=plan.counts,
    )


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
    try:
        check_model(engine.card, plan.settings)  # fail before a slide is opened
    except UsageError:
        raise
    except GlioError as error:
        raise GlioError(f"{plan.model}: {error}") from error
    return engine


def check_model(card: ModelCard, settings: Settings) -> None:
    """Refuse a model that cannot be used with some settings.

    Raises
    ------
    UsageError
        The cells do not divide the tiles of the model.
    GlioError
        The calibration is of another model, or levels of outlines are not known.
    """
    check_cells(settings.cell_px, card.tile_px)
    outlines_of(card, settings)


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
        outcome = measure(path, plan, lambda: open_engine(plan), lines.tiles, lines.say)
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


class Stopwatch:
    """When a run began, the seconds of one stage after another, and what it waited for."""

    def __init__(self) -> None:
        self.started_at = datetime.now(timezone.utc)
        self.waits = pipeline.Waits()
        self._laps: dict[str, float] = {}
        self._started = self._last = time.monotonic()

    def lap(self, stage: str) -> None:
        """Note that a stage has ended."""
        now = time.monotonic()
        self._laps[stage] = now - self._last
        self._last = now

    def total_s(self) -> float:
        """Return the seconds since the run began."""
        return time.monotonic() - self._started

    def seconds(self) -> dict[str, float]:
        """Return the seconds of each stage, and those waited within them."""
        waited = {
            "waiting for reading": self.waits.reading_s,
            "waiting for network": self.waits.network_s,
        }
        return self._laps | waited


class _Count:
    """Tells how many tiles are done, as the last accumulator."""

    def __init__(self, done: int, total: int, tell: Callable[[int, int], None]) -> None:
        self._done, self._total, self._tell = done, total, tell
        tell(done, total)

    def feed(self, tile: Measured | LeftOut) -> None:
        self._done += 1
        self._tell(self._done, self._total)


@dataclass(frozen=True, slots=True, eq=False)
class SlideRun:
    """One slide that is surveyed, a model that is compiled, and what is kept of each tile.

    `checkpoint` holds `density`, `masks` and `in_regions`, if there are any.
    """

    surveyed: Survey
    engine: Engine
    density: DensityMap
    masks: MaskStore | None
    checkpoint: Checkpoint | None
    watch: Stopwatch
    in_regions: InRegions | None = None

    def measure(
        self, tell: Callable[[int, int], None]
    ) -> tuple[tuple[str, ...], StainStatistic | None]:
        """Measure the tiles that no checkpoint knows; return what is doubtful, and the stain.

        `tell` is called with tiles done and in all, before the first tile and after each.

        Raises
        ------
        GlioError
            Something the user can act on; what was measured is in the checkpoint.
        """
        surveyed, density = self.surveyed, self.density
        todo = density.missing(surveyed.chosen)
        total = len(surveyed.chosen)
        count = _Count(total - len(todo), total, tell)
        keepers = self.masks, self.in_regions or density, self.checkpoint
        kept = [keeper for keeper in keepers if keeper is not None]
        try:
            scene = pipeline.measure(
                surveyed, self.engine.predict, todo, [*kept, count], self.watch.waits
            )
        except DamagedSlideError:
            raise
        except BaseException:
            if self.checkpoint is not None:
                self.checkpoint.save()
            raise
        warnings = pipeline.doubts(surveyed, density, scene)
        self.watch.lap("measure")
        if self.checkpoint is not None:
            self.checkpoint.save()  # a disk that is full now costs no tile
        return warnings, scene.stain

    def hot_spots(self, area_mm2: float, count: int) -> tuple[HotSpot, ...]:
        """Return the densest fields, searched for in finer cells than those of the map."""
        return find_hot_spots(self.density, self.surveyed.scale, area_mm2=area_mm2, count=count)

    def evidence(
        self, hot_spots: tuple[HotSpot, ...], stain: StainStatistic | None
    ) -> tuple[Exhibit, ...]:
        """Read and segment anew the few tiles that show what was counted."""
        choices = choose(self.surveyed.cells_of(self.density), hot_spots)
        specs = [choice.spec for choice in choices]
        again = pipeline.look_again(self.surveyed, stain, self.engine.predict, specs)
        with closing(again):
            shown = tuple(exhibits(choices, again, self.surveyed.outlines))
        self.watch.lap("evidence")
        return shown

    def result(
        self,
        warnings: tuple[str, ...],
        hot_spots: tuple[HotSpot, ...],
        evidence: tuple[Exhibit, ...] = (),
        *,
        fields: tuple[int, float],
        counts_nuclei: bool,
        keep_patient: bool = False,
    ) -> writers.Result:
        """Return what the writers need; count the nuclei if asked and if their masks are kept.

        `fields` are number and area in mm² of the hot spots that were asked for. With
        `keep_patient` the writers learn the patient and the study of a DICOM slide.
        """
        surveyed, density = self.surveyed, self.surveyed.cells_of(self.density)
        result = writers.Result(
            # else no text, in another encoding than the system's
            slide_name=plain(surveyed.slide.path.name),
            density=density,
            scale=surveyed.scale,
            tissue=surveyed.tissue,
            overview=surveyed.overview,
            card=surveyed.card,
            hot_spots=hot_spots,
            warnings=warnings,
            masks=self.masks,
            calibration=surveyed.settings.calibration,
            bounds_l0=surveyed.slide.bounds_l0,
            dicom=dicom_header(surveyed.slide.properties, keep_patient=keep_patient),
            drawn_regions=surveyed.regions,
            evidence=evidence,
        )
        counts_nuclei = counts_nuclei and self.masks is not None
        if counts_nuclei:
            boxes = [(s.minx, s.miny, s.minx + s.width, s.miny + s.height) for s in hot_spots]
            counts = nuclei_per_cell(result.nuclei(), density, boxes)
            comparison = compare_counts(counts, density, surveyed.scale)
            result = replace(result, counts=counts, comparison=comparison)
        if self.in_regions is not None:
            from gliorun.findings.regions import results_of

            regions, differences = results_of(
                self.in_regions,
                surveyed.tissue,
                surveyed.scale,
                hot_spot_mm2=fields[1],
                nuclei=result.nuclei() if counts_nuclei else None,
            )
            result = replace(result, regions=regions, differences=differences)
        self.watch.lap("summarise")
        record = run_record(
            result,
            properties=surveyed.slide.properties,
            fingerprint=_fingerprint(surveyed.slide.path),
            fields=fields,
            compute=self.engine.choices(),
            settings=surveyed.settings,
            started_at=self.watch.started_at,
            resumed_tiles=0 if self.checkpoint is None else self.checkpoint.restored_tiles,
            seconds=self.watch.seconds(),
        )
        return replace(result, run=record)


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
    check_sources_stay(plan.outputs, sources_of(path, plan.settings))
    writers.check_outputs(plan.outputs)
    check_regions(plan.outputs, plan.settings)
    watch = Stopwatch()
    with ExitStack() as held:
        slide = held.enter_context(Slide(path, cache_mb=plan.settings.cache_mb))
        engine = engine_of()
        watch.lap("open")
        slide_run = _slide_run(plan, survey(slide, engine.card, plan.settings), engine, watch, held)
        _tell(say, plan, slide_run)
        waits, checkpoint = watch.waits, slide_run.checkpoint
        warnings, stain = slide_run.measure(
            lambda done, total: tiles_done(done, total, waits.bottleneck)
        )
        spots = slide_run.hot_spots(plan.hot_spot_mm2, plan.hot_spots)
        result = slide_run.result(
            warnings,
            spots,
            slide_run.evidence(spots, stain) if plan.shows_evidence else (),
            fields=(plan.hot_spots, plan.hot_spot_mm2),
            counts_nuclei=plan.counts_nuclei,
            keep_patient=plan.keep_patient,
        )
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


def in_regions(surveyed: Survey, density: DensityMap) -> InRegions | None:
    """Return what feeds a map with the regions of a slide; None if all of it is measured."""
    if not surveyed.regions:
        return None
    from gliorun.measuring.regions import InRegions

    return InRegions(surveyed.regions, density, surveyed.chosen)


def mask_store(surveyed: Survey, checkpoint: Checkpoint | None = None) -> MaskStore:
    """Return a store for the masks of a slide, which a later run can resume from a checkpoint."""
    path = None if checkpoint is None else checkpoint.masks_path
    return MaskStore(surveyed.grid, surveyed.card.tile_px, surveyed.outlines.nucleus, path)


def _fingerprint(path: Path) -> str | None:
    try:
        return fingerprint_of(path)
    except OSError:  # it was there while its tiles were read
        return None


def sources_of(path: Path, settings: Settings) -> list[Path]:
    """Return the files that a run reads."""
    given = settings.tissue_mask, settings.regions
    return [path, *(file for file in given if file is not None)]


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


def check_regions(outputs: list[Path], settings: Settings) -> None:
    """Refuse a table of regions where none are given.

    Raises
    ------
    UsageError
        None are.
    """
    for output in outputs:
        if writers.suffix_of(output) == writers.REGIONS and settings.regions is None:
            raise UsageError(f"{output}: is of regions; pass --regions, or name another output")


def _checkpoint(
    plan: Plan, surveyed: Survey, engine: Engine
) -> AbstractContextManager[Checkpoint | None]:
    """Return the checkpoint of a run; its key covers all that its map and masks depend on."""
    if not plan.checkpoint_s:
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
