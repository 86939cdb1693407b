"""What is told of a run, and to whom: the events that every reporter takes."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from gliorun.sliderecord import Record

INFO, WARNING, ERROR = "INFO", "WARNING", "ERROR"
"""Levels of what is told; an error is a slide without a map."""


class Reporter(Protocol):
    """Receives the events of a run."""

    def started(self, path: Path) -> None:
        """The measurement of a slide begins."""

    def tiles(self, done: int, total: int, bottleneck: str) -> None:
        """Some tiles of that slide are done; the first call counts those of an earlier run."""

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
        """A fault that a watch reported is over."""

    def say(self, line: str) -> None:
        """A setting was chosen automatically for the machine or the slide."""

    def total(self, done: int, failed: int, skipped: int, index: Path) -> None:
        """The run is over; `index` is the page with its results."""
