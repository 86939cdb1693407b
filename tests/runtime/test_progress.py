"""What a user, a log and another program are told."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from gliorun.reporting import jsonlines, lines, progress
from gliorun.reporting.jsonlines import JsonLines
from gliorun.reporting.lines import Lines
from gliorun.reporting.progress import RunProgress
from gliorun.sliderecord import Record
from gliorun.words import duration, plain

ONE, TWO, THREE = Path("/x/one.svs"), Path("/x/two.svs"), Path("/x/three.svs")
PACE = {
    "tiles": 40,
    "tiles_per_s": 4.0,
    "bottleneck": "reading",
    "waited_s": {"reading": 8.0, "network": 2.0},
}


WARNINGS = ["[1/3] one.svs: warning: a", "[1/3] one.svs: warning: b"]


class Clock:
    """Time that passes when the test says so."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def monotonic(self) -> float:
        return self.now_s


@pytest.fixture
def clock(monkeypatch) -> Clock:
    clock = Clock()
    for module in (jsonlines, lines, progress):
        monkeypatch.setattr(module, "time", clock)
    return clock


def record(path: Path, state: str = "done", reason: str = "") -> Record:
    pace = PACE if state == "done" else {}
    return Record(
        path.stem, str(path), None, "", {}, state, 1, "2026-01-01T00:00:00+00:00",
        outputs=(f"{path.stem}.csv",), reason=reason, pace=pace, warnings=("a", "b"),
    )  # fmt: skip


def test_the_time_left_follows_from_the_bytes_that_are_done(clock):
    progress = RunProgress({ONE: 100, TWO: 300, THREE: 600})
    assert progress.left_s is None
    progress.start(ONE)
    clock.now_s += 10
    progress.end(record(ONE))
    assert progress.left_s == pytest.approx(90)
    progress.skip(THREE)
    assert progress.left_s == pytest.approx(30)
    progress.start(TWO)
    clock.now_s += 10
    progress.of(TWO).step(0, 2)
    progress.of(TWO).step(1, 2)  # half of its tiles: 150 bytes more
    assert progress.left_s == pytest.approx(150 * 20 / 250)


def test_a_slide_that_fails_at_once_does_not_spoil_the_time_left(clock):
    progress = RunProgress({ONE: 1, TWO: 300})
    progress.start(ONE)
    clock.now_s += 1
    progress.end(record(ONE, "failed", "damaged"))
    assert progress.left_s is None


def test_the_pace_of_a_slide_counts_from_its_first_tile(clock):
    progress = RunProgress({})
    progress.start(ONE)
    clock.now_s += 60  # opening
    slide = progress.of(ONE)
    slide.step(1, 11)
    assert slide.left_s is None
    clock.now_s += 2
    slide.step(5, 11)
    assert slide.tiles_per_s == pytest.approx(2)
    assert slide.left_s == pytest.approx(3)
    assert progress.left_s is None  # nobody knows what will come


def test_what_an_earlier_run_has_done_is_neither_pace_nor_time(clock):
    progress = RunProgress({ONE: 1000, TWO: 1000})
    progress.start(ONE)
    slide = progress.of(ONE)
    assert slide.step(900, 1000)
    assert slide.tiles_per_s == 0
    clock.now_s += 10
    assert not slide.step(920, 1000)
    assert slide.tiles_per_s == pytest.approx(2)
    assert slide.left_s == pytest.approx(40)
    assert progress.left_s == pytest.approx(1080 / 2)  # 20 bytes took ten seconds


def test_slides_that_are_measured_at_once_have_a_pace_each(clock):
    progress = RunProgress({ONE: 1000, TWO: 1000})
    for path in (ONE, TWO):
        progress.start(path)
        progress.of(path).step(0, 100)
    clock.now_s += 10
    progress.of(ONE).step(50, 100)
    progress.of(TWO).step(10, 100)
    assert [progress.of(path).number for path in (ONE, TWO)] == [1, 2]
    assert [progress.of(path).tiles_per_s for path in (ONE, TWO)] == [5, 1]
    assert progress.left_s == pytest.approx(10 * 1400 / 600)
    assert progress.of(ONE).step(20, 100)  # another worker has taken it over, from its checkpoint
    assert progress.of(ONE).tiles == 0
    progress.end(record(ONE))
    assert progress.left_s == pytest.approx(10 * 900 / 1100)


