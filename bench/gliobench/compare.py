"""Run the same tiles through every backend in turns: speed, cost, agreement and limits."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from gliobench.backends import (
    BATCHES,
    IR,
    KERAS,
    XLA,
    Backend,
    Packed,
    Pixels,
    open_backend,
)
from gliobench.roofline import PRECISIONS, gmac_of, open_peaks
from gliobench.workers import Contestant, Turn, Worker, take_turns
from gliorun.errors import GlioError
from gliorun.findings.agreement import Agreement, agreement
from gliorun.model.card import sha256_of

Say = Callable[[str], None]

TRIAL_TILES = 8
PEAK_S = 0.5
SAME_NETWORK = (0.3, 0.97)
OTHER_NETWORK = (2.0, 0.8)
"""Largest mean density difference to the reference in points, and least share of tiles of the same
class; for the reference's network, and for another one such as a student. A backend beyond them is
not ranked by speed."""


@dataclass(frozen=True, slots=True)
class Row:
    """One backend, round by round.

    `ratios` are tiles/s over the reference's in the same round. `cpu_s_a_tile` is CPU time of all
    threads. `start_s` is from the start of its process to its first mask. `agreement` is with the
    reference's masks over all rounds, `agrees` says whether it is close enough for its speed to
    be ranked. `gmac` is for one tile; `peak_share` is how much of the processor's measured peak,
    in its precision, it reaches in its CPU time. What cannot be known is None.
    """

    name: str
    sha256: str
    precision: str
    same_network: bool
    batch: int
    tiles_s: tuple[float, ...]
    ratios: tuple[float, ...]
    cpu_s_a_tile: tuple[float, ...]
    start_s: float
    peak_bytes: int | None
    agreement: Agreement
    agrees: bool
    gmac: float | None
    peak_share: float | None


@dataclass(frozen=True, slots=True)
class CompareFigures:
    """What `gliobench compare` measured.

    `source` says what the tiles are of. The first of `rows` is the reference. `peaks` are 10⁹
    operations (two a multiply-accumulate) in a second of one core, by precision. `left_out` says
    what could not be run.
    """

    tiles: int
    source: str
    rounds: int
    rows: tuple[Row, ...]
    peaks: dict[str, float]
    left_out: tuple[str, ...]


def compare(
    backends: Sequence[Backend],
    windows: list[Pixels],
    source: str,
    rounds: int,
    say: Say = lambda line: None,
) -> CompareFigures:
    """Run every backend on all windows, `rounds` times in turns, each in its own process.

    The first backend is the reference.

    Raises
    ------
    GlioError
        There is no window, or fewer than one round; or a backend other than XLA cannot be run.
    """
    if not windows or rounds < 1:
        raise GlioError("compare needs at least one tile and one round")
    left_out: list[str] = []
    with ExitStack() as held:
        running: list[_RunningBackend] = []
        for backend in backends:
            say(f"start and warm-up: {backend.name}")
            try:
                running.append(_start(backend, windows, held))
            except GlioError as error:
                if backend.library != XLA:
                    raise
                left_out.append(str(error))
        peaks = [
            _Peak(held.enter_context(Worker("peaks", open_peaks)), precision)
            for precision in PRECISIONS
        ]
        contestants: list[Contestant] = [*running, *peaks]
        turns = take_turns(contestants, rounds, say=say)
    highest = {
        peak.precision: max(turn.value for turn in taken)
        for peak, taken in zip(peaks, turns[len(running) :], strict=True)
    }
    started = [
        Started(e.backend, e.batch, e.worker.start_s, e.worker.peak_bytes, gmac)
        for e, gmac in zip(running, _gmacs([e.backend for e in running]), strict=True)
    ]
    shape = len(windows), windows[0].shape[1]
    rows = rows_of(started, turns[: len(running)], shape, highest)
    return CompareFigures(len(windows), source, rounds, rows, highest, tuple(left_out))


@dataclass(frozen=True, slots=True)
class _RunningBackend:
    """A backend in its own process, at its best batch size."""

    backend: Backend
    worker: Worker
    tiles: int
    batch: int

    @property
    def name(self) -> str:
        return self.backend.name

    def turn(self, *arguments: Any) -> Turn:
        return self.worker.turn(self.tiles, self.batch)


@dataclass(frozen=True, slots=True)
class _Peak:
    """The processor's peak in one precision."""

    worker: Worker
    precision: str

    @property
    def name(self) -> str:
        return f"peak {self.precision}"

    def turn(self, *arguments: Any) -> Turn:
        return self.worker.turn(self.precision, PEAK_S)


