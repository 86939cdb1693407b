"""Compare a whole job with the network alone and with a plain Keras script, stage by stage."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from gliobench import giant
from gliobench.backends import has_keras, is_reference_of, reference_model
from gliobench.compare import OTHER_NETWORK, SAME_NETWORK
from gliobench.ways import Run, Target, open_job, open_network, open_script, open_stages
from gliobench.workers import Contestant, Turn, Worker, take_turns
from gliorun.errors import GlioError, UsageError
from gliorun.model.card import ModelCard, sha256_of
from gliorun.model.engine import EXACT, open_model
from gliorun.processors import processors
from gliorun.reading.slide import Slide

Say = Callable[[str], None]

JOB, NETWORK, READING, SCRIPT = "gliorun", "network alone", "reading alone", "Keras script"
OTHER_SCRIPT = "Keras script with another network"
"""Used if the model was not converted from the Keras file, as with a distilled student."""
WARM_UP_TILES, PILOT_TILES = 2, 4
MOST_TILES = 400
"""Tiles per round; the network alone holds all of them in memory, 0.7 MB each."""
SCALING_ROUNDS = 2
SIZES_GIGAPIXELS = (0.1, 1.0, 10.0)
TURNS_SHARE, SCALING_SHARE = 0.5, 0.5
"""Share of the remaining time."""
LEAST_BUDGET_S = 30
AREA_UM2 = 100e6
"""100 mm² of tissue, the public unit."""
CLOSE_POINTS, OTHER_POINTS = SAME_NETWORK[0], OTHER_NETWORK[0]
"""Mean density difference, in points, up to which two ways, or two networks, are said to agree."""
BUSY = 0.85
"""Share of the processor time from which the processors count as the limit."""


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
    stage at a time; together they may be more or less than the whole job. `threads`, `requests` and
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


def tiles_within(seconds: float, second_a_tile: float, most: int) -> int:
    """Return how many tiles fit into a time, at least `PILOT_TILES` if there are as many."""
    return min(most, max(PILOT_TILES, int(seconds / second_a_tile)))


def measure_speed(
    target: Target, *, keras_file: Path | None, rounds: int, budget_s: float, say: Say
) -> SpeedFigures:
    """Measure a job; the budget determines the number of tiles and what is left out.

    Raises
    ------
    GlioError
        The slide or model cannot be used, or the budget is too small.
    """
    if budget_s < LEAST_BUDGET_S:
        raise UsageError(f"budget is {budget_s:g} s; it must be at least {LEAST_BUDGET_S}")
    if rounds < 1:
        raise UsageError(f"rounds is {rounds}; it must be at least 1")
    ends = time.monotonic() + budget_s
    with Slide(target.slide) as slide:  # report faults before any process is started
        slide.scale(target.mpp)
    card = open_model(target.model).card
    left_out: list[str] = []
    with ExitStack() as held:
        workers = _open_ways(target, keras_file, card, left_out, held)
        job = workers[JOB]
        say("warm-up")
        pilot = {name: _pilot(worker) for name, worker in workers.items()}
        cost_s = pilot[JOB].seconds / pilot[JOB].tiles
        tiles, fits = _tiles_and_rounds(pilot, rounds, ends - time.monotonic())
        if fits < rounds:
            left_out.append(f"{rounds - fits} of {rounds} rounds: the budget was spent")
            rounds = fits
        say(f"{tiles} tiles a round, {rounds} rounds in turns")
        contestants: list[Contestant] = [*workers.values(), _Reading(job)]
        runs = {
            contestant.name: [turn.value for turn in turns]
            for contestant, turns in zip(
                contestants, take_turns(contestants, rounds, tiles, say=say), strict=True
            )
        }
        say("the start of the whole slide, and each stage alone")
        starts = tuple(job.turn(0).value.start_s for _ in range(rounds))
        stages = held.enter_context(Worker("stages", open_stages, target)).turn(tiles).value
        seconds = SCALING_SHARE * (ends - time.monotonic())
        threads, requests = _scale_settings(job, seconds, cost_s, tiles, left_out, say)
    peaks = {name: worker.peak_bytes for name, worker in workers.items()}
    ways = tuple(_way(name, of_one, runs[JOB], peaks.get(name)) for name, of_one in runs.items())
    sizes = _scale_sizes(target, ends - time.monotonic(), cost_s, left_out, say)
    curves = threads, requests, sizes
    return _figures(target, card, ways, runs[JOB], starts, stages, curves, left_out)


def _open_ways(
    target: Target,
    keras_file: Path | None,
    card: ModelCard,
    left_out: list[str],
    held: ExitStack,
) -> dict[str, Worker]:
    workers = {
        JOB: held.enter_context(Worker(JOB, open_job, target)),
        NETWORK: held.enter_context(Worker(NETWORK, open_network, target)),
    }
    if not has_keras():
        left_out.append(f"{SCRIPT}: TensorFlow is not installed; pip install '.[bench]'")
        return workers
    file = keras_file or reference_model()
    name = SCRIPT if is_reference_of(file, card) else OTHER_SCRIPT
    workers[name] = held.enter_context(Worker(name, open_script, target, file))
    return workers


def _tiles_and_rounds(pilot: dict[str, Run], rounds: int, left_s: float) -> tuple[int, int]:
    """Return the number of tiles and of rounds for which all ways fit into the remaining time."""
    costs = [run.seconds / run.tiles for run in pilot.values()]
    reading = pilot[JOB].seconds / pilot[JOB].tiles / 2
    most = min(pilot[JOB].tissue_tiles, MOST_TILES)
    seconds, cost_s = TURNS_SHARE * left_s, sum(costs) + reading
    rounds = min(rounds, max(1, int(seconds / (PILOT_TILES * cost_s))))
    return tiles_within(seconds / rounds, cost_s, most), rounds


def _pilot(worker: Worker) -> Run:
    """Warm a way up and return a short run of it."""
    worker.turn(WARM_UP_TILES)
    run: Run = worker.turn(PILOT_TILES).value
    if run.tiles == 0:
        raise GlioError(
            f"{worker.name}: the slide has no tile that is fit to be measured; pass another"
        )
    return run


@dataclass(frozen=True, slots=True)
class _Reading:
    """The job without its network, in the job's process."""

    job: Worker

    @property
    def name(self) -> str:
        return READING

    def turn(self, *arguments: Any) -> Turn:
        return self.job.turn(*arguments, None, EXACT, False)


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
        return self.job.turn(*arguments, self.threads, replace(EXACT, requests=self.requests))


