"""Search the settings of the network and the readers that are fastest on this machine."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from gliobench.machine import may_be_hybrid
from gliobench.report import ratio, spread
from gliobench.speed import (
    BUSY,
    CLOSE_POINTS,
    JOB,
    LEAST_BUDGET_S,
    MOST_TILES,
    PILOT_TILES,
    WARM_UP_TILES,
    density_difference_points,
    tiles_within,
)
from gliobench.ways import Run, Target, open_job
from gliobench.workers import Turn, Worker, take_turns
from gliorun.commandline import table
from gliorun.errors import GlioError, UsageError
from gliorun.model.card import ModelCard
from gliorun.model.engine import EXACT, Compute, open_model
from gliorun.processors import processors
from gliorun.reading.slide import Slide

Say = Callable[[str], None]

WORTH = 1.02
"""Median ratio to the defaults from which other settings are recommended."""
SLOWEST_RATIO = 0.4
"""Speed of the slowest settings, as a multiple of the defaults', that the budget allows for."""


@dataclass(frozen=True, slots=True)
class Choice:
    """Settings to try: reader threads and options of the network, None for the default."""

    threads: int | None = None
    compute: Compute = field(default=EXACT)

    @property
    def options(self) -> str:
        """The options of `gliorun` that give these settings; empty for the defaults."""
        given = {
            "--threads": self.threads,
            "--streams": self.compute.streams,
            "--network-threads": self.compute.threads,
            "--cores": None if self.compute.cores == EXACT.cores else self.compute.cores,
        }
        return " ".join(f"{name} {value}" for name, value in given.items() if value is not None)

    def joined(self, other: Choice) -> Choice:
        """Return both changes at once; where both change the same, that of `other`."""
        changed = {
            name: getattr(other.compute, name)
            for name in ("streams", "threads", "cores")
            if getattr(other.compute, name) != getattr(EXACT, name)
        }
        threads = self.threads if other.threads is None else other.threads
        return Choice(threads, replace(self.compute, **changed))


@dataclass(frozen=True, slots=True)
class Trial:
    """How fast some settings were, round by round; empty `options` are the defaults.

    `ratios` are the tiles/s over those of the defaults in the same round.
    """

    options: str
    tiles_s: tuple[float, ...]
    cpu_s_a_tile: tuple[float, ...]
    ratios: tuple[float, ...]

    @property
    def busy(self) -> float:
        """Share of the processors' time that it used, in the median round."""
        return float(np.median(np.multiply(self.tiles_s, self.cpu_s_a_tile))) / processors()

    @property
    def is_faster(self) -> bool:
        """Whether it was faster than the defaults in every round, and by enough to matter."""
        return bool(self.ratios) and min(self.ratios) > 1 and float(np.median(self.ratios)) >= WORTH


@dataclass(frozen=True, slots=True)
class TuneFigures:
    """What `gliobench speed --tune` measured.

    `trials` are the defaults and one change each; `confirmed` are the best changes together,
    measured anew, None where none was faster than the defaults. `busy` is the largest share of the
    processors' time that any of them used. `options` are those recommended, empty for the defaults.
    """

    slide: str
    model: str
    precision: str
    tiles: int
    rounds: int
    trials: tuple[Trial, ...]
    confirmed: Trial | None
    busy: float
    options: str


@dataclass(frozen=True, slots=True)
class _Chosen:
    """The job with some settings, in the job's process."""

    job: Worker
    choice: Choice

    @property
    def name(self) -> str:
        return self.choice.options or "defaults"

    def turn(self, *arguments: Any) -> Turn:
        return self.job.turn(*arguments, self.choice.threads, self.choice.compute)


