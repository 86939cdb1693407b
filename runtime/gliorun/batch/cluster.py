"""Measure slides on many machines, into a shared folder; the only module that imports Dask."""

from __future__ import annotations

import logging
import pickle
import threading
import time
from collections import Counter
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from distributed import Client, Future, KilledWorker, get_worker

from gliorun import __version__, job
from gliorun.batch import loop
from gliorun.batch.failure import Failure
from gliorun.batch.loop import Ended, Task
from gliorun.batch.roster import Roster, difference, lost
from gliorun.errors import GlioError, UsageError
from gliorun.model import shipped
from gliorun.model.engine import Engine
from gliorun.plan import Plan, made_with, open_engine
from gliorun.reading.files import is_folder
from gliorun.reporting.reporter import Reporter

AHEAD = 2
"""Slides handed out per worker, so that no worker waits between two slides."""
POLL_S = 1.0
CONNECT_S = 15
REPORT_S = 1.0
"""Least time between two reports of a worker about its slide."""
TOPIC = "gliorun"
"""Under which workers report how far their slides are."""
ASK_S = 30.0
"""A slide that could not be begun waits at most so long for workers that are being asked."""
MOST_ERRORS = 3
"""Times that a slide cannot be begun before the run gives up."""

_ONE_SLIDE = threading.Lock()
"""A worker with several threads measures one slide at a time: it already uses every core."""


@dataclass(frozen=True, slots=True)
class Unfit:
    """A worker whose results would differ from those of this machine, and the reason."""

    worker: str
    reason: str


Answer = job.Outcome | Failure | Unfit


@contextmanager
def on(
    address: str, plan: Plan, reporter: Reporter, *, most_workers: int | None = None
) -> Iterator[loop.Work]:
    """Yield the function that measures slides on the workers of a scheduler.

    `reporter` is told who joins, who leaves, and how far each slide is. At most `most_workers` are
    given slides; by default all.

    Raises
    ------
    GlioError
        No scheduler answers at the address.
    """
    logging.getLogger("distributed.client").setLevel(logging.CRITICAL)  # `_lost` reports it
    try:
        client = Client(address, timeout=CONNECT_S, set_as_default=False)
    except (OSError, ValueError) as error:
        raise GlioError(
            f"--cluster {address}: no scheduler answers; start one with 'dask scheduler', "
            "and name it as tcp://HOST:8786"
        ) from error
    with client:
        yield _Slides(client, address, Roster(client, address, reporter, most_workers)).work


