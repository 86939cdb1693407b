"""A whole job against the network alone and a plain Keras script, and where its time goes."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gliobench import giant, machine
from gliobench.backends import (
    has_keras,
    is_reference_of,
    keras_script,
    reference_model,
)
from gliobench.workers import Contestant, Turn, Worker, take_turns
from gliorun import colour
from gliorun.card import ModelCard, sha256_of
from gliorun.density import DensityMap
from gliorun.engine import Engine, open_model
from gliorun.errors import GlioError
from gliorun.kernels import OPAQUE
from gliorun.pipeline import Settings, SlideDensity, Tile, measure, slide_stain, tile_reader
from gliorun.reading.quality import judge, shrink_of
from gliorun.reading.slide import Rgba, Slide
from gliorun.reading.tiles import TileSpec

Mask = NDArray[np.uint8]
Say = Callable[[str], None]
Box = tuple[int, int, int, int]
"""Left, top, right, bottom in level-0 px."""

JOB, NETWORK, READING, SCRIPT = "gliorun", "network alone", "reading alone", "Keras script"
PILOT_TILES = 8
MOST_TILES = 400
"""Tiles a round; the network alone has them all in memory, 0.7 MB each."""
SCALING_ROUNDS = 2
SIZES_GIGAPIXELS = (0.1, 1.0, 10.0)
TURNS_SHARE, SCALING_SHARE = 0.5, 0.5
"""Of the time that is left when they begin."""
LEAST_BUDGET_S = 30
AREA_UM2 = 100e6
"""100 mm² of tissue, the public unit."""
CLOSE_POINTS = 0.3
"""Mean density difference, in points, up to which two ways are said to agree."""
BUSY = 0.85
"""Share of the processors' time from which they, not waiting, are the limit."""


@dataclass(frozen=True, slots=True)
class Target:
    """What is measured: a slide with a model (an IR)."""

    slide: Path
    model: Path
    mpp: float | None = None


@dataclass(frozen=True, slots=True)
class Way:
    """How often one way has done its tiles, round by round.

    `cpu_s_a_tile` is CPU time of all threads. `ratios` are the job's tiles/s over this one's in the
    same round. `density_difference_points` is the mean absolute difference to the job, tile by
    tile, in the round where it is largest, None where there is no mask; `agrees` says whether it
    is small enough to be ranked.
    """

    name: str
    tiles_s: tuple[float, ...]
    cpu_s_a_tile: tuple[float, ...]
    ratios: tuple[float, ...]
    density_difference_points: float | None
    agrees: bool
    peak_bytes: int | None


