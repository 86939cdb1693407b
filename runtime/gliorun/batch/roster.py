"""The workers of a cluster: who is there, who fits, and who is sent away."""

from __future__ import annotations

from pkgutil import resolve_name
from typing import Any

from gliorun import __version__
from gliorun.errors import GlioError
from gliorun.reporting.reporter import Reporter

HASH_DIGITS = 12


class Roster:
    """The workers of a scheduler as they join and leave; each is asked for its version first.

    Parameters
    ----------
    client : distributed.Client
    address : str
        Of the scheduler.
    reporter : Reporter
        Is told who joins, who is gone, and who is let go.
    most : int, optional
        Number of workers that are given slides; by default all.
    """

    def __init__(
        self, client: Any, address: str, reporter: Reporter, most: int | None = None
    ) -> None:
        self._client = client
        self._address = address
        self.reporter = reporter
        self._most = most
        self._names: dict[str, str] = {}
        self._asked: dict[str, Any] = {}
        self._let_go: set[str] = set()
        self._complained: set[tuple[str, str]] = set()
        self._alone = False

    def __len__(self) -> int:
        """Return the number of workers that measure."""
        return len(self._fit())

    def _fit(self) -> list[str]:
        """Return the workers that measure, of which there are at most so many as wanted."""
        return sorted(self._names.keys() - self._asked.keys() - self._let_go)[: self._most]

    @property
    def chosen(self) -> list[str] | None:
        """The workers that a slide may be given to; None for any."""
        return None if self._most is None else self._fit()

    @property
    def are_asked(self) -> bool:
        """Whether a worker has not yet told its version."""
        return bool(self._asked)

    def name_of(self, worker: str) -> str:
        """Return what a worker at an address is called."""
        return self._names.get(worker, worker)

    def meet(self) -> None:
        """Tell who has joined and who is gone, and complain once when there is nobody.

        Raises
        ------
        GlioError
            The scheduler is gone.
        """
        try:
            there = set(self._client.nthreads())
        except (OSError, RuntimeError) as error:
            raise lost(self._address) from error
        for worker in self._names.keys() - there:
            self._leave(worker)
        if there - self._names.keys():
            told = self._client.scheduler_info(n_workers=-1)["workers"]
            for worker in there - self._names.keys():
                self._names[worker] = _shown(worker, told.get(worker, {}).get("name"))
                self._asked[worker] = self._client.submit(
                    resolve_name, "gliorun:__version__", workers=[worker], pure=False, priority=1
                )
        self._hear()
        if not there and not self._alone:
            self.reporter.complain(
                f"{self._address}: has no worker; waiting. Start one with 'dask worker "
                f"{self._address} --nthreads 1'"
            )
        self._alone = not there

    def _leave(self, worker: str) -> None:
        """Forget a worker that is gone."""
        name = self._names.pop(worker)
        asked = self._asked.pop(worker, None)
        if asked is not None:
            asked.cancel()
        elif worker not in self._let_go:
            self.reporter.complain(
                f"worker {name}: is gone; what it was measuring goes to another ({len(self)} left)"
            )
        self._let_go.discard(worker)

    def _hear(self) -> None:
        """Take the answers of workers that have told their version."""
        joined = []
        for worker, asked in list(self._asked.items()):
            if not asked.done():
                continue
            del self._asked[worker]
            if asked.status not in ("finished", "error"):
                raise lost(self._address)
            if asked.status == "error":
                self.let_go(worker, "cannot import gliorun; install gliorun[cluster] there")
            elif (version := asked.result()) != __version__:
                self.let_go(worker, difference("gliorun", version, __version__))
            else:
                joined.append(self._names[worker])
            asked.release()
        if joined:
            names = ", ".join(sorted(joined))
            now = "1 worker measures" if len(self) == 1 else f"{len(self)} workers measure"
            self.reporter.back(f"{self._address}: {names} joined; {now}")

    def let_go(self, worker: str, reason: str) -> None:
        """Send a worker away whose results would not be those of this machine."""
        name = self.name_of(worker)
        self._let_go.add(worker)
        if (name, reason) not in self._complained:  # it may come back again and again
            self._complained.add((name, reason))
            self.reporter.complain(f"worker {name}: {reason}; it is let go")
        self._client.retire_workers([worker])


def _shown(worker: str, name: object) -> str:
    """Return what a worker is called: by its --name, else by its address."""
    return worker.partition("://")[2] if name in (None, worker) else str(name)


def difference(what: str, here: Any, wanted: Any) -> str:
    """Return in words by what a worker differs; of values by name, by those that do."""
    if isinstance(here, dict) and isinstance(wanted, dict):
        names = sorted(name for name in here.keys() | wanted.keys()
                       if here.get(name) != wanted.get(name))  # fmt: skip
        return f"its {what} differ in {', '.join(names)}"
    if what == "model":
        here, wanted = _short(here), _short(wanted)
    return f"its {what} is {here}, wanted is {wanted}"


def _short(hashes: str) -> str:
    """Return the first digits of the hashes of weights and graph."""
    return "+".join(part[:HASH_DIGITS] for part in str(hashes).split("+"))


def lost(address: str) -> GlioError:
    """Return the error of a scheduler that does not answer any more."""
    return GlioError(
        f"--cluster {address}: the scheduler is gone; the same command goes on where it "
        "stopped once there is one again"
    )
