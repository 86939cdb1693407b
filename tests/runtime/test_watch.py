"""A slide is handed on when it is whole, once, whatever a scanner or a share does; by a clock of
the test's own."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import openslide
import pytest

import batches
import slides
from gliorun.batch import command, loop, watch
from gliorun.errors import UsageError
from gliorun.reading.slide import Slide
from gliorun.reporting.lines import Lines
from gliorun.reporting.progress import RunProgress

SETTLE_S = 30.0


class Clock:
    """Time that passes only in sleep."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def monotonic(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds


class Told(Lines):
    """Keeps what a watch tells."""

    def __init__(self) -> None:
        super().__init__(RunProgress({}), quiet=True, verbose=False, dated=False)
        self.lines: list[str] = []
        self.lists: list[dict[str, str]] = []

    def complain(self, line: str) -> None:
        self.lines.append(line)

    def back(self, line: str) -> None:
        self.lines.append(line)

    def waiting(self, reasons: dict[Path, str]) -> None:
        self.lists.append({path.name: reason for path, reason in reasons.items()})


class Folder:
    """A watched folder, looked at step by step."""

    def __init__(self, names: list[str], again=lambda path: False) -> None:
        told = Told()
        self.told, self.lists = told.lines, told.lists
        self.looks = watch.arriving(names, Path("nowhere"), SETTLE_S, again, told)

    def look(self, times: int = 1) -> list[Path]:
        """Look so many times and return what is handed on."""
        handed_on = []
        for _ in range(times):
            while (path := next(self.looks)) is not None:
                handed_on.append(path)
        return handed_on