def _scale_settings(
    job: Worker, seconds: float, cost_s: float, most: int, left_out: list[str], say: Say
) -> tuple[tuple[Point, ...], tuple[Point, ...]]:
    """Measure the job over reader threads and over requests, in turns."""
    numbers = doubling(max(4, processors()))
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
            rows, columns = giant.GiantSpec(gigapixels).places
            giant.write_giant(path, giant.GiantSpec(gigapixels, min(1.0, tiles / (rows * columns))))
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
    name: str, runs: Sequence[Run], of_job: Sequence[Run], peak_bytes: int | None = None
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
        agrees=difference is None
        or difference <= (OTHER_POINTS if name == OTHER_SCRIPT else CLOSE_POINTS),
        peak_bytes=peak_bytes,
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
    curves: tuple[tuple[Point, ...], tuple[Point, ...], tuple[Point, ...]],
    left_out: list[str],
) -> SpeedFigures:
    job = ways[0]
    tiles_s = float(np.median(job.tiles_s))
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
        stages=stages,
        threads=curves[0],
        requests=curves[1],
        sizes=curves[2],
        seconds_a_100mm2=float(np.median(starts)) + AREA_UM2 / tile_um**2 / tiles_s,
        busy=busy,
        busy_alone=busy_alone,
        bottleneck=bottleneck(stages, busy, busy_alone),
        left_out=tuple(left_out),
    )


def _busy(way: Way) -> float:
    shares = np.multiply(way.cpu_s_a_tile, way.tiles_s) / processors()
    return float(np.median(shares))


def bottleneck(stages: dict[str, float], busy: float, busy_alone: float) -> str:
    """Return what limits a job: its most expensive stage, or waiting.

    The network alone never waits for tiles; time that it leaves idle went to other programs.
    """
    if busy < BUSY * min(busy_alone, 1.0):
        return (
            f"waiting: the job uses {busy:.0%} of the processors, the network alone "
            f"{busy_alone:.0%}; try other --threads and --requests"
        )
    stage = max(stages, key=stages.__getitem__)
    return f"{stage}: {stages[stage] / sum(stages.values()):.0%} of the CPU time of all stages"