def choices_of(cores: int, *, hybrid: bool) -> list[list[Choice]]:
    """Return the settings to try on a machine of so many cores: one list for each option."""
    of_threads = sorted({1, max(1, cores // 4), cores} - {max(1, cores // 2)})
    of_streams = sorted({1, max(1, cores // 2), cores})
    choices = [
        [Choice(threads=number) for number in of_threads],
        [Choice(compute=replace(EXACT, streams=number)) for number in of_streams],
        [Choice(compute=replace(EXACT, threads=cores - 1))] if cores > 1 else [],
        [Choice(compute=replace(EXACT, cores="performance"))] if hybrid else [],
    ]
    return [of_option for of_option in choices if of_option]


def tune(target: Target, *, rounds: int, budget_s: float, say: Say) -> TuneFigures:
    """Search for settings that are faster than the defaults, one option after another.

    The best of each option are then measured together, in rounds of their own: the best of many
    trials looks better than it is.

    Raises
    ------
    GlioError
        The slide or model cannot be used, or the budget is too small.
    """
    if budget_s < LEAST_BUDGET_S:
        raise UsageError(f"budget is {budget_s:g} s; it must be at least {LEAST_BUDGET_S}")
    ends = time.monotonic() + budget_s
    with Slide(target.slide) as slide:  # report faults before any process is started
        slide.scale(target.mpp)
    card = open_model(target.model).card
    by_option = choices_of(processors(), hybrid=may_be_hybrid())
    with Worker(JOB, open_job, target) as job:
        say("warm-up")
        default = _Chosen(job, Choice())
        others = [[_Chosen(job, choice) for choice in choices] for choices in by_option]
        every = [default, *(chosen for of_option in others for chosen in of_option)]
        for chosen in every:
            chosen.turn(WARM_UP_TILES)  # opens the model
        tiles = _tiles(default, len(every) + 2, rounds, ends - time.monotonic())
        say(f"{len(every)} settings, {tiles} tiles a round, {rounds} rounds in turns")
        trials = _trials(every, rounds, tiles, say)
        winners = _winners(others, dict(zip((c.name for c in every), trials, strict=True)))
        confirmed = _confirmed(default, winners, rounds, tiles, say) if winners else None
    return _figures(target, card, (tiles, rounds), trials, confirmed)


def _tiles(default: _Chosen, settings: int, rounds: int, left_s: float) -> int:
    """Return how many tiles a round has, so that all settings fit into the remaining time."""
    run: Run = default.turn(PILOT_TILES).value
    if run.tiles == 0:
        raise GlioError("the slide has no tile that is fit to be measured; pass another")
    cost_s = run.seconds / run.tiles / SLOWEST_RATIO
    return tiles_within(left_s / rounds / settings, cost_s, min(run.tissue_tiles, MOST_TILES))


def _trials(every: Sequence[_Chosen], rounds: int, tiles: int, say: Say) -> tuple[Trial, ...]:
    """Measure settings in turns; the first are the defaults."""
    turns = take_turns(every, rounds, tiles, say=say)
    of_default, *_ = runs = [[turn.value for turn in of_one] for of_one in turns]
    return tuple(
        _trial(chosen.choice.options, of_one, of_default)
        for chosen, of_one in zip(every, runs, strict=True)
    )


def _trial(options: str, runs: Sequence[Run], of_default: Sequence[Run]) -> Trial:
    for run, default in zip(runs, of_default, strict=True):
        difference = density_difference_points(run.densities, default.densities)
        if difference is not None and difference > CLOSE_POINTS:
            raise GlioError(
                f"{options}: the densities differ by {difference:.2f} points from those of the "
                "defaults; run 'gliobench doctor'"
            )
    return Trial(
        options,
        tuple(run.tiles / run.seconds for run in runs),
        tuple(run.cpu_s / run.tiles for run in runs),
        tuple(
            (run.tiles / run.seconds) / (default.tiles / default.seconds)
            for run, default in zip(runs, of_default, strict=True)
        ),
    )


def _winners(others: list[list[_Chosen]], trials: dict[str, Trial]) -> list[_Chosen]:
    """Return the fastest settings of each option, where they are faster than the defaults."""
    winners = []
    for of_option in others:
        best = max(of_option, key=lambda chosen: float(np.median(trials[chosen.name].ratios)))
        if trials[best.name].is_faster:
            winners.append(best)
    return winners


def _confirmed(
    default: _Chosen, winners: list[_Chosen], rounds: int, tiles: int, say: Say
) -> Trial:
    """Measure the best settings together beside the defaults, in rounds of their own."""
    together = Choice()
    for chosen in winners:
        together = together.joined(chosen.choice)
    chosen = _Chosen(default.job, together)
    say(f"once more: {chosen.name}")
    chosen.turn(WARM_UP_TILES)
    _, confirmed = _trials([default, chosen], rounds, tiles, say)
    return confirmed


def _figures(
    target: Target,
    card: ModelCard,
    counts: tuple[int, int],
    trials: tuple[Trial, ...],
    confirmed: Trial | None,
) -> TuneFigures:
    tiles, rounds = counts
    busy = max(trial.busy for trial in trials)
    is_better = confirmed is not None and confirmed.is_faster and busy >= BUSY
    return TuneFigures(
        target.slide.name,
        card.name,
        card.precision,
        tiles,
        rounds,
        trials,
        confirmed,
        busy,
        confirmed.options if confirmed is not None and is_better else "",
    )


def tune_markdown(figures: TuneFigures) -> str:
    """Return what was tried as a table, and what to do."""
    rows = [
        (
            trial.options or "the defaults",
            spread(trial.tiles_s, 1),
            ratio(trial.ratios),
            spread(trial.cpu_s_a_tile, 3),
        )
        for trial in figures.trials
    ]
    return "\n\n".join(
        [
            f"{figures.slide}; {figures.model}, {figures.precision}; {figures.tiles} tiles, "
            f"{figures.rounds} rounds in turns; median, minimum and maximum in brackets.",
            table(("options of gliorun", "tiles/s", "× the defaults", "CPU s a tile"), rows),
            _advice(figures),
        ]
    )


def _advice(figures: TuneFigures) -> str:
    if figures.busy < BUSY:
        return (
            f"Other programs ran: gliorun had {figures.busy:.0%} of the processors at most. Close "
            "them and measure again; nothing is recommended."
        )
    if figures.confirmed is None:
        return "Nothing was faster than the defaults in every round: leave them."
    again = f"{spread(figures.confirmed.ratios, 2)} × the defaults, measured once more"
    if not figures.options:
        return f"`{figures.confirmed.options}` seemed faster, but was {again}: leave the defaults."
    return f"Faster on this machine: `gliorun SLIDE {figures.options}`, {again}."
