"""A folder that slides arrive in: each is handed on once it is whole."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path

from gliorun.errors import GlioError
from gliorun.reading.files import Stamp, find_slides, stamp_of
from gliorun.reading.slide import Slide

POLLS = 3
"""Looks at the folder in the time after which a file counts as whole."""
PATIENCE = 10
"""A file that has not changed for so many times that time is handed on even if it does not open:
then its run tells why."""
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
    complain: Callable[[str], None],
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
    complain : callable
        Called with a line the first time that something is amiss.
    """
    seen: dict[Path, _Seen] = {}
    amiss: set[str] = set()
    while True:
        started_s = time.monotonic()
        told: set[str] = set()
        seen = _look(names, leave_out, seen, told.add)
        for line in sorted(told - amiss):
            complain(line)
        amiss = told
        look_s = time.monotonic() - started_s
        for path, known in seen.items():
            if known.taken:
                known.taken = not again(path)
            elif _is_whole(path, known, settle_s):
                known.taken = True
                yield path
        yield None
        _sleep(max(settle_s / POLLS, look_s))  # a slow share is not looked at all the time


def _look(
    names: list[str], leave_out: Path, before: dict[Path, _Seen], complain: Callable[[str], None]
) -> dict[Path, _Seen]:
    """Return the slides that are there, with what was known of those that have not changed."""
    seen: dict[Path, _Seen] = {}
    for path in find_slides(names, leave_out, complain):
        stamp = _stamp(path)
        if stamp is None:
            complain(f"{path}: not there, or cannot be read; waiting")
            continue
        known = before.get(path)
        if known is None or known.stamp != stamp:
            known = _Seen(stamp, time.monotonic())
        seen[path] = known
    return seen


def _stamp(path: Path) -> Stamp | None:
    try:
        return stamp_of(path)
    except OSError:  # vanished, or out of reach for the moment
        return None


def _is_whole(path: Path, known: _Seen, settle_s: float) -> bool:
    unchanged_s = time.monotonic() - known.since_s
    if unchanged_s < settle_s or _stamp(path) != known.stamp:
        return False
    if unchanged_s >= PATIENCE * settle_s:
        return True
    try:
        with Slide(path):
            return True
    except GlioError:
        return False


def _sleep(seconds: float) -> None:
    """Sleep in naps: on Windows only those can be interrupted."""
    until_s = time.monotonic() + seconds
    while (left_s := until_s - time.monotonic()) > 0:
        time.sleep(min(left_s, NAP_S))
