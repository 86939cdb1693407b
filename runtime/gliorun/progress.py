"""Report the progress of a run over many slides to a user, a log file or another program."""

from __future__ import annotations

import json
import time
from collections import Counter
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from gliorun.reading.files import title
from gliorun.sliderecord import Record
from gliorun.words import duration, plain, tiles, warnings_in_words

ROOMY, NAME = 120, 20
"""Columns of a terminal from which a bar is drawn, and columns for the slide's name beside it."""
EVENT_S = 2.0
"""Least seconds between two progress events of the same slide."""
LINE_S = 60.0
"""Seconds between two progress lines of the same slide where no bar can be drawn."""
INFO, WARNING, ERROR = "INFO", "WARNING", "ERROR"
"""Levels of what is told; an error is a slide without a map."""
SHOWN = 5
"""Most slides that are named in a list of waiting slides."""


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


class EveryMinute:
    """Writes the progress of a slide as one line a minute, for logs that cannot show a bar.

    Parameters
    ----------
    progress : RunProgress
        Must be updated before each call of `line`.
    """

    def __init__(self, progress: RunProgress) -> None:
        self._progress = progress
        self._reported_s = 0.0

    def line(self, done: int, total: int, bottleneck: str, *, is_first: bool) -> str | None:
        """Return the progress line, or None if it is not due yet."""
        now_s = time.monotonic()
        if is_first:
            self._reported_s = now_s
        if now_s - self._reported_s < LINE_S:
            return None
        self._reported_s = now_s
        return f"{done:,} of {total:,} tiles, {', '.join(pace(self._progress, bottleneck))}"


def pace(progress: RunProgress, bottleneck: str) -> list[str]:
    """Return text parts: the pace, the time left for the slide and the run, and the bottleneck."""
    parts = [f"{progress.slide_tiles_per_s:.1f} tiles/s"]
    if progress.slide_left_s is not None:
        parts.append(f"{duration(progress.slide_left_s)} left")
    if progress.slides > 1 and progress.left_s is not None:
        parts.append(f"{duration(progress.left_s)} for all")
    parts.append(f"{bottleneck}-bound")
    return parts


