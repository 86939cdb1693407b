"""A folder that slides arrive in: each is handed on once it is whole."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path

from gliorun.batch.failure import of_one_slide
from gliorun.progress import Reporter
from gliorun.reading.files import NO_SLIDE, Complain, Stamp, find_slides, is_there, stamp_of
from gliorun.reading.slide import Slide

POLLS = 3
"""Looks at the folder in the time after which a file counts as whole."""
PATIENCE = 10
"""A file that has not changed for so many times that time is handed on even if it does not open:
then its run tells why."""
LIST_S = 60.0
"""What is waited for is listed again when it has changed, but not more often than this."""
NAP_S = 0.2


@dataclass(slots=True)
class _Seen:
    """A slide in the folder, since when it has not changed, and whether it was handed on."""

    stamp: Stamp
    since_s: float
    taken: bool = False


def arriving(
    names: list[str],
    leave_out: Path,
    settle_s: float,
    again: Callable[[Path], bool],
    reporter: Reporter,
) -> Generator[Path | None]:
    """Yield slides for ever, each once it has not changed for `settle_s` and opens.

    Polling only, as no share of a network tells of its changes. None is yielded after each look.

    Parameters
    ----------
    names : list of str
        As for `find_slides`.
    leave_out : Path
        A folder that is not searched.
    settle_s : float
        Seconds without a change after which a file counts as whole.
    again : callable
        Whether a slide that was handed on is to be handed on once more.
    reporter : Reporter
        Is told when something is amiss and when it is over, and what is waited for.
    """
    seen: dict[Path, _Seen] = {}
    amiss: dict[str, str] = {}
    news = _News(reporter)
    while True:
        started_s = time.monotonic()
        before, amiss = amiss, {}
        seen = _look(names, leave_out, seen, amiss.__setitem__)
        _tell_of_faults(before, amiss, reporter)
        look_s = time.monotonic() - started_s
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
        news.tell(waiting)
        yield None
        _sleep(max(settle_s / POLLS, look_s))  # a slow share is not looked at all the time


class _News:
    """Tells what a watch waits for: when that has changed, but not more often than `LIST_S`."""

    def __init__(self, reporter: Reporter) -> None:
        self._reporter = reporter
        self._told: dict[Path, str] = {}
        self._due_s = float("-inf")

    def tell(self, waiting: dict[Path, str]) -> None:
        if not waiting:
            self._told = {}
        elif waiting != self._told and time.monotonic() >= self._due_s:
            self._reporter.waiting(waiting)
            self._told, self._due_s = waiting, time.monotonic() + LIST_S


def _tell_of_faults(before: dict[str, str], amiss: dict[str, str], reporter: Reporter) -> None:
    """Tell what is amiss since the last look, and what no longer is."""
    for name, fault in sorted(amiss.items()):
        if before.get(name) != fault:
            reporter.complain(f"{name}: {fault}; waiting")
    for name in sorted(before.keys() - amiss.keys()):
        if before[name] == NO_SLIDE:
            reporter.back(f"{name}: holds slides now")
        elif is_there(Path(name)):
            reporter.back(f"{name}: is there again")


def _look(
    names: list[str], leave_out: Path, before: dict[Path, _Seen], complain: Complain
) -> dict[Path, _Seen]:
    """Return the slides that are there, with what was known of those that have not changed."""
    seen: dict[Path, _Seen] = {}
    for path in find_slides(names, leave_out, complain):
        try:
            stamp = stamp_of(path)
        except FileNotFoundError:  # it has vanished, or its share has
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
    """Return why a slide is not handed on yet, nothing if it is."""
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
    except OSError:  # vanished, or out of reach for the moment
        return False


def _open(path: Path) -> None:
    with Slide(path):
        pass


def _sleep(seconds: float) -> None:
    """Sleep in naps: on Windows only those can be interrupted."""
    until_s = time.monotonic() + seconds
    while (left_s := until_s - time.monotonic()) > 0:
        time.sleep(min(left_s, NAP_S))
