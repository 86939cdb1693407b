"""Where a user may not read or write, a command says so in one line, and many slides go on."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path

import pytest

import batches
from gliorun.model import shipped

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="rights as Linux has them")
PROGRAM = Path(__file__).resolve().parent.parent / "ordinary_user.py"

Outcome = tuple[int, str, str]


def as_ordinary_user(*commands: list[str]) -> list[Outcome]:
    """Run commands without root's rights: (exit code, stdout, stderr) of each."""
    done = subprocess.run(
        [sys.executable, PROGRAM],
        input=json.dumps(commands),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [tuple(told) for told in json.loads(done.stdout)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Generator[Path]:
    """A slide; a folder that one may not enter, one that one may not write; files not to be read.

    What is in the locked folder is really there.
    """
    top = tmp_path_factory.mktemp("rights")
    slide = batches.tiny(top / "a.svs")
    (top / "locked").mkdir()
    (top / "scans").mkdir()
    (top / "scans/locked").mkdir()
    (top / "readonly").mkdir()
    for name in ("locked/a.svs", "scans/a.svs", "scans/b.svs", "scans/locked/c.svs"):
        shutil.copy(slide, top / name)
    for name in ("locked/mask.png", "mask.png", "readonly/map.csv", "locked/map.csv"):
        (top / name).write_bytes(b"x")
    for suffix in (".xml", ".bin"):
        for name in ("locked/model", "model"):
            shutil.copy(shipped.DEFAULT_MODEL.with_suffix(suffix), top / f"{name}{suffix}")
    rights = {
        "locked": 0, "scans/locked": 0, "readonly": 0o555, "mask.png": 0, "model.bin": 0,
        "scans/b.svs": 0,
    }  # fmt: skip
    for name, mode in rights.items():
        (top / name).chmod(mode)
    yield top
    for name in rights:
        (top / name).chmod(0o755)


REFUSED = {
    "an output in a locked folder": "gliorun a.svs --out locked/map.csv",
    "an output in a folder not to be written": "gliorun a.svs --out readonly/map.csv",
    "a mask in a locked folder": "gliorun a.svs --out o.csv --tissue-mask locked/mask.png",
    "a mask not to be read": "gliorun a.svs --out o.csv --tissue-mask mask.png",
    "a model in a locked folder": "gliorun a.svs --out o.csv --model locked/model.xml",
    "weights not to be read": "gliorun a.svs --out o.csv --model model.xml",
    "a slide in a locked folder": "gliorun locked/a.svs --out o.csv",
    "a slide not to be read": "gliorun scans/b.svs --out o.csv",
    "maps in a locked folder": "gliorun a.svs --out-dir locked/maps",
    "maps into a locked folder": "gliorun a.svs --out-dir locked",
    "maps into a folder not to be written": "gliorun a.svs --out-dir readonly",
    "weights not to be read, for many": "gliorun a.svs --out-dir maps-none --model model.xml",
    "labels in a locked folder": "glioexport clean locked/tiles --out cleaned",
    "a network in a locked folder": "glioexport convert locked/net.keras --out net",
}
VERBS = ("gliorun", "glioexport", "clean", "convert")


NAMED = ("locked", "readonly", "mask.png", "model.bin", "scans")
"""Of the paths that are typed, those that the rights forbid."""


def commands(folder: Path) -> list[list[str]]:
    """Return the words typed, all paths from the root."""
    typed = [line.split() for line in REFUSED.values()]
    options = ("--out", "--out-dir", "--tissue-mask", "--model")
    return [
        [word if word in options or word in VERBS else str(folder / word) for word in words]
        for words in typed
    ]


@pytest.fixture(scope="module")
def refused(folder) -> dict[str, Outcome]:
    return dict(zip(REFUSED, as_ordinary_user(*commands(folder)), strict=True))


@pytest.mark.parametrize("case", REFUSED)
def test_what_a_user_may_not_do_is_one_line_that_names_it(refused, folder, case):
    code, out, err = refused[case]
    assert (code, out) == (1, "")
    assert err.startswith(("gliorun: ", "glioexport: "))
    assert err.count("\n") == 1
    assert "Permission denied" in err
    named = err.partition(": ")[2].partition(":")[0]
    assert Path(named).relative_to(folder).parts[0] in NAMED


def test_of_many_slides_those_that_may_be_read_are_measured(folder):
    words = ["gliorun", str(folder / "scans"), "--out-dir", str(folder / "maps"), "--format", "csv"]
    [(code, out, err)] = as_ordinary_user(words)
    assert code == 1
    assert "1 done, 1 failed, 0 as they were" in out
    assert "Permission denied" in err
    assert "Traceback" not in err
    rows = batches.summary(folder / "maps")
    assert {name: row["state"] for name, row in rows.items()} == {"a": "done", "b": "failed"}
    assert rows["b"]["reason"] == "cannot be read (Permission denied); check that you may read it"
    assert f"{folder / 'scans/locked'}: cannot be read (Permission denied)" in err


def test_a_slide_that_may_not_be_reached_stops_no_other(folder):
    words = [str(folder / name) for name in ("locked/a.svs", "a.svs")]
    maps = folder / "maps-of-named"
    [(code, out, err)] = as_ordinary_user(
        ["gliorun", *words, "--out-dir", str(maps), "--format", "csv"]
    )
    assert code == 1
    assert "1 done, 1 failed, 0 as they were" in out
    assert err.count("\n") == 1
    assert "cannot be read (Permission denied); check that you may read it" in err
