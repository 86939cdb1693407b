"""Measure slides on many machines, into a shared folder; the only module that imports Dask."""

from __future__ import annotations

import logging
import pickle
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from distributed import Client, Future, KilledWorker, get_worker

from gliorun import job
from gliorun.batch import loop
from gliorun.batch.failure import Failure
from gliorun.batch.loop import Ended, Task
from gliorun.errors import GlioError, UsageError
from gliorun.model import shipped
from gliorun.model.engine import Engine
from gliorun.plan import Plan, made_with, open_engine
from gliorun.reading.files import is_folder

AHEAD = 2
"""Slides handed out per worker, so that no worker waits between two slides."""
POLL_S = 1.0
CONNECT_S = 15

_ONE_SLIDE = threading.Lock()
"""A worker with several threads measures one slide at a time: it already uses every core."""


@dataclass(frozen=True, slots=True)
class Unfit:
    """A worker whose results would differ from those of this machine, and the reason."""

    worker: str
    reason: str


Answer = job.Outcome | Failure | Unfit


@contextmanager
def on(address: str, plan: Plan, complain: Callable[[str], None]) -> Iterator[loop.Work]:
    """Yield the function that measures slides on the workers of a scheduler.

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
        yield _Workers(client, address, complain).work


class _Workers:
    """The workers of a scheduler, and the slides that they are measuring."""

    def __init__(self, client: Client, address: str, complain: Callable[[str], None]) -> None:
        self._client = client
        self._address = address
        self._complain = complain
        self._in_hand: dict[Future, Task] = {}
        self._alone = False
        self._woken = threading.Event()

    def work(self, tasks: Iterable[Task | None]) -> Generator[Ended]:
        """Hand out slides, and yield each one as soon as it has ended, in any order."""
        remaining, more = iter(tasks), True
        try:
            while more or self._in_hand:
                room, idle = AHEAD * self._workers() - len(self._in_hand), False
                while more and room > 0 and not idle:
                    task = next(remaining, _END)
                    more, idle = task is not _END, task is None
                    if isinstance(task, Task):
                        self._hand_out(task)
                        room -= 1
                if not idle:
                    self._woken.wait(POLL_S)
                    self._woken.clear()
                yield from self._ended()
                yield None
        finally:
            self._client.cancel(list(self._in_hand), force=True)

    def _workers(self) -> int:
        """Return the number of workers; complain once when there is none."""
        try:
            workers = len(self._client.nthreads())
        except (OSError, RuntimeError) as error:
            raise self._lost() from error
        if not workers and not self._alone:
            self._complain(
                f"{self._address}: has no worker; waiting. Start one with 'dask worker "
                f"{self._address} --nthreads 1'"
            )
        self._alone = not workers
        return workers

    def _hand_out(self, task: Task) -> None:
        plan = task.plan
        own_model = None if plan.model == shipped.DEFAULT_MODEL else plan.model
        future = self._client.submit(
            measure_there, task.path, plan, own_model, task.record.made_with, pure=False
        )
        future.add_done_callback(lambda ended: self._woken.set())
        self._in_hand[future] = task

    def _ended(self) -> Generator[tuple[Task, job.Outcome | Failure]]:
        for future in [future for future in self._in_hand if future.done()]:
            task = self._in_hand.pop(future)
            answer = self._answer(future, task)
            future.release()
            if isinstance(answer, Unfit) and not is_folder(task.path.parent):
                # The slide's folder has vanished for all machines, so the worker is not at fault.
                answer = Failure(f"{task.path}: not there; check that its disk is")
            if isinstance(answer, Unfit):
                self._complain(f"worker {answer.worker}: {answer.reason}; it is let go")
                self._client.retire_workers([answer.worker])
                self._hand_out(task)
            else:
                yield task, answer

    def _answer(self, future: Future, task: Task) -> Answer:
        if future.status == "finished":
            answer: Answer = future.result()
            return answer
        if future.status != "error":
            raise self._lost()
        error = future.exception()
        if isinstance(error, UsageError):
            raise error
        if isinstance(error, KilledWorker):
            return Failure(f"{task.path}: one worker after another was lost while it was measured")
        raise GlioError(
            f"--cluster {self._address}: a worker cannot run gliorun "
            f"({type(error).__name__}: {error}); install gliorun[cluster] on every one"
        ) from error

    def _lost(self) -> GlioError:
        return GlioError(
            f"--cluster {self._address}: the scheduler is gone; the same command goes on where it "
            "stopped once there is one again"
        )


_END = object()
"""Marks the end of the tasks."""


def measure_there(path: Path, plan: Plan, own_model: Path | None, wanted: dict[str, Any]) -> Answer:
    """Measure a slide on a worker if its result would equal that of the requesting machine.

    Parameters
    ----------
    path : Path
    plan : Plan
    own_model : Path, optional
        None stands for the default model that is installed with gliorun.
    wanted : dict
        What `made_with` returns on the requesting machine.
    """
    plan = replace(plan, model=own_model or shipped.DEFAULT_MODEL)
    me = get_worker().address
    try:
        made_here = made_with(plan)
    except GlioError as error:
        return Unfit(me, str(error))
    for name, value in wanted.items():
        if made_here[name] != value:
            return Unfit(me, f"its {name} is {made_here[name]}, wanted is {value}")
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
        answer = loop.attempt(path, plan, lambda: engine)
    if isinstance(answer, Failure) and answer.stalled:
        _engine.cache_clear()
    return answer


@lru_cache(maxsize=1)
def _engine(plan: bytes) -> Engine:
    """Return the engine of a pickled plan without outputs; it is reused from slide to slide."""
    opened: Plan = pickle.loads(plan)
    return open_engine(opened)