class _Slides:
    """The slides that the workers of a scheduler are measuring."""

    def __init__(self, client: Client, address: str, workers: Roster) -> None:
        self._client = client
        self._address = address
        self._workers = workers
        self._in_hand: dict[Future, Task] = {}
        self._again: list[Task] = []
        self._again_s = 0.0
        self._errors: Counter[Path] = Counter()
        self._woken = threading.Event()
        self._reports: SimpleQueue[dict[str, Any]] = SimpleQueue()
        client.subscribe_topic(TOPIC, self._hear)

    def _hear(self, event: tuple[float, dict[str, Any]]) -> None:
        """Keep what a worker has reported; called by a thread of Dask's."""
        self._reports.put(event[1])
        self._woken.set()

    def work(self, tasks: Iterable[Task | None]) -> Generator[Ended]:
        """Hand out slides, and yield each one as soon as it has ended, in any order."""
        remaining, more = iter(tasks), True
        try:
            while more or self._in_hand or self._again:
                self._workers.meet()
                self._hand_out_again()
                room, idle = AHEAD * len(self._workers) - len(self._in_hand), False
                while more and room > 0 and not idle:
                    task = next(remaining, _END)
                    more, idle = task is not _END, task is None
                    if isinstance(task, Task):
                        self._hand_out(task)
                        room -= 1
                if not idle:
                    self._woken.wait(POLL_S)
                    self._woken.clear()
                self._report()
                yield from self._ended()
                yield None
        finally:
            self._client.cancel(list(self._in_hand), force=True)

    def _hand_out(self, task: Task) -> None:
        plan = task.plan
        own_model = None if plan.model == shipped.DEFAULT_MODEL else plan.model
        packed = pickle.dumps((task.path, plan, own_model))
        future = self._client.submit(
            measure_there, task.record.made_with, packed, pure=False, workers=self._workers.chosen
        )
        future.add_done_callback(lambda ended: self._woken.set())
        self._in_hand[future] = task

    def _hand_out_again(self) -> None:
        """Hand out what could not be begun, once it is known which workers can."""
        waited = time.monotonic() - self._again_s >= ASK_S
        if self._again and len(self._workers) and (waited or not self._workers.are_asked):
            for task in self._again:
                self._hand_out(task)
            self._again.clear()

    def _report(self) -> None:
        """Tell how far the workers are, as they have reported."""
        paths = {future.key: task.path for future, task in self._in_hand.items()}
        while not self._reports.empty():
            report = self._reports.get()
            path = paths.get(report["key"])
            if path is not None:  # else it is of another run, or has ended
                worker = self._workers.name_of(report["worker"])
                self._workers.reporter.tiles(
                    path, report["done"], report["of"], report["bottleneck"], worker
                )

    def _ended(self) -> Generator[tuple[Task, job.Outcome | Failure]]:
        for future in [future for future in self._in_hand if future.done()]:
            task = self._in_hand.pop(future)
            answer = self._answer(future, task)
            future.release()
            if isinstance(answer, Unfit) and not is_folder(task.path.parent):
                # The slide's folder has vanished for all machines, so the worker is not at fault.
                answer = Failure(f"{task.path}: not there; check that its disk is")
            if answer is None:
                self._again.append(task)
                self._again_s = time.monotonic()
            elif isinstance(answer, Unfit):
                self._workers.let_go(answer.worker, answer.reason)
                self._hand_out(task)
            else:
                yield task, answer

    def _answer(self, future: Future, task: Task) -> Answer | None:
        """Return the answer of a worker; None if one could not begin, and another may."""
        if future.status == "finished":
            answer: Answer = future.result()
            return answer
        if future.status != "error":
            raise lost(self._address)
        error = future.exception()
        if isinstance(error, UsageError):
            raise error
        if isinstance(error, KilledWorker):
            return Failure(f"{task.path}: one worker after another was lost while it was measured")
        self._errors[task.path] += 1
        if self._errors[task.path] < MOST_ERRORS:
            return None
        raise GlioError(
            f"--cluster {self._address}: a worker cannot run gliorun "
            f"({type(error).__name__}: {error}); install gliorun[cluster] on every one"
        ) from error


_END = object()
"""Marks the end of the tasks."""


def measure_there(wanted: dict[str, Any], packed: bytes) -> Answer:
    """Measure a slide on a worker if its result would equal that of the requesting machine.

    Parameters
    ----------
    wanted : dict
        What `made_with` returns on the requesting machine.
    packed : bytes
        Pickle of the slide's path, the plan, and its model or None for the default model that is
        installed with gliorun. It is not unpacked by another version, which has other plans.
    """
    me = get_worker().address
    if wanted["gliorun"] != __version__:
        return Unfit(me, difference("gliorun", __version__, wanted["gliorun"]))
    path, plan, own_model = pickle.loads(packed)
    plan = replace(plan, model=own_model or shipped.DEFAULT_MODEL)
    try:
        made_here = made_with(plan)
    except GlioError as error:
        return Unfit(me, str(error))
    for name, value in wanted.items():
        if made_here[name] != value:
            return Unfit(me, difference(name, made_here[name], value))
    for folder in {path.parent, *(output.parent for output in plan.outputs)}:
        if not is_folder(folder):
            return Unfit(me, f"{folder} is not there; every worker must see the same folders")
    with _ONE_SLIDE:
        opened = pickle.dumps(replace(plan, outputs=[]))
        try:
            engine = _engine(opened)
        except UsageError:
            raise  # a wrong option fails on every worker
        except GlioError as error:
            return Unfit(me, str(error))
        answer = loop.attempt(path, plan, lambda: engine, _reports())
    if isinstance(answer, Failure) and answer.stalled:
        _engine.cache_clear()
    return answer


def _reports() -> job.Tiles:
    """Return what reports, from a worker, how far its slide is."""
    worker = get_worker()
    values = {"key": worker.get_current_task(), "worker": worker.address}
    last_s = float("-inf")

    def report(done: int, total: int, bottleneck: str) -> None:
        nonlocal last_s
        now_s = time.monotonic()
        if done == total or now_s - last_s >= REPORT_S:
            last_s = now_s
            progress = {"done": done, "of": total, "bottleneck": bottleneck}
            worker.log_event(TOPIC, values | progress)

    return report


@lru_cache(maxsize=1)
def _engine(plan: bytes) -> Engine:
    """Return the engine of a pickled plan without outputs; it is reused from slide to slide."""
    opened: Plan = pickle.loads(plan)
    return open_engine(opened)
