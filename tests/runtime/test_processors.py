"""How many processors a process may use, as Linux shows its limits."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gliorun.processors import permitted, processors, quota

V1, V2 = "4:cpu,cpuacct:{}", "0::{}"
"""Lines of /proc/self/cgroup."""


def system(root: Path, line: str, files: dict[str, str]) -> Path:
    """Write what Linux shows of the control groups of a process, in a folder of its own."""
    (root / "proc/self").mkdir(parents=True)
    others = "12:cpuset:/elsewhere\n1:name=systemd:/elsewhere\n"
    (root / "proc/self/cgroup").write_text(f"{others}{line}\n")
    for name, text in files.items():
        file = root / "sys/fs/cgroup" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{text}\n")
    return root


@pytest.mark.parametrize(
    ("line", "files", "wanted"),
    [
        (V2.format("/"), {"cpu.max": "100000 100000"}, 1),
        (V2.format("/"), {"cpu.max": "150000 100000"}, 2),
        (V2.format("/"), {"cpu.max": "10000 100000"}, 1),
        (V2.format("/"), {"cpu.max": "max 100000"}, None),
        (V2.format("/"), {}, None),
        (V2.format("/a/b"), {"a/cpu.max": "300000 100000", "a/b/cpu.max": "max 100000"}, 3),
        (V2.format("/a/b"), {"a/cpu.max": "300000 100000", "a/b/cpu.max": "200000 100000"}, 2),
        (V2.format("/a"), {"a/b/cpu.max": "200000 100000"}, None),
        (V1.format("/"), {"cpu/cpu.cfs_quota_us": "50000", "cpu/cpu.cfs_period_us": "25000"}, 2),
        (V1.format("/"), {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, None),
        # what a container is called outside is not there inside
        (
            V1.format("/docker/0123"),
            {"cpu/cpu.cfs_quota_us": "300000", "cpu/cpu.cfs_period_us": "100000"},
            3,
        ),
        (
            V1.format("/docker/0123"),
            {
                "cpu/docker/0123/cpu.cfs_quota_us": "100000",
                "cpu/docker/0123/cpu.cfs_period_us": "100000",
                "cpu/docker/cpu.cfs_quota_us": "-1",
                "cpu/docker/cpu.cfs_period_us": "100000",
            },
            1,
        ),
    ],
)
def test_the_time_that_a_container_is_limited_to_counts_in_processors(
    tmp_path, line, files, wanted
):
    assert quota(system(tmp_path, line, files)) == wanted


def test_where_there_are_no_control_groups_there_is_no_limit(tmp_path):
    assert quota(tmp_path) is None


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="Linux alone")
def test_a_process_bound_to_one_processor_uses_one():
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, [min(before)])
    try:
        assert processors() == permitted() == 1
    finally:
        os.sched_setaffinity(0, before)
