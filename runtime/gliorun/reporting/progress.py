"""How far a run over many slides is, how fast it is, and how long it will still take."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path

from gliorun.sliderecord import Record
from gliorun.words import duration


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
        self._path: Path | None = None
        self._tiles = (0, 0)
        self._tile_s = 0.0
        self.resumed_tiles: int | None = None
        self.measured_tiles = 0
        self.with_warnings = 0

    def start(self, path: Path) -> None:
        """Record that the measurement of a slide begins."""
        self._path, self._tiles, self.resumed_tiles = path, (0, 0), None

    def step(self, done: int, total: int) -> bool:
        """Record how many tiles are done; return whether this is the first call for the slide.

        The clock of the slide starts at that call; the tiles done by then are from an earlier run.
        """
        is_first = self.resumed_tiles is None
        if is_first:
            self.resumed_tiles, self._tile_s = done, time.monotonic()
        self._tiles = (done, total)
        return is_first

    @property
    def slide_tiles(self) -> int:
        """Number of tiles of the slide that this run has done."""
        return self._tiles[0] - (self.resumed_tiles or 0)

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
        self._path, self._tiles, self.resumed_tiles = None, (0, 0), None
        self.with_warnings += record.state == "done" and bool(record.warnings)
        self.measured_tiles += int(record.pace.get("tiles", 0))
        self._waited_s.update(record.pace.get("waited_s", {}))

    @property
    def slide(self) -> Path | None:
        """Path of the slide that is being measured."""
        return self._path

    @property
    def slide_tiles_per_s(self) -> float:
        """Tiles per second of the slide that is being measured."""
        elapsed_s = time.monotonic() - self._tile_s
        return self.slide_tiles / elapsed_s if self.slide_tiles and elapsed_s > 0 else 0.0

    @property
    def slide_left_s(self) -> float | None:
        """Estimated seconds until all tiles of the slide are done."""
        pace = self.slide_tiles_per_s
        return (self._tiles[1] - self._tiles[0]) / pace if pace else None

    @property
    def left_s(self) -> float | None:
        """Estimated seconds until the run is done, at the pace so far in bytes; None if unknown."""
        if not self.slides:
            return None
        bytes_a_tile = 0.0
        if self._path and self._tiles[1]:
            bytes_a_tile = self._sizes.get(self._path, 0) / self._tiles[1]
        spent = self._spent_bytes + self.slide_tiles * bytes_a_tile
        if not spent:
            return None
        left = self._left_bytes - self._tiles[0] * bytes_a_tile
        return max(0.0, left) * self.elapsed_s / spent

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


def pace(progress: RunProgress, bottleneck: str) -> list[str]:
    """Return text parts: the pace, the time left for the slide and the run, and the bottleneck."""
    parts = [f"{progress.slide_tiles_per_s:.1f} tiles/s"]
    if progress.slide_left_s is not None:
        parts.append(f"{duration(progress.slide_left_s)} left")
    if progress.slides > 1 and progress.left_s is not None:
        parts.append(f"{duration(progress.left_s)} for all")
    parts.append(f"{bottleneck}-bound")
    return parts
