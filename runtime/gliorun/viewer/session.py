"""One slide that is looked at: its pictures, its map as far as it is, and outlines on demand."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from gliorun import job, pipeline, writers
from gliorun.errors import GlioError
from gliorun.findings.squares import Squares
from gliorun.measuring.density import CLASS_NAMES, DensityMap
from gliorun.measuring.survey import Scene
from gliorun.measuring.tile import Status
from gliorun.model.engine import Engine
from gliorun.plan import Plan
from gliorun.reading.scale import objective_power
from gliorun.sliderun import SlideRun
from gliorun.viewer import cells
from gliorun.viewer.cells import Cells
from gliorun.viewer.pyramid import Pyramid
from gliorun.viewer.segmenter import Closed, Segmenter
from gliorun.words import plain
from gliorun.writers import evidence, palette

LEAST_S, MOST_SHARE = 1.0, 0.1
"""Seconds between two looks at a map that fills, and the greatest share of the time they take."""
GIVES_WAY_S = 30.0
"""Longest that the run waits at a tile for what pages want to see."""
ENDS_S = 0.7
"""Time that each thread has to end."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a map is, as plain JSON values for the page.

    `stage` is "preparing", "measuring", "finished" or "failed"; `words` says more.
    """

    stage: str = "preparing"
    words: str = ""
    done: int = 0
    total: int = 0
    figures: dict[str, Any] = field(default_factory=dict)
    hot_spots: tuple[dict[str, Any], ...] = ()
    regions: tuple[dict[str, Any], ...] = ()
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Earlier:
    """A map that an earlier run has finished, and what it says."""

    cells: Cells
    progress: Progress


FindEarlier = Callable[[SlideRun], Earlier | None]
"""Returns what an earlier run has made of an opened slide by the same model and settings."""


def none_earlier(slide_run: SlideRun) -> Earlier | None:
    """Find nothing."""
    return None


class Session:
    """One open slide; a context manager that ends its threads and closes it.

    Parameters
    ----------
    path : Path
    plan : Plan
        Its outputs are written once the map is finished; there may be none.
    engine : Engine
    find_earlier : callable
    say : callable
        Called with one line once the outputs are written, and for each fault.

    Raises
    ------
    GlioError
        The slide cannot be used.
    """

    def __init__(
        self,
        path: Path,
        plan: Plan,
        engine: Engine,
        find_earlier: FindEarlier = none_earlier,
        say: Callable[[str], None] = lambda line: None,
    ) -> None:
        self.path = path
        self.plan = plan
        self._say = say
        self._find_earlier = find_earlier
        self._held = ExitStack()
        self._ends = threading.Event()
        self.segmenter: Segmenter | None = None
        self.progress = Progress()
        self.is_done = False
        self.fault: GlioError | None = None
        self._cells: bytes | None = None
        self._lock = threading.RLock()
        self._cells_due = 0.0
        self.version = 0
        self.pages = 0
        polite = engine.another(self._give_way)
        with self._held as held:
            self.run = job.open_run(path, plan, lambda: polite, held)
            self._held = held.pop_all()
        self.surveyed = self.run.surveyed
        self.pyramid = Pyramid(self.surveyed)
        self._thread = threading.Thread(target=self._work, name="run", daemon=True)
        self._thread.start()

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """End within moments, also in the middle of a run; its checkpoint is saved."""
        self._ends.set()
        if self.segmenter is not None:
            self.segmenter.close(ENDS_S)
        self._thread.join(ENDS_S)
        if not self._thread.is_alive():  # else the slide closes with the process
            self._held.close()

    @property
    def scene(self) -> dict[str, Any]:
        """What a page must know of the slide before it draws anything, as plain JSON values."""
        surveyed, squares = self.surveyed, Squares(self.surveyed.grid)
        card, grid, pyramid = surveyed.card, surveyed.grid, self.pyramid
        return {
            "name": plain(self.path.name),
            "intended_use": card.intended_use,
            "size_l0": grid.size_l0,
            "mpp": [surveyed.scale.x_mpp, surveyed.scale.y_mpp],
            "power": objective_power(surveyed.slide.properties),
            "tile_l0": grid.tile_l0,
            "tiles": [grid.columns, grid.rows],
            "tile_px": card.tile_px,
            "model_mpp": card.mpp,
            "outlines": asdict(surveyed.outlines),
            "calibration": str(surveyed.settings.calibration or ""),
            "side_l0": squares.side_l0,
            "squares": [squares.columns, squares.rows],
            "picture_px": pyramid.side_px,
            "zooms": pyramid.zooms,
            "kinds": cells.names(),
            "classes": CLASS_NAMES,
            "colours": palette.class_colours(self.plan.appearance.palette),
            "no_value": palette.NO_VALUE,
            "statuses": len(Status),
            "paler": palette.PALER,
            "outline": evidence.DECIDES,
            "region": palette.REGION,
            "drawn": [
                [ring.tolist() for rings in region.rings_l0() for ring in rings]
                for region in surveyed.regions
            ],
            "per": "tissue" if surveyed.settings.density == "tissue" else "tile",
        }

    def cells(self) -> bytes | None:
        """Return the map as far as it is, at most so often that it slows nothing; None if none."""
        if not self.is_done and self.progress.stage == "measuring":
            started = time.monotonic()
            if started >= self._cells_due:
                self._show(self.surveyed.cells_of(self.run.density))
                took = time.monotonic() - started
                self._cells_due = time.monotonic() + max(LEAST_S, took / MOST_SHARE)
        return self._cells

    def _show(self, density: DensityMap) -> None:
        """Show a map that still fills, unless it has been finished meanwhile."""
        packed, figures = Cells.of(density).packed(), figures_of(density)
        with self._lock:
            if self.progress.stage == "measuring":
                self._cells = packed
                self._tell(figures=figures)

    def _tell(self, **changes: Any) -> None:
        """Change what pages are told."""
        with self._lock:
            self.progress = replace(self.progress, **changes)
            self.version += 1

    def _give_way(self) -> None:
        """Let pages have their tiles first; end the work once the session is closed."""
        if self.segmenter is not None:
            self.segmenter.wait_while_busy(GIVES_WAY_S)
        if self._ends.is_set():
            raise Closed

    def _work(self) -> None:
        try:
            scene = pipeline.scene_of(self.surveyed, self.run.engine.predict)
            self.segmenter = Segmenter(
                self.surveyed, self.run.engine, self.run.density, scene.stain
            )
            earlier = self._find_earlier(self.run)
            if earlier is not None:
                self._cells = earlier.cells.packed()
                self.progress = earlier.progress
                self.version += 1
            else:
                self._measure(scene)
            self.is_done = True
        except Closed:
            pass
        except GlioError as error:
            self.fault = error
            self._tell(stage="failed", words=str(error))
            self._say(str(error))
        except Exception:
            if not self._ends.is_set():  # else the process ends, and starts no more threads
                raise

    def _measure(self, scene: Scene) -> None:
        self._tell(stage="measuring")
        result = job.result_of(self.run, self.plan, self._count, scene)
        packed, words = Cells.of(result.density).packed(), ""
        if self.plan.outputs:
            writers.write(self.plan.outputs, result, self.plan.appearance)
            words = "written: " + ", ".join(output.name for output in self.plan.outputs)
            self._say(f"{self.path.name}: {words}")
        if self.run.checkpoint is not None:
            self.run.checkpoint.finished = True
        with self._lock:
            self._cells = packed
            self._tell(
                stage="finished",
                words=plain(words),
                figures=figures_of(result.density),
                hot_spots=tuple(map(asdict, result.hot_spots)),
                regions=tuple(
                    {
                        "name": of.region.name,
                        "density": None if math.isnan(of.density) else of.density,
                        "box": of.region.outline.bounds,
                    }
                    for of in result.regions
                ),
                warnings=result.warnings,
            )

    def _count(self, done: int, total: int) -> None:
        self._tell(done=done, total=total)


def figures_of(density: DensityMap) -> dict[str, Any]:
    """Return the figures of a map as plain JSON values; None where there is no value."""
    mean, (low, high) = density.mean_density(), density.mean_band()
    return {
        "mean": None if math.isnan(mean) else mean,
        "band": None if math.isnan(low) else [low, high],
        "class_shares": density.class_shares().tolist(),
    }
