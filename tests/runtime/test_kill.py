"""A run that is killed or stopped goes on, and its table is that of an undisturbed run."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import batches
import slides
from gliorun import demo, job
from gliorun.model import shipped
from gliorun.plan import Plan, open_engine
from gliorun.settings import Settings

WORKER = Path(__file__).resolve().parent.parent / "kill_worker.py"


@pytest.fixture(scope="module")
def large(tmp_path_factory) -> Path:
    """40 tiles of tissue."""
    path = tmp_path_factory.mktemp("large") / "large.svs"
    demo.write_slide(path, slides.all_tissue(3840, 2400), levels=2)
    return path


@pytest.fixture(scope="module")
def undisturbed(large, tmp_path_factory) -> str:
    table = tmp_path_factory.mktemp("undisturbed") / "density.csv"
    plan = Plan([table], shipped.DEFAULT_MODEL, Settings(), checkpoint_s=0)
    job.run(large, plan, quiet=True)
    return table.read_text()


@pytest.mark.soak
@pytest.mark.skipif(sys.platform == "win32", reason="forks")
def test_thirty_kills_change_no_byte(large, undisturbed, tmp_path):
    done = subprocess.run(
        [sys.executable, WORKER, large, tmp_path],
        capture_output=True,
        text=True,
        timeout=1200,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["killed"] == 30
    assert len(report["resumed"]) > 2
    assert max(report["resumed"]) > 10
    assert set(report["tables"]) == {undisturbed}


@pytest.mark.soak
@pytest.mark.skipif(sys.platform == "win32", reason="sends POSIX signals")
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_run_says_how_to_go_on_and_does(large, undisturbed, tmp_path, how):
    table, record = tmp_path / "density.csv", tmp_path / "run.json"
    words = [
        *batches.COMMAND,
        large,
        "--out",
        table,
        "--out",
        record,
        "--quiet",
        "--checkpoint",
        "0.1",
    ]
    process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True)
    while not list(tmp_path.glob(".gliorun/*.npz")):  # until the first checkpoint stands
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(how)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert said == "gliorun: stopped; the same command goes on from here\n"
    assert [path.name for path in tmp_path.iterdir()] == [".gliorun"]

    again = subprocess.run(words, capture_output=True, text=True, timeout=300, check=False)
    assert again.returncode == 0, again.stderr
    assert json.loads(record.read_text())["resumed_tiles"] > 0
    assert table.read_text() == undisturbed
    assert not (tmp_path / ".gliorun").exists()


@pytest.mark.soak
def test_another_setting_starts_over(large, tmp_path):
    record = tmp_path / "run.json"

    class StoppedError(Exception):
        pass

    def stop(done, total, bottleneck):
        if done > 20:
            raise StoppedError

    def plan(**changes):
        return Plan([record], shipped.DEFAULT_MODEL, Settings(**changes), checkpoint_s=1000)

    engine = open_engine(plan())
    with pytest.raises(StoppedError):
        job.measure(large, plan(), lambda: engine, stop)
    [kept] = tmp_path.glob(".gliorun/*.npz")
    for changed, resumed in ((plan(quality=None), False), (plan(threads=3), True)):
        job.measure(large, changed, lambda: engine)
        assert (json.loads(record.read_text())["resumed_tiles"] > 0) == resumed
        assert kept.exists() != resumed


@pytest.mark.parametrize("checkpoint_s", [10.0, 0.0])
def test_what_a_killed_run_left_beside_its_outputs_is_removed_by_who_holds_the_run(
    tmp_path, checkpoint_s
):
    """Without a checkpoint nobody knows that the other process is no more."""
    slide, table = batches.tiny(tmp_path / "a.svs"), tmp_path / "a.csv"
    left, other = tmp_path / ".a.0123abcd.csv", tmp_path / ".b.0123abcd.csv"
    left.touch()
    other.touch()
    plan = Plan([table], shipped.DEFAULT_MODEL, Settings(), checkpoint_s=checkpoint_s)
    job.run(slide, plan, quiet=True)
    stays = set() if checkpoint_s else {left}
    assert set(tmp_path.iterdir()) == {slide, table, other, *stays}


@pytest.fixture
def stopped_at_four(small_slide, tmp_path) -> list[Path]:
    """Outputs of a run over eleven tiles that was stopped at the fourth."""
    outputs = [tmp_path / "a.csv", tmp_path / "run.json"]
    plan = Plan(outputs, shipped.DEFAULT_MODEL, Settings())

    def stop(done: int, total: int, bottleneck: str) -> None:
        if done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        job.measure(small_slide.path, plan, lambda: open_engine(plan), stop)
    return outputs


def test_a_run_into_a_log_tells_where_it_goes_on(small_slide, stopped_at_four):
    table, record = stopped_at_four
    done = batches.type_in(small_slide.path, "--out", table, "--out", record)
    first, _ = done.stderr.splitlines()  # the other one is a hint on hot spots
    assert first == f"{small_slide.path.name}: goes on from tile 4 of 11"
    assert json.loads(record.read_text())["resumed_tiles"] == 4


def test_a_run_into_a_log_tells_a_line_a_minute(small_slide, stopped_at_four, monkeypatch, capsys):
    class Minutes:
        """A clock that is a minute further at every look."""

        now_s = 0.0

        def monotonic(self) -> float:
            self.now_s += 60
            return self.now_s

    clock = Minutes()
    for module in ("lines", "progress"):
        monkeypatch.setattr(f"gliorun.reporting.{module}.time", clock)
    job.run(small_slide.path, Plan(stopped_at_four, shipped.DEFAULT_MODEL, Settings()), quiet=False)
    first, *lines, _ = capsys.readouterr().err.splitlines()
    name = small_slide.path.name
    assert first == f"{name}: goes on from tile 4 of 11"
    counts = [
        re.fullmatch(rf"{name}: (\d+) of 11 tiles, 0\.0 tiles/s, .*-bound", line) for line in lines
    ]
    assert [int(count[1]) for count in counts] == list(range(5, 12))


@pytest.mark.parametrize(("altered", "taken_over"), [(False, True), (True, False)])
def test_another_graph_of_the_same_weights_starts_over(small_slide, tmp_path, altered, taken_over):
    for suffix in (".xml", ".bin"):
        shutil.copy(shipped.DEFAULT_MODEL.with_suffix(suffix), tmp_path / f"model{suffix}")
    model = tmp_path / "model.xml"
    plan = Plan([tmp_path / "a.csv"], model, Settings())

    def stop(done: int, total: int, bottleneck: str) -> None:
        if done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        job.measure(small_slide.path, plan, lambda: open_engine(plan), stop)
    if altered:
        model.write_text(model.read_text(encoding="utf-8") + "\n", encoding="utf-8")
    outcome = job.measure(small_slide.path, plan, lambda: open_engine(plan))
    assert (outcome.run["resumed_tiles"] > 0) is taken_over