def test_the_bottleneck_is_what_was_waited_for_most(clock):
    progress = RunProgress({ONE: 1})
    assert progress.bottleneck == ""
    progress.end(record(ONE))
    assert progress.bottleneck == "reading"


def tell(reporter, clock: Clock) -> None:
    """Go through a run of three slides."""
    reporter.started(ONE)
    reporter.tiles(ONE, 0, 5, "reading")
    for done in range(1, 6):
        clock.now_s += 1
        reporter.tiles(ONE, done, 5, "reading")
    reporter.ended(record(ONE), "mean density 5.0 % of 40 tiles, 5.0 s")
    reporter.started(TWO)
    reporter.ended(record(TWO, "failed", f"{TWO}: is\nempty"), "")
    reporter.skipped(THREE, record(THREE))
    reporter.complain("odd")
    reporter.say("chosen")
    reporter.total(1, 1, 1, Path("/m/index.html"))


def of_three_slides() -> RunProgress:
    return RunProgress({ONE: 100, TWO: 100, THREE: 100})


def test_a_log_gets_one_line_a_slide_and_the_total(clock, capsys):
    tell(Lines(of_three_slides(), quiet=False, verbose=False, dated=False), clock)
    printed = capsys.readouterr()
    assert printed.out.splitlines() == [
        "[1/3] one.svs: mean density 5.0 % of 40 tiles, 5.0 s, 4.0 tiles/s, reading-bound, "
        "2 warnings, 10 s left",
        "1 done (1 with warnings), 1 failed, 1 as they were; 40 tiles, 8.0 tiles/s; "
        "reading-bound; 5 s; see /m/index.html",
    ]
    assert printed.err.splitlines() == [
        *WARNINGS, r"[2/3] two.svs: failed: is\nempty", "gliorun: odd",
    ]  # fmt: skip


def test_a_watch_dates_its_lines_and_counts_towards_nothing(clock, capsys):
    tell(Lines(RunProgress({}), quiet=False, verbose=True, dated=True), clock)
    printed = capsys.readouterr()
    for line in (*printed.out.splitlines(), *printed.err.splitlines()):
        assert line[:2] == "20"
        assert line[10] == " "
        assert "[" not in line
    levels = [line.split(" ")[2] for line in printed.err.splitlines()]
    assert levels == ["WARNING", "WARNING", "ERROR", "WARNING", "INFO"]
    assert printed.err.splitlines()[-1].endswith(" chosen")


def test_quiet_tells_faults_warnings_and_the_total_only(clock, capsys):
    tell(Lines(of_three_slides(), quiet=True, verbose=False, dated=False), clock)
    printed = capsys.readouterr()
    assert printed.out.count("\n") == 1
    assert printed.out.startswith("1 done (1 with warnings), 1 failed")
    assert printed.err.splitlines() == [
        *WARNINGS, r"[2/3] two.svs: failed: is\nempty", "gliorun: odd",
    ]  # fmt: skip


def test_another_program_gets_every_event_as_json(clock, capsys):
    tell(JsonLines(of_three_slides()), clock)
    printed = capsys.readouterr()
    assert printed.err == ""
    events = [json.loads(line) for line in printed.out.splitlines()]
    assert [event["event"] for event in events] == [
        "started", "tiles", "tiles", "tiles", "slide", "started", "slide", "skipped", "warning",
        "choice", "total",
    ]  # fmt: skip
    assert [event["done"] for event in events[1:4]] == [0, 2, 4]  # every two seconds
    assert events[4]["tiles_per_s"] == 4.0
    assert events[4]["bottleneck"] == "reading"
    assert events[4]["left_s"] == 10.0
    assert events[6]["reason"] == f"{TWO}: is\nempty"
    assert [events[k]["level"] for k in (0, 4, 6, 8)] == ["INFO", "WARNING", "ERROR", "WARNING"]
    assert events[-1] | {"seconds": 0, "time": ""} == {
        "event": "total", "time": "", "level": "INFO", "done": 1, "with_warnings": 1,
        "failed": 1, "skipped": 1,
        "tiles": 40,
        "tiles_per_s": 8.0, "bottleneck": "reading", "seconds": 0,
        "index": str(Path("/m/index.html")),
    }  # fmt: skip