@dataclass(frozen=True, slots=True)
class Point:
    """One setting of a scaling curve, round by round; `peak_bytes` where it had its own process."""

    setting: float
    tiles_s: tuple[float, ...]
    cpu_s_a_tile: tuple[float, ...]
    start_s: tuple[float, ...]
    peak_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class SpeedFigures:
    """What `gliobench speed` measured.

    `tiles` is the number a round of `ways`. `start_s` is what comes before the first tile of the
    whole slide: overview, tissue and stain, once a slide. `stages` is CPU seconds a tile, one
    stage at a time; "rest" is what the whole job takes beyond them. `threads`, `requests` and
    `sizes` (gigapixels) are scaling curves of the job. `seconds_a_100mm2` is for 100 mm² of tissue
    at the model's scale, the start included. `busy` is the share of the processors' time that the
    job used, `busy_alone` that the network alone used: less than 1 where other programs ran.
    `left_out` says what the budget did not allow.
    """

    slide: str
    width_px: int
    height_px: int
    tissue_tiles: int
    model: str
    model_sha256: str
    precision: str
    tiles: int
    rounds: int
    ways: tuple[Way, ...]
    start_s: tuple[float, ...]
    stages: dict[str, float]
    threads: tuple[Point, ...]
    requests: tuple[Point, ...]
    sizes: tuple[Point, ...]
    seconds_a_100mm2: float
    busy: float
    busy_alone: float
    bottleneck: str
    left_out: tuple[str, ...]


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
    """A slide of which only what lies within a box, in level-0 px, shows on its overview.

    So the whole pipeline measures the tiles there and no others.
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
    """Opens the middle of a slide, with as many tiles as asked for."""

    def __init__(self, target: Target, card: ModelCard) -> None:
        self.target = target
        with Slide(target.slide) as slide:
            measured = measure(slide, card, _none, Settings(mpp=target.mpp))
            self.size_l0 = slide.size_l0
        self.tissue = tissue_tiles(measured)

    def open(self, count: int) -> Slide:
        """Return the part of the slide."""
        return Part(self.target.slide, middle_of(self.tissue, count))


def _none(tiles: Iterable[Tile]) -> Generator[tuple[Tile, Mask]]:
    yield from ()


# --- the ways, each opened in a process of its own ------------------------------------------------


def open_job(target: Target) -> Callable[..., Run]:
    """Return a run of the job: on `tiles` in the middle of a slide, or on all where that is None.

    0 is what comes before the first tile of a whole slide. With `network=False` the tiles are read,
    judged and normalised only.
    """
    engines: dict[int | None, Engine] = {}
    middle = Middle(target, open_model(target.model).card)

    def run(
        tiles: int | None,
        threads: int | None = None,
        requests: int | None = None,
        network: bool = True,
    ) -> Run:
        if requests not in engines:
            engines[requests] = open_model(target.model, requests=requests)
        engine = engines[requests]
        densities: dict[tuple[int, int], float] = {}
        clock = [(time.perf_counter(), time.process_time())]

        def predict(some: Iterable[Tile]) -> Generator[tuple[Tile, Mask]]:
            clock.append((time.perf_counter(), time.process_time()))
            chosen = islice(some, tiles)
            for tile, mask in engine.predict(chosen) if network else _unsegmented(chosen):
                densities[tile.spec.column, tile.spec.row] = float(mask.mean())
                yield tile, mask

        settings = Settings(mpp=target.mpp, threads=threads)
        with middle.open(tiles) if tiles else Slide(target.slide) as slide:
            measure(slide, engine.card, predict, settings)
        clock.append((time.perf_counter(), time.process_time()))
        (begun, _), (first, first_cpu), (ended, ended_cpu) = clock
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


def _unsegmented(tiles: Iterable[Tile]) -> Generator[tuple[Tile, Mask]]:
    for tile in tiles:
        yield tile, np.zeros_like(tile.valid)


def open_network(target: Target) -> Callable[[int], Run]:
    """Return a run of the network alone on the same tiles, normalised and in memory."""
    engine = open_model(target.model)
    middle = Middle(target, engine.card)
    known: dict[int, Sample] = {}

    def run(tiles: int) -> Run:
        sample = _sample(known, middle, engine.card, tiles)
        begun, begun_cpu = time.perf_counter(), time.process_time()
        densities = {
            (tile.spec.column, tile.spec.row): float(mask.mean())
            for tile, mask in engine.predict(sample.tiles)
        }
        seconds, cpu_s = time.perf_counter() - begun, time.process_time() - begun_cpu
        return Run(len(densities), seconds, cpu_s, 0.0, densities)

    return run


def open_script(target: Target, keras_file: Path) -> Callable[[int], Run]:
    """Return a run of the plain script: read a tile, normalise in numpy, predict, next."""
    segment = keras_script(keras_file)
    card = open_model(target.model).card
    middle = Middle(target, card)
    known: dict[int, Sample] = {}

    def run(tiles: int) -> Run:
        sample = _sample(known, middle, card, tiles)
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
    """Return what measures the CPU seconds a tile of each stage alone."""
    engine = open_model(target.model)
    middle = Middle(target, engine.card)

    def run(tiles: int) -> dict[str, float]:
        sample = sample_of(middle, engine.card, tiles)
        specs = [tile.spec for tile in sample.tiles]
        card, limits, scale = engine.card, Settings().quality, sample.measured.scale
        shrink = shrink_of(card.mpp, max(scale.x_mpp, scale.y_mpp))
        density = DensityMap(sample.measured.density.grid, card.tile_px, card.tile_px)
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
            timed("quality", thread, (judge(one, shrink, sample.stain, limits) for one in rgba))
        timed("colour", thread, (colour.normalise(one, sample.table) for one in rgba))
        masks = timed("network", process, engine.masks([t.pixels for t in sample.tiles]))
        begun = thread()
        for tile, mask in zip(sample.tiles, masks, strict=True):
            density.add(tile.spec, mask, tile.valid)
        taken["map"] = (thread() - begun) / len(specs)
        return taken

    return run


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """Tiles as the job would give them to the network, and what the slide is normalised with."""

    tiles: list[Tile]
    measured: SlideDensity
    stain: colour.StainStatistic | None
    table: colour.Table


def sample_of(middle: Middle, card: ModelCard, count: int) -> Sample:
    """Return tiles in the middle of a slide, found as the job finds them."""
    kept: list[Tile] = []

    def keep(some: Iterable[Tile]) -> Generator[tuple[Tile, Mask]]:
        for tile, mask in _unsegmented(islice(some, count)):
            kept.append(tile)
            yield tile, mask

    settings = Settings(mpp=middle.target.mpp)
    with middle.open(count) as slide:
        measured = measure(slide, card, keep, settings)
        read = tile_reader(slide, card, measured.scale, settings.quality)
        stain = slide_stain(read, tissue_tiles(measured), settings.readers)
    return Sample(kept, measured, stain, colour.table_between(stain, card.colour_target))


def _sample(known: dict[int, Sample], middle: Middle, card: ModelCard, count: int) -> Sample:
    """Return a sample, the last one again if it is of as many tiles."""
    if count not in known:
        known.clear()
        known[count] = sample_of(middle, card, count)
    return known[count]


def tissue_tiles(measured: SlideDensity) -> list[TileSpec]:
    """Return the tiles of a slide that the job measures."""
    return [spec for spec in measured.density.grid if measured.tissue.touches(spec)]


# --- the measurement ------------------------------------------------------------------------------


def tiles_within(seconds: float, second_a_tile: float, most: int) -> int:
    """Return how many tiles fit into a time, at least `PILOT_TILES` where there are so many."""
    return min(most, max(PILOT_TILES, int(seconds / second_a_tile)))


def measure_speed(
    target: Target, *, keras_file: Path | None, rounds: int, budget_s: float, say: Say
) -> SpeedFigures:
    """Measure a job; the budget decides on how many tiles, and what is left out.

    Raises
    ------
    GlioError
        The slide or model cannot be used, or the budget is too small.
    """
    if budget_s < LEAST_BUDGET_S:
        raise GlioError(f"budget is {budget_s:g} s; it must be at least {LEAST_BUDGET_S}")
    if rounds < 1:
        raise GlioError(f"rounds is {rounds}; it must be at least 1")
    ends = time.monotonic() + budget_s
    with Slide(target.slide) as slide:  # what can be wrong, before any process is started
        slide.scale(target.mpp)
    card = open_model(target.model).card
    left_out: list[str] = []
    with ExitStack() as held:
        job = held.enter_context(Worker(JOB, open_job, target))
        workers = {JOB: job, NETWORK: held.enter_context(Worker(NETWORK, open_network, target))}
        script = _open_script(target, keras_file, card, left_out, held)
        workers |= script
        say("warm-up")
        pilot = {name: _pilot(worker) for name, worker in workers.items()}
        costs = {name: run.seconds / run.tiles for name, run in pilot.items()}
        round_cost = sum(costs.values()) + costs[JOB] / 2  # reading alone
        left = ends - time.monotonic()
        tiles = tiles_within(
            TURNS_SHARE * left / rounds, round_cost, min(pilot[JOB].tissue_tiles, MOST_TILES)
        )
        say(f"{tiles} tiles a round, {rounds} rounds in turns")
        contestants: list[Contestant] = [*workers.values(), _Reading(job)]
        runs = [
            [turn.value for turn in turns]
            for turns in take_turns(contestants, rounds, tiles, say=say)
        ]
        say("the start of the whole slide, and each stage alone")
        starts = tuple(job.turn(0).value.start_s for _ in range(rounds))
        stages = held.enter_context(Worker("stages", open_stages, target)).turn(tiles).value
        left = ends - time.monotonic()
        threads, requests = _scale_settings(
            job, SCALING_SHARE * left, costs[JOB], tiles, left_out, say
        )
    names = [*workers, READING]
    peaks = {name: worker.peak_bytes for name, worker in workers.items()}
    ways = tuple(
        _way(name, of_one, runs[0], peaks) for name, of_one in zip(names, runs, strict=True)
    )
    sizes = _scale_sizes(target, ends - time.monotonic(), costs[JOB], left_out, say)
    return _figures(target, card, ways, runs[0], starts, stages, threads, requests, sizes, left_out)


def _open_script(
    target: Target,
    keras_file: Path | None,
    card: ModelCard,
    left_out: list[str],
    held: ExitStack,
) -> dict[str, Worker]:
    if not has_keras():
        left_out.append(f"{SCRIPT}: TensorFlow is not installed; pip install '.[bench]'")
        return {}
    file = keras_file or reference_model()
    if not is_reference_of(file, card):
        left_out.append(f"{SCRIPT}: {file.name} is another network than {target.model.name}")
        return {}
    return {SCRIPT: held.enter_context(Worker(SCRIPT, open_script, target, file))}


def _pilot(worker: Worker) -> Run:
    """Warm a way up and return a short run of it."""
    worker.turn(PILOT_TILES)
    run: Run = worker.turn(PILOT_TILES).value
    if run.tiles == 0:
        raise GlioError(f"{worker.name}: the slide has no tile that is fit to be measured")
    return run


@dataclass(frozen=True, slots=True)
class _Reading:
    """The job without its network, in the job's process."""

    job: Worker

    @property
    def name(self) -> str:
        return READING

    def turn(self, *arguments: Any) -> Turn:
        return self.job.turn(*arguments, None, None, False)


