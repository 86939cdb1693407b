"""What is built from a checkout is whole, can be carried to a machine without network, and runs."""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from email.parser import BytesParser
from pathlib import Path

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from gliorun.model import shipped
from gliorun.model.card import sha256_of
from guides import ROOT, checkout, marked, need_network, type_in

pytestmark = pytest.mark.release
ROOMS = ("runtime/gliorun", "export/glioexport", "bench/gliobench")
HERE = f"3.{sys.version_info.minor}"
PYTHONS = sorted({"3.10", "3.11", "3.12", "3.13", HERE})
WORKSTATIONS = [f"{system} --python {python}"
                for system in ("windows", "linux") for python in PYTHONS]  # fmt: skip
CLUSTER = "linux --python 3.10 --cluster --dicom --tables"
MARKERS = {
    "windows": {"sys_platform": "win32", "platform_system": "Windows", "os_name": "nt",
                "platform_machine": "AMD64"},
    "linux": {"sys_platform": "linux", "platform_system": "Linux", "os_name": "posix",
              "platform_machine": "x86_64"},
}  # fmt: skip
ALONE = ("unshare", "--net", "--map-root-user")
INSTALL = "\n".join(marked("install"))


def need_solitude() -> None:
    if shutil.which(ALONE[0]) is None:
        pytest.skip("no network namespace can be made")
    if subprocess.run([*ALONE, "true"], capture_output=True, check=False).returncode:
        pytest.skip("no network namespace can be made")


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
    names = set()
    for room in ROOMS:
        top = (ROOT / room).parent
        names |= {
            path.relative_to(top).as_posix()
            for path in (ROOT / room).rglob("*")
            if path.is_file() and "__pycache__" not in path.parts
        }
    return names


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
        "import sys, gliorun.job; from gliorun.model.engine import open_model; "
        "from gliorun.model.shipped import DEFAULT_MODEL; "
        "open_model(DEFAULT_MODEL); from gliorun.writers import html; "
        "names = ('tensorflow', 'keras', 'onnx', 'nncf', 'glioexport', 'gliobench', 'pytest'); "
        "print(gliorun.__file__, [n for n in names if n in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": str(tmp_path), "PATH": "", "HOME": str(tmp_path)},
        cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.stdout.split() == [str(tmp_path / "gliorun" / "__init__.py"), "[]"], done.stderr


def test_installed_for_use_and_for_development_by_turns_in_one_clone_it_runs(tmp_path):
    """The libraries are those of this environment; `test_one_command_installs_and_maps_the_demo`
    and CI's own install fetch theirs."""
    copy = checkout(tmp_path / "copy")
    type_in("python3 -m venv .venv", copy)
    (libraries,) = copy.glob(".venv/lib/*/site-packages")
    (libraries / "libraries.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    for_use, demo = marked("try it")[0].rsplit(" && ", 1)
    assert "--demo" in demo
    development, run_tests = marked("test command")[0].rsplit(" && ", 1)
    assert "bin/pytest" in run_tests
    ours = ("NUMBA_CACHE_DIR", "PYTHONPATH")
    environment = {name: value for name, value in os.environ.items() if name not in ours}
    environment |= {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "caches")}
    where = ".venv/bin/python -c 'import gliorun; print(gliorun.__file__)'"
    for install in (for_use, development, for_use):
        type_in(f"{install} && .venv/bin/gliorun --version", copy, environment)
        (source,) = type_in(where, copy, environment).split()
        assert (source == f"{copy}/runtime/gliorun/__init__.py") == (" -e " in install), source
        assert Path(source).is_relative_to(copy)
    type_in(".venv/bin/pip uninstall --yes gliorun", copy, environment)
    left = [path for room in ROOMS for path in copy.glob(f".venv/lib/*/*/{Path(room).name}")]
    assert not left


