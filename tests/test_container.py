"""The image, built for real and run as its Dockerfile says: no network, no root, read-only."""

from __future__ import annotations

import csv
import json
import os
import shlex
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import slides
from conftest import SHARED
from gliorun import job
from gliorun.model import shipped
from gliorun.plan import Plan
from gliorun.settings import Settings
from guides import ROOT, marked

pytestmark = pytest.mark.release
CHECK = SHARED / "tools" / "container_check.sh"
TOOLS = ("buildah", "podman", "runc", "mmdebstrap")
TAG = "localhost/check:latest"
MAX_BYTES = 900e6
LOCKED = (
    "--rm", "--pull", "never", "--no-healthcheck", "--network", "none", "--read-only",
    "--cap-drop", "all", "--security-opt", "no-new-privileges", "--memory", "2g", "--cpus", "1",
    "--tmpfs", "/tmp", "--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024",
)  # fmt: skip

Podman = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def store():
    """Build the image; give the words that call podman where it lies."""
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing or not CHECK.is_file() or os.geteuid() != 0:
        pytest.skip(f"no container can be built: needs root, {CHECK} and {', '.join(TOOLS)}")
    if len(socket.if_nameindex()) < 2:
        pytest.skip("no network to build an image with")
    kept = os.environ.get("CONTAINER_CHECK_DIR")  # spares the base image the next time
    # podman takes no more than 50 characters for where it runs: too few for a folder of pytest's
    folder = Path(kept or tempfile.mkdtemp(prefix="container-"))
    built = subprocess.run(
        ["bash", CHECK, ROOT, ROOT / "Dockerfile", "--", "--version"],
        env={**os.environ, "CONTAINER_CHECK_DIR": str(folder), "MEM": "2g",
             "EXTRA_RUN": "--no-healthcheck"},
        capture_output=True, text=True, timeout=900, check=False,
    )  # fmt: skip
    assert built.returncode == 0, built.stdout[-3000:] + built.stderr[-3000:]
    assert "gliorun " in built.stdout

    words = ("podman", "--root", folder / "storage", "--runroot", folder / "run",
             "--storage-driver", "overlay", "--cgroup-manager", "cgroupfs",
             "--events-backend", "file", "--runtime", "runc")  # fmt: skip
    yield tuple(map(str, words))
    if not kept:
        subprocess.run([*map(str, words), "rmi", "--all", "--force"], capture_output=True)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def podman(store: tuple[str, ...]) -> Podman:
    """Give a function that runs podman on the image and returns what came out."""
    return lambda *words: subprocess.run(
        [*store, *map(str, words)], capture_output=True, text=True, timeout=300, check=False
    )


def test_a_slide_that_is_mounted_read_only_has_the_densities_that_it_has_here(
    podman: Podman, small_slide: slides.Drawn, tmp_path: Path
):
    for name, mode in (("slides", 0o755), ("out", 0o777)):  # whoever runs it may read and write
        (tmp_path / name).mkdir()
        (tmp_path / name).chmod(mode)
    out = tmp_path / "out"
    shutil.copy(small_slide.path, tmp_path / "slides" / "small.svs")
    done = podman(
        "run", *LOCKED, "-v", f"{tmp_path}/slides:/slides:ro", "-v", f"{out}:/data", TAG,
        "/slides/small.svs", "--quiet", "--out", "a.csv", "--out", "a.png",
        "--out", "a.qc.png", "--out", "a.html", "--out", "a.geojson", "--out", "a.nuclei.geojson",
        "--out", "a.ome.tif", "--out", "a.mask.ome.tif", "--out", "a.json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert len(list(out.iterdir())) == 9
    ours = tmp_path / "a.csv"
    job.run(small_slide.path, Plan([ours], shipped.DEFAULT_MODEL, Settings()), quiet=True)
    tables = []
    for path in (out / "a.csv", ours):
        with path.open(newline="", encoding="utf-8") as lines:
            tables.append([float(row["density"]) for row in csv.DictReader(lines)])
    np.testing.assert_allclose(*tables, atol=1e-3)


def test_the_image_is_small_and_holds_no_training_and_no_root(podman: Podman):
    (image,) = json.loads(podman("image", "inspect", TAG).stdout)
    assert image["Size"] < MAX_BYTES, image["Size"]
    code = (
        "import importlib.util as u, os; "
        "names = ('tensorflow', 'keras', 'onnx', 'pip', 'openvino_telemetry'); "
        "print(os.getuid(), [name for name in names if u.find_spec(name)])"
    )
    done = podman("run", *LOCKED, "--entrypoint", "python", TAG, "-c", code)
    assert done.stdout.split() == ["10001", "[]"], done.stderr


@pytest.mark.parametrize("user", ["10001", "1234:1234"])
def test_kernels_come_compiled_for_any_user(podman: Podman, user: str):
    code = (
        "import numpy as np; from gliorun.measuring import kernels; "
        "levels = np.zeros((480, 480), np.uint8); "
        "cells = np.zeros((4, 4, 4), np.int64)[:, :2, :2]; "  # a part of a map, as a tile's is
        "kernels.count_nuclei(levels, levels, (1, 1, 1), 240, cells[:3], cells[3]); "
        "stats = kernels.count_nuclei.stats; "
        "print(len(stats.cache_hits), len(stats.cache_misses))"
    )
    done = podman("run", *LOCKED, "--user", user, "--entrypoint", "python", TAG, "-c", code)
    assert done.stdout.split() == ["1", "0"], done.stderr


def test_the_command_of_the_guide_maps_a_slide(
    store: tuple[str, ...], podman: Podman, small_slide: slides.Drawn, tmp_path: Path
):
    build, run = marked("container")
    assert build.startswith("docker build -t gliorun .")
    assert podman("tag", TAG, "gliorun").returncode == 0  # as built of the same Dockerfile
    (tmp_path / "bin").mkdir()
    docker = tmp_path / "bin" / "docker"
    limits = "--pull never --no-healthcheck --ulimit nofile=1024:1024 --ulimit nproc=1024:1024"
    docker.write_text(f'#!/bin/sh\nshift\nexec {shlex.join(store)} run {limits} "$@"\n')
    docker.chmod(0o755)
    shutil.copy(small_slide.path, tmp_path / "slide.svs")
    path = f"{docker.parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-euc", run], cwd=tmp_path, env={**os.environ, "PATH": path},
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "heatmap.png").is_file()


def test_its_health_check_passes(podman: Podman):
    (image,) = json.loads(podman("image", "inspect", TAG).stdout)
    kind, command, *words = image["Healthcheck"]["Test"]
    assert kind == "CMD"
    done = podman("run", *LOCKED, "--entrypoint", command, TAG, *words)
    assert done.returncode == 0, done.stderr
    assert "/tmp/health.csv: mean density" in done.stdout