def long_run(reporter, clock: Clock) -> None:
    """Go on with a slide that an earlier run has left at tile 1305: two tiles a second."""
    reporter.started(ONE)
    for done in range(1305, 1706):
        reporter.tiles(ONE, done, 6944, "network")
        clock.now_s += 0.5


LONG = [
    "[1/3] one.svs: goes on from tile 1,305 of 6,944",
    "[1/3] one.svs: 1,425 of 6,944 tiles, 2.0 tiles/s, 46 min 0 s left, 2 h 41 min for all, "
    "network-bound",
    "[1/3] one.svs: 1,545 of 6,944 tiles, 2.0 tiles/s, 45 min 0 s left, 2 h 40 min for all, "
    "network-bound",
    "[1/3] one.svs: 1,665 of 6,944 tiles, 2.0 tiles/s, 44 min 0 s left, 2 h 39 min for all, "
    "network-bound",
]


def test_a_log_gets_a_line_a_minute_and_where_a_run_goes_on(clock, capsys):
    long_run(Lines(of_three_slides(), quiet=False, verbose=False, dated=False), clock)
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.splitlines() == LONG


def test_quiet_tells_nothing_of_tiles(clock, capsys):
    long_run(Lines(of_three_slides(), quiet=True, verbose=False, dated=False), clock)
    assert capsys.readouterr() == ("", "")


def test_every_event_tells_when_it_was_and_how_far_an_earlier_run_came(clock, capsys):
    began = datetime.now(timezone.utc) - timedelta(seconds=1)
    long_run(JsonLines(of_three_slides()), clock)
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    times = [datetime.fromisoformat(event["time"]) for event in events]
    assert times == sorted(times)
    assert began <= times[0] <= times[-1] <= datetime.now(timezone.utc)
    assert {event["resumed"] for event in events[1:]} == {1305}
    assert events[-1]["tiles_per_s"] == 2.0


def test_an_idle_watch_tells_once_a_minute_that_it_lives(clock, capsys):
    lines = Lines(RunProgress({}), quiet=False, verbose=False, dated=True)
    teller = JsonLines(RunProgress({}))
    done_at = "2026-01-01T00:00:00+00:00"
    for reporter in (lines, teller):
        reporter.back("x: is there again")
        for _ in range(13):
            clock.now_s += 10
            reporter.idle(3, 1, done_at, [])
        clock.now_s += 60
        reporter.idle(0, 0, None, ["/mnt/scans: not there"])
    printed = capsys.readouterr()
    local = datetime.fromisoformat(done_at).astimezone().isoformat(sep=" ", timespec="seconds")
    alive = f"INFO still watching: 3 done, 1 failed, the last one done {local}"
    assert [line.split(" ", 2)[2] for line in printed.err.splitlines()[1:]] == [
        alive, alive,
        "WARNING still watching: 0 done, 0 failed; amiss: /mnt/scans: not there",
    ]  # fmt: skip
    events = [json.loads(line) for line in printed.out.splitlines()[1:]]
    assert [event["event"] for event in events] == ["idle"] * 3
    assert events[0]["last_done_at"] == done_at
    assert (events[2]["level"], events[2]["faults"]) == ("WARNING", ["/mnt/scans: not there"])


def on_a_cluster(reporter, clock: Clock) -> None:
    """Two workers measure a slide each; one of them is lost, and its slide begins again."""
    for path in (ONE, TWO):
        reporter.started(path)
    for done, again in ((0, 0), (50, 5), (60, 0), (90, 40)):
        reporter.tiles(ONE, done, 100, "network", "alpha")
        reporter.tiles(TWO, again, 100, "network", "beta")
        clock.now_s += 61


