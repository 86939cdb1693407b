"""No damaged slide crashes, hangs, ends a watch, or gives a wrong map without a word.

`MUTATED_SLIDES=400 pytest tests/runtime/test_mutations.py -s` damages more, and prints what came.
"""

from __future__ import annotations

import json
import os
import select
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

import mutations
from runtime.test_week import Watcher

WORKER = Path(__file__).resolve().parent.parent / "mutation_worker.py"
SLIDES = int(os.environ.get("MUTATED_SLIDES", "60"))
"""Of all kinds together."""
SOAK = range(SLIDES, SLIDES + 240)
"""The seeds that the mark soak adds to those."""
PATIENCE_S = 60
WATCH_PATIENCE_S = 300
"""A watch in which no slide has ended for so long hangs."""
STATED = "measured at the scale that it now states"
"""No more can be asked: nothing else in the file tells the scale."""
HARMLESS = "refused", "measured", "measured, pixels damaged", "measured, tiles marked", STATED
INTACT = "refused", "measured"
"""What may come of a slide whose pixels are whole: where it is not refused, it is its twin."""
WHOLE = "loop", "turn", "tiny"


class Worker:
    """A process that measures slides; started anew after it has died or hung."""

    def __init__(self) -> None:
        self._process = None

    def measure(self, path: Path) -> dict:
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, WORKER],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            )
        self._process.stdin.write(f"{path}\n")
        self._process.stdin.flush()
        ready, _, _ = select.select([self._process.stdout], [], [], PATIENCE_S)
        line = self._process.stdout.readline() if ready else ""
        if line:
            return json.loads(line)
        self.close()
        return {"outcome": "crash" if ready else "hang", "why": ""}

    def close(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None


def judged(reading: dict, whole: dict) -> str:
    """Name what came of a damaged slide beside what its sound twin gives."""
    if reading["outcome"] != "measured":
        return reading["outcome"]
    if reading["size"] != whole["size"] and len(reading["status"]) != len(whole["status"]):
        return "wrong: another grid"
    if reading["scale"] != whole["scale"]:
        return STATED
    differ = [
        k
        for k, (ours, theirs) in enumerate(zip(reading["nuclei"], whole["nuclei"], strict=True))
        if ours != theirs and reading["status"][k] == whole["status"][k]
    ]
    if any(reading["pixels"][k] == whole["pixels"][k] for k in differ):
        return "wrong: other density of the same pixels"
    if differ:
        return "measured, pixels damaged"
    return "measured" if reading["status"] == whole["status"] else "measured, tiles marked"


def damaged(whole: dict[str, Path], kind: str, seeds: range) -> Iterator[mutations.Mutation]:
    """Yield the damaged slides of one kind; together the kinds have each of the seeds once."""
    return mutations.mutations(whole[kind], seeds[list(whole).index(kind) :: len(whole)])


@pytest.mark.skipif(sys.platform == "win32", reason="select() knows no pipes there")
@pytest.mark.parametrize("seeds", [range(SLIDES), pytest.param(SOAK, marks=pytest.mark.soak)])
@pytest.mark.parametrize("kind", mutations.KINDS)
def test_no_damage_crashes_hangs_or_goes_unnoticed(tmp_path, kind, seeds):
    whole = mutations.sound(tmp_path)
    worker = Worker()
    try:
        sound = worker.measure(whole[kind])
        assert sound["outcome"] == "measured"
        assert sound["status"].count(1) == 11  # the last tile hardly touches the slide
        table = Counter()
        for mutation in damaged(whole, kind, seeds):
            path = tmp_path / f"mutated{whole[kind].suffix}"
            path.write_bytes(mutation.content)
            measured = worker.measure(path)
            verdict = judged(measured, sound)
            way = mutation.what.partition(":")[0]
            table[way, verdict] += 1
            harmless = INTACT if way in WHOLE else HARMLESS
            assert verdict in harmless, (mutation.what, verdict, measured["why"])
            if verdict == "refused":
                assert measured["why"].startswith(str(path))
                assert "\n" not in measured["why"]
    finally:
        worker.close()
    for (way, verdict), times in sorted(table.items()):
        print(f"{kind:9} {way:12} {times:3} {verdict}")


@pytest.mark.soak
@pytest.mark.skipif(sys.platform == "win32", reason="a stop there is Ctrl-Break to a whole console")
def test_no_damaged_slide_ends_a_watch_or_keeps_the_good_one_after_it_waiting(tmp_path):
    sound, incoming, maps = tmp_path / "sound", tmp_path / "incoming", tmp_path / "maps"
    for folder in (sound, incoming):
        folder.mkdir()
    whole = mutations.sound(sound)
    watcher = Watcher(incoming, maps, tmp_path / "log.txt")
    watcher.start()
    try:
        planted = {}
        for kind in whole:
            for number, mutation in enumerate(damaged(whole, kind, range(SLIDES // 2))):
                path = incoming / f"{kind}-{number:03d}{whole[kind].suffix}"
                path.write_bytes(mutation.content)
                planted[path] = mutation.what
        wait_for(watcher, set(planted))
        last = Path(shutil.copy(whole["aperio"], incoming / "zz-good.svs"))
        wait_for(watcher, {last})
        assert watcher.stop() == 0
    finally:
        watcher.kill()
    assert "Traceback" not in watcher.log.read_text()
    for record in watcher.records():
        path = Path(record.slide)
        if record.state == "failed":
            assert path != last
            assert record.reason.startswith(f"{path}: "), planted[path]
            assert "a bug" not in record.reason, planted[path]
        else:
            assert record.state == "done"
            assert (maps / f"{record.name}.csv").exists()


def wait_for(watcher: Watcher, paths: set[Path]) -> None:
    """Wait until each of some slides has ended, as long as any does."""
    left, since_s = paths, time.monotonic()
    while left:
        assert watcher.process.poll() is None, watcher.log.read_text()[-3000:]
        ended = {Path(record.slide) for record in watcher.records() if record.state != "started"}
        if left & ended:
            left, since_s = left - ended, time.monotonic()
        assert time.monotonic() - since_s < WATCH_PATIENCE_S, sorted(left)
        time.sleep(0.2)
