"""One slide as it is measured: its survey, its model, and what is kept of each tile."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

from gliorun import pipeline, writers
from gliorun.errors import DamagedSlideError
from gliorun.findings.evidence import Exhibit, choose, exhibits
from gliorun.findings.hotspots import HotSpot, find_hot_spots
from gliorun.findings.nuclei import compare_counts, nuclei_per_cell
from gliorun.measuring.checkpoint import Checkpoint
from gliorun.measuring.density import DensityMap
from gliorun.measuring.masks import MaskStore
from gliorun.measuring.survey import Scene, Survey
from gliorun.measuring.tile import LeftOut, Measured
from gliorun.model.engine import Engine
from gliorun.model.stainstatistic import StainStatistic
from gliorun.reading.dicomheader import dicom_header
from gliorun.reading.files import fingerprint_of, sha256_of_file
from gliorun.settings import Settings
from gliorun.words import plain
from gliorun.writers.record import run_record

if TYPE_CHECKING:
    from gliorun.measuring.regions import InRegions


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
        self, tell: Callable[[int, int], None], scene: Scene | None = None
    ) -> tuple[tuple[str, ...], StainStatistic | None]:
        """Measure the tiles that no checkpoint knows; return what is doubtful, and the stain.

        `tell` is called with tiles done and in all, before the first tile and after each. `scene`
        is what `pipeline.scene_of` gave, if that was asked before.

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
                surveyed, self.engine.predict, todo, [*kept, count], self.watch.waits, scene
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
        """Read again the few tiles that show what was counted.

        Their outlines are those of the masks where they were kept. Masks have no band: where the
        model draws one, the network is asked again.
        """
        choices = choose(self.surveyed.cells_of(self.density), hot_spots)
        specs = [choice.spec for choice in choices]
        predict: pipeline.Predict = self.engine.predict
        masks, has_band = self.masks, self.surveyed.outlines.have_band
        if masks is not None and not has_band and all((s.row, s.column) in masks for s in specs):
            predict = masks.recall
        again = pipeline.look_again(self.surveyed, stain, predict, specs)
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
        hash_name: str = "",
    ) -> writers.Result:
        """Return what the writers need; count the nuclei if asked and if their masks are kept.

        `fields` are number and area in mm² of the hot spots that were asked for. With
        `keep_patient` the writers learn the patient and the study of a DICOM slide. A `hash_name`
        stands for the name of the slide's file, and other hashes for those of files given with it.
        """
        surveyed, density = self.surveyed, self.surveyed.cells_of(self.density)
        result = writers.Result(
            # else no text, in another encoding than the system's
            slide_name=hash_name or plain(surveyed.slide.path.name),
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
            result = self._with_counts(result)
        if self.in_regions is not None:
            result = self._with_regions(self.in_regions, result, fields[1], counts_nuclei)
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
        if hash_name:
            record["settings"] |= _hashed(surveyed.settings)
        return replace(result, run=record)

    def _with_counts(self, result: writers.Result) -> writers.Result:
        """Return a result with its nuclei counted, by cell and by hot spot."""
        boxes = [(s.minx, s.miny, s.minx + s.width, s.miny + s.height) for s in result.hot_spots]
        counts = nuclei_per_cell(result.nuclei(), result.density, boxes)
        comparison = compare_counts(counts, result.density, result.scale)
        return replace(result, counts=counts, comparison=comparison)

    def _with_regions(
        self, in_regions: InRegions, result: writers.Result, hot_spot_mm2: float, counts: bool
    ) -> writers.Result:
        """Return a result with what was measured in each region, its nuclei if they count."""
        from gliorun.findings.regions import results_of

        regions, differences = results_of(
            in_regions,
            result.tissue,
            result.scale,
            cell_px=self.surveyed.cell_px,
            hot_spot_mm2=hot_spot_mm2,
            nuclei=result.nuclei() if counts else None,
        )
        return replace(result, regions=regions, differences=differences)


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


def _hashed(settings: Settings) -> dict[str, str]:
    """Return the hashes of the files of a slide's settings, which may be called by a patient."""
    given = {"tissue_mask": settings.tissue_mask, "regions": settings.regions}
    return {name: sha256_of_file(file) for name, file in given.items() if file is not None}


def _fingerprint(path: Path) -> str | None:
    try:
        return fingerprint_of(path)
    except OSError:  # it was there while its tiles were read
        return None