class Lines:
    """Writes one line per slide to stdout, and a bar, or a line a minute in a log, to stderr.

    Parameters
    ----------
    progress : RunProgress
    quiet : bool
        Report only faults, warnings and the total.
    verbose : bool
        Report automatic choices as well.
    dated : bool
        Begin every line with the time and the level, INFO, WARNING or ERROR.
    """

    def __init__(self, progress: RunProgress, *, quiet: bool, verbose: bool, dated: bool) -> None:
        self._progress = progress
        self._quiet = quiet
        self._verbose = verbose
        self._dated = dated
        self._out = Console(soft_wrap=True, highlight=False, markup=False)
        self._err = Console(stderr=True, soft_wrap=True, highlight=False, markup=False)
        self._bar: Progress | None = None
        self._task = TaskID(0)
        self._minutes = EveryMinute(progress)

    def _line(self, text: str, console: Console, level: str = INFO) -> None:
        stamp = f"{datetime.now().astimezone().isoformat(sep=' ', timespec='seconds')} "
        console.print(plain(f"{stamp}{level} {text}" if self._dated else text))

    def _count(self, number: int) -> str:
        slides = self._progress.slides
        return f"[{number}/{slides}] " if slides else ""

    def started(self, path: Path) -> None:
        self._progress.start(path)

    def tiles(self, done: int, total: int, bottleneck: str) -> None:
        is_first = self._progress.step(done, total)
        if self._quiet:
            return
        if is_first and done:
            self._of_slide(goes_on(done, total))
        if not self._err.is_terminal:
            line = self._minutes.line(done, total, bottleneck, is_first=is_first)
            if line is not None:
                self._of_slide(line)
            return
        bar = self._open_bar()
        stage = ["writing"] if done == total else pace(self._progress, bottleneck)
        parts = [f"{done}/{total} tiles", *stage]
        bar.update(self._task, completed=done, total=total, pace=", ".join(parts))

    def _of_slide(self, text: str) -> None:
        """Print a line about the slide that is being measured."""
        progress = self._progress
        name = progress.slide.name if progress.slide is not None else ""
        self._line(f"{self._count(progress.ended + 1)}{name}: {text}", self._err)

    def _open_bar(self) -> Progress:
        if self._bar is None:
            roomy = self._err.width >= ROOMY
            self._bar = Progress(
                TextColumn("{task.description}", markup=False),
                *([BarColumn(20)] if roomy else []),
                TextColumn("{task.fields[pace]}", markup=False),
                console=self._err,
                transient=True,
                redirect_stdout=self._out.is_terminal,
            )
            progress = self._progress
            name = plain(progress.slide.name) if progress.slide is not None else ""
            count = self._count(progress.ended + 1)
            short = name if len(name) <= NAME else f"{name[: NAME - 1]}…"
            self._task = self._bar.add_task(f"{count}{short}", total=None, pace="")
            self._bar.start()
        return self._bar

    def close(self) -> None:
        """Take the bar away, if there is one."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def ended(self, record: Record, summary: str) -> None:
        self.close()
        self._progress.end(record)
        path = Path(record.slide)
        named = "" if record.name == title(path) else f" (as {record.name})"
        label = f"{self._count(self._progress.ended)}{path.name}{named}"
        if record.state == "failed":
            reason = record.reason.removeprefix(f"{path}: ")
            self._line(f"{label}: failed: {reason}", self._err, ERROR)
            return
        for warning in record.warnings:
            self._line(f"{label}: warning: {warning}", self._err, WARNING)
        if self._quiet:
            return
        parts = [f"{label}: {summary}"]
        parts.append(f"{record.pace['tiles_per_s']:.1f} tiles/s")
        parts.append(f"{record.pace['bottleneck']}-bound")
        if record.warnings:
            parts.append(warnings_in_words(len(record.warnings)))
        left_s = self._progress.left_s
        if left_s:
            parts.append(f"{duration(left_s)} left")
        self._line(", ".join(parts), self._out)

    def skipped(self, path: Path, record: Record) -> None:
        self._progress.skip(path)

    def complain(self, line: str) -> None:
        self._line(f"gliorun: {line}", self._err, WARNING)

    def watching(self, line: str) -> None:
        if not self._quiet:
            self._line(f"watching {line}", self._err)

    def waiting(self, reasons: dict[Path, str]) -> None:
        if self._quiet:
            return
        named = [f"{path.name} ({reason})" for path, reason in list(reasons.items())[:SHOWN]]
        more = len(reasons) - len(named)
        if more:
            named[-1] += f" and {more:,} more"
        slides = f"{len(reasons):,} slide{'s' * (len(reasons) > 1)}"
        self._line(f"waiting for {slides}: {', '.join(named)}", self._err)

    def back(self, line: str) -> None:
        self._line(line, self._err)

    def say(self, line: str) -> None:
        if self._verbose:
            self._line(line, self._err)

    def total(self, done: int, failed: int, skipped: int, index: Path) -> None:
        self.close()
        progress = self._progress
        doubtful = f" ({progress.with_warnings} with warnings)" if progress.with_warnings else ""
        parts = [f"{done} done{doubtful}, {failed} failed, {skipped} as they were"]
        if progress.measured_tiles:
            parts.append(f"{tiles(progress.measured_tiles)}, {progress.tiles_per_s:.1f} tiles/s")
            parts.append(f"{progress.bottleneck}-bound")
        parts += [duration(progress.elapsed_s), f"see {index}"]
        self._line("; ".join(parts), self._out)


class JsonLines:
    """Writes every event as one line of JSON to stdout, for another program.

    `event` is "watching", "waiting", "back", "started", "choice", "tiles", "slide" (done or
    failed), "skipped", "warning" or "total"; `time` is ISO 8601 in UTC, `level` "INFO",
    "WARNING" or "ERROR".
    """

    def __init__(self, progress: RunProgress) -> None:
        self._progress = progress
        self._out = Console(soft_wrap=True, highlight=False, markup=False, emoji=False)
        self._reported_s = float("-inf")

    def _tell(self, event: str, *, level: str = INFO, **values: Any) -> None:
        now = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
        self._out.out(
            json.dumps({"event": event, "time": now, "level": level, **values}), highlight=False
        )

    def _where(self) -> dict[str, Any]:
        progress = self._progress
        return {
            "ended": progress.ended,
            "slides": progress.slides or None,
            "left_s": _rounded(progress.left_s),
        }

    def started(self, path: Path) -> None:
        self._progress.start(path)
        self._reported_s = float("-inf")
        self._tell("started", slide=str(path))

    def tiles(self, done: int, total: int, bottleneck: str) -> None:
        progress = self._progress
        progress.step(done, total)
        if time.monotonic() - self._reported_s >= EVENT_S:
            self._reported_s = time.monotonic()
            self._tell(
                "tiles",
                slide=str(progress.slide),
                done=done,
                of=total,
                resumed=progress.resumed_tiles,
                tiles_per_s=round(progress.slide_tiles_per_s, 2),
                slide_left_s=_rounded(progress.slide_left_s),
                bottleneck=bottleneck,
                **self._where(),
            )

    def ended(self, record: Record, summary: str) -> None:
        self._progress.end(record)
        self._tell(
            "slide",
            level=_level_of(record),
            slide=record.slide,
            name=record.name,
            state=record.state,
            reason=record.reason or None,
            outputs=list(record.outputs),
            warnings=list(record.warnings),
            calibration=record.calibration or None,
            tiles=record.pace.get("tiles"),
            tiles_per_s=record.pace.get("tiles_per_s"),
            bottleneck=record.pace.get("bottleneck"),
            **self._where(),
        )

    def skipped(self, path: Path, record: Record) -> None:
        self._progress.skip(path)
        self._tell(
            "skipped", slide=str(path), name=record.name, state=record.state, **self._where()
        )

    def complain(self, line: str) -> None:
        self._tell("warning", level=WARNING, text=line)

    def watching(self, line: str) -> None:
        self._tell("watching", text=line)

    def waiting(self, reasons: dict[Path, str]) -> None:
        slides = [{"slide": str(path), "reason": reason} for path, reason in reasons.items()]
        self._tell("waiting", slides=slides)

    def back(self, line: str) -> None:
        self._tell("back", text=line)

    def say(self, line: str) -> None:
        self._tell("choice", text=line)

    def total(self, done: int, failed: int, skipped: int, index: Path) -> None:
        progress = self._progress
        self._tell(
            "total",
            done=done,
            with_warnings=progress.with_warnings,
            failed=failed,
            skipped=skipped,
            tiles=progress.measured_tiles,
            tiles_per_s=round(progress.tiles_per_s, 2),
            bottleneck=progress.bottleneck or None,
            seconds=round(progress.elapsed_s, 1),
            index=str(index),
        )


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 1)


def _level_of(record: Record) -> str:
    """Return the level of a slide that has ended."""
    if record.state == "failed":
        return ERROR
    return WARNING if record.warnings else INFO
