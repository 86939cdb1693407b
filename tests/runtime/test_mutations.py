"""No damaged slide crashes, hangs or gives a wrong map without a word."""

from __future__ import annotations

import json
import select
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

import mutations

WORKER = Path(__file__).resolve().parent.parent / "mutation_worker.py"
EACH, MANY = 15, 100
"""Slides of each kind: always, and among the slow tests."""
PATIENCE_S = 60
STATED = "measured at the scale that it now states"
"""No more can be asked: nothing else in the file tells the scale."""
HARMLESS = "refused", "measured", "measured, pixels damaged", "measured, tiles marked", STATED


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


def judged(found: dict, whole: dict) -> str:
    """Name what came of a damaged slide beside what its sound twin gives."""
    if found["outcome"] != "measured":
        return found["outcome"]
    if found["size"] != whole["size"] and len(found["status"]) != len(whole["status"]):
        return "wrong: another grid"
    if found["scale"] != whole["scale"]:
        return STATED
    differ = [
        k
        for k, (ours, theirs) in enumerate(zip(found["nuclei"], whole["nuclei"], strict=True))
        if ours != theirs and found["status"][k] == whole["status"][k]
    ]
    if any(found["pixels"][k] == whole["pixels"][k] for k in differ):
        return "wrong: other density of the same pixels"
    if differ:
        return "measured, pixels damaged"
    return "measured" if found["status"] == whole["status"] else "measured, tiles marked"


@pytest.mark.skipif(sys.platform == "win32", reason="select() knows no pipes there")
@pytest.mark.parametrize("number", [EACH, pytest.param(MANY, marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", mutations.KINDS)
def test_no_damage_crashes_hangs_or_goes_unnoticed(tmp_path, kind, number):
    whole = mutations.sound(tmp_path)[kind]
    worker = Worker()
    try:
        sound = worker.measure(whole)
        assert sound["outcome"] == "measured"
        assert sound["status"].count(1) == 11  # the last tile hardly touches the slide
        table = Counter()
        for mutation in mutations.mutations(whole, number):
            path = tmp_path / f"mutated{whole.suffix}"
            path.write_bytes(mutation.content)
            found = worker.measure(path)
            verdict = judged(found, sound)
            table[mutation.what.partition(":")[0], verdict] += 1
            assert verdict in HARMLESS, (mutation.what, verdict, found["why"])
            if verdict == "refused":
                assert found["why"].startswith(str(path))
                assert "\n" not in found["why"]
    finally:
        worker.close()
    for (way, verdict), number in sorted(table.items()):
        print(f"{kind:9} {way:12} {number:3} {verdict}")
