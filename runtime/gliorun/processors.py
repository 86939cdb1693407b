"""Count the processors that this process may use."""

from __future__ import annotations

import math
import os
from collections.abc import Generator
from pathlib import Path

GROUPS = Path("sys/fs/cgroup")
"""Where Linux mounts the control groups, which limit a container, for example."""


def processors() -> int:
    """Return the number of processors that this process may use at once."""
    return min(permitted(), quota() or permitted())


def permitted() -> int:
    """Return the number of processors that this process may run on, regardless of time limits."""
    if hasattr(os, "sched_getaffinity"):  # missing on Windows
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def quota(root: Path = Path("/")) -> int | None:
    """Return the limit on processor time, in processors rounded up; None if there is no limit.

    `docker --cpus 1.5` sets such a limit, which counts as 2. The smallest limit of all control
    groups around the process applies, of version 1 or 2. `root` is the root of the file system.
    """
    try:
        lines = (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux
        return None
    least = min((_limit(folder) for line in lines for folder in _folders(line, root)), default=None)
    return None if least is None or math.isinf(least) else max(1, math.ceil(least))


def _folders(line: str, root: Path) -> Generator[Path]:
    """Yield the folders of the group in a line of /proc/self/cgroup, and of the groups around it.

    A container may see only its own group, as if it were the outermost one.
    """
    _, controllers, group = line.split(":", 2)
    if controllers and "cpu" not in controllers.split(","):
        return
    outermost = (
        root / GROUPS / "cpu" if controllers else root / GROUPS
    )  # first version 1, then version 2
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
    except (OSError, ValueError, ZeroDivisionError):  # the group or its limit does not exist
        return math.inf
