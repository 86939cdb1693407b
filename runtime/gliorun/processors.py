"""How many processors there are to use."""

from __future__ import annotations

import math
import os
from collections.abc import Generator
from pathlib import Path

GROUPS = Path("sys/fs/cgroup")
"""Where Linux shows the control groups that a container, say, is limited by."""


def processors() -> int:
    """Return the number of processors that this process may use at once."""
    return min(permitted(), quota() or permitted())


def permitted() -> int:
    """Return the number of processors that this process may run on, whatever its time on them."""
    if hasattr(os, "sched_getaffinity"):  # not on Windows
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def quota(root: Path = Path("/")) -> int | None:
    """Return to the time of how many processors this process is limited, None if to none.

    `docker --cpus 1.5` is such a limit, and counts as 2. It is the least of the control groups
    that the process is in, of version 1 or 2; each holds for all groups inside it. `root` is
    where the file system begins.
    """
    try:
        lines = (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux
        return None
    least = min((_limit(folder) for line in lines for folder in _folders(line, root)), default=None)
    return None if least is None or math.isinf(least) else max(1, math.ceil(least))


def _folders(line: str, root: Path) -> Generator[Path]:
    """Yield the folders of the group that a line of /proc/self/cgroup names, and of those around.

    A container may see its own group only, and as the outermost one.
    """
    _, controllers, group = line.split(":", 2)
    if controllers and "cpu" not in controllers.split(","):
        return
    outermost = root / GROUPS / "cpu" if controllers else root / GROUPS  # version 1, or 2
    folder = outermost / group.lstrip("/")
    yield from (inside for inside in (folder, *folder.parents) if outermost in inside.parents)
    yield outermost


def _limit(folder: Path) -> float:
    """Return the limit of one group in processors; infinite if there is none."""
    try:
        if (folder / "cpu.max").is_file():
            quota_us, period_us = (folder / "cpu.max").read_text(encoding="ascii").split()
        else:
            quota_us, period_us = (
                (folder / f"cpu.cfs_{name}_us").read_text(encoding="ascii").strip()
                for name in ("quota", "period")
            )
        return math.inf if quota_us in ("max", "-1") else int(quota_us) / int(period_us)
    except (OSError, ValueError, ZeroDivisionError):  # no such group here, or no such limit
        return math.inf
