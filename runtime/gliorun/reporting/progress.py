"""How far a run over many slides is, how fast it is, and how long it will still take."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from gliorun.sliderecord import Record
from gliorun.words import duration


@dataclass(slots=True)
class SlideProgress:
    """How far the measurement of one slide is.

    `number` counts the slides of the run from 1. `resumed_tiles` is what an earlier run has done,
    and None until the first tiles are known.
    """

    number: int
    done: int = 0
    total: int = 0
    resumed_tiles: int | None = None
    _since_s: float = 0.0

    def step(self, done: int, total: int) -> bool:
        """Record how many tiles are done; return whether the measurement begins with this call.

        The clock starts then. A slide begins again where another worker takes it over.
        """
        begins = self.resumed_tiles is None or done < self.done
        if begins:
            self.resumed_tiles, self._since_s = done, time.monotonic()
        self.done, self.total = done, total
        return begins

    @property
    def tiles(self) -> int:
        """Number of tiles that this run has done."""
        return self.done - (self.resumed_tiles or 0)

    @property
    def tiles_per_s(self) -> float:
        """Tiles per second since the measurement began."""
        elapsed_s = time.monotonic() - self._since_s
        return self.tiles / elapsed_s if self.tiles and elapsed_s > 0 else 0.0

    @property
    def left_s(self) -> float | None:
        """Estimated seconds until all tiles are done."""
        pace = self.tiles_per_s
        return (self.total - self.done) / pace if pace else None


class RunProgress:
    """Tracks how far a run is, how fast it is, and how long it will still take.

    Parameters
    ----------
    sizes : dict of Path to int
        Size of every slide in bytes; empty if the slides are not known in advance.
    """

    def __init__(self, sizes: dict[Path, int]) -> None:
        self.slides = len(sizes)
        self.ended = 0
        self._sizes = sizes
        self._left_bytes = sum(sizes.values())
        self._spent_bytes = 0
        self._started_s = time.monotonic()
        self._waited_s: Counter[str] = Counter()
        self._under_way: dict[Path, SlideProgress] = {}
        self.measured_tiles = 0
        self.with_warnings = 0

    def start(self, path: Path) -> None:
        """Record that the measurement of a slide begins."""
        self._under_way[path] = SlideProgress(self.ended + len(self._under_way) + 1)

    def of(self, path: Path) -> SlideProgress:
        """Return how far a slide is; several are measured at once on a cluster."""
        if path not in self._under_way:
            self.start(path)
        return self._under_way[path]

    def skip(self, path: Path) -> None:
        """Record that a slide is not measured."""
        self.ended += 1
        self._left_bytes -= self._sizes.get(path, 0)

    def end(self, record: Record) -> None:
        """Record that a slide is done or has failed."""
        path = Path(record.slide)
        self.skip(path)
        if record.state == "done":  # a failed slide says nothing about the pace
            self._spent_bytes += self._sizes.get(path, 0)
        self._under_way.pop(path, None)
        self.with_warnings += record.state == "done" and bool(record.warnings)
        self.measured_tiles += int(record.pace.get("tiles", 0))
        self._waited_s.update(record.pace.get("waited_s", {}))

    @property
    def left_s(self) -> float | None:
        """Estimated seconds until the run is done, at the pace so far in bytes; None if unknown."""
        if not self.slides:
            return None
        left, spent = float(self._left_bytes), float(self._spent_bytes)
        for path, slide in self._under_way.items():
            bytes_a_tile = self._sizes.get(path, 0) / slide.total if slide.total else 0.0
            left -= slide.done * bytes_a_tile
            spent += slide.tiles * bytes_a_tile
        return max(0.0, left) * self.elapsed_s / spent if spent else None

    @property
    def elapsed_s(self) -> float:
        """Seconds since the run began."""
        return time.monotonic() - self._started_s

    @property
    def tiles_per_s(self) -> float:
        """Tiles per second of the whole run, opening and writing included."""
        return self.measured_tiles / self.elapsed_s if self.elapsed_s > 0 else 0.0

    @property
    def bottleneck(self) -> str:
        """The stage that the run waited for most; empty before the first tile."""
        return max(self._waited_s, key=self._waited_s.__getitem__, default="")


def goes_on(done: int, total: int) -> str:
    """Return the text for a run that resumes an earlier one."""
    return f"goes on from tile {done:,} of {total:,}"


def pace(progress: RunProgress, slide: SlideProgress, bottleneck: str) -> list[str]:
    """Return text parts: the pace, the time left for the slide and the run, and the bottleneck."""
    parts = [f"{slide.tiles_per_s:.1f} tiles/s"]
    if slide.left_s is not None:
        parts.append(f"{duration(slide.left_s)} left")
    if progress.slides > 1 and progress.left_s is not None:
        parts.append(f"{duration(progress.left_s)} for all")
    parts.append(f"{bottleneck}-bound")
    return parts
