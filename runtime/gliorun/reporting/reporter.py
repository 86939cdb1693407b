"""What is told of a run, and to whom: the events that every reporter takes."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Protocol

from gliorun.sliderecord import Record

INFO, WARNING, ERROR = "INFO", "WARNING", "ERROR"
"""Levels of what is told; an error is a slide without a map."""
IDLE_S = 60.0
"""Longest silence of a watch."""


class Reporter(Protocol):
    """Receives the events of a run."""

    def started(self, path: Path) -> None:
        """The measurement of a slide begins."""

    def tiles(self, path: Path, done: int, total: int, bottleneck: str, worker: str = "") -> None:
        """Some tiles of a slide are done; the first call counts those of an earlier run.

        `worker` is the machine of a cluster that measures it.
        """

    def ended(self, record: Record, summary: str) -> None:
        """A slide is done or has failed."""

    def skipped(self, path: Path, record: Record) -> None:
        """A slide is skipped, because its record shows that it need not be measured."""

    def complain(self, line: str) -> None:
        """A fault occurred that is not the fault of one slide."""

    def watching(self, line: str) -> None:
        """A watch begins."""

    def waiting(self, reasons: dict[Path, str]) -> None:
        """A watch waits for some slides; `reasons` says why for each."""

    def back(self, line: str) -> None:
        """A fault that was reported is over, or a machine has joined."""

    def idle(
        self, done: int, failed: int, last_done_at: str | None, faults: Collection[str]
    ) -> None:
        """A watch has looked; this is told where a minute has passed with nothing else to tell.

        `done` and `failed` are slides of this watch, `last_done_at` is ISO 8601 in UTC, and
        `faults` is what is amiss now.
        """

    def say(self, line: str) -> None:
        """A setting was chosen automatically for the machine or the slide."""

    def total(self, done: int, failed: int, skipped: int, index: Path) -> None:
        """The run is over; `index` is the page with its results."""
