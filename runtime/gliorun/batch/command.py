"""A cabinet of slides: one command's wish for many, brought to the batch."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from gliorun import job
from gliorun.batch import loop
from gliorun.batch import watch as watching
from gliorun.errors import GlioError, UsageError
from gliorun.progress import Course, JsonLines, Lines, Reporter
from gliorun.reading.files import absolute, find_slides, stamp_of


@dataclass(frozen=True, slots=True)
class Wish:
    """Which slides, where to, as what, and on which cluster if any.

    To a watch, a file is whole once it has not changed for `settle_s` seconds.
    """

    names: list[str]
    folder: Path
    formats: str
    settle_s: float
    cluster: str | None = None

    def __post_init__(self) -> None:
        loop.suffixes_of(self.formats)  # refuses an unknown one
        if not self.settle_s > 0:
            raise UsageError(f"--settle-s is {self.settle_s:g}; it must be above 0")


@dataclass(frozen=True, slots=True)
class Voice:
    """How progress is told."""

    quiet: bool = False
    json_lines: bool = False
    verbose: bool = False

    def reporter(self, course: Course, *, dated: bool = False) -> Reporter:
        """Return who tells it."""
        if self.json_lines:
            return JsonLines(course)
        return Lines(course, quiet=self.quiet, verbose=self.verbose, dated=dated)


def run(wish: Wish, plan: job.Plan, voice: Voice) -> bool:
    """Measure the slides of a wish and return whether none failed.

    Raises
    ------
    UsageError
        The outputs would lie among the slides.
    GlioError
        There is no slide, or nothing can be measured or written.
    """
    folder, plan = _folder_of(wish), job.settled(plan)
    amiss: dict[str, str] = {}
    slides = list(find_slides(wish.names, folder, amiss.__setitem__))
    reporter = voice.reporter(Course({path: _size(path) for path in slides}))
    lines = [f"{name}: {fault}" for name, fault in amiss.items()]
    if not slides:
        raise GlioError(f"{'; '.join(lines)}; name a slide, or a folder that holds some")
    for line in lines:
        reporter.complain(line)
    suffixes = loop.suffixes_of(wish.formats)
    with (
        loop.opened(folder, suffixes, plan, reporter.complain) as ledger,
        _work(wish, plan, reporter) as work,
    ):
        tally = loop.run(slides, ledger, plan, work, reporter, retry=True)
    return not tally.failed


def watch(wish: Wish, plan: job.Plan, voice: Voice) -> None:
    """Measure slides as they arrive, until a stop is asked for.

    Raises
    ------
    GlioError
        Nothing can be measured or written.
    """
    folder, plan = _folder_of(wish), job.settled(plan)
    reporter = voice.reporter(Course({}), dated=True)
    suffixes = loop.suffixes_of(wish.formats)
    with (
        suppress(KeyboardInterrupt),  # that is how a watch ends well
        loop.opened(folder, suffixes, plan, reporter.complain) as ledger,
        _work(wish, plan, reporter) as work,
    ):
        reporter.watching(f"{', '.join(wish.names)}; results go to {folder}")
        feed = watching.arriving(wish.names, folder, wish.settle_s, ledger.due_again, reporter)
        loop.run(feed, ledger, plan, work, reporter, retry=False)


@contextmanager
def _work(wish: Wish, plan: job.Plan, reporter: Reporter) -> Iterator[loop.Work]:
    if wish.cluster is None:
        yield loop.here(plan, reporter.tiles, reporter.say)
        return
    try:
        from gliorun.batch import cluster
    except ImportError as error:
        raise GlioError(
            f"--cluster needs Dask: pip install 'gliorun[cluster]' ({error})"
        ) from error
    with cluster.on(wish.cluster, plan, reporter.complain) as work:
        yield work


def _folder_of(wish: Wish) -> Path:
    """Return the folder of the outputs; no slide may lie there, as one might be written over.

    Raises
    ------
    UsageError
        One that is named does.
    """
    folder = absolute(wish.folder)
    real = _without_links(folder)
    for name in wish.names:
        path, real_path = absolute(name), _without_links(absolute(name))
        if folder in (path, *path.parents) or real in (real_path, *real_path.parents):
            raise UsageError(
                f"--out-dir {wish.folder} holds slides that are named; name another folder, "
                f"such as {folder / 'maps'}"
            )
    return folder


def _without_links(path: Path) -> Path:
    return Path(os.path.realpath(path))  # where `resolve` raises, of a link in a circle


def _size(path: Path) -> int:
    try:
        return stamp_of(path).size_bytes
    except OSError:
        return 0
