"""A real scheduler and two workers in processes of their own, one of them killed at work."""

from __future__ import annotations

import json
import os
import pickle
import re
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

import batches
import gliorun
import slides
from gliorun.errors import GlioError, UsageError
from gliorun.plan import Plan, made_with
from gliorun.reporting.lines import Lines
from gliorun.reporting.progress import RunProgress

distributed = pytest.importorskip("distributed")
cluster = pytest.importorskip("gliorun.batch.cluster")

WAIT_S = 300
OUTPUTS = ("csv", "png", "geojson", "thumb.jpg")
CLIENT = "from gliorun.cli import run; run()"


def _until(true, what: str) -> None:
    """Wait until something is so; a scheduler on a busy machine may take its time."""
    end = time.monotonic() + WAIT_S
    while not true():
        assert time.monotonic() < end, what
        time.sleep(0.02)


class Told(Lines):
    """Keeps what a run on a cluster tells."""

    def __init__(self) -> None:
        super().__init__(RunProgress({}), quiet=True, verbose=False, dated=False)
        self.complaints: list[str] = []
        self.joined: list[str] = []
        self.reports: list[tuple[str, int, int, str]] = []

    def complain(self, line: str) -> None:
        self.complaints.append(line)

    def back(self, line: str) -> None:
        self.joined.append(line)

    def tiles(self, path: Path, done: int, total: int, bottleneck: str, worker: str = "") -> None:
        self.reports.append((path.name, done, total, worker))


def pack(slide: Path, plan: Plan) -> bytes:
    """Return what a worker is sent."""
    return pickle.dumps((slide, plan, None))


@contextmanager
def process(*words: object, log: Path) -> Generator[subprocess.Popen[bytes]]:
    """Run a process, and end it."""
    with log.open("wb") as stream:
        started = subprocess.Popen(
            list(map(str, words)), stdout=stream, stderr=subprocess.STDOUT, cwd=log.parent
        )
    try:
        yield started
    finally:
        started.kill()
        started.wait()


@contextmanager
def scheduler(folder: Path, host: str = "127.0.0.1") -> Generator[str]:
    """Run a scheduler and give its address."""
    scheduler_file = folder / "scheduler.json"
    words = (
        "--host",
        host,
        "--port",
        "0",
        "--no-dashboard",
        "--scheduler-file",
        scheduler_file,
    )
    with process(
        sys.executable, "-m", "distributed.cli.dask_scheduler", *words, log=folder / "scheduler.log"
    ):
        _until(lambda: scheduler_file.exists() and _is_whole(scheduler_file), "no scheduler")
        yield json.loads(scheduler_file.read_text())["address"]


def _is_whole(path: Path) -> bool:
    """Tell whether JSON has been written to its end: the file is there before that."""
    try:
        return bool(json.loads(path.read_text()))
    except ValueError:
        return False


def worker(address: str, folder: Path, name: str):
    """Run a worker without a nanny: once lost, it stays lost."""
    words = ("--nthreads", "1", "--no-nanny", "--no-dashboard", "--name", name)
    log, space = folder / f"{name}.log", ("--local-directory", folder / name)
    return process(
        sys.executable, "-m", "distributed.cli.dask_worker", address, *words, *space, log=log
    )


def outputs_in(maps: Path) -> dict[str, bytes]:
    return {
        path.name: path.read_bytes()
        for path in maps.iterdir()
        if path.name.endswith(OUTPUTS) and path.name != "summary.csv"
    }


@pytest.mark.soak
def test_a_worker_killed_at_work_changes_no_byte_of_the_results(tmp_path):
    scans, here, there = tmp_path / "scans", tmp_path / "here", tmp_path / "there"
    scans.mkdir()
    for number in range(4):
        slides.drawn(scans / f"{number}.svs", 1400, 1000, seed=number, levels=1)
    (scans / "text.svs").write_text("this is no slide")
    words = (scans, "--format", ",".join(OUTPUTS[:3]), "--json-lines", "--checkpoint", 0)
    local = batches.type_in(*words, "--out-dir", here)
    assert local.returncode == 1, local.stderr
    events = tmp_path / "events.log"
    with (
        scheduler(tmp_path) as address,
        worker(address, tmp_path, "one") as victim,
        worker(address, tmp_path, "two"),
        distributed.Client(address, set_as_default=False) as onlooker,
    ):
        onlooker.wait_for_workers(2, timeout=WAIT_S)
        of_victim = next(
            at for at, w in onlooker.scheduler_info()["workers"].items() if w["name"] == "one"
        )

        def victim_works_and_a_slide_is_done() -> bool:
            done = b'"state": "done"' in events.read_bytes()
            return done and bool(onlooker.processing()[of_victim])

        client_words = (*words, "--out-dir", there, "--cluster", address)
        with process(sys.executable, "-c", CLIENT, *client_words, log=events) as client:
            _until(victim_works_and_a_slide_is_done, "the victim has no work")
            victim.kill()
            assert client.wait(WAIT_S) == 1, events.read_text()
    lines = [json.loads(line) for line in events.read_text().splitlines() if line[:1] == "{"]
    total = lines[-1]
    assert (total["event"], total["done"], total["failed"]) == ("total", 4, 1)
    expected = outputs_in(here)
    assert len(expected) == 4 * len(OUTPUTS)
    assert outputs_in(there) == expected
    assert {n: (r.state, r.reason) for n, r in batches.records(here).items()} == {
        n: (r.state, r.reason) for n, r in batches.records(there).items()
    }