@pytest.fixture
def clock(monkeypatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(watch, "time", clock)
    return clock


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    return batches.tiny(tmp_path_factory.mktemp("whole") / "whole.svs")


@pytest.fixture
def incoming(tmp_path) -> Path:
    folder = tmp_path / "incoming"
    folder.mkdir()
    return folder


SETTLED = watch.POLLS + 1
PATIENT = watch.POLLS * watch.PATIENCE + 1


def test_a_slide_is_handed_on_once_and_not_before_it_has_settled(clock, incoming, whole):
    path = Path(shutil.copy(whole, incoming / "a.svs"))
    folder = Folder([str(incoming)])
    assert folder.look(watch.POLLS) == []
    assert clock.now_s < SETTLE_S
    assert folder.look() == [path]
    assert clock.now_s >= SETTLE_S
    assert folder.look(PATIENT) == []


def test_a_slide_that_grows_is_waited_for(clock, incoming, whole):
    path, content = incoming / "a.svs", whole.read_bytes()
    folder = Folder([str(incoming)])
    for share in (0.2, 0.5, 0.8):
        path.write_bytes(content[: int(len(content) * share)])
        assert folder.look(watch.POLLS) == []
    path.write_bytes(content)
    assert folder.look(SETTLED) == [path]


def test_a_stalled_transfer_is_waited_for_as_it_does_not_open(clock, incoming, whole):
    path = slides.truncated(incoming / "a.svs", whole, 0.3)
    folder = Folder([str(incoming)])
    assert folder.look(3 * SETTLED) == []
    path.write_bytes(whole.read_bytes())
    assert folder.look(SETTLED) == [path]


def test_what_never_opens_is_handed_on_at_last_so_that_its_reason_is_told(clock, incoming):
    path = slides.text_file(incoming / "a.svs")
    folder = Folder([str(incoming)])
    assert folder.look(PATIENT - 1) == []
    assert folder.look() == [path]
    assert folder.look(PATIENT) == []


def test_a_file_of_full_size_from_the_start_is_waited_for_as_long_as_it_is_written(
    clock, incoming, whole
):
    """Some copies reserve the whole file first; only its time tells."""
    content = whole.read_bytes()
    path = incoming / "a.svs"
    path.write_bytes(bytes(len(content)))
    folder = Folder([str(incoming)])
    for second in range(3):
        os.utime(path, ns=(0, (second + 1) * 10**9))
        assert folder.look(watch.POLLS) == []
    path.write_bytes(content)
    assert folder.look(SETTLED) == [path]


def test_a_slide_that_has_changed_is_handed_on_again(clock, incoming, whole):
    path = Path(shutil.copy(whole, incoming / "a.svs"))
    folder = Folder([str(incoming)])
    assert folder.look(SETTLED) == [path]
    batches.tiny(path, density=0.3)
    assert folder.look(SETTLED) == [path]


def test_a_change_between_the_look_and_the_hand_over_is_noticed(clock, incoming, whole):
    """The first slide is measured for long; meanwhile the second one is written anew."""
    paths = [Path(shutil.copy(whole, incoming / f"{name}.svs")) for name in "ab"]
    folder = Folder([str(incoming)])
    assert folder.look(watch.POLLS) == []
    assert next(folder.looks) == paths[0]
    batches.tiny(paths[1], density=0.3)
    assert next(folder.looks) is None
    assert folder.look(SETTLED) == [paths[1]]


def test_a_slide_that_vanishes_is_forgotten_and_new_when_it_comes_back(clock, incoming, whole):
    path = Path(shutil.copy(whole, incoming / "a.svs"))
    folder = Folder([str(incoming)])
    folder.look(2)
    path.unlink()
    assert folder.look(SETTLED) == []
    shutil.copy(whole, path)
    assert folder.look(watch.POLLS) == []
    assert folder.look() == [path]


def test_a_renamed_slide_is_another_one(clock, incoming, whole):
    path = Path(shutil.copy(whole, incoming / "scan.svs"))
    folder = Folder([str(incoming)])
    folder.look(2)
    path.rename(incoming / "S1.svs")
    assert folder.look(SETTLED) == [incoming / "S1.svs"]


def test_a_failed_slide_is_handed_on_again_when_its_time_has_come(clock, incoming, whole):
    path = Path(shutil.copy(whole, incoming / "a.svs"))
    due: set[Path] = set()
    folder = Folder([str(incoming)], again=due.__contains__)
    assert folder.look(SETTLED) == [path]
    assert folder.look(5) == []
    due.add(path)
    assert folder.look(2) == [path]


def test_an_mrxs_is_whole_when_the_folder_beside_it_is(clock, incoming, tmp_path):
    pixels = slides.all_tissue(800, 600)
    made = slides.mrxs(tmp_path / "a.mrxs", pixels)
    with Slide(made) as slide:
        width, height = slide.size_l0
        read = slide.overview(max(width, height))[..., :3]
    assert np.abs(read.astype(int) - pixels[:height, :width]).mean() < 8  # it is a real one
    folder = Folder([str(incoming)])
    path = Path(shutil.copy(made, incoming / "a.mrxs"))
    assert folder.look(3 * SETTLED) == []
    (incoming / "a").mkdir()
    for name in ("Slidedat.ini", "Index.dat"):
        shutil.copy(made.with_suffix("") / name, incoming / "a" / name)
        assert folder.look(watch.POLLS) == []
    content = (made.with_suffix("") / "Data0000.dat").read_bytes()
    for share in (0.3, 0.6, 1):
        (incoming / "a" / "Data0000.dat").write_bytes(content[: int(len(content) * share)])
        assert folder.look(watch.POLLS) == []
    assert folder.look() == [path]


def test_a_share_that_goes_and_comes_back_is_told_once_and_no_slide_is_lost(clock, incoming, whole):
    path = Path(shutil.copy(whole, incoming / "a.svs"))
    away = incoming.with_name("away")
    folder = Folder([str(incoming)])
    incoming.rename(away)
    assert folder.look(3) == []
    assert folder.told == [f"{incoming}: not there; waiting"]
    away.rename(incoming)
    assert folder.look(SETTLED) == [path]
    assert folder.told[1:] == [f"{incoming}: is there again"]
    incoming.rename(away)
    folder.look(3)
    assert folder.told[2:] == [f"{incoming}: not there; waiting"]


def test_a_share_whose_mount_point_stays_behind_empty_is_told_as_well(clock, incoming, whole):
    path = Path(shutil.copy(whole, incoming / "a.svs"))
    folder = Folder([str(incoming)])
    assert folder.look(SETTLED) == [path]
    path.rename(incoming.with_name("away.svs"))
    folder.look(2)
    incoming.with_name("away.svs").rename(path)
    folder.look(2)
    assert folder.told == [
        f"{incoming}: no slide found; waiting", f"{incoming}: holds slides now",
    ]  # fmt: skip


def test_a_slide_that_is_deleted_for_good_is_not_said_to_be_back(clock, tmp_path, whole):
    (tmp_path / "incoming").mkdir()
    try:
        (tmp_path / "incoming" / "a.svs").symlink_to(whole.with_name("gone.svs"))
    except OSError:
        pytest.skip("no links here")
    shutil.copy(whole, tmp_path / "incoming" / "b.svs")
    folder = Folder([str(tmp_path / "incoming")])
    folder.look()
    (tmp_path / "incoming" / "a.svs").unlink()
    folder.look(3)
    assert folder.told == [f"{tmp_path / 'incoming' / 'a.svs'}: not there; waiting"]


def test_what_is_waited_for_is_listed_with_its_reason_once_it_has_changed(clock, incoming, whole):
    folder = Folder([str(incoming)])
    shutil.copy(whole, incoming / "a.svs")
    slides.truncated(incoming / "b.svs", whole, 0.3)
    folder.look(SETTLED + 2 * 60)
    young, (cut, *others) = "unchanged for less than 30 s", folder.lists[1:]
    assert folder.lists[0] == {"a.svs": young, "b.svs": young}
    assert list(cut) == ["b.svs"]
    assert cut["b.svs"].startswith("does not open yet: damaged or truncated")
    assert others == []


def test_a_list_that_changes_at_every_look_is_told_once_a_minute(clock, incoming):
    folder = Folder([str(incoming)])
    for number in range(24):  # a look each ten seconds
        slides.text_file(incoming / f"{number}.svs")
        folder.look()
    assert [len(names) for names in folder.lists] == [1, 7, 13, 19]


@pytest.mark.parametrize(
    "content", [b"II*\0", b"MM\0*", b"II*\0\x08", b"II*\0\x08\0\0", b"MM\0+\0"]
)
def test_a_tiny_file_ends_no_watch_and_is_handed_on_at_last(clock, incoming, whole, content):
    """Four to seven bytes, at which a parser of TIFF raises errors of its own."""
    tiny = incoming / "a.svs"
    tiny.write_bytes(content)
    path = Path(shutil.copy(whole, incoming / "b.svs"))
    folder = Folder([str(incoming)])
    assert folder.look(SETTLED) == [path]
    assert folder.look(PATIENT) == [tiny]


def test_a_file_that_is_deleted_while_it_is_opened_ends_no_watch(
    clock, incoming, whole, monkeypatch
):
    """Between the look and the opening, which may let the system's own error through."""
    gone = slides.text_file(incoming / "a.svs")
    path = Path(shutil.copy(whole, incoming / "b.svs"))

    class DeletedFirst(openslide.OpenSlide):
        def __init__(self, file) -> None:
            if Path(file) == gone:
                gone.unlink(missing_ok=True)
            super().__init__(file)

    monkeypatch.setattr(openslide, "OpenSlide", DeletedFirst)
    folder = Folder([str(incoming)])
    assert folder.look(2 * SETTLED) == [path]
    assert not gone.exists()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes among files here")
def test_a_pipe_called_a_slide_is_told_and_waited_for_without_being_read(clock, incoming, whole):
    os.mkfifo(incoming / "a.svs")
    path = Path(shutil.copy(whole, incoming / "b.svs"))
    folder = Folder([str(incoming)])
    assert folder.look(PATIENT) == [path]
    assert folder.told == [f"{incoming / 'a.svs'}: cannot be read (is a pipe or a device); waiting"]


class Outage:
    """Work that finds the share away when it begins with a slide, for the first time only."""

    def __init__(self, share: Path) -> None:
        self.share, self.away = share, share.with_name("away")
        self.seen: list[Path] = []

    def work(self, tasks):
        for task in tasks:
            if task is None:
                yield None
                continue
            self.seen.append(task.path)
            if len(self.seen) == 1:
                self.share.rename(self.away)
            yield task, batches.copied(task)


def test_a_slide_is_measured_though_its_share_was_away_for_less_than_a_look(
    clock, tmp_path, incoming, whole, capsys
):
    """Back before the next look, with the same time: the watch sees no change."""
    path = Path(shutil.copy(whole, incoming / "a.svs"))
    outage, maps = Outage(incoming), tmp_path / "maps"
    told = Told()
    with loop.opened(maps, batches.CSV, batches.plan(), print) as ledger:

        def looks():
            arriving = watch.arriving([str(incoming)], maps, SETTLE_S, ledger.due_again, told)
            for number, slide in enumerate(arriving):
                if outage.away.exists():
                    outage.away.rename(incoming)
                yield slide
                if number == 4 * SETTLED:
                    return

        tally = loop.run(looks(), ledger, batches.plan(), outage.work, told, retry=False)
    assert outage.seen == [path, path]
    assert (tally.done, tally.failed, tally.skipped) == (1, 0, 0)
    assert (maps / "a.csv").read_bytes() == whole.read_bytes()
    assert told.lines == [
        f"{path}: vanished before it was measured; it is tried again when it is there"
    ]


def test_a_slow_share_is_not_looked_at_all_the_time(clock, incoming, monkeypatch):
    def slow(*args):
        clock.now_s += 1000
        yield from ()

    monkeypatch.setattr(watch, "find_slides", slow)
    folder = Folder([str(incoming)])
    folder.look(2)
    assert clock.now_s >= 3000  # two looks, and a pause as long as one


@pytest.mark.parametrize("settle_s", [0, -1, float("nan")])
def test_a_settling_time_without_sense_is_refused(settle_s):
    with pytest.raises(UsageError, match="--settle-s"):
        command.Request([], Path(), "csv", settle_s)


class Watching:
    """The command, in a process of its own; its folder of outputs lies among the slides."""

    def __init__(self, incoming: Path, log: Path) -> None:
        self.maps, self.log = incoming / "maps", log
        words = (incoming, "--out-dir", self.maps, "--format", "csv", "--watch", "--settle-s", 0.2)
        with log.open("wb") as stream:
            self.process = subprocess.Popen(
                [*batches.COMMAND, *map(str, words)], stdout=stream, stderr=subprocess.STDOUT
            )

    def __enter__(self) -> Watching:
        self.until("watching")
        return self

    def __exit__(self, *error: object) -> None:
        self.process.kill()
        self.process.wait()

    def until(self, text: str) -> None:
        """Wait until the command has told something."""
        end = time.monotonic() + 120
        while text not in self.log.read_text():
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < end, self.log.read_text()
            time.sleep(0.05)

    def stop(self, how: signal.Signals) -> None:
        self.process.send_signal(how)
        assert self.process.wait(60) == 0, self.log.read_text()


not_on_windows = pytest.mark.skipif(
    os.name == "nt", reason="a stop there is Ctrl-Break to a whole console"
)


@not_on_windows
@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
def test_the_command_watches_tells_a_line_a_slide_and_stops_well(tmp_path, incoming, whole, stop):
    with Watching(incoming, tmp_path / "log.txt") as watching:
        shutil.copy(whole, incoming / "a.svs")
        slides.text_file(incoming / "b.svs")
        watching.until("a.svs: mean density")
        watching.until("b.svs: failed: not a slide")
        watching.stop(stop)
    lines = watching.log.read_text().splitlines()
    of_slides = [line for line in lines if ".svs" in line]
    assert len([line for line in of_slides if " waiting for " not in line]) == 2
    assert " waiting for " in of_slides[0]
    assert lines[-1].split(" ", 3)[3].startswith("1 done, 1 failed")
    assert {name: record.state for name, record in batches.records(watching.maps).items()} == {
        "a": "done", "b": "failed",
    }  # fmt: skip


@not_on_windows
def test_the_good_slide_that_arrives_last_is_measured_whatever_lies_before_it(
    tmp_path, incoming, whole
):
    (incoming / "tiny.svs").write_bytes(b"II*\0")
    (incoming / "tiny7.tif").write_bytes(b"MM\0*\0\0\0")
    (incoming / "empty.svs").touch()
    slides.text_file(incoming / "text.svs")
    slides.truncated(incoming / "cut.svs", whole, 0.5)
    (incoming / "folder.svs").mkdir()
    (incoming / "circle.svs").symlink_to(incoming / "circle.svs")
    (incoming / "dangling.svs").symlink_to(tmp_path / "nowhere.svs")
    os.mkfifo(incoming / "pipe.svs")
    shutil.copy(whole, incoming / (60 * "🧠" + ".svs"))
    with Watching(incoming, tmp_path / "log.txt") as watching:
        for name in ("tiny.svs", "tiny7.tif", "empty.svs", "text.svs", "cut.svs"):
            watching.until(f"{name}: failed: ")
        shutil.copy(whole, incoming / "zz.svs")
        watching.until("zz.svs: mean density")
        watching.stop(signal.SIGTERM)
    log = watching.log.read_text()
    assert "Traceback" not in log
    for name, fault in (
        ("circle", "cannot be read ("), ("dangling", "not there"), ("pipe", "cannot be read ("),
    ):  # fmt: skip
        assert f"{incoming / name}.svs: {fault}" in log
    assert {name: record.state for name, record in batches.records(watching.maps).items()} == {
        **dict.fromkeys(("tiny", "tiny7", "empty", "text", "cut"), "failed"),
        **dict.fromkeys((48 * "🧠", "zz"), "done"),
    }
