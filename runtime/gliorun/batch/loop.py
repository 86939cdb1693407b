"""Measure each of many slides once, even if others fail."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from gliorun import job, writers
from gliorun.atomic import cannot_write, remove_leftovers
from gliorun.batch import summary
from gliorun.batch.again import Again
from gliorun.batch.failure import Failure, of_error, of_one_slide
from gliorun.batch.health import Health
from gliorun.batch.ledger import MAX_INTERRUPTED, Ledger
from gliorun.errors import DiskFullError, GlioError, StalledError, UsageError
from gliorun.hashname import without_names
from gliorun.model.engine import Engine
from gliorun.plan import Plan, made_with, open_engine
from gliorun.reading.files import stamp_of
from gliorun.reporting.reporter import Reporter
from gliorun.sliderecord import Record

LOCK = ".lock"
SUMMARY_EVERY_S = 20.0
"""Least time between two rewrites of the tables."""


@dataclass(frozen=True, slots=True)
class Task:
    """A slide to measure, its plan, and its records for this run and the previous one."""

    path: Path
    plan: Plan
    record: Record
    before: Record | None


@dataclass(frozen=True, slots=True)
class Order:
    """What was asked for one slide.

    `name` is what its outputs are called; empty for the slide's own. `fault` says why it cannot be
    measured so; empty if it can.
    """

    plan: Plan
    name: str = ""
    fault: str = ""


Feed = Iterable[Path | None]
"""Yields slides to measure, and None when there is none at the moment."""
Ended = tuple[Task, job.Outcome | Failure] | None
Work = Callable[[Iterable[Task | None]], Generator[Ended]]
"""Measures slides; yields each one when it has ended, and None regularly while none has."""
Tell = Callable[[Path, int, int, str], None]
"""Called with a slide, its tiles done and in all, and the stage that it waits for most."""


@dataclass(slots=True)
class Tally:
    """How many slides of a run were done, failed, or had been done before."""

    done: int = 0
    failed: int = 0
    skipped: int = 0


def suffixes_of(formats: str) -> tuple[str, ...]:
    """Return the suffixes of formats such as `png,csv,html`, and that of the thumbnail.

    Raises
    ------
    UsageError
        A format is unknown, or none is named.
    """
    names = [name.strip().lower().removeprefix(".") for name in formats.split(",")]
    suffixes = tuple(dict.fromkeys(f".{name}" for name in names if name))
    choices = ", ".join(suffix.removeprefix(".") for suffix in writers.WRITERS)
    if not suffixes:
        raise UsageError(f"--format: names no output; known: {choices}")
    for suffix in suffixes:
        if suffix not in writers.WRITERS:
            raise UsageError(f"--format {suffix.removeprefix('.')}: unknown; known: {choices}")
    return tuple(dict.fromkeys((*suffixes, writers.THUMBNAIL)))


@contextmanager
def opened(
    folder: Path, suffixes: tuple[str, ...], plan: Plan, complain: Callable[[str], None]
) -> Generator[Ledger]:
    """Create the output folder if needed, and lock it against other processes.

    Raises
    ------
    GlioError
        The folder cannot be written or another process uses it, or the model does not exist.
    """
    wanted = made_with(plan)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write(folder, error) from error
    try:
        lock = FileLock(folder / LOCK, timeout=0).acquire()
    except Timeout as error:
        raise GlioError(
            f"{folder}: another gliorun writes there; stop it, or name another --out-dir"
        ) from error
    except (OSError, NotImplementedError) as error:
        raise GlioError(
            f"{folder}: cannot be locked for writing ({error}); name another --out-dir"
        ) from error
    with lock:
        ledger = Ledger(folder, wanted, suffixes, complain, hides_names=plan.hides_names)
        outputs = [output for record in ledger for output in record.outputs]
        remove_leftovers(*(folder / name for name in (summary.TABLE, summary.INDEX, *outputs)))
        try:
            yield ledger
        finally:
            ledger.tidy()


def run(
    feed: Feed,
    ledger: Ledger,
    plan: Plan,
    work: Work,
    reporter: Reporter,
    *,
    retry: bool,
    health: Health | None = None,
    order_of: Callable[[Path], Order] | None = None,
    again: Again | None = None,
) -> Tally:
    """Measure the slides of a feed that are due, and keep the tables in the folder up to date.

    With `retry`, slides that failed before are measured again at once. A watch has `health`, whose
    faults stand in the index. `order_of` gives what was asked for each slide, by default the plan.
    `again` is how slides that failed are tried again by hand, which the index tells. If an
    exception stops the run, the slide under way keeps its previous record.

    Raises
    ------
    GlioError
        The folder cannot be written, or the model cannot be used; no slide is a cause.
    DiskFullError
        Without `retry`, an output has no room; its slide is due again.
    """
    if order_of is None:
        order_of = lambda path: Order(plan)  # noqa: E731
    return _Batch(ledger, plan, reporter, retry, order_of, health, again).run(feed, work)


@dataclass(slots=True)
class _Batch:
    """The state of one run over a feed."""

    ledger: Ledger
    plan: Plan
    reporter: Reporter
    retry: bool
    order_of: Callable[[Path], Order]
    health: Health | None = None
    again: Again | None = None
    tally: Tally = field(default_factory=Tally)
    under_way: dict[str, Task] = field(default_factory=dict)
    stalled: str = ""
    summary_due: bool = True
    summary_at: float = 0.0
    shown_faults: dict[str, str] = field(default_factory=dict)

    def run(self, feed: Feed, work: Work) -> Tally:
        self.ledger.forget_vanished()
        try:
            with closing(work(self._tasks(feed))) as ended:
                for pair in ended:
                    if pair is not None:
                        self._end(*pair)
                    if time.monotonic() - self.summary_at > SUMMARY_EVERY_S:
                        self._refresh_summary()
        finally:
            for task in list(self.under_way.values()):
                self._take_back(task)
            self._write_summary()
            tally, index = self.tally, self.ledger.folder / summary.INDEX
            self.reporter.total(tally.done, tally.failed, tally.skipped, index)
        if self.stalled:
            raise StalledError(self.stalled)
        return self.tally

    def _tasks(self, feed: Feed) -> Generator[Task | None]:
        """Yield the slides that are due; those whose earlier runs were interrupted come last."""
        suspects: list[Path] = []
        for path in feed:
            if path is None:
                while suspects:
                    yield from self._task(suspects.pop(0))
                yield None
            elif self.ledger.interrupted_runs(path):
                suspects.append(path)
            else:
                yield from self._task(path)
        for path in suspects:
            yield from self._task(path)

    def _task(self, path: Path) -> Generator[Task]:
        order = self.order_of(path)
        order, made_with = self._made_with(order)
        settled = self.ledger.settled(
            path, retry=self.retry, under_way=self.under_way.keys(), made_with=made_with,
            name=order.name,
        )  # fmt: skip
        if settled is not None and not order.fault:
            self.tally.skipped += 1
            self.reporter.skipped(path, settled)
            return
        interrupted = self.ledger.interrupted_runs(path)
        record, before = self.ledger.start(path, made_with, order.name)
        if order.fault:
            self._end(Task(path, order.plan, record, before), Failure(order.fault))
            return
        if interrupted >= MAX_INTERRUPTED and not self.retry:
            reason = (
                f"{path}: {MAX_INTERRUPTED} runs in turn were cut off while it was measured; "
                "run it without --watch to try again"
            )
            self._end(Task(path, self.plan, record, before), Failure(reason))
            return
        # the ledger deletes the checkpoint once the outputs are published
        made = self.ledger.made_at(record)
        plan = replace(order.plan, outputs=made, keeps_checkpoint=True)
        task = Task(path, plan, record, before)
        self.under_way[record.name] = task
        self.reporter.started(path)
        yield task

    def _made_with(self, order: Order) -> tuple[Order, dict[str, Any]]:
        """Return an order, with its fault, and what its result depends on besides the slide."""
        if order.plan is self.plan:
            return order, self.ledger.made_with
        try:
            return order, made_with(order.plan)
        except GlioError as error:
            return replace(order, fault=order.fault or str(error)), self.ledger.made_with

    def _take_back(self, task: Task) -> None:
        self.ledger.take_back(task.record, task.before)
        self.under_way.pop(task.record.name, None)
        self.summary_due = True

    def _end(self, task: Task, outcome: job.Outcome | Failure) -> None:
        outcome = _if_unchanged(task, outcome)
        if isinstance(outcome, job.Outcome):
            try:
                self.ledger.publish(task.record)
            except GlioError as error:
                outcome = of_error(error)
        if isinstance(outcome, Failure) and outcome.vanished and not self.retry:
            self._take_back(task)  # the user can do nothing about it
            self.reporter.complain(f"{outcome.reason}; it is tried again when it is there")
            return
        if isinstance(outcome, Failure) and outcome.disk_full and not self.retry:
            raise DiskFullError(outcome.reason)  # the slide is no cause, and is taken back
        if isinstance(outcome, Failure):
            self.stalled = outcome.reason if outcome.stalled else self.stalled
            reason, trace = self._kept(task, outcome.reason), self._kept(task, outcome.trace)
            record = self.ledger.failed(task.record, reason, trace)
            self.tally.failed += 1
        else:
            figures = {**figures_of(outcome.run), "hint": outcome.hint}
            pace = pace_of(outcome.run)
            record = self.ledger.done(task.record, outcome.warnings, figures, pace)
            self.tally.done += 1
        self.under_way.pop(record.name, None)
        self.summary_due = True
        if self.health is not None:
            self.health.ended(record)
        told = replace(record, slide=str(task.path))  # who runs the command may know the file
        self.reporter.ended(told, outcome.summary if isinstance(outcome, job.Outcome) else "")

    def _kept(self, task: Task, text: str) -> str:
        """Return a text as it is kept with the record: where names are hidden, without them."""
        hides = self.plan.hides_names
        return without_names(text, task.path, task.record.name) if hides else text

    def _refresh_summary(self) -> None:
        try:
            self._write_summary()
        except GlioError as error:  # a program has it open; try again after the next slide
            self.reporter.complain(str(error))

    def _write_summary(self) -> None:
        self.summary_at = time.monotonic()
        faults = {} if self.health is None else self.health.faults
        if self.summary_due or faults != self.shown_faults:
            summary.write(self.ledger.folder, list(self.ledger), self.again, faults=faults)
            self.summary_due, self.shown_faults = False, dict(faults)


def _if_unchanged(task: Task, outcome: job.Outcome | Failure) -> job.Outcome | Failure:
    """Return the outcome, or a failure if the slide has changed while it was measured."""
    before = task.record.stamp
    try:
        unchanged = stamp_of(task.path) == before
    except OSError:
        if not isinstance(outcome, Failure):
            return outcome  # a slide may vanish after it was read to its end
        if before is None:  # unreachable from the start, which its run has reported
            return replace(outcome, vanished=True)
        return Failure(f"{task.path}: vanished before it was measured", vanished=True)
    if unchanged or (before is None and isinstance(outcome, Failure)):
        return outcome
    return Failure(f"{task.path}: changed while it was measured; copy it whole, then run again")


def figures_of(run: dict[str, Any]) -> dict[str, Any]:
    """Return the part of a run record that tables and `--view` show; `--format json` writes all."""
    shown = ("density", "tiles", "scale", "seconds", "resumed_tiles")
    counted = run.get("nuclei") or {}
    return {
        **{name: run.get(name) for name in shown},
        "nuclei": {"nuclei_per_mm2": counted.get("nuclei_per_mm2")},
        "hot_spots": run.get("hot_spots", []),
        "model": {"weights_sha256": run.get("model", {}).get("weights_sha256")},
    }


def pace_of(run: dict[str, Any]) -> dict[str, Any]:
    """Return tiles, tiles per second and seconds waited by stage, from a run record."""
    seconds = run["seconds"]
    waited_s = {stage: seconds.get(f"waiting for {stage}", 0.0) for stage in ("reading", "network")}
    tiles = max(
        0, run["tiles"]["measured"] - run["resumed_tiles"]
    )  # resumed tiles include left-out ones
    return {
        "tiles": tiles,
        "tiles_per_s": round(tiles / max(seconds["measure"], 1e-3), 2),
        "bottleneck": max(waited_s, key=waited_s.__getitem__),
        "waited_s": waited_s,
    }


def local_work(plan: Plan, tell: Tell, say: job.Say) -> Work:
    """Return the function that measures slides in this process, one at a time.

    `tell` is called with the slide, and what `job.Tiles` is.
    """

    @lru_cache(maxsize=1)
    def engine() -> Engine:
        return open_engine(plan)

    def work(tasks: Iterable[Task | None]) -> Generator[Ended]:
        for task in tasks:
            if task is None:
                yield None
                continue
            engine()  # open it here: a fault of the model must not count as one of the slide
            outcome = attempt(task.path, task.plan, engine, partial(tell, task.path), say)
            if isinstance(outcome, Failure) and outcome.stalled:
                engine.cache_clear()
            yield task, outcome

    return work


def attempt(
    path: Path,
    plan: Plan,
    engine: Callable[[], Engine],
    tiles_done: job.Tiles = job.no_tiles,
    say: job.Say = job.say_nothing,
) -> job.Outcome | Failure:
    """Measure a slide, or return why it cannot be measured."""
    return of_one_slide(path, lambda: job.measure(path, plan, engine, tiles_done, say))
