"""Tell the progress of a run in lines for people: a bar in a terminal, a line a minute in a log."""

from __future__ import annotations

import time
from datetime import datetime
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from gliorun.reading.files import title
from gliorun.reporting.progress import RunProgress, goes_on, pace
from gliorun.reporting.reporter import ERROR, INFO, WARNING
from gliorun.sliderecord import Record
from gliorun.words import duration, plain, tiles, warnings_in_words

ROOMY, NAME = 120, 20
"""Columns of a terminal from which a bar is drawn, and columns for the slide's name beside it."""
SHOWN = 5
"""Most slides that are named in a list of waiting slides."""
LINE_S = 60.0
"""Seconds between two progress lines of the same slide where no bar can be drawn."""


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
