"""What is built from a checkout is whole, can be carried to a machine without network, and runs."""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import socket
import subprocess
import sys
import tarfile
import zipfile
from email.parser import BytesParser
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("runtime/gliorun", "export/glioexport", "bench/gliobench")
WINDOWS = {
    "sys_platform": "win32", "platform_system": "Windows", "os_name": "nt",
    "platform_machine": "AMD64", "extra": "",
}  # fmt: skip
"""What requirements depend on besides the version of Python."""


def checkout(folder: Path) -> Path:
    """Copy what a distribution is built from."""
    if len(socket.if_nameindex()) < 2:
        pytest.skip("no network to fetch wheels from")
    folder.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    for room in ROOMS:
        leave = shutil.ignore_patterns("__pycache__", "*.egg-info")
        shutil.copytree(ROOT / room, folder / room, ignore=leave)
    return folder


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    """A folder with the sdist, and the wheel that was built from the sdist."""
    folder = tmp_path_factory.mktemp("built")
    copy = checkout(folder / "copy")
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
    assert {
        "gliorun/models/student.bin",
        "gliorun/models/reference.bin",
        "gliorun/py.typed",
    } <= names
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


def commands(name: str) -> str:
    """Return the commands of the README that stand below `<!-- name -->`."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    return text.partition(f"<!-- {name} -->\n```sh\n")[2].partition("```")[0]


def type_in(script: str, folder: Path, env: dict[str, str], *before: str) -> str:
    """Run commands in a folder and return what they said."""
    done = subprocess.run(
        [*before, "bash", "-euc", script],
        env=env, cwd=folder, capture_output=True, text=True, timeout=500, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


def collected(folder: Path, options: str) -> Path:
    """Collect wheels as the README says and return their folder."""
    script = commands("collect").replace("--platform win_amd64", options)
    assert options in script
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    type_in(script, checkout(folder), {**os.environ, "PATH": path})
    return folder / "wheels"


def test_everything_that_runs_on_windows_has_a_wheel_for_it(tmp_path):
    wheels = collected(tmp_path / "copy", "--platform win_amd64")
    needed, there = set(), set()
    for wheel in wheels.glob("*.whl"):
        assert wheel.stem.endswith(("-any", "-win_amd64")), wheel.name
        archive = zipfile.ZipFile(wheel)
        (name,) = (n for n in archive.namelist() if re.fullmatch(r"[^/]+\.dist-info/METADATA", n))
        about = BytesParser().parsebytes(archive.read(name))
        there.add(canonicalize_name(about["Name"]))
        for line in about.get_all("Requires-Dist", []):
            wanted = Requirement(line)
            if wanted.marker is None or wanted.marker.evaluate(WINDOWS):
                needed.add(canonicalize_name(wanted.name))
    assert {"openslide-bin", "openvino", "numba", "colorama"} <= needed <= there
    assert len((wheels / "requirements.txt").read_text().splitlines()) == len(there)


def test_a_workstation_without_network_installs_what_was_carried_there_and_runs(tmp_path):
    alone = ("unshare", "--net", "--map-root-user")
    if platform.machine() != "x86_64" or shutil.which(alone[0]) is None:
        pytest.skip("the README's wheels are for Linux on x86-64")
    if subprocess.run([*alone, "true"], capture_output=True, check=False).returncode:
        pytest.skip("no network namespace can be made")
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    (linux,) = re.findall("`(--platform manylinux[^`]*)`", text)
    shutil.move(collected(tmp_path / "copy", linux), tmp_path)
    env = {"PATH": f"{tmp_path}/venv/bin:/usr/bin:/bin", "HOME": str(tmp_path),
           "PIP_CONFIG_FILE": os.devnull}  # fmt: skip
    type_in(f"{sys.executable} -m venv venv", tmp_path, env, *alone)
    said = type_in(
        f"""python -c 'import socket; assert len(socket.if_nameindex()) == 1'
        ({commands("install")})
        gliorun --demo --quiet --out 'heat map.png' --out density.csv""",
        tmp_path, env, *alone,
    )  # fmt: skip
    assert "mean density" in said
    assert (tmp_path / "heat map.png").is_file()
    first = min((tmp_path / "wheels").glob("*.whl"))
    first.write_bytes(first.read_bytes() + b"more")
    refused = subprocess.run(
        ["bash", "-euc", commands("install") + "--dry-run --force-reinstall"],
        env=env, cwd=tmp_path, capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert refused.returncode == 1
    assert "DO NOT MATCH THE HASHES" in refused.stderr