def _start(backend: Backend, windows: list[Pixels], held: ExitStack) -> _RunningBackend:
    """Start a backend, find its best batch size, and warm it up."""
    worker = held.enter_context(Worker(backend.name, open_backend, backend, windows))
    batch = 1
    if backend.library in (KERAS, XLA):
        tiles = min(TRIAL_TILES, len(windows))
        batch = best_batch(partial(worker.turn, tiles), tiles)
    worker.turn(len(windows), batch)
    return _RunningBackend(backend, worker, len(windows), batch)


def best_batch(turn: Callable[[int], Turn], tiles: int) -> int:
    """Return the batch size whose turn takes the least CPU time, after a warm-up for each.

    None is larger than the number of tiles of a turn.

    CPU time is compared because trials are short, so that a burst of another program would
    decide them on the clock.
    """
    costs = {}
    for batch in (size for size in BATCHES if size <= tiles):
        turn(batch)
        costs[batch] = turn(batch).cpu_s
    return min(costs, key=costs.__getitem__)


def _gmacs(backends: Sequence[Backend]) -> list[float | None]:
    """Return the operations of each network; other formats use those of an IR of their source."""
    gmac_by_source = {
        b.source_sha256: gmac_of(b.path) for b in reversed(backends) if b.library == IR
    }
    return [
        gmac_of(b.path) if b.library == IR else gmac_by_source.get(b.source_sha256)
        for b in backends
    ]


@dataclass(frozen=True, slots=True)
class Started:
    """The properties of a started backend, apart from its turns."""

    backend: Backend
    batch: int
    start_s: float
    peak_bytes: int | None
    gmac: float | None


def rows_of(
    started: Sequence[Started],
    turns: Sequence[Sequence[Turn]],
    shape: tuple[int, int],
    peaks: dict[str, float],
) -> tuple[Row, ...]:
    """Make rows of turns; `shape` is the number of tiles and their width in px."""
    tiles, width = shape
    reference = started[0].backend
    rows = []
    for contestant, taken in zip(started, turns, strict=True):
        same = contestant.backend.source_sha256 == reference.source_sha256
        pairs = zip(_masks(taken, width), _masks(turns[0], width), strict=True)
        agreed = agreement(pairs)
        cpu_s = tuple(turn.cpu_s / tiles for turn in taken)
        reached = None if contestant.gmac is None else 2 * contestant.gmac / float(np.median(cpu_s))
        rows.append(
            Row(
                name=contestant.backend.name,
                sha256=sha256_of(contestant.backend.path),
                precision=contestant.backend.precision,
                same_network=same,
                batch=contestant.batch,
                tiles_s=tuple(tiles / turn.seconds for turn in taken),
                ratios=tuple(
                    theirs.seconds / turn.seconds
                    for turn, theirs in zip(taken, turns[0], strict=True)
                ),
                cpu_s_a_tile=cpu_s,
                start_s=contestant.start_s,
                peak_bytes=contestant.peak_bytes,
                agreement=agreed,
                agrees=close_enough(agreed, same),
                gmac=contestant.gmac,
                peak_share=None
                if reached is None
                else reached / peaks[contestant.backend.precision],
            )
        )
    return tuple(rows)


def close_enough(agreed: Agreement, same_network: bool) -> bool:
    """Tell whether masks are close enough to those of the reference for ranking the speed."""
    points, classes = SAME_NETWORK if same_network else OTHER_NETWORK
    return agreed.density_error_points <= points and agreed.class_agreement >= classes


def _masks(turns: Sequence[Turn], width: int) -> Iterator[Pixels]:
    """Yield the masks of all turns."""
    for turn in turns:
        packed: Packed = turn.value
        for mask in packed:
            yield np.unpackbits(mask, axis=-1, count=width)
