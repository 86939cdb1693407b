"""Kernels run whatever has become of the cache of their machine code."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import numpy as np
from gliorun.measuring import kernels
ones, nucleus_px, valid_px = np.ones((4, 6), np.uint8), *np.zeros((2, 2, 3), np.int64)
kernels.count_nuclei(ones, ones, 2, nucleus_px, valid_px)
assert (nucleus_px == 4).all()
print("kept" if kernels.count_nuclei.stats.cache_hits else "compiled")
"""
NO_ROOM = """
import resource, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
"""


def start(cache: Path, program: str = PROGRAM) -> subprocess.Popen[str]:
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(cache), "NUMBA_DISABLE_JIT": "0"}
    return subprocess.Popen(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )


def said_by(process: subprocess.Popen[str]) -> str:
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    return out.strip()


@pytest.fixture(scope="module")
def filled(tmp_path_factory) -> Path:
    cache = tmp_path_factory.mktemp("cache")
    assert said_by(start(cache)) == "compiled"
    assert said_by(start(cache)) == "kept"
    return cache


@pytest.mark.parametrize("kind", ["nbi", "nbc"])
@pytest.mark.parametrize("content", [b"", b"\x80\x04garbage", b"x" * 3000])
def test_damaged_files_are_made_anew(filled, kind, content):
    files = list(filled.rglob(f"*.{kind}"))
    assert files
    for file in files:
        file.write_bytes(content)
    assert said_by(start(filled)) == "compiled"
    assert said_by(start(filled)) == "kept"


@pytest.mark.skipif(sys.platform == "win32", reason="no limit of file size for a full disk")
def test_a_full_disk_keeps_nothing_and_does_no_harm(tmp_path):
    assert said_by(start(tmp_path, NO_ROOM + PROGRAM)) == "compiled"
    assert said_by(start(tmp_path)) == "compiled"


def test_two_processes_fill_it_at_once(tmp_path):
    both = [start(tmp_path), start(tmp_path)]
    assert {said_by(process) for process in both} <= {"compiled", "kept"}
    assert said_by(start(tmp_path)) == "kept"