def test_a_log_tells_how_far_each_worker_is(clock, capsys):
    on_a_cluster(Lines(of_three_slides(), quiet=False, verbose=False, dated=False), clock)
    lines = [line.split(", ") for line in capsys.readouterr().err.splitlines()]
    assert [(line[0], line[-1]) for line in lines] == [
        ("[1/3] one.svs: 50 of 100 tiles", "on alpha"),
        ("[2/3] two.svs: 5 of 100 tiles", "on beta"),
        ("[1/3] one.svs: 60 of 100 tiles", "on alpha"),
        ("[1/3] one.svs: 90 of 100 tiles", "on alpha"),
        ("[2/3] two.svs: 40 of 100 tiles", "on beta"),
    ]


def test_another_program_is_told_which_worker_is_how_far(clock, capsys):
    on_a_cluster(JsonLines(of_three_slides()), clock)
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    told = [(e["worker"], e["done"]) for e in events if e["event"] == "tiles"]
    assert told == [
        ("alpha", 0), ("beta", 0), ("alpha", 50), ("beta", 5), ("alpha", 60), ("beta", 0),
        ("alpha", 90), ("beta", 40),
    ]  # fmt: skip


def test_a_terminal_shows_a_bar_for_each_slide_that_is_measured(clock, capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "140")
    lines = Lines(of_three_slides(), quiet=False, verbose=False, dated=False)
    on_a_cluster(lines, clock)
    bars = lines._bars
    assert [task.description for task in bars.tasks] == ["[1/3] one.svs", "[2/3] two.svs"]
    assert [(task.completed, task.total) for task in bars.tasks] == [(90, 100), (40, 100)]
    assert all(task.fields["pace"].endswith(f"on {name}")
               for task, name in zip(bars.tasks, ("alpha", "beta"), strict=True))  # fmt: skip
    lines.ended(record(ONE), "mean density 5.0 %")
    assert [task.description for task in bars.tasks] == ["[2/3] two.svs"]
    lines.ended(record(TWO), "mean density 5.0 %")
    assert lines._bars is None


WAITING = {
    Path(f"/x/{letter}.svs"): "unchanged for less than 30 s" for letter in "abcdefg"
}  # fmt: skip


def test_a_watch_lists_what_it_waits_for_and_says_what_is_over(clock, capsys):
    lines = Lines(RunProgress({}), quiet=False, verbose=False, dated=True)
    lines.waiting({ONE: "does not open yet: damaged"})
    lines.waiting(WAITING)
    lines.back("/mnt/scans: is there again")
    reason = "(unchanged for less than 30 s)"
    assert [line.split(" ", 3)[3] for line in capsys.readouterr().err.splitlines()] == [
        "waiting for 1 slide: one.svs (does not open yet: damaged)",
        f"waiting for 7 slides: a.svs {reason}, b.svs {reason}, c.svs {reason}, d.svs {reason}, "
        f"e.svs {reason} and 2 more",
        "/mnt/scans: is there again",
    ]


def test_another_program_gets_all_that_is_waited_for(clock, capsys):
    teller = JsonLines(RunProgress({}))
    teller.waiting(WAITING)
    teller.back("/mnt/scans: is there again")
    waiting, back = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert waiting["event"] == "waiting"
    assert {Path(one["slide"]): one["reason"] for one in waiting["slides"]} == WAITING
    assert (back["event"], back["text"]) == ("back", "/mnt/scans: is there again")


def test_what_cannot_be_printed_is_escaped():
    assert plain("a\nb\x1b[2J\udcff – µ 脑") == r"a\nb\x1b[2J\udcff – µ 脑"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.4, "0 s"),
        (59.4, "59 s"),
        (59.6, "1 min 0 s"),
        (3599, "59 min 59 s"),
        (7800, "2 h 10 min"),
    ],
)
def test_durations_are_read_easily(seconds, text):
    assert duration(seconds) == text