def test_the_bill_of_materials_names_what_runs_its_licences_and_its_models(tmp_path):
    (tmp_path / "runtime").symlink_to(ROOT / "runtime")
    (tmp_path / ".venv").symlink_to(sys.prefix)
    _, command = marked("bill")
    type_in(command, tmp_path)
    text = (tmp_path / "sbom.json").read_text(encoding="utf-8")
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    assert "file:" not in text  # a folder of this machine
    bill = json.loads(text)
    parts = {part["name"].lower(): part for part in bill["components"]}
    for name in ("openvino", "openslide-python", "openslide-bin", "numba", "numpy", "bokeh"):
        assert parts[name]["licenses"], name
    for name, model in shipped.models().items():
        assert parts[name]["type"] == "machine-learning-model"
        weights = {"alg": "SHA-256", "content": sha256_of(model.with_suffix(".bin"))}
        assert parts[name]["hashes"] == [weights]
        files = {part["name"]: part["hashes"] for part in parts[name]["components"]}
        assert files[f"gliorun/models/{name}.bin"] == [weights]
    (ours,) = (link for link in bill["dependencies"] if link["ref"].startswith("gliorun=="))
    assert {f"gliorun-model-{name}" for name in shipped.models()} <= set(ours["dependsOn"])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("no/python", "no/python: no such file; name a Python.* 1"),
        (f"{shutil.which('true')}", ".*: .*name the Python that gliorun is installed for 1"),
    ],
)
def test_a_bill_of_materials_of_no_environment_is_refused_in_one_line(tmp_path, arguments, said):
    assert re.fullmatch(said, refusal(tmp_path, arguments, script="bill_of_materials.py"))
    assert not list(tmp_path.iterdir())


@pytest.fixture(scope="module")
def collected(tmp_path_factory) -> Iterator[dict[str, Path]]:
    """For every workstation its folder of wheels, collected as the document says."""
    need_network()
    top = tmp_path_factory.mktemp("collected")

    def collect(workstation: str) -> Path:
        folder = top / workstation
        folder.mkdir()
        (folder / "wheels").mkdir()  # an empty one does no harm
        (folder / "runtime").symlink_to(ROOT / "runtime")
        (line,) = marked("collect")
        script = line.replace("windows --python 3.11", workstation)
        assert workstation in script
        assert marked("install")[-1] in type_in(script, folder).splitlines()[-1]
        return folder / "wheels"

    asked = [*WORKSTATIONS, CLUSTER]
    with ThreadPoolExecutor(4) as pool:
        yield dict(zip(asked, pool.map(collect, asked), strict=True))
    shutil.rmtree(top)


def requirements(wheels: Path, workstation: str) -> tuple[set[str], set[str]]:
    """Return what the wheels of a folder need on a workstation, and what they are."""
    system, _, python, *_ = workstation.split()
    there = {**MARKERS[system], "python_version": python, "python_full_version": f"{python}.0"}
    needed, wheels_there = set(), set()
    for wheel in wheels.glob("*.whl"):
        archive = zipfile.ZipFile(wheel)
        (name,) = (n for n in archive.namelist() if re.fullmatch(r"[^/]+\.dist-info/METADATA", n))
        about = BytesParser().parsebytes(archive.read(name))
        wheels_there.add(canonicalize_name(about["Name"]))
        for line in about.get_all("Requires-Dist", []):
            wanted = Requirement(line)
            if wanted.marker is None or wanted.marker.evaluate({**there, "extra": ""}):
                needed.add(canonicalize_name(wanted.name))
    return needed, wheels_there


@pytest.mark.parametrize("workstation", WORKSTATIONS)
def test_everything_that_runs_on_a_workstation_has_a_wheel_for_it(collected, workstation):
    wheels = collected[workstation]
    needed, wheels_there = requirements(wheels, workstation)
    assert {"openslide-bin", "openvino", "numba"} <= needed <= {*wheels_there, "openvino-telemetry"}
    assert "openvino-telemetry" not in wheels_there
    assert ("colorama" in needed) == workstation.startswith("windows")
    made_for = "win_amd64" if workstation.startswith("windows") else "manylinux.*_x86_64"
    for wheel in wheels.glob("*.whl"):
        assert re.fullmatch(f".*-(any|{made_for})", wheel.stem), wheel.name
    assert len((wheels / "requirements.txt").read_text().splitlines()) == len(wheels_there)


def test_wheels_of_extras_are_collected_when_asked_for(collected):
    needed, wheels_there = requirements(collected[CLUSTER], CLUSTER)
    assert {"distributed", "importlib-metadata", "pydicom", "pyarrow"} <= wheels_there
    assert needed <= {*wheels_there, "openvino-telemetry"}
    assert "distributed" not in requirements(collected["linux --python 3.10"], CLUSTER)[1]


