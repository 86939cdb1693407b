"""Runs gliorun on a slide, kills it, starts it again, and so on; a process of its own, as it forks.

Prints one line of JSON: how many runs were killed, how many tiles the later ones took over, and
the tables of the runs that came to their end.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

from gliorun import job
from gliorun.model import shipped
from gliorun.plan import Plan
from gliorun.settings import Settings

KILLS = 30
EVERY_S = 0.05


def go(slide: Path, out: Path) -> None:
    """Run gliorun in this process, and end it."""
    outputs = [out / "density.csv", out / "run.json", out / "mask.mask.ome.tif"]
    plan = Plan(outputs, shipped.DEFAULT_MODEL, Settings(), checkpoint_s=EVERY_S)
    job.run(slide, plan, quiet=True)
    os._exit(0)


def main(slide: Path, out: Path) -> None:
    chance = random.Random(0)
    started = time.monotonic()
    tables, resumed = [finished(slide, out, float("inf"))[0]], []
    whole_s = time.monotonic() - started
    killed = 0
    while killed < KILLS:
        came = finished(slide, out, chance.uniform(0, whole_s))
        if came is None:
            killed += 1
        else:
            tables.append(came[0])
            resumed.append(came[1])
    print(json.dumps({"killed": killed, "resumed": resumed, "tables": tables}))


def finished(slide: Path, out: Path, after_s: float) -> tuple[str, int] | None:
    """Run and kill after a while; return table and tiles taken over if it came to its end."""
    child = os.fork()
    if child == 0:
        go(slide, out)
    deadline = time.monotonic() + after_s
    while (ended := os.waitpid(child, os.WNOHANG))[0] == 0 and time.monotonic() < deadline:
        time.sleep(0.005)
    if ended[0] == 0:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        return None
    if ended[1] != 0:
        raise SystemExit(f"a run ended with {ended[1]}")
    table = (out / "density.csv").read_text()
    taken_over = json.loads((out / "run.json").read_text())["resumed_tiles"]
    for path in out.iterdir():
        if not path.name.startswith("."):
            path.unlink()
    return table, taken_over


main(Path(sys.argv[1]), Path(sys.argv[2]))
