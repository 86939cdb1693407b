"""Kernels run whatever has become of the cache of their machine code."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from guides import ROOT

PROGRAM = """
import numpy as np
from gliorun.measuring import kernels
ones, counts = np.ones((4, 6), np.uint8), np.zeros((4, 2, 3), np.int64)
nucleus_px, valid_px = counts[:3], counts[3]
kernels.count_nuclei(ones, ones, (1, 1, 1), 2, nucleus_px, valid_px)
assert (nucleus_px == 4).all()
print("kept" if kernels.count_nuclei.stats.cache_hits else "compiled")
"""
NO_ROOM = """
import resource, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
"""


def start(cache: Path, program: str = PROGRAM) -> subprocess.Popen[str]:
    return run_in({"NUMBA_CACHE_DIR": str(cache)}, program)


def run_in(changes: dict[str, str], program: str = PROGRAM) -> subprocess.Popen[str]:
    """Run a program with changes of the environment, and with numba's cache nowhere else."""
    inherited = {k: v for k, v in os.environ.items() if k != "NUMBA_CACHE_DIR"}
    environment = {**inherited, "NUMBA_DISABLE_JIT": "0", **changes}
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
@pytest.mark.parametrize(
    "content",
    [
        b"\x80\x04garbage",
        *(pytest.param(content, marks=pytest.mark.release) for content in (b"", b"x" * 3000)),
    ],
)
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


@pytest.fixture
def installed(tmp_path) -> Path:
    """A copy of the package, as pip puts it into site-packages."""
    leave = shutil.ignore_patterns("__pycache__")
    folder = tmp_path / "site-packages"
    shutil.copytree(ROOT / "runtime" / "gliorun", folder / "gliorun", ignore=leave)
    return folder


@pytest.mark.skipif(sys.platform == "win32", reason="caches lie elsewhere there")
@pytest.mark.parametrize("chosen", [None, "chosen"])
def test_nothing_is_written_into_the_installed_package(installed, tmp_path, chosen):
    before = sorted(installed.rglob("*"))
    caches = {"PYTHONPATH": str(installed), "PYTHONDONTWRITEBYTECODE": "1",
              "XDG_CACHE_HOME": str(tmp_path / "caches")}  # fmt: skip
    if chosen:
        caches["NUMBA_CACHE_DIR"] = str(tmp_path / chosen)
    where = "import gliorun; print(gliorun.__file__, end=' ')\n"
    source = installed / "gliorun" / "__init__.py"
    assert said_by(run_in(caches, where + PROGRAM)) == f"{source} compiled"
    assert said_by(run_in(caches, where + PROGRAM)) == f"{source} kept"
    assert sorted(installed.rglob("*")) == before
    kept = {path.relative_to(tmp_path).parts[0] for path in tmp_path.rglob("*.nbi")}
    assert kept == {chosen or "caches"}
