"""A week of watching, at speed: a scanner that does everything wrong, and power cuts.

`WEEK_SLIDES=600 WEEK_KILLS=80 pytest tests/runtime/test_week.py -s` is a long week, and prints its
figures.
"""

from __future__ import annotations

import heapq
import os
import random
import shutil
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

import batches
import slides
from gliorun import demo
from gliorun.batch.health import HEALTH
from gliorun.batch.ledger import MAX_INTERRUPTED, RECORDS, UNDER_WAY
from gliorun.sliderecord import Record

SLIDES = int(os.environ.get("WEEK_SLIDES", "60"))
KILLS = int(os.environ.get("WEEK_KILLS", "16"))
SETTLE_S, TICK_S = 0.5, 0.08
PATIENCE_S = 240
GROWTH = 1.06
"""Bound on memory after the last slide / memory after the first third."""


@dataclass
class Watcher:
    """The command, watching in a process of its own."""

    incoming: Path
    maps: Path
    log: Path
    process: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0
    log_began: int = 0

    def start(self) -> None:
        words = (self.incoming, "--out-dir", self.maps, "--format", "csv", "--watch")
        with self.log.open("ab") as stream:
            self.log_began = stream.tell()
            self.process = subprocess.Popen(
                [*batches.COMMAND, *map(str, words), "--settle-s", str(SETTLE_S)],
                stdout=stream, stderr=subprocess.STDOUT,
            )  # fmt: skip
        self.started_at = time.time()

    def wait_for_start(self) -> None:
        until = time.monotonic() + PATIENCE_S
        while b"watching" not in self.log.read_bytes()[self.log_began :]:
            assert time.monotonic() < until, self.log.read_text()[-3000:]
            time.sleep(0.05)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        self.wait_for_start()
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE_S)

    def records(self) -> list[Record]:
        """Return the records; each one must be whole whenever it is looked at."""
        folder = self.maps / RECORDS
        paths = folder.glob("[!.]*.json") if folder.is_dir() else ()
        faults = []
        for path in paths:
            try:
                faults.append(Record.from_json(path.read_bytes()))
            except FileNotFoundError:
                continue  # a start that was taken back
        return faults

    def at_work(self) -> list[Record]:
        """Return the slides that this process has begun."""
        return [
            record
            for record in self.records()
            if record.state == "started"
            and (self.maps / RECORDS / f"{record.name}.json").stat().st_mtime > self.started_at
        ]


