"""What is built from a checkout is whole, and the licences of what it needs can be listed."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("runtime/gliorun", "export/glioexport", "bench/gliobench")


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    """A folder with the sdist, and the wheel that was built from the sdist."""
    if len(socket.if_nameindex()) < 2:
        pytest.skip("no network to fetch the build backend from")
    folder = tmp_path_factory.mktemp("built")
    copy = folder / "copy"
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        copy.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, copy)
    for room in ROOMS:
        leave = shutil.ignore_patterns("__pycache__", "*.egg-info")
        shutil.copytree(ROOT / room, copy / room, ignore=leave)
    done = subprocess.run(
        [sys.executable, "-m", "build", "--outdir", str(folder), str(copy)],
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return folder


def sources() -> set[str]:
    """Return every file of the three packages, by its name inside the wheel."""
    found = set()
    for room in ROOMS:
        top = (ROOT / room).parent
        found |= {
            path.relative_to(top).as_posix()
            for path in (ROOT / room).rglob("*")
            if path.is_file() and "__pycache__" not in path.parts
        }
    return found


def test_the_wheel_holds_every_file_of_the_packages_and_no_other(built):
    (wheel,) = built.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {name for name in names if ".dist-info/" not in name} == sources()
    assert {"gliorun/models/nucleus.bin", "gliorun/py.typed"} <= names
    assert any(name.endswith("/licenses/LICENSE") for name in names)


def test_the_sdist_holds_the_same(built):
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {"/".join(name.split("/")[2:]) for name in archive.getnames()}
    assert sources() <= names


def test_the_wheel_runs_where_it_is_unpacked_and_loads_no_training(built, tmp_path):
    (wheel,) = built.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(tmp_path)
    code = (
        "import sys, gliorun.job; from gliorun.engine import open_model; "
        "open_model(gliorun.job.DEFAULT_MODEL); from gliorun.writers import html; "
        "names = ('tensorflow', 'keras', 'onnx', 'nncf', 'glioexport', 'gliobench', 'pytest'); "
        "print(gliorun.__file__, [n for n in names if n in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": str(tmp_path), "PATH": "", "HOME": str(tmp_path)},
        cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.stdout.split() == [str(tmp_path / "gliorun" / "__init__.py"), "[]"], done.stderr


def test_the_bill_of_materials_names_what_runs_and_its_licences(tmp_path):
    path = tmp_path / "sbom.json"
    command = Path(sys.executable).with_name("cyclonedx-py")
    subprocess.run(
        [command, "environment", sys.executable, "--output-file", path],
        capture_output=True, timeout=120, check=True,
    )  # fmt: skip
    bill = json.loads(path.read_text(encoding="utf-8"))
    assert bill["bomFormat"] == "CycloneDX"
    licences = {part["name"].lower(): part.get("licenses") for part in bill["components"]}
    for name in ("openvino", "openslide-python", "openslide-bin", "numba", "numpy", "bokeh"):
        assert licences[name], name
