"""What a watch lacks stands in its health file and in the index, and it goes on by itself."""

from __future__ import annotations

import errno
import hashlib
import json
import shutil
import subprocess
from pathlib import Path

import pytest

import batches
from gliorun.atomic import cannot_write
from gliorun.batch import command, loop
from gliorun.batch import health as of_watch
from gliorun.batch import watch as watching
from gliorun.batch.failure import Failure, of_one_slide
from gliorun.batch.health import HEALTH, RESERVE, Health
from gliorun.errors import DiskFullError
from gliorun.reporting.lines import Lines
from gliorun.reporting.progress import RunProgress

FULL = OSError(errno.ENOSPC, "No space left on device")


def read(folder: Path) -> dict[str, object]:
    return json.loads((folder / HEALTH).read_text(encoding="utf-8"))


@pytest.fixture
def opened(tmp_path):
    """A slide, its output folder and ledger, a reporter, and the health of a watch."""
    slide = batches.tiny(tmp_path / "scans" / "DOE JANE 1950.svs")
    reporter = Lines(RunProgress({}), quiet=False, verbose=False, dated=True)
    wanted = batches.plan()
    with loop.opened(tmp_path / "maps", batches.CSV, wanted, reporter.complain) as ledger:
        yield slide, ledger, wanted, reporter, Health(ledger.folder)


def test_the_file_tells_when_a_slide_was_last_done_and_names_none(opened):
    slide, ledger, wanted, reporter, health = opened
    loop.run([slide], ledger, wanted, batches.copies_what_it_reads(), reporter,
             retry=False, health=health)  # fmt: skip
    told = read(ledger.folder)
    (record,) = ledger
    assert (told["done"], told["failed"], told["state"]) == (1, 0, "watching")
    assert told["last_done_at"] == record.changed_at
    assert told["last_failed_at"] is None
    assert "DOE" not in (ledger.folder / HEALTH).read_text(encoding="utf-8")
    health.write(state="stopped")
    assert read(ledger.folder)["state"] == "stopped"


def test_a_share_that_is_away_stands_in_both_until_it_is_back(opened):
    slide, ledger, wanted, reporter, health = opened
    share, moved = slide.parent, slide.parent.with_name("away")
    feed = watching.arriving([str(share)], ledger.folder, 0.01, ledger.due_again, reporter,
                             health.stand)  # fmt: skip
    shown = []

    def some_polls():
        for number in range(3):
            if number == 1:
                share.rename(moved)
            if number == 2:
                moved.rename(share)
            while next(feed) is not None:
                pass
            index.summary_at = float("-inf")  # as twenty seconds later
            yield None
            shown.append((list(health.faults), (ledger.folder / "index.html").read_text("utf-8")))

    order = loop.Order(wanted)
    index = loop._Batch(ledger, wanted, reporter, False, lambda path: order, health)
    index.run(some_polls(), batches.copies_what_it_reads())
    assert [len(faults) for faults, _ in shown] == [0, 1, 0]
    assert shown[1][0] == [f"{share}: not there"]
    assert [f"{share}: not there" in page for _, page in shown] == [False, True, False]
    assert read(ledger.folder)["faults"] == []


def full(tasks):
    """Work on a disk that is full as soon as the first slide is to be written."""
    for task in tasks:
        if task is not None:
            yield task, of_one_slide(task.path, lambda path=task.path: out_of_room(path))


def out_of_room(path: Path) -> None:
    raise cannot_write(path, FULL)


def test_a_full_disk_is_no_fault_of_the_slide_which_is_due_again(opened):
    slide, ledger, wanted, reporter, health = opened
    with pytest.raises(DiskFullError, match="No space left on device"):
        loop.run([slide], ledger, wanted, full, reporter, retry=False, health=health)
    assert list(ledger) == []
    assert ledger.due_again(slide)
    done = loop.run([slide], ledger, wanted, batches.copies_what_it_reads(), reporter,
                    retry=False, health=health)  # fmt: skip
    assert (done.done, done.failed) == (1, 0)


def test_without_a_watch_a_full_disk_is_the_reason_of_each_slide(opened):
    slide, ledger, wanted, reporter, _ = opened
    tally = loop.run([slide], ledger, wanted, full, reporter, retry=True)
    (record,) = ledger
    assert (tally.failed, record.state) == (1, "failed")
    assert "free some space" in record.reason


def test_a_watch_waits_for_room_and_tells_it_with_what_it_had_kept_back(opened, monkeypatch):
    _, ledger, _, reporter, health = opened
    health.reserve()
    assert (ledger.folder / RESERVE).stat().st_size == of_watch.RESERVE_BYTES
    naps, pages = [], []

    def nap(seconds: float) -> None:
        naps.append(seconds)
        pages.append((ledger.folder / "index.html").read_text(encoding="utf-8"))
        assert not (ledger.folder / RESERVE).exists()
        assert read(ledger.folder)["faults"][0]["text"].endswith("the disk is full")
        usage = shutil.disk_usage(ledger.folder)
        free = 0 if len(naps) < 3 else of_watch.ROOM_BYTES
        monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=free))

    monkeypatch.setattr(watching, "sleep", nap)
    command._wait_for_room(cannot_write(ledger.folder, FULL), health, ledger, reporter)
    assert len(naps) == 3
    assert f"{ledger.folder}: the disk is full" in pages[0]
    assert health.faults == {}


def test_health_is_told_in_the_room_that_was_kept_back(tmp_path, monkeypatch):
    health = Health(tmp_path)
    health.reserve()
    replace = Health._replace

    def no_room(self: Health, text: str) -> None:
        if (tmp_path / RESERVE).exists():
            raise cannot_write(tmp_path, FULL)
        replace(self, text)

    monkeypatch.setattr(Health, "_replace", no_room)
    health.write()
    assert read(tmp_path)["state"] == "watching"


def test_a_failure_knows_that_the_disk_is_full(tmp_path):
    failure = of_one_slide(tmp_path, lambda: out_of_room(tmp_path))
    assert isinstance(failure, Failure)
    assert failure.disk_full
    assert not failure.stalled


def test_every_output_is_kept_by_its_hash_as_sha256sum_takes_it(opened):
    slide, ledger, wanted, reporter, _ = opened
    loop.run([slide], ledger, wanted, batches.copies_what_it_reads(), reporter, retry=True)
    (record,) = ledger
    (sums,) = (ledger.folder / "records").glob("*.sha256")
    told = dict(reversed(line.split("  ")) for line in sums.read_text("utf-8").splitlines())
    assert set(told) == set(record.outputs)
    for name, digest in told.items():
        assert hashlib.sha256((ledger.folder / name).read_bytes()).hexdigest() == digest
    if shutil.which("sha256sum"):
        command = ["sha256sum", "-c", sums.relative_to(ledger.folder)]
        assert subprocess.run(command, cwd=ledger.folder, check=False).returncode == 0
        (ledger.folder / record.outputs[0]).write_bytes(b"another")
        assert subprocess.run(command, cwd=ledger.folder, check=False).returncode == 1
