"""The ways to measure the same tiles of a slide; each is opened in its own process."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from gliobench.backends import keras_script
from gliorun.measuring import colour
from gliorun.measuring.kernels import OPAQUE
from gliorun.measuring.quality import judge, shrink_of
from gliorun.measuring.survey import Survey, survey
from gliorun.measuring.tile import Levels, Measured, Tile
from gliorun.model.card import ModelCard
from gliorun.model.engine import EXACT, Compute, Engine, open_model
from gliorun.model.stainstatistic import StainStatistic
from gliorun.pipeline import Waits, load_tiles, measured_tiles, scene_of
from gliorun.reading.scale import check_mpp
from gliorun.reading.slide import Rgba, Slide
from gliorun.reading.tiles import TileSpec
from gliorun.settings import Settings

Box = tuple[int, int, int, int]
"""Left, top, right, bottom in level-0 px."""


@dataclass(frozen=True, slots=True)
class Target:
    """The slide to measure, and its model (an IR)."""

    slide: Path
    model: Path
    mpp: float | None = None

    def __post_init__(self) -> None:
        check_mpp(self.mpp)


@dataclass(frozen=True, slots=True)
class Run:
    """One turn of one way, clocked inside its process.

    `densities` is the nucleus share of each tile's mask by column and row, empty where there is
    none; `tissue_tiles` and `size_l0` are the slide's, where the way knows them.
    """

    tiles: int
    seconds: float
    cpu_s: float
    start_s: float
    densities: dict[tuple[int, int], float]
    tissue_tiles: int = 0
    size_l0: tuple[int, int] = (0, 0)


class Part(Slide):
    """A slide whose overview shows only the part within a box, in level-0 px.

    So the whole pipeline measures only the tiles there.
    """

    def __init__(self, path: Path, box: Box) -> None:
        super().__init__(path)
        self._box = box

    def overview(self, max_px: int) -> Rgba:
        """Return the overview with glass all around the box."""
        whole = super().overview(max_px)
        scale = whole.shape[1] / self.size_l0[0]
        left, top, right, bottom = (round(edge * scale) for edge in self._box)
        part = np.full_like(whole, 255)
        place = np.s_[top:bottom, left:right]
        part[place] = whole[place]
        return part


def middle_of(tissue: Sequence[TileSpec], count: int) -> Box:
    """Return a box around the middle of the tissue that holds `count` of its tiles or more."""
    column, row = (
        float(np.median([getattr(s, name) for s in tissue])) for name in ("column", "row")
    )

    def distance(spec: TileSpec) -> float:
        return max(abs(spec.column - column), abs(spec.row - row))

    reach = sorted(map(distance, tissue))[min(count, len(tissue)) - 1]
    inside = [spec for spec in tissue if distance(spec) <= reach]
    return (
        min(s.x_l0 for s in inside),
        min(s.y_l0 for s in inside),
        max(s.x_l0 + s.width_l0 for s in inside),
        max(s.y_l0 + s.height_l0 for s in inside),
    )


class Middle:
    """Opens the middle of a slide with a requested number of tiles."""

    def __init__(self, target: Target, card: ModelCard) -> None:
        self.target = target
        with Slide(target.slide) as slide:
            self.tissue = survey(slide, card, Settings(mpp=target.mpp)).chosen
            self.size_l0 = slide.size_l0

    def open(self, count: int) -> Slide:
        """Return the part of the slide."""
        return Part(self.target.slide, middle_of(self.tissue, count))


def open_job(target: Target) -> Callable[..., Run]:
    """Return a run of the job: on `tiles` in the middle of a slide, or on all where that is None.

    0 is what comes before the first tile of a whole slide. With `network=False` the tiles are read,
    judged and normalised only.
    """
    engines: dict[Compute, Engine] = {}
    middle = Middle(target, open_model(target.model).card)

    def run(
        tiles: int | None,
        threads: int | None = None,
        compute: Compute = EXACT,
        network: bool = True,
    ) -> Run:
        if compute not in engines:
            engines[compute] = open_model(target.model, compute)
        engine = engines[compute]
        card = engine.card
        densities: dict[tuple[int, int], float] = {}
        begun = time.perf_counter()
        settings = Settings(mpp=target.mpp, threads=threads)
        with middle.open(tiles) if tiles else Slide(target.slide) as slide:
            surveyed = survey(slide, card, settings)
            density = surveyed.empty_map()
            stain = scene_of(surveyed, engine.predict).stain
            first, first_cpu = time.perf_counter(), time.process_time()
            network_of = engine.predict if network else _unsegmented

            def predict(some: Iterable[Tile]) -> Generator[tuple[Tile, Levels]]:
                return network_of(islice(some, tiles))

            stream = measured_tiles(surveyed, stain, predict, surveyed.chosen, Waits())
            with closing(stream):
                for tile in stream:
                    density.feed(tile)
                    if isinstance(tile, Measured):
                        densities[tile.spec.column, tile.spec.row] = _share(tile.levels, card)
        ended, ended_cpu = time.perf_counter(), time.process_time()
        return Run(
            tiles=len(densities),
            seconds=ended - first,
            cpu_s=ended_cpu - first_cpu,
            start_s=first - begun,
            densities=densities if network else {},
            tissue_tiles=len(middle.tissue),
            size_l0=middle.size_l0,
        )

    return run


def open_network(target: Target) -> Callable[[int], Run]:
    """Return a run of the network alone on the same tiles, normalised and in memory."""
    engine = open_model(target.model, EXACT)
    middle = Middle(target, engine.card)
    samples: dict[int, Sample] = {}

    def run(tiles: int) -> Run:
        sample = _sample(samples, middle, engine, tiles)
        begun, begun_cpu = time.perf_counter(), time.process_time()
        densities = {
            (tile.spec.column, tile.spec.row): _share(levels, engine.card)
            for tile, levels in engine.predict(sample.tiles)
        }
        seconds, cpu_s = time.perf_counter() - begun, time.process_time() - begun_cpu
        return Run(len(densities), seconds, cpu_s, 0.0, densities)

    return run


def open_script(target: Target, keras_file: Path) -> Callable[[int], Run]:
    """Return a run of the plain script: read a tile, normalise in numpy, predict, next."""
    segment = keras_script(keras_file)
    engine = open_model(target.model, EXACT)
    card = engine.card
    middle = Middle(target, card)
    samples: dict[int, Sample] = {}

    def run(tiles: int) -> Run:
        sample = _sample(samples, middle, engine, tiles)
        densities: dict[tuple[int, int], float] = {}
        with Slide(target.slide) as slide:
            begun, begun_cpu = time.perf_counter(), time.process_time()
            for spec in (tile.spec for tile in sample.tiles):
                rgba = slide.read(spec, card.tile_px)
                pixels = np.stack([sample.table[c][rgba[..., c]] for c in range(3)], axis=-1)
                pixels[rgba[..., 3] < OPAQUE] = 255  # outside the slide
                densities[spec.column, spec.row] = float(segment(pixels).mean())
            seconds, cpu_s = time.perf_counter() - begun, time.process_time() - begun_cpu
        return Run(len(densities), seconds, cpu_s, 0.0, densities)

    return run


def open_stages(target: Target) -> Callable[[int], dict[str, float]]:
    """Return a function that measures the CPU seconds per tile of each stage alone."""
    engine = open_model(target.model, EXACT)
    middle = Middle(target, engine.card)

    def run(tiles: int) -> dict[str, float]:
        sample = sample_of(middle, engine, tiles)
        specs = [tile.spec for tile in sample.tiles]
        card, limits, scale = engine.card, Settings().quality, sample.surveyed.scale
        shrink = shrink_of(card.mpp, max(scale.x_mpp, scale.y_mpp))
        density = sample.surveyed.empty_map()
        taken: dict[str, float] = {}

        def timed(stage: str, clock: Callable[[], float], steps: Iterable[Any]) -> list[Any]:
            begun = clock()
            done = list(steps)
            taken[stage] = (clock() - begun) / len(specs)
            return done

        thread, process = time.thread_time, time.process_time
        with Slide(target.slide) as slide:
            rgba = timed("read", thread, (slide.read(spec, card.tile_px) for spec in specs))
        if limits is not None:
            timed(
                "quality", thread, (judge(pixels, shrink, sample.stain, limits) for pixels in rgba)
            )
        timed("colour", thread, (colour.normalise(pixels, sample.table) for pixels in rgba))
        answers = timed("network", process, engine.predict(sample.tiles))
        begun = thread()
        for tile, levels in answers:
            density.feed(Measured(tile.spec, levels, tile.valid))
        taken["map"] = (thread() - begun) / len(specs)
        return taken

    return run


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """Tiles as the job passes them to the network, and the colour table of the slide.

    The slide of the survey is closed.
    """

    tiles: list[Tile]
    surveyed: Survey
    stain: StainStatistic | None
    table: colour.Table


def sample_of(middle: Middle, engine: Engine, count: int) -> Sample:
    """Return tiles in the middle of a slide, found as the job finds them."""
    with middle.open(count) as slide:
        surveyed = survey(slide, engine.card, Settings(mpp=middle.target.mpp))
        stain = scene_of(surveyed, engine.predict).stain
        with closing(load_tiles(surveyed, stain, surveyed.chosen)) as loaded:
            fit = (tile for tile in loaded if isinstance(tile, Tile))
            tiles = list(islice(fit, count))
    return Sample(tiles, surveyed, stain, colour.table_between(stain, engine.card.colour_target))


def _sample(samples: dict[int, Sample], middle: Middle, engine: Engine, count: int) -> Sample:
    """Return a sample; the previous one is reused if it has as many tiles."""
    if count not in samples:
        samples.clear()
        samples[count] = sample_of(middle, engine, count)
    return samples[count]


def _unsegmented(tiles: Iterable[Tile]) -> Generator[tuple[Tile, Levels]]:
    for tile in tiles:
        yield tile, np.zeros_like(tile.valid)


def _share(levels: Levels, card: ModelCard) -> float:
    """Return the share of a tile's pixels that is nucleus."""
    return float((levels >= card.nucleus_level).mean())
