"""Four workstations, each a network of its own; the cable of one is pulled and put back."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

import batches
import slides
from gliorun import demo
from runtime import test_cluster as cluster_tests

distributed = pytest.importorskip("distributed")

NAMES = ("ws1", "ws2", "ws3", "ws4")
NETWORK = f"10.{64 + os.getpid() % 64}.{os.getpid() // 64 % 256}"
TAG = f"gl{os.getpid()}"
SLIDES = 5
SILENT = {"DASK_DISTRIBUTED__COMM__TIMEOUTS__TCP": "11s"}
"""A silent machine counts as lost after so long; by default after 30 s."""


def ip(*words: object) -> str:
    """Run `ip`, and return what it prints."""
    command = ["ip", *map(str, words)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@pytest.fixture
def cables() -> Generator[dict[str, str]]:
    """Make a network of its own for each workstation; yield the cables to them, by name."""
    if sys.platform != "linux" or shutil.which("ip") is None:
        pytest.skip("needs Linux and its command ip")
    with ExitStack() as made:
        try:
            ip("link", "add", TAG, "type", "bridge")
            made.callback(ip, "link", "del", TAG)
            ip("address", "add", f"{NETWORK}.1/24", "dev", TAG)
            ip("link", "set", TAG, "up")
            for number, name in enumerate(NAMES, start=2):
                room, cable = f"{TAG}-{name}", f"{TAG}{name}"
                ip("netns", "add", room)
                made.callback(leave, room)
                ip("link", "add", cable, "type", "veth", "peer", "name", "eth0", "netns", room)
                ip("link", "set", cable, "master", TAG, "up")
                ip("-n", room, "address", "add", f"{NETWORK}.{number}/24", "dev", "eth0")
                for device in ("lo", "eth0"):
                    ip("-n", room, "link", "set", device, "up")
        except subprocess.CalledProcessError as error:
            pytest.skip(f"may make no networks here: {error.stderr.strip()}")
        yield {name: f"{TAG}{name}" for name in NAMES}


def leave(room: str) -> None:
    """End what still runs in a network of ours, and remove it."""
    for process in ip("netns", "pids", room).split():
        with suppress(ProcessLookupError):
            os.kill(int(process), signal.SIGKILL)
    ip("netns", "del", room)


def workstation(address: str, name: str, folder: Path):
    """Run a worker as the guide has it, again and again, in a network of its own."""
    worker = [
        sys.executable, "-m", "distributed.cli.dask_worker", address, "--nworkers", "1",
        "--nthreads", "1", "--no-dashboard", "--name", name, "--local-directory",
        str(folder / name),
    ]  # fmt: skip
    loop = f"while :; do {shlex.join(worker)}; sleep 1; done"
    room = ("ip", "netns", "exec", f"{TAG}-{name}")
    return cluster_tests.process(*room, "sh", "-c", loop, log=folder / f"{name}.log")


@contextmanager
def watching(
    scans: Path, maps: Path, address: str, log: Path
) -> Generator[Callable[[], list[dict[str, Any]]]]:
    """Watch a folder with the workers; yield what returns all events so far."""
    words = (scans, "--out-dir", maps, "--format", "csv,png", "--watch", "--settle-s", 1)
    command = (*words, "--json-lines", "--cluster", address, "--checkpoint", 0)

    def events() -> list[dict[str, Any]]:
        whole = log.read_text().rpartition("\n")[0]
        return [json.loads(line) for line in whole.splitlines() if line[:1] == "{"]

    client = cluster_tests.process(sys.executable, "-c", batches.PROGRAM, *command, log=log)
    with client as process:
        yield events
        process.send_signal(signal.SIGTERM)
        assert process.wait(cluster_tests.WAIT_S) == 0


def drawn(folder: Path, numbers: range) -> None:
    """Write slides of some thirty tiles, which no worker measures before its cable is out."""
    for number in numbers:
        demo.write_slide(folder / f"{number}.svs", slides.all_tissue(2880, 1920, seed=number))


@pytest.mark.release
def test_a_cable_pulled_in_mid_slide_and_put_back_changes_no_byte(tmp_path, cables, monkeypatch):
    scans, here, maps = tmp_path / "scans", tmp_path / "here", tmp_path / "maps"
    scans.mkdir()
    drawn(scans, range(SLIDES))
    words = (scans, "--out-dir", here, "--format", "csv,png", "--checkpoint", 0)
    assert batches.type_in(*words).returncode == 0
    for name, value in SILENT.items():
        monkeypatch.setenv(name, value)
    log = tmp_path / "events.log"
    until = cluster_tests._until
    with ExitStack() as held:
        address = held.enter_context(cluster_tests.scheduler(tmp_path, f"{NETWORK}.1"))
        for name in NAMES:
            held.enter_context(workstation(address, name, tmp_path))
        events = held.enter_context(watching(scans, maps, address, log))

        def told(event: str, **values: object) -> list[dict[str, Any]]:
            return [
                e for e in events() if e["event"] == event
                and all(e.get(key) == value for key, value in values.items())
            ]  # fmt: skip

        def cut() -> list[str]:
            done = {e["slide"] for e in told("slide")}
            half = [e for e in told("tiles", worker="ws2") if e["done"] < e["of"]]
            return [e["slide"] for e in half if e["slide"] not in done]

        until(cut, "ws2 measures nothing")
        ip("link", "set", cables["ws2"], "down")
        (slide, *_) = cut()
        until(lambda: any("worker ws2: is gone" in e["text"] for e in told("warning")), "ws2")
        ip("link", "set", cables["ws2"], "up")
        until(lambda: sum("ws2" in e["text"] for e in told("back")) == 2, "ws2 is not back")
        seen = len(told("tiles", worker="ws2"))
        until(lambda: len(told("slide")) >= SLIDES, "not all are done")
        for number in range(SLIDES):
            shutil.copy(scans / f"{number}.svs", scans / f"again{number}.svs")
        until(lambda: len(told("tiles", worker="ws2")) > seen, "ws2 is given nothing")
        until(lambda: len(told("slide")) >= 2 * SLIDES, "not all are done")
        assert {e["worker"] for e in told("tiles", slide=slide)} > {"ws2"}
        assert {e["state"] for e in told("slide")} == {"done"}
        assert {e["worker"] for e in told("tiles")} == set(NAMES)
    expected = cluster_tests.outputs_in(here)
    made = cluster_tests.outputs_in(maps)
    assert len(expected) == SLIDES * 3
    assert {name: made[name] for name in expected} == expected
    assert all(made[f"again{number}.csv"] == made[f"{number}.csv"] for number in range(SLIDES))
