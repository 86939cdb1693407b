"""How many slides an hour a cluster measures with one, two and more of its workers."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from distributed import Client, LocalCluster

from gliorun.batch import cluster, loop
from gliorun.commandline import table
from gliorun.errors import GlioError
from gliorun.model import shipped
from gliorun.plan import Plan
from gliorun.reporting.lines import Lines
from gliorun.reporting.progress import RunProgress
from gliorun.settings import Settings

SUFFIXES = (".csv",)
HOUR_S = 3600.0


@dataclass(frozen=True, slots=True)
class Pace:
    """What some workers did: slides in seconds, from the first to the last written map."""

    workers: int
    slides: int
    seconds: float

    @property
    def slides_per_hour(self) -> float:
        """Slides an hour, if all were like these."""
        return self.slides / self.seconds * HOUR_S


@contextmanager
def local(workers: int) -> Iterator[str]:
    """Yield the address of a cluster of worker processes on this machine, which share its cores."""
    with LocalCluster(
        n_workers=workers, threads_per_worker=1, processes=True, dashboard_address=None
    ) as started:
        yield started.scheduler_address


def workers_at(address: str) -> int:
    """Return how many workers a scheduler has.

    Raises
    ------
    GlioError
        No scheduler answers, or it has none.
    """
    try:
        with Client(address, timeout=cluster.CONNECT_S, set_as_default=False) as client:
            workers = len(client.nthreads())
    except (OSError, ValueError) as error:
        raise GlioError(f"--cluster {address}: no scheduler answers; check its name") from error
    if not workers:
        raise GlioError(f"--cluster {address}: has no worker; start some with 'dask worker'")
    return workers


def measure(
    slides: list[Path], address: str, workers: int, shared: Path, say: Callable[[str], None]
) -> list[Pace]:
    """Measure slides with one worker, with two, and so on up to `workers`.

    A round with all of them comes first and does not count: it opens the model on each.

    Raises
    ------
    GlioError
        A slide cannot be measured, or the scheduler is gone.
    """
    _round(slides, address, workers, shared)
    paces = []
    for number in range(1, workers + 1):
        seconds = _round(slides, address, number, shared)
        paces.append(Pace(number, len(slides), seconds))
        say(f"{number} of {workers}: {paces[-1].slides_per_hour:.0f} slides an hour")
    return paces


def _round(slides: list[Path], address: str, workers: int, shared: Path) -> float:
    """Measure slides into a folder that is removed, and return the seconds that it took."""
    plan = Plan([], shipped.DEFAULT_MODEL, Settings())
    reporter = Lines(RunProgress({}), quiet=True, verbose=False, dated=False)
    with (
        TemporaryDirectory(prefix="gliobench-", dir=shared) as folder,
        loop.opened(Path(folder), SUFFIXES, plan, reporter.complain) as ledger,
        cluster.on(address, plan, reporter, most_workers=workers) as work,
    ):
        started = time.monotonic()
        tally = loop.run(slides, ledger, plan, work, reporter, retry=True)
        seconds = time.monotonic() - started
    if tally.done != len(slides):
        raise GlioError(f"{tally.failed} of {len(slides)} slides cannot be measured; name others")
    return seconds


def report(paces: list[Pace]) -> str:
    """Return the table."""
    first = paces[0].slides_per_hour
    return table(
        ("workers", "slides an hour", "× one worker"),
        [
            (p.workers, f"{p.slides_per_hour:.0f}", f"{p.slides_per_hour / first:.2f}")
            for p in paces
        ],
    )