@dataclass(frozen=True, slots=True)
class _Setting:
    """The job with other threads or requests, in the job's process."""

    job: Worker
    threads: int | None
    requests: int | None

    @property
    def name(self) -> str:
        return f"{self.threads} threads, {self.requests} requests"

    def turn(self, *arguments: Any) -> Turn:
        return self.job.turn(*arguments, self.threads, self.requests)


def _scale_settings(
    job: Worker, seconds: float, cost_s: float, most: int, left_out: list[str], say: Say
) -> tuple[tuple[Point, ...], tuple[Point, ...]]:
    """Measure the job over reader threads and over requests, in turns."""
    numbers = doubling(max(4, machine.usable_cores()))
    settings = [_Setting(job, n, None) for n in numbers]
    settings += [_Setting(job, None, n) for n in numbers]
    # few threads or requests are up to twice as slow as the best
    tiles = tiles_within(seconds / (SCALING_ROUNDS * len(settings)), 1.5 * cost_s, most)
    if seconds < SCALING_ROUNDS * len(settings) * PILOT_TILES * cost_s:
        left_out.append("scaling over threads and requests: the budget was spent")
        return (), ()
    say(f"threads and requests: {', '.join(map(str, numbers))}; {tiles} tiles each")
    for setting in settings:
        setting.turn(2)  # opens the model
    turns = take_turns(settings, SCALING_ROUNDS, tiles)
    points = [
        _point(float(s.threads or s.requests or 0), [turn.value for turn in of_one])
        for s, of_one in zip(settings, turns, strict=True)
    ]
    return tuple(points[: len(numbers)]), tuple(points[len(numbers) :])


