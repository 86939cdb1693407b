"""Tell the progress of a run in lines for people: a bar in a terminal, a line a minute in a log."""

from __future__ import annotations

import time
from collections.abc import Collection
from datetime import datetime
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from gliorun.reading.files import title
from gliorun.reporting.progress import RunProgress, goes_on, pace
from gliorun.reporting.reporter import ERROR, IDLE_S, INFO, WARNING
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
        self._bars: Progress | None = None
        self._bar_of: dict[Path, TaskID] = {}
        self._minutes = EveryMinute(progress)
        self._told_s = time.monotonic()

    def _line(self, text: str, console: Console, level: str = INFO) -> None:
        self._told_s = time.monotonic()
        stamp = f"{datetime.now().astimezone().isoformat(sep=' ', timespec='seconds')} "
        console.print(plain(f"{stamp}{level} {text}" if self._dated else text))

    def _count(self, number: int) -> str:
        slides = self._progress.slides
        return f"[{number}/{slides}] " if slides else ""

    def started(self, path: Path) -> None:
        self._progress.start(path)

    def tiles(self, path: Path, done: int, total: int, bottleneck: str, worker: str = "") -> None:
        slide = self._progress.of(path)
        begins = slide.step(done, total)
        if self._quiet:
            return
        if begins and done:
            self._of_slide(path, goes_on(done, total))
        if not self._err.is_terminal:
            line = self._minutes.line(path, bottleneck, begins=begins)
            if line is not None:
                self._of_slide(path, f"{line}, on {worker}" if worker else line)
            return
        bars, bar = self._bar(path)
        stage = ["writing"] if done == total else pace(self._progress, slide, bottleneck)
        place = [f"on {plain(worker)}"] if worker else []
        parts = [f"{done}/{total} tiles", *stage, *place]
        bars.update(bar, completed=done, total=total, pace=", ".join(parts))

    def _of_slide(self, path: Path, text: str) -> None:
        """Print a line about a slide that is being measured."""
        count = self._count(self._progress.of(path).number)
        self._line(f"{count}{path.name}: {text}", self._err)

    def _bar(self, path: Path) -> tuple[Progress, TaskID]:
        """Return the bars, and that of a slide; there is one a slide that is being measured."""
        if self._bars is None:
            roomy = self._err.width >= ROOMY
            self._bars = Progress(
                TextColumn("{task.description}", markup=False),
                *([BarColumn(20)] if roomy else []),
                TextColumn("{task.fields[pace]}", markup=False),
                console=self._err,
                transient=True,
                redirect_stdout=self._out.is_terminal,
            )
            self._bars.start()
        if path not in self._bar_of:
            name = plain(path.name)
            count = self._count(self._progress.of(path).number)
            short = name if len(name) <= NAME else f"{name[: NAME - 1]}…"
            self._bar_of[path] = self._bars.add_task(f"{count}{short}", total=None, pace="")
        return self._bars, self._bar_of[path]

    def close(self) -> None:
        """Take the bars away, if there are any."""
        if self._bars is not None:
            self._bars.stop()
            self._bars = None
            self._bar_of.clear()

    def _close_bar(self, path: Path) -> None:
        """Take away the bar of a slide, and with the last one all of them."""
        bar = self._bar_of.pop(path, None)
        if self._bars is not None and bar is not None:
            self._bars.remove_task(bar)
        if not self._bar_of:
            self.close()

    def ended(self, record: Record, summary: str) -> None:
        path = Path(record.slide)
        self._close_bar(path)
        self._minutes.forget(path)
        self._progress.end(record)
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

    def idle(
        self, done: int, failed: int, last_done_at: str | None, faults: Collection[str]
    ) -> None:
        is_log = not self._quiet and not self._err.is_terminal
        if not is_log or time.monotonic() - self._told_s < IDLE_S:
            return
        last = f", the last one done {_local(last_done_at)}" if last_done_at else ""
        amiss = f"; amiss: {', '.join(faults)}" if faults else ""
        line = f"still watching: {done} done, {failed} failed{last}{amiss}"
        self._line(line, self._err, WARNING if faults else INFO)

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
    """Writes the progress of slides as one line a minute each, for logs that cannot show a bar.

    Parameters
    ----------
    progress : RunProgress
        Must be updated before each call of `line`.
    """

    def __init__(self, progress: RunProgress) -> None:
        self._progress = progress
        self._reported_s: dict[Path, float] = {}

    def line(self, path: Path, bottleneck: str, *, begins: bool) -> str | None:
        """Return the progress line of a slide, or None if it is not due yet."""
        now_s = time.monotonic()
        if begins:
            self._reported_s[path] = now_s
        if now_s - self._reported_s.get(path, now_s) < LINE_S:
            return None
        self._reported_s[path] = now_s
        slide = self._progress.of(path)
        parts = ", ".join(pace(self._progress, slide, bottleneck))
        return f"{slide.done:,} of {slide.total:,} tiles, {parts}"

    def forget(self, path: Path) -> None:
        """Forget a slide that has ended."""
        self._reported_s.pop(path, None)


def _local(at: str) -> str:
    """Return a time (ISO 8601) by the clock of this computer."""
    return datetime.fromisoformat(at).astimezone().isoformat(sep=" ", timespec="seconds")