@pytest.fixture(scope="module")
def one_worker():
    """A scheduler and a worker in threads of this process."""
    with (
        distributed.LocalCluster(
            n_workers=1, threads_per_worker=1, processes=False, dashboard_address=None
        ) as local,
        distributed.Client(local) as client,
    ):
        yield client


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ("gliorun", "its gliorun is .*, wanted is another"),
        ("model", r"its model is [0-9a-f]{12}\+[0-9a-f]{12}, wanted is another"),
    ],
)
def test_a_worker_of_another_version_or_model_measures_nothing(tmp_path, one_worker, entry, said):
    plan = replace(batches.plan(), outputs=[tmp_path / "a.csv"])
    wanted = made_with(plan) | {entry: "another"}
    answer = one_worker.submit(
        cluster.measure_there, wanted, pack(tmp_path / "a.svs", plan), pure=False
    ).result(WAIT_S)
    assert isinstance(answer, cluster.Unfit)
    assert re.match(said, answer.reason)
    assert list(tmp_path.iterdir()) == []


def test_a_worker_that_does_not_see_the_folders_measures_nothing(tmp_path, one_worker):
    plan = replace(batches.plan(), outputs=[tmp_path / "elsewhere" / "a.csv"])
    answer = one_worker.submit(
        cluster.measure_there, made_with(plan), pack(tmp_path / "a.svs", plan), pure=False
    ).result(WAIT_S)
    assert isinstance(answer, cluster.Unfit)
    assert "elsewhere is not there" in answer.reason


def test_a_wrong_option_ends_the_run_and_lets_no_worker_go(tmp_path, one_worker):
    slide, told = batches.tiny(tmp_path / "a.svs"), Told()
    address, plan = one_worker.scheduler.address, batches.plan(cell_px=7)
    with (
        cluster.on(address, plan, told) as work,
        pytest.raises(UsageError, match="pass a --cell-px that does"),
    ):
        batches.run([slide], tmp_path / "maps", work, wanted=plan)
    assert told.complaints == []
    assert batches.records(tmp_path / "maps") == {}


def test_a_slide_whose_folder_has_vanished_fails_and_lets_no_worker_go(tmp_path, one_worker):
    gone, slide, told = tmp_path / "gone" / "a.svs", batches.tiny(tmp_path / "b.svs"), Told()
    with cluster.on(one_worker.scheduler.address, batches.plan(), told) as work:
        tally = batches.run([gone, slide], tmp_path / "maps", work)
    assert told.complaints == []
    assert [line.partition(": ")[2] for line in told.joined] == ["0 joined; 1 worker measures"]
    assert (tally.done, tally.failed) == (1, 1)
    assert "a.svs: not there" in batches.records(tmp_path / "maps")["a"].reason


@pytest.mark.soak
def test_an_unfit_worker_is_let_go_and_its_slide_given_to_the_next(tmp_path, monkeypatch):
    """The first worker, in a process of its own, is told of another gliorun by its environment."""
    slide, told = batches.tiny(tmp_path / "a.svs"), Told()
    other = tmp_path / "other"
    other.mkdir()
    (other / "sitecustomize.py").write_text("import gliorun\ngliorun.__version__ = 'other'\n")
    with scheduler(tmp_path) as address:
        monkeypatch.setenv("PYTHONPATH", f"{other}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
        with worker(address, tmp_path, "unfit"):
            monkeypatch.undo()
            with distributed.Client(address, set_as_default=False) as onlooker:
                onlooker.wait_for_workers(1, timeout=WAIT_S)
            plan = batches.plan()
            with cluster.on(address, plan, told) as work, ExitStack() as held:

                def with_help(tasks):
                    is_alone = True
                    for ended in work(tasks):
                        if is_alone and any("it is let go" in line for line in told.complaints):
                            is_alone = False
                            held.enter_context(worker(address, tmp_path, "fit"))
                        yield ended

                tally = batches.run([slide], tmp_path / "maps", with_help)
    assert tally.done == 1
    version = re.escape(gliorun.__version__)
    refusal = f"worker unfit: its gliorun is other, wanted is {version}; it is let go"
    assert re.fullmatch(refusal, told.complaints[0])
    assert [line.partition(": ")[2] for line in told.joined] == ["fit joined; 1 worker measures"]
    assert told.reports[-1] == ("a.svs", 1, 1, "fit")


def test_no_scheduler_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(cluster, "CONNECT_S", 1)
    with (
        pytest.raises(GlioError, match="no scheduler answers; start one with 'dask scheduler'"),
        cluster.on("tcp://127.0.0.1:1", batches.plan(), Told()),
    ):
        pass


@pytest.mark.soak
def test_a_lost_scheduler_ends_the_run_and_the_next_one_goes_on(tmp_path):
    scans, maps = tmp_path / "scans", tmp_path / "maps"
    paths = [batches.tiny(scans / f"{number}.svs") for number in range(3)]
    plan = batches.plan()
    with ExitStack() as held:
        address = held.enter_context(scheduler(tmp_path))
        held.enter_context(worker(address, tmp_path, "one"))
        with cluster.on(address, plan, Told()) as work:

            def losing(tasks):
                for ended in work(tasks):
                    yield ended
                    if ended is not None:
                        held.close()

            with pytest.raises(GlioError, match="the scheduler is gone"):
                batches.run(paths, maps, losing)
    states = [record.state for record in batches.records(maps).values()]
    assert states.count("done") == len(states) >= 1
    assert batches.run(paths, maps, batches.in_process()).done == 3 - len(states)