def doubling(most: int) -> list[int]:
    """Return 1, 2, 4, … up to `most`."""
    return [2**n for n in range(most.bit_length()) if 2**n <= most]


def _scale_sizes(
    target: Target, seconds: float, cost_s: float, left_out: list[str], say: Say
) -> tuple[Point, ...]:
    """Measure the job on slides of rising size with as many tiles of tissue each."""
    opening = len(SIZES_GIGAPIXELS) * 6.0
    turns = SCALING_ROUNDS * len(SIZES_GIGAPIXELS)
    if seconds < opening + turns * PILOT_TILES * cost_s:
        left_out.append("scaling over the size of the slide: the budget was spent")
        return ()
    tiles = tiles_within((seconds - opening) / turns, 1.3 * cost_s, MOST_TILES)
    with tempfile.TemporaryDirectory(prefix="gliobench-") as folder, ExitStack() as held:
        workers = []
        for gigapixels in SIZES_GIGAPIXELS:
            path = Path(folder) / f"{gigapixels:g}.svs"
            rows, columns = giant.Plan(gigapixels).places
            giant.write_giant(path, giant.Plan(gigapixels, min(1.0, tiles / (rows * columns))))
            name = f"{gigapixels:g} gigapixels"
            workers.append(held.enter_context(Worker(name, open_job, Target(path, target.model))))
            workers[-1].turn(PILOT_TILES)
        say(f"slides of {', '.join(map(str, SIZES_GIGAPIXELS))} gigapixels, {tiles} tiles each")
        turns_of = take_turns(workers, SCALING_ROUNDS, None)
        for worker in workers:
            worker.close()
    return tuple(
        _point(gigapixels, [turn.value for turn in turns], worker.peak_bytes)
        for gigapixels, turns, worker in zip(SIZES_GIGAPIXELS, turns_of, workers, strict=True)
    )