def interpreter(python: str) -> str:
    """Return the path of an interpreter of a version, if there is one."""
    if python == HERE:
        return sys.executable
    command = [f"python{python}", "-c", "import ensurepip, sys; print(sys.executable)"]
    if shutil.which(command[0]) is None:
        pytest.skip(f"no Python {python} here")
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    if done.returncode:
        pytest.skip(f"no Python {python} here that runs")
    return done.stdout.strip()


@pytest.mark.parametrize("python", PYTHONS)
def test_a_workstation_without_network_installs_what_was_carried_there_and_runs(
    collected, tmp_path, python
):
    need_solitude()
    if platform.machine() != "x86_64":
        pytest.skip("the wheels are for Linux on x86-64")
    made = f"{interpreter(python)} -m venv venv"
    shutil.copytree(collected[f"linux --python {python}"], tmp_path / "wheels")
    env = {"PATH": f"{tmp_path}/venv/bin:/usr/bin:/bin", "HOME": str(tmp_path),
           "PIP_CONFIG_FILE": os.devnull}  # fmt: skip
    type_in(made, tmp_path, env, *ALONE)
    said = type_in(
        f"""python -c 'import socket; assert len(socket.if_nameindex()) == 1'
        ({INSTALL})
        gliorun --version
        gliorun --demo --quiet --out 'heat map.png' --out density.csv""",
        tmp_path, env, *ALONE,
    )  # fmt: skip
    assert "openvino" in said
    assert "mean density" in said
    assert (tmp_path / "heat map.png").is_file()
    first = min((tmp_path / "wheels").glob("*.whl"))
    first.write_bytes(first.read_bytes() + b"more")
    refused = subprocess.run(
        ["bash", "-euc", INSTALL + " --dry-run --force-reinstall"],
        env=env, cwd=tmp_path, capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert refused.returncode == 1
    assert "DO NOT MATCH THE HASHES" in refused.stderr
    shutil.rmtree(tmp_path)


def refusal(
    folder: Path,
    arguments: str,
    *before: str,
    python: str = sys.executable,
    script: str = "collect_wheels.py",
) -> str:
    """Return the last line that a script says where it fails, and its exit code."""
    command = [*before, python, ROOT / "runtime" / script, *arguments.split()]
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=200, check=False
    )  # fmt: skip
    assert "Traceback" not in done.stderr
    return f"{done.stderr.splitlines()[-1]} {done.returncode}"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("macos", r".*'macos' \(choose from .*windows.*linux.*\) 2"),
        ("", ".*required: platform 2"),
        ("windows --python 2.7", ".*--python 2.7: give a version such as 3.* 2"),
        ("windows --python 3.11.4", ".*--python 3.11.4: give a version such as 3.* 2"),
        ("linux --out full", "full: is not empty; name a new folder with --out 1"),
        ("linux --out full/slide.svs", "full/slide.svs: .*name a folder that can be with --out 1"),
        ("linux --out none/wheels", "none/wheels: .*name a folder that can be with --out 1"),
    ],
)
def test_collecting_refuses_in_one_line_what_it_cannot_do(tmp_path, arguments, said):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "slide.svs").touch()
    assert re.fullmatch(said, refusal(tmp_path, arguments))
    assert [path.name for path in tmp_path.rglob("*")] == ["full", "slide.svs"]


def test_collecting_without_pip_says_how_to_get_it(tmp_path):
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv"], check=True)
    python = str(tmp_path / "venv" / "bin" / "python")
    said = refusal(tmp_path, "linux", python=python)
    assert said == f"{python}: has no pip; 'python -m ensurepip' adds it 1"


def test_collecting_for_a_python_without_wheels_leaves_nothing(tmp_path):
    need_network()
    before = sorted(ROOT.iterdir()), sorted((ROOT / "runtime").iterdir())
    said = refusal(tmp_path, "windows --python 3.99")
    assert re.fullmatch("pip download: No matching .*that gliorun runs on this --python 1", said)
    assert not list(tmp_path.iterdir())
    assert before == (sorted(ROOT.iterdir()), sorted((ROOT / "runtime").iterdir()))


def test_collecting_without_network_says_so_and_leaves_nothing(tmp_path):
    need_solitude()
    alone = ("env", f"PIP_CONFIG_FILE={os.devnull}", "PIP_RETRIES=0", *ALONE)
    said = refusal(tmp_path, "linux", *alone)
    assert re.fullmatch("pip (wheel|download): .*see that pip reaches a package index.* 1", said)
    assert not list(tmp_path.iterdir())
