"""Collect the wheels of gliorun and all it needs, for a workstation without internet."""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from email import message_from_bytes
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FILES, ROOMS = ("pyproject.toml", "README.md", "LICENSE"), ("runtime", "export", "bench")
MANYLINUX = ("manylinux2014", *(f"manylinux_2_{minor}" for minor in range(18, 29)))
TAGS = {"windows": ["win_amd64"], "linux": [f"{many}_x86_64" for many in MANYLINUX]}
EXTRAS = {"cluster": "'gliorun --cluster'", "dicom": "DICOM output", "tables": "Parquet output"}
"""The extras of gliorun that may be collected as well, and what needs them."""
LEFT_OUT = frozenset({"openvino-telemetry"})
"""What OpenVINO asks for and gliorun never loads: it would send how OpenVINO is used."""
MARKERS = {
    "windows": {"sys_platform": "win32", "platform_system": "Windows", "os_name": "nt",
                "platform_machine": "AMD64"},
    "linux": {"sys_platform": "linux", "platform_system": "Linux", "os_name": "posix",
              "platform_machine": "x86_64"},
}  # fmt: skip


def pip(*arguments: str | Path) -> None:
    """Run pip and show its progress; show its errors only if it fails."""
    command = [sys.executable, "-m", "pip", *arguments]
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True, errors="replace", check=False)
    if done.returncode:
        reason = (re.findall("ERROR: (.+)", done.stderr) or done.stderr.strip().split("\n"))[-1]
        sys.exit(
            f"pip {arguments[0]}: {reason}; see that pip reaches a package index from here "
            "('pip config' names it a mirror or proxy) and that gliorun runs on this --python"
        )


def missing(folder: Path, system: str, python: str) -> set[str]:
    """Return the requirements of the wheels on the workstation that pip has not fetched here.

    Those that are `LEFT_OUT` are not missing.
    """
    from pip._vendor.packaging.requirements import Requirement  # pip has no public one
    from pip._vendor.packaging.utils import canonicalize_name

    there = {**MARKERS[system], "python_version": python, "python_full_version": f"{python}.0"}
    needed, fetched = {}, set(LEFT_OUT)
    for path in folder.iterdir():
        with zipfile.ZipFile(path) as wheel:
            (name,) = (n for n in wheel.namelist() if re.fullmatch(r"[^/]+-info/METADATA", n))
            about = message_from_bytes(wheel.read(name))
        fetched.add(canonicalize_name(about["Name"]))
        for wanted in map(Requirement, about.get_all("Requires-Dist", [])):
            if wanted.marker is None or wanted.marker.evaluate({**there, "extra": ""}):
                needed[canonicalize_name(wanted.name)] = f"{wanted.name}{wanted.specifier}"
    return {needed[name] for name in needed.keys() - fetched}


def collect(system: str, python: str, extra: str, out: Path) -> str:
    """Make the folder `out`, complete or not at all, and return a summary of it."""
    with tempfile.TemporaryDirectory(prefix=".wheels-", dir=out.resolve().parent) as partial:
        folder, leave = Path(partial, "wheels"), shutil.ignore_patterns(".*", "__pycache__")
        for name in FILES:
            shutil.copy(ROOT / name, partial)
        for name in ROOMS:  # a build writes beside its sources
            shutil.copytree(ROOT / name, Path(partial, name), ignore=leave)
        pip("wheel", "--no-deps", f"--wheel-dir={folder}", partial)
        (ours,) = folder.iterdir()
        options = ["--only-binary=:all:", f"--python-version={python}", f"--dest={folder}"]
        options += [f"--platform={tag}" for tag in TAGS[system]]
        while more := missing(folder, system, python):
            pip("download", f"{ours}{extra}", *{*folder.iterdir()} - {ours}, *more, *options)
        for name in LEFT_OUT:
            for wheel in folder.glob(f"{name.replace('-', '_')}-*.whl"):
                wheel.unlink()
        wheels = sorted(folder.iterdir())
        size_mb = sum(wheel.stat().st_size for wheel in wheels) / 1e6
        rows = (f"./{w.name} --hash=sha256:{sha256(w.read_bytes()).hexdigest()}\n" for w in wheels)
        (folder / "requirements.txt").write_text("".join(rows), encoding="utf-8")
        if out.exists():
            out.rmdir()
        folder.rename(out)
    said = f"{len(wheels)} wheels, {size_mb:.0f} MB, for {system} with Python {python}"
    install = "pip install --no-deps --no-index --require-hashes -r requirements.txt"
    return f"{out}: {said}; carry it there and type in it: {install}"


def main() -> None:
    """Read the command line, collect the wheels, and print a summary."""
    here = f"3.{sys.version_info.minor}"
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("platform", choices=TAGS, help="of the workstation, on x86-64")
    parser.add_argument("--python", default=here, help="its version of Python (%(default)s)")
    parser.add_argument("--out", type=Path, default="wheels", help="a new folder (%(default)s)")
    for extra, needed_by in EXTRAS.items():
        parser.add_argument(f"--{extra}", dest="extras", action="append_const", const=extra,
                            default=[], help=f"also what {needed_by} needs")  # fmt: skip
    asked = parser.parse_args()
    extra = f"[{','.join(asked.extras)}]" if asked.extras else ""
    if not re.fullmatch(r"3\.\d+", asked.python):
        parser.error(f"--python {asked.python}: give a version such as {here}")
    if find_spec("pip") is None:
        sys.exit(f"{sys.executable}: has no pip; 'python -m ensurepip' adds it")
    try:
        if asked.out.exists() and any(asked.out.iterdir()):
            sys.exit(f"{asked.out}: is not empty; name a new folder with --out")
        print(
            collect(
                asked.platform,
                asked.python,
                f"[{','.join(asked.extras)}]" if asked.extras else "",
                asked.out,
            )
        )
    except OSError as error:
        sys.exit(f"{asked.out}: cannot be made ({error}); name a folder that can be with --out")
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