def _point(setting: float, runs: Sequence[Run], peak_bytes: int | None = None) -> Point:
    return Point(
        setting,
        tuple(run.tiles / run.seconds for run in runs),
        tuple(run.cpu_s / run.tiles for run in runs),
        tuple(run.start_s for run in runs),
        peak_bytes,
    )


def _way(
    name: str, runs: Sequence[Run], of_job: Sequence[Run], peaks: dict[str, int | None]
) -> Way:
    differences = [
        density_difference_points(run.densities, job.densities)
        for run, job in zip(runs, of_job, strict=True)
    ]
    difference = max((d for d in differences if d is not None), default=None)
    point = _point(0, runs)
    return Way(
        name=name,
        tiles_s=point.tiles_s,
        cpu_s_a_tile=point.cpu_s_a_tile,
        ratios=tuple(
            (job.tiles / job.seconds) / (run.tiles / run.seconds)
            for run, job in zip(runs, of_job, strict=True)
        ),
        density_difference_points=difference,
        agrees=difference is None or difference <= CLOSE_POINTS,
        peak_bytes=peaks.get(name),
    )


def density_difference_points(
    ours: dict[tuple[int, int], float], theirs: dict[tuple[int, int], float]
) -> float | None:
    """Return the mean absolute difference of the same tiles, in points; None without masks.

    Raises
    ------
    GlioError
        The tiles are not the same, so that nothing can be compared.
    """
    if not ours:
        return None
    if ours.keys() != theirs.keys():
        raise GlioError("two ways did not measure the same tiles; their speeds do not compare")
    return 100 * float(np.mean([abs(ours[place] - theirs[place]) for place in ours]))


def _figures(
    target: Target,
    card: ModelCard,
    ways: tuple[Way, ...],
    of_job: list[Run],
    starts: tuple[float, ...],
    stages: dict[str, float],
    threads: tuple[Point, ...],
    requests: tuple[Point, ...],
    sizes: tuple[Point, ...],
    left_out: list[str],
) -> SpeedFigures:
    job = ways[0]
    tiles_s, cpu_s = float(np.median(job.tiles_s)), float(np.median(job.cpu_s_a_tile))
    busy, busy_alone = (_busy(way) for way in ways[:2])
    tile_um = card.tile_px * card.mpp
    width, height = of_job[0].size_l0
    return SpeedFigures(
        slide=target.slide.name,
        width_px=width,
        height_px=height,
        tissue_tiles=of_job[0].tissue_tiles,
        model=card.name,
        model_sha256=sha256_of(target.model),
        precision=card.precision,
        tiles=of_job[0].tiles,
        rounds=len(of_job),
        ways=ways,
        start_s=starts,
        stages={**stages, "rest": cpu_s - sum(stages.values())},
        threads=threads,
        requests=requests,
        sizes=sizes,
        seconds_a_100mm2=float(np.median(starts)) + AREA_UM2 / tile_um**2 / tiles_s,
        busy=busy,
        busy_alone=busy_alone,
        bottleneck=bottleneck(stages, busy, busy_alone),
        left_out=tuple(left_out),
    )


def _busy(way: Way) -> float:
    shares = np.multiply(way.cpu_s_a_tile, way.tiles_s) / machine.usable_cores()
    return float(np.median(shares))


def bottleneck(stages: dict[str, float], busy: float, busy_alone: float) -> str:
    """Say what limits a job: its dearest stage, or waiting.

    The network alone never waits for tiles, so what it leaves idle, other programs have taken.
    """
    if busy < BUSY * min(busy_alone, 1.0):
        return (
            f"waiting: the job uses {busy:.0%} of the processors, the network alone "
            f"{busy_alone:.0%}; try other --threads and --requests"
        )
    stage = max(stages, key=stages.__getitem__)
    return f"{stage}: {stages[stage] / sum(stages.values()):.0%} of the CPU time of all stages"
