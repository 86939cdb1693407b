"""What tests of many slides share: cheap slides, a run over them, and what it must leave."""

from __future__ import annotations

import csv
import subprocess
import sys
from collections.abc import Generator, Iterable
from pathlib import Path

import slides
from gliorun import demo, job
from gliorun.batch import loop
from gliorun.batch.failure import Failure
from gliorun.batch.ledger import RECORDS
from gliorun.batch.loop import Ended, Task
from gliorun.model import shipped
from gliorun.plan import Plan
from gliorun.reporting.lines import Lines
from gliorun.reporting.progress import RunProgress
from gliorun.settings import Settings
from gliorun.sliderecord import Record

PROGRAM = """
import signal
from gliorun.cli import run
signal.signal(signal.SIGINT, signal.default_int_handler)  # which what runs in a background ignores
run()
"""
COMMAND = [sys.executable, "-c", PROGRAM]
TINY_PX = (300, 260)
CSV = (".csv",)


def plan(**settings: object) -> Plan:
    return Plan([], shipped.DEFAULT_MODEL, Settings(**settings))


def tiny(path: Path, *, density: float = 0.1) -> Path:
    """Write a slide of one tile."""
    path.parent.mkdir(parents=True, exist_ok=True)
    demo.write_slide(path, slides.all_tissue(*TINY_PX, density=density), levels=1)
    return path


def type_in(*words: object) -> subprocess.CompletedProcess[str]:
    """Run the command in a process of its own."""
    return subprocess.run(
        [*COMMAND, *map(str, words)], capture_output=True, text=True, timeout=300, check=False
    )


def type_in_at(folder: Path, *words: object) -> subprocess.CompletedProcess[str]:
    """Run the command in a folder."""
    return subprocess.run(
        [*COMMAND, *map(str, words)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        cwd=folder,
    )


def run(
    paths: Iterable[Path | None],
    folder: Path,
    work: loop.Work,
    *,
    wanted: Plan | None = None,
    suffixes: tuple[str, ...] = CSV,
    retry: bool = True,
) -> loop.Tally:
    """Measure slides into a folder, in this process."""
    wanted = wanted or plan()
    reporter = Lines(RunProgress({}), quiet=False, verbose=False, dated=False)
    with loop.opened(folder, suffixes, wanted, reporter.complain) as ledger:
        return loop.run(paths, ledger, wanted, work, reporter, retry=retry)


def in_process() -> loop.Work:
    """Return the work that the command does without a cluster."""
    return loop.local_work(plan(), lambda path, done, total, bottleneck: None, lambda line: None)


def records(folder: Path) -> dict[str, Record]:
    """Return the records of a folder by name; each file must be whole."""
    return {
        path.stem: Record.from_json(path.read_bytes())
        for path in (folder / RECORDS).iterdir()
        if path.suffix == ".json" and not path.name.startswith(".")
    }


def summary(folder: Path) -> dict[str, dict[str, str]]:
    """Return the rows of the table by name."""
    with (folder / "summary.csv").open(newline="", encoding="utf-8-sig") as stream:
        return {row["name"]: row for row in csv.DictReader(stream)}


def copies_what_it_reads(seen: list[Path] | None = None) -> loop.Work:
    """Return work whose outputs are the slide's own bytes; an empty slide fails."""

    def work(tasks: Iterable[Task | None]) -> Generator[Ended]:
        for task in tasks:
            if task is None:
                yield None
                continue
            if seen is not None:
                seen.append(task.path)
            yield task, copied(task)

    return work


def copied(task: Task) -> job.Outcome | Failure:
    """Do the work of one task."""
    try:
        content = task.path.read_bytes()
    except OSError:
        return Failure(f"{task.path}: no such file")
    if not content:
        return Failure(f"{task.path}: is empty")
    for output in task.plan.outputs:
        output.write_bytes(content)
    run = {"seconds": {"measure": 1.0}, "tiles": {"measured": 1}, "resumed_tiles": 0}
    return job.Outcome("copied", (), None, run)