@dataclass
class Scanner:
    """Writes slides in every wrong way, and knows what should come of each."""

    incoming: Path
    good: list[bytes]
    bad: list[bytes]
    chance: random.Random
    is_good: dict[Path, int] = field(default_factory=dict)
    is_bad: set[Path] = field(default_factory=set)
    kinds: Counter[str] = field(default_factory=Counter)
    _later: list[tuple[int, int, Callable[[], None]]] = field(default_factory=list)
    _tick: int = 0
    _order: int = 0

    def tick(self) -> None:
        """Do what is due."""
        self._tick += 1
        while self._later and self._later[0][0] <= self._tick:
            heapq.heappop(self._later)[2]()

    @property
    def busy(self) -> bool:
        return bool(self._later)

    def after(self, ticks: int, do: Callable[[], None]) -> None:
        self._order += 1
        heapq.heappush(self._later, (self._tick + ticks, self._order, do))

    def scan(self, number: int) -> None:
        """Bring one slide, somehow."""
        kind = self.chance.choice(
            ("at once", "at once", "in pieces", "in pieces", "renamed early", "renamed late",
             "deleted", "duplicated", "same name", "damaged", "damaged", "repaired")
        )  # fmt: skip
        self.kinds[kind] += 1
        which = self.chance.randrange(len(self.good))
        path = self.incoming / f"{number:04d}.svs"
        content = self.good[which] + b"\0slide %d" % number  # TIFF has no use for these bytes
        self._bring(kind, path, content, which, number)

    def _bring(self, kind: str, path: Path, content: bytes, which: int, number: int) -> None:
        soon, late = self.chance.randint(1, 8), self.chance.randint(40, 200)
        if kind == "in pieces":
            self._pieces(path, content)
        elif kind == "renamed early":
            part = path.with_name(f"scan-{number}.svs")
            self._pieces(part, content[: len(content) // 2])
            self.after(40, lambda: part.unlink())
            self.after(41, lambda: path.write_bytes(content))
        elif kind == "damaged":
            path.write_bytes(self.chance.choice(self.bad) + b"\0slide %d" % number)
            self.is_bad.add(path)
            return
        elif kind == "repaired":
            path.write_bytes(content[: len(content) // 2])
            self.after(late, lambda: path.write_bytes(content))
        else:
            path.write_bytes(content)
        self.is_good[path] = which
        if kind == "renamed late":
            self.after(late, lambda: self._rename(path, path.with_name(f"{number:04d}-b.svs")))
        elif kind == "deleted":
            self.after(self.chance.choice((soon, late)), lambda: self._delete(path))
        elif kind == "duplicated":
            copy = self.incoming / "copies" / path.name
            self.after(soon, lambda: shutil.copy2(path, copy))
        elif kind == "same name":
            other = self.incoming / "other" / path.name
            next_one = (which + 1) % len(self.good)
            other.write_bytes(self.good[next_one] + b"\0other %d" % number)
            self.is_good[other] = next_one

    def places(self, path: Path) -> set[Path]:
        """Return where the slide lies: a copy under the same name is the same slide."""
        return (
            {path, self.incoming / "copies" / path.name} if path.parent == self.incoming else {path}
        )

    def _pieces(self, path: Path, content: bytes) -> None:
        cuts = sorted(self.chance.sample(range(1, len(content)), self.chance.randint(1, 4)))
        pieces = [content[a:b] for a, b in zip([0, *cuts], [*cuts, len(content)], strict=True)]
        path.write_bytes(pieces[0])
        at = 0
        for piece in pieces[1:]:
            at += self.chance.choice((1, 2, 3, 12))  # the last one is longer than the settling

            def append(piece: bytes = piece) -> None:
                with path.open("ab") as stream:
                    stream.write(piece)

            self.after(at, append)

    def _rename(self, path: Path, other: Path) -> None:
        path.rename(other)
        self.is_good[other] = self.is_good.pop(path)

    def _delete(self, path: Path) -> None:
        path.unlink()
        del self.is_good[path]


@pytest.fixture
def scanner(tmp_path) -> Scanner:
    made = tmp_path / "made"
    good = [batches.tiny(made / f"good{k}.svs", density=0.05 + 0.1 * k) for k in range(3)]
    bad = [
        slides.truncated(made / "cut.svs", good[0], 0.7),
        slides.text_file(made / "text.svs"),
        slides.with_bad_jpeg(made / "jpeg.svs", good[0], [(0, 0), (1, 0), (0, 1), (1, 1)]),
        made / "glass.svs",
        made / "bare.svs",
        made / "empty.svs",
    ]
    demo.write_slide(made / "glass.svs", slides.glass(300, 260), levels=1)
    demo.write_slide(made / "bare.svs", slides.all_tissue(300, 260), mpp=None, levels=1)
    (made / "empty.svs").touch()
    incoming = tmp_path / "incoming"
    for folder in (incoming, incoming / "copies", incoming / "other"):
        folder.mkdir()
    read = [[path.read_bytes() for path in paths] for paths in (good, bad)]
    return Scanner(incoming, *read, random.Random(7))


@pytest.fixture
def watcher(tmp_path, scanner):
    """A watcher that is not running yet, and does not outlive the test."""
    one = Watcher(scanner.incoming, tmp_path / "maps", tmp_path / "log.txt")
    yield one
    if one.process is not None and one.process.poll() is None:
        one.kill()


def power_cut(watcher: Watcher, chance: random.Random) -> bool:
    """Kill the process, half the time in the middle of a slide; return whether it was.

    Some cuts come while it starts.
    """
    if chance.random() < 0.2:
        time.sleep(chance.uniform(0.0, 2.0))
    else:
        watcher.wait_for_start()
        until = time.monotonic() + chance.choice((chance.uniform(0.0, 3.0), 8.0))
        aimed = chance.random() < 0.6
        while time.monotonic() < until and not (aimed and watcher.at_work()):
            time.sleep(0.002)
        time.sleep(chance.uniform(0.0, 0.1) if aimed else 0.0)
    watcher.kill()
    at_work = bool(watcher.at_work())
    watcher.start()
    return at_work


def scan_all(scanner: Scanner, cuts: list[bool], over: threading.Event) -> None:
    """Bring all slides, as many between two power cuts as there are cuts for."""
    number = 0
    while (number < SLIDES or scanner.busy) and not over.is_set():
        scanner.tick()
        allowed = SLIDES * (len(cuts) + 1) / KILLS
        if number < min(SLIDES, allowed) and scanner.chance.random() < 0.5:
            scanner.scan(number)
            number += 1
        time.sleep(TICK_S)


def settled(scanner: Scanner, watcher: Watcher) -> bool:
    """Return whether every slide that is there has ended."""
    records = watcher.records()
    ended = {Path(r.slide) for r in records if r.state != "started"}
    done = {Path(r.slide) for r in records if r.state == "done"}
    return (
        all(r.state != "started" for r in records)
        and all(scanner.places(path) & done for path in scanner.is_good)
        and scanner.is_bad <= ended
    )


def wait_until_settled(scanner: Scanner, watcher: Watcher) -> None:
    until = time.monotonic() + PATIENCE_S + SLIDES
    while not settled(scanner, watcher):
        assert watcher.process.poll() is None, watcher.log.read_text()[-3000:]
        assert time.monotonic() < until, watcher.log.read_text()[-3000:]
        time.sleep(0.2)


def check(scanner: Scanner, watcher: Watcher, tables: list[bytes]) -> int:
    """Check that every good slide has one complete result, every bad one a reason, and no more.

    Return how many results are of slides that are no longer there.
    """
    records = watcher.records()
    of_slide: dict[Path, list[Record]] = {}
    for record in records:
        of_slide.setdefault(Path(record.slide), []).append(record)
    for path, which in scanner.is_good.items():
        (record,) = [r for place in scanner.places(path) for r in of_slide.pop(place, [])]
        assert record.state == "done", (path, record.reason)
        assert (watcher.maps / f"{record.name}.csv").read_bytes() == tables[which]
        assert (watcher.maps / f"{record.name}.thumb.jpg").stat().st_size > 500
    for path in scanner.is_bad:
        (record,) = of_slide.pop(path)
        assert record.state == "failed"
        assert record.reason.startswith(f"{path}: ")
    assert not any(path.exists() for path in of_slide), of_slide
    outputs = {output for record in records if record.state == "done" for output in record.outputs}
    there = {p.name for p in watcher.maps.iterdir() if p.is_file()} - {HEALTH}
    assert there == outputs | {"summary.csv", "index.html", ".lock"}
    assert not (watcher.maps / UNDER_WAY).exists()
    assert {p.stem for p in (watcher.maps / RECORDS).iterdir()} == {r.name for r in records}
    rows = batches.summary(watcher.maps)
    assert set(rows) == {r.name for r in records}
    assert all(row["reason"] for row in rows.values() if row["state"] != "done")
    return len(of_slide)


def tables_of(scanner: Scanner, folder: Path) -> list[bytes]:
    """Return density.csv of every good slide, from a run of its own."""
    tables = []
    for number, content in enumerate(scanner.good):
        slide = folder / f"{number}.svs"
        slide.write_bytes(content)
        batches.run([slide], folder / "tables", batches.in_process())
        tables.append((folder / "tables" / f"{number}.csv").read_bytes())
    assert len(set(tables)) == len(tables)
    return tables


@pytest.mark.soak
@pytest.mark.skipif(os.name == "nt", reason="a stop there is Ctrl-Break to a whole console")
def test_a_week_of_watching(tmp_path, scanner, watcher):
    chance = random.Random(8)
    tables = tables_of(scanner, tmp_path)
    watcher.start()
    began, stops, cuts, over = time.monotonic(), 0, [], threading.Event()
    with ThreadPoolExecutor(1) as pool:
        scanning = pool.submit(scan_all, scanner, cuts, over)
        try:
            while len(cuts) < KILLS and not (scanning.done() and scanning.exception()):
                while any(r.tries > MAX_INTERRUPTED - 3 for r in watcher.at_work()):
                    time.sleep(0.05)  # so often in turn is what gives a slide up
                if len(cuts) % 8 == 7:
                    assert watcher.stop() == 0, watcher.log.read_text()[-3000:]
                    assert not watcher.at_work()
                    stops += 1
                    watcher.start()
                    cuts.append(False)
                else:
                    cuts.append(power_cut(watcher, chance))
            scanning.result()
        finally:
            over.set()
    wait_until_settled(scanner, watcher)
    assert watcher.stop() == 0, watcher.log.read_text()[-3000:]
    assert "Traceback" not in watcher.log.read_text()
    gone = check(scanner, watcher, tables)
    assert any(cuts), "no power cut came in the middle of a slide"
    print(
        f"\n{SLIDES} slides ({dict(scanner.kinds)}), {KILLS - stops} kills, {sum(cuts)} of them in "
        f"the middle of a slide, {stops} stops, {gone} results of slides renamed or taken away "
        f"since, {time.monotonic() - began:.0f} s"
    )


@pytest.mark.soak
@pytest.mark.skipif(os.name == "nt", reason="a stop there is Ctrl-Break to a whole console")
def test_memory_and_open_files_do_not_grow(scanner, watcher):
    """Good and bad slides come and go; the first third warms up."""
    watcher.start()
    seen: list[tuple[int, float, int]] = []
    for number in range(SLIDES):
        path = scanner.incoming / f"{number:04d}.svs"
        which = number % 4
        content = scanner.good[which] if which < 3 else scanner.chance.choice(scanner.bad)
        path.write_bytes(content + b"\0slide %d" % number)
        (scanner.is_bad.add if which == 3 else scanner.is_good.__setitem__)(
            *((path,) if which == 3 else (path, which))
        )
        if number % 5 == 4:
            wait_until_settled(scanner, watcher)
            process = psutil.Process(watcher.process.pid)
            files = len(process.open_files()) + len(process.net_connections())
            seen.append((number + 1, process.memory_info().rss / 2**20, process.num_fds()))
            assert files <= process.num_fds()
    assert watcher.stop() == 0
    print("\nslides, MB, descriptors:", seen)
    warm = seen[len(seen) // 3 :]
    assert max(fds for _, _, fds in warm) <= warm[0][2]
    assert warm[-1][1] <= GROWTH * warm[0][1]
