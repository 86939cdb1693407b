"""The viewer in this process: its server on a thread, and what a test asks of it."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from gliorun.model.engine import Engine
from gliorun.model.shipped import DEFAULT_MODEL
from gliorun.plan import Plan
from gliorun.settings import Settings
from gliorun.viewer.command import _Only
from gliorun.viewer.fields import Fields
from gliorun.viewer.server import Server, Slides
from gliorun.viewer.session import Session, none_earlier

PATIENCE_S = 60.0
HEED_SIGINT = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
"""What is started in the background of a shell ignores Ctrl-C otherwise."""
RUN = [sys.executable, "-c", f"{HEED_SIGINT}; from gliorun.cli import run; run()"]


def plan_of(*outputs: Path, **settings: Any) -> Plan:
    """Return a plan of the default model whose hot spots fit on a small slide."""
    return Plan(list(outputs), DEFAULT_MODEL, Settings(**settings), hot_spot_mm2=0.01)


def wait_for(is_so: Callable[[], bool]) -> None:
    """Wait until something is so; fail after a minute."""
    until = time.monotonic() + PATIENCE_S
    while not is_so():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.02)


@contextmanager
def session_of(path: Path, plan: Plan, engine: Engine, find=none_earlier) -> Iterator[Session]:
    """Open a slide, and wait until its map is finished."""
    with Session(path, plan, engine, find) as session:
        wait_for(lambda: session.is_done or session.fault is not None)
        yield session


def asked(session: Session, places: list[tuple[int, int]]) -> dict[tuple[int, int], bytes]:
    """Return the messages with which the tiles at some places come."""
    came: dict[tuple[int, int], bytes] = {}

    def take(message: bytes) -> None:
        came[tuple(header_of(message)["place"])] = message

    session.segmenter.ask("test", places, take)
    wait_for(lambda: len(came) == len(places))
    return came


def header_of(message: bytes) -> dict[str, Any]:
    (length,) = struct.unpack("<I", message[:4])
    return json.loads(message[4 : 4 + length])


def planes_of(message: bytes, side: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return shares of cells, levels, and what counts, of the message of a tile."""
    (length,) = struct.unpack("<I", message[:4])
    header, n = header_of(message), header_of(message)["cells"]
    planes = message[4 + length :]
    share = np.frombuffer(planes, np.float32, n * n).reshape(n, n)
    levels = np.frombuffer(planes, np.uint8, side * side, 4 * n * n).reshape(side, side)
    if not header["counts"]:
        return share, levels, np.ones((side, side), np.bool_)
    counts = np.frombuffer(planes, np.uint8, side * side, 4 * n * n + side * side)
    return share, levels, counts.reshape(side, side) != 0


class Served:
    """A server on a thread of its own, and plain requests to it."""

    def __init__(self, slides: Slides, further=None) -> None:
        self.server = Server(slides, further or {})
        self.port = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        wait_for(lambda: self.port > 0)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)

        async def listen() -> None:
            self.port = self.server.listen("127.0.0.1", 0)

        self._loop.run_until_complete(listen())
        self._loop.run_forever()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/{self.server.token}/"

    def get(self, path: str, method: str = "GET", **headers: str):
        """Return the answer to a request below the token, and its body."""
        return self.get_whole(f"/{self.server.token}/{path}", method, **headers)

    def get_whole(self, path: str, method: str = "GET", **headers: str):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)
        connection.request(
            method, path, headers={name.replace("_", "-"): v for name, v in headers.items()}
        )
        answer = connection.getresponse()
        body = answer.read()
        connection.close()
        return answer, body

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self.server.close()


@contextmanager
def served(session: Session, folder: Path) -> Iterator[Served]:
    """Serve one open slide, whose fields are kept in a folder."""
    fields = Fields(folder / "slide.fields.geojson", session.surveyed)
    served = Served(_Only((session, fields)))
    try:
        yield served
    finally:
        served.close()


@contextmanager
def typed(folder: Path, *words: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Type a command that shows a page, yield the process and its address, and stop it."""
    env = {name: value for name, value in os.environ.items() if "DISPLAY" not in name}
    shown = subprocess.Popen(
        [*RUN, *words], cwd=folder, env=env, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        line = shown.stdout.readline()
        assert line.startswith("http://127.0.0.1:"), line + shown.stderr.read()
        assert line.endswith("/  open it in a browser; Ctrl-C ends\n")
        yield shown, line.split()[0]
    finally:
        shown.kill()
        shown.wait()


def fetched(url: str, path: str = "") -> tuple[int, bytes]:
    """Return the status of an answer, and its body."""
    place = urlsplit(url)
    connection = http.client.HTTPConnection(place.netloc, timeout=PATIENCE_S)
    connection.request("GET", place.path + path)
    answer = connection.getresponse()
    return answer.status, answer.read()
