"""Watch folders for slides, and yield each slide once its copy is complete."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path

from gliorun.batch.failure import of_one_slide
from gliorun.reading.files import NO_SLIDE, Complain, Stamp, find_slides, is_there, stamp_of
from gliorun.reading.slide import Slide
from gliorun.reporting.reporter import Reporter

POLLS = 3
"""Number of times that the folder is listed within `settle_s`."""
PATIENCE = 10
"""A file unchanged for this many times `settle_s` is yielded even if it does not open, so that its
run reports the reason."""
LIST_S = 60.0
"""Least time between two lists of the slides that the watch waits for."""
NAP_S = 0.2


@dataclass(slots=True)
class _Seen:
    """A slide in the folder, the time of its last change, and whether it was yielded."""

    stamp: Stamp
    since_s: float
    taken: bool = False


def arriving(
    names: list[str],
    leave_out: Path,
    settle_s: float,
    again: Callable[[Path], bool],
    reporter: Reporter,
    stand: Callable[[dict[str, str]], object] = lambda faults: None,
) -> Generator[Path | None]:
    """Yield slides for ever, each one once it is unchanged for `settle_s` and opens.

    The folder is polled, because network shares do not report changes. None is yielded after each
    poll.

    Parameters
    ----------
    names : list of str
        Files, folders and patterns, as for `find_slides`.
    leave_out : Path
        A folder that is not searched.
    settle_s : float
        Seconds without a change after which a file counts as complete.
    again : callable
        Returns whether a slide that was yielded should be yielded again.
    reporter : Reporter
        Receives faults, their end, and the slides that the watch waits for.
    stand : callable, optional
        Called at every poll with the faults of now by the name that has each.
    """
    seen: dict[Path, _Seen] = {}
    faults: dict[str, str] = {}
    waiting_list = _WaitingList(reporter)
    while True:
        started_s = time.monotonic()
        before, faults = faults, {}
        seen = _poll(names, leave_out, seen, faults.__setitem__)
        _report_faults(before, faults, reporter)
        stand(faults)
        poll_s = time.monotonic() - started_s
        waiting: dict[Path, str] = {}
        for path, seen_slide in seen.items():
            if seen_slide.taken:
                seen_slide.taken = not again(path)
                continue
            reason = _why_not_yet(path, seen_slide, settle_s)
            if reason:
                waiting[path] = reason
            else:
                seen_slide.taken = True
                yield path
        waiting_list.report(waiting)
        yield None
        sleep(max(settle_s / POLLS, poll_s))  # do not poll a slow share without pause


class _WaitingList:
    """Reports the slides that a watch waits for when they change, at most every `LIST_S`."""

    def __init__(self, reporter: Reporter) -> None:
        self._reporter = reporter
        self._reported: dict[Path, str] = {}
        self._due_s = float("-inf")

    def report(self, waiting: dict[Path, str]) -> None:
        if not waiting:
            self._reported = {}
        elif waiting != self._reported and time.monotonic() >= self._due_s:
            self._reporter.waiting(waiting)
            self._reported, self._due_s = waiting, time.monotonic() + LIST_S


def _report_faults(before: dict[str, str], faults: dict[str, str], reporter: Reporter) -> None:
    """Report the faults that are new since the last poll, and those that are over."""
    for name, fault in sorted(faults.items()):
        if before.get(name) != fault:
            reporter.complain(f"{name}: {fault}; waiting")
    for name in sorted(before.keys() - faults.keys()):
        if before[name] == NO_SLIDE:
            reporter.back(f"{name}: holds slides now")
        elif is_there(Path(name)):
            reporter.back(f"{name}: is there again")


def _poll(
    names: list[str], leave_out: Path, before: dict[Path, _Seen], complain: Complain
) -> dict[Path, _Seen]:
    """Return the slides that exist now, with the earlier entries of those that are unchanged."""
    seen: dict[Path, _Seen] = {}
    for path in find_slides(names, leave_out, complain):
        try:
            stamp = stamp_of(path)
        except FileNotFoundError:  # the file or its network share has vanished
            complain(str(path), "not there")
            continue
        except OSError as error:
            complain(str(path), f"cannot be read ({error.strerror})")
            continue
        seen_slide = before.get(path)
        if seen_slide is None or seen_slide.stamp != stamp:
            seen_slide = _Seen(stamp, time.monotonic())
        seen[path] = seen_slide
    return seen


def _why_not_yet(path: Path, seen_slide: _Seen, settle_s: float) -> str:
    """Return why a slide must still wait, or "" if it is ready."""
    unchanged_s = time.monotonic() - seen_slide.since_s
    if unchanged_s < settle_s or not _is_unchanged(path, seen_slide):
        return f"unchanged for less than {settle_s:g} s"
    if unchanged_s >= PATIENCE * settle_s:
        return ""
    fault = of_one_slide(path, lambda: _open(path))
    if fault is None:
        return ""
    return f"does not open yet: {fault.reason.removeprefix(f'{path}: ').partition('; ')[0]}"


def _is_unchanged(path: Path, seen_slide: _Seen) -> bool:
    try:
        return stamp_of(path) == seen_slide.stamp
    except OSError:  # vanished or temporarily unreachable
        return False


def _open(path: Path) -> None:
    with Slide(path):
        pass


def sleep(seconds: float) -> None:
    """Sleep in short naps, because on Windows a long sleep cannot be interrupted."""
    until_s = time.monotonic() + seconds
    while (left_s := until_s - time.monotonic()) > 0:
        time.sleep(min(left_s, NAP_S))
