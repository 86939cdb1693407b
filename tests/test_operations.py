"""What OPERATIONS.md and MODEL_FACTS.md say of gliorun is so."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import batches
from guides import ROOT, blocks, type_in

PAGE = ROOT / "runtime" / "OPERATIONS.md"
MOST_EXPOSED = 3.0
WRITES = """
import os, sys
def told(event, arguments):
    if event == "open" and isinstance(arguments[0], (str, bytes)):
        path, mode, flags = arguments
        if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            print("wrote", os.path.abspath(os.fsdecode(path)), file=sys.__stderr__)
    if event in ("os.mkdir", "os.rename"):
        print("wrote", os.path.abspath(os.fsdecode(arguments[event == "os.rename"])),
              file=sys.__stderr__)
sys.addaudithook(told)
sys.dont_write_bytecode = True
from gliorun.cli import run
run()
"""


def unit() -> str:
    (text,) = re.findall(r"```ini\n(.*?)```", PAGE.read_text("utf-8"), re.S)
    return text


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd here")
def test_the_unit_is_not_exposed(tmp_path):
    (tmp_path / "gliorun.service").write_text(unit(), encoding="utf-8")
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", tmp_path / "gliorun.service"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    said = re.search(r"exposure level for gliorun\.service: ([\d.]+)", done.stdout)
    assert said is not None, done.stderr
    assert float(said.group(1)) <= MOST_EXPOSED
    assert f"gives {said.group(1)} of 10" in PAGE.read_text("utf-8")
    assert "Unknown" not in done.stderr


def test_the_unit_keeps_both_caches_where_it_may_write():
    text = unit()
    assert "CacheDirectory=gliorun\n" in text
    for name in ("XDG_CACHE_HOME", "NUMBA_CACHE_DIR", "MPLCONFIGDIR"):
        assert re.search(rf"\b{name}=%C/gliorun\b", text), name
    (folder,) = re.findall(r"--out-dir (\S+)", text)
    assert f"ReadWritePaths={folder}\n" in text


@pytest.mark.skipif(sys.platform == "win32", reason="caches lie elsewhere there")
def test_nothing_is_written_elsewhere_than_the_page_says(tmp_path):
    places = {name: tmp_path / name for name in ("maps", "numba", "matplotlib", "tmp")}
    for name in ("numba", "matplotlib", "tmp"):
        places[name].mkdir()
    batches.tiny(tmp_path / "scans" / "a.svs")
    done = subprocess.run(
        [sys.executable, "-c", WRITES, tmp_path / "scans", "--out-dir", places["maps"],
         "--format", "png,html,nuclei.geojson"],
        env={**os.environ, "HOME": str(tmp_path / "home"), "TMPDIR": str(places["tmp"]),
             "NUMBA_CACHE_DIR": str(places["numba"]), "MPLCONFIGDIR": str(places["matplotlib"]),
             "XDG_CACHE_HOME": str(tmp_path / "home")},
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    wrote = {Path(line[6:]) for line in done.stderr.splitlines() if line.startswith("wrote ")}
    assert any(places["maps"] in path.parents for path in wrote)
    allowed = {Path(os.devnull), *places.values()}
    assert [path for path in wrote if not allowed & {path, *path.parents}] == []
    assert not list(places["tmp"].iterdir())
    table = PAGE.read_text("utf-8").partition("## What it writes")[2].partition("\n## ")[0]
    outputs = {"a.png", "a.html", "a.nuclei.geojson", "a.thumb.jpg"}
    beside = {path.name for path in places["maps"].iterdir()} - outputs
    assert beside == {"records", "summary.csv", "index.html", ".lock"}
    assert all(f"`{name}" in table for name in beside)


def test_the_label_is_that_of_the_model_that_ships():
    sys.path.insert(0, str(ROOT / "runtime"))
    import model_facts

    assert model_facts.LABEL.read_text("utf-8") == model_facts.facts(), (
        "run 'python runtime/model_facts.py'"
    )


def test_a_label_without_intervals_shows_the_figure_alone():
    sys.path.insert(0, str(ROOT / "runtime"))
    import model_facts

    assert model_facts._with_interval(0.5, None, ".2f") == "0.50"
    assert model_facts._with_interval(0.5, [0.25, 0.75], ".2f") == "0.50 [0.25, 0.75]"


def test_what_is_old_is_deleted_with_its_records_and_the_index_forgets_it(tmp_path):
    scans, maps = tmp_path / "scans", tmp_path / "maps"
    paths = [batches.tiny(scans / f"{name}.svs") for name in ("old", "new")]
    batches.run(paths, maps, batches.copies_what_it_reads())
    for file in [*maps.iterdir(), *(maps / "records").iterdir()]:
        if file.is_file() and "new" not in file.name:
            os.utime(file, (0, 0))
    (block,) = [b for b in blocks("runtime/OPERATIONS.md") if b.mark == "retention"]
    script = "\n".join(block.commands)
    assert script.count("/srv/maps") == 2
    type_in(script.replace("/srv/maps", str(maps)), tmp_path)
    names = {".lock", "index.html", "summary.csv", "new.csv", "new.thumb.jpg"} & {
        file.name for file in maps.iterdir() if file.is_file()
    }
    assert {file.name for file in maps.iterdir() if file.is_file()} == names
    assert {file.name for file in (maps / "records").iterdir()} == {"new.json", "new.sha256"}
    paths[0].unlink()
    batches.run(paths[1:], maps, batches.copies_what_it_reads())
    assert set(batches.summary(maps)) == {"new"}
