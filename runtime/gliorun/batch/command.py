"""Run or watch a folder of slides, as one command asked for."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from gliorun.batch import loop, slidelist, summary
from gliorun.batch import watch as watching
from gliorun.batch.again import Again
from gliorun.batch.health import FULL, Health
from gliorun.batch.ledger import Ledger
from gliorun.batch.slidelist import Row
from gliorun.errors import DiskFullError, GlioError, UsageError
from gliorun.model import calibration as calibrations
from gliorun.plan import Plan, settled
from gliorun.reading.files import absolute, find_slides, is_folder, stamp_of
from gliorun.reading.regionfile import regions_file
from gliorun.reporting.jsonlines import JsonLines
from gliorun.reporting.lines import Lines
from gliorun.reporting.progress import RunProgress
from gliorun.reporting.reporter import Reporter

ROOM_EVERY_S = 30.0
"""Time between two looks whether a full disk has room again."""


@dataclass(frozen=True, slots=True)
class Request:
    """The slides to measure, the folder and formats of the outputs, and the cluster if any.

    A watch takes a file for complete once it has not changed for `settle_s` seconds. `regions` is a
    folder with the regions of each slide. A list of slides (.csv) is named alone. `again` is how
    single slides are measured by the same options.
    """

    names: list[str]
    folder: Path
    formats: str
    settle_s: float
    cluster: str | None = None
    regions: Path | None = None
    again: Again = field(default_factory=Again)

    def __post_init__(self) -> None:
        loop.suffixes_of(self.formats)  # raises on an unknown format
        if not self.settle_s > 0:
            raise UsageError(f"--settle-s is {self.settle_s:g}; it must be above 0")
        if len(self.names) > 1 and any(map(slidelist.is_list, self.names)):
            raise UsageError("a list of slides (.csv) is named alone; write all slides into it")
        if self.regions is not None and not is_folder(self.regions):
            raise UsageError(
                f"--regions {self.regions} is no folder; with --out-dir it is one, with a file for "
                "each slide, called as it"
            )


@dataclass(frozen=True, slots=True)
class OutputMode:
    """How the progress of a run is reported."""

    quiet: bool = False
    json_lines: bool = False
    verbose: bool = False

    def reporter(self, progress: RunProgress, *, dated: bool = False) -> Reporter:
        """Return the reporter for this mode; `dated` puts the time before each line."""
        if self.json_lines:
            return JsonLines(progress)
        return Lines(progress, quiet=self.quiet, verbose=self.verbose, dated=dated)


def run(request: Request, plan: Plan, output_mode: OutputMode) -> bool:
    """Measure the requested slides and return whether none failed.

    Raises
    ------
    UsageError
        The folder of the outputs holds slides of the request.
    GlioError
        No slide was found, or no slide can be measured, or the folder cannot be written.
    """
    listed, complaints = _listed(request)
    if listed:
        request = replace(request, names=[str(path) for path in listed])
    folder, plan = _folder_of(request), settled(plan)
    faults: dict[str, str] = {}
    if listed:
        slides = list(listed)
    else:
        slides = list(find_slides(request.names, folder, faults.__setitem__))
    reporter = output_mode.reporter(RunProgress({path: _size(path) for path in slides}))
    lines = [*complaints, *(f"{name}: {fault}" for name, fault in faults.items())]
    if not slides:
        raise GlioError(f"{'; '.join(lines)}; name a slide, or a folder that holds some")
    for line in lines:
        reporter.complain(line)
    suffixes = loop.suffixes_of(request.formats)
    with (
        loop.opened(folder, suffixes, plan, reporter.complain) as ledger,
        _work(request, plan, reporter) as work,
    ):
        tally = loop.run(
            slides, ledger, plan, work, reporter, retry=True,
            order_of=_orders(plan, listed, request.regions),
            again=Again() if listed else request.again,  # the rows of a list add to the options
        )  # fmt: skip
    return not tally.failed


def watch(request: Request, plan: Plan, output_mode: OutputMode) -> None:
    """Measure slides as they arrive, until the user stops the program.

    Raises
    ------
    GlioError
        No slide can be measured, or the folder cannot be written.
    """
    if any(map(slidelist.is_list, request.names)):
        raise UsageError("--watch waits for slides in folders; a list (.csv) is run without it")
    folder, plan = _folder_of(request), settled(plan)
    reporter = output_mode.reporter(RunProgress({}), dated=True)
    suffixes = loop.suffixes_of(request.formats)
    with (
        suppress(KeyboardInterrupt),  # an interrupt is the normal end of a watch
        loop.opened(folder, suffixes, plan, reporter.complain) as ledger,
        _work(request, plan, reporter) as work,
    ):
        reporter.watching(f"{', '.join(request.names)}; results go to {folder}")
        with _health(folder) as health:

            def stand(faults: dict[str, str]) -> None:
                health.stand(_by_folder(faults, request.names))
                _idle(health, reporter)

            while True:
                health.reserve()
                feed = watching.arriving(
                    request.names, folder, request.settle_s, ledger.due_again, reporter, stand
                )  # fmt: skip
                try:
                    loop.run(
                        feed, ledger, plan, work, reporter, retry=False, health=health,
                        order_of=_orders(plan, {}, request.regions), again=request.again,
                    )  # fmt: skip
                except DiskFullError as error:
                    _wait_for_room(error, health, ledger, reporter)


def _listed(request: Request) -> tuple[dict[Path, Row], tuple[str, ...]]:
    """Return the rows of the list that a request names, by slide, and what is amiss with it."""
    if not any(map(slidelist.is_list, request.names)):
        return {}, ()
    read = slidelist.read_list(Path(request.names[0]))
    return read.rows, read.complaints


def _orders(
    plan: Plan, listed: Mapping[Path, Row], regions: Path | None
) -> Callable[[Path], loop.Order]:
    """Return what gives the order of each slide: the plan, with what its row or folder adds."""

    def order_of(path: Path) -> loop.Order:
        row = listed.get(path, Row(path))
        if row.fault:
            return loop.Order(plan, row.name, row.fault)
        changes: dict[str, Any] = {"mpp": row.mpp, "tissue_mask": row.tissue_mask}
        try:
            named = row.regions or regions
            changes["regions"] = None if named is None else regions_file(named, path)
            changes = {name: value for name, value in changes.items() if value is not None}
            if row.calibration is not None:
                changes["calibration"] = calibrations.named(row.calibration)
            if not changes:
                return loop.Order(plan, row.name)
            settings = replace(plan.settings, **changes)
        except GlioError as error:
            return loop.Order(plan, row.name, str(error))
        return loop.Order(replace(plan, settings=settings), row.name)

    return order_of


@contextmanager
def _health(folder: Path) -> Iterator[Health]:
    """Yield the health of a watch, whose file tells in the end that it is stopped."""
    health = Health(folder)
    try:
        yield health
    finally:
        health.write(state="stopped")
        health.free()


def _by_folder(faults: dict[str, str], names: list[str]) -> dict[str, str]:
    """Return faults without the names of slides: those that only a folder holds by that folder."""
    return {
        name if name in names else str(Path(name).parent): fault for name, fault in faults.items()
    }


def _idle(health: Health, reporter: Reporter) -> None:
    reporter.idle(health.done, health.failed, health.last_done_at, health.faults)


def _wait_for_room(
    error: DiskFullError, health: Health, ledger: Ledger, reporter: Reporter
) -> None:
    """Tell on the screen, in the health file and in the index that the disk is full, and wait."""
    reporter.complain(f"{error}; waiting")
    health.free()
    health.stand({str(ledger.folder): FULL})
    with suppress(GlioError):
        summary.write(ledger.folder, list(ledger), faults=health.faults)
    while True:
        watching.sleep(ROOM_EVERY_S)  # once at least: a quota does not show as a lack of room
        if health.has_room():
            break
        health.stand({str(ledger.folder): FULL})
        _idle(health, reporter)
    health.stand({})
    reporter.back(f"{ledger.folder}: has room again")


@contextmanager
def _work(request: Request, plan: Plan, reporter: Reporter) -> Iterator[loop.Work]:
    if request.cluster is None:
        yield loop.local_work(plan, reporter.tiles, reporter.say)
        return
    try:
        from gliorun.batch import cluster
    except ImportError as error:
        raise GlioError(
            f"--cluster needs Dask: pip install 'gliorun[cluster]' ({error})"
        ) from error
    with cluster.on(request.cluster, plan, reporter) as work:
        yield work


def _folder_of(request: Request) -> Path:
    """Return the folder of the outputs, where no slide may lie: an output could overwrite it.

    Raises
    ------
    UsageError
        The request names a slide in that folder.
    """
    folder = absolute(request.folder)
    real = _without_links(folder)
    for name in request.names:
        path, real_path = absolute(name), _without_links(absolute(name))
        if folder in (path, *path.parents) or real in (real_path, *real_path.parents):
            raise UsageError(
                f"--out-dir {request.folder} holds slides that are named; name another folder, "
                f"such as {folder / 'maps'}"
            )
    return folder


def _without_links(path: Path) -> Path:
    return Path(os.path.realpath(path))  # `Path.resolve` raises on a circular link


def _size(path: Path) -> int:
    try:
        return stamp_of(path).size_bytes
    except OSError:
        return 0
