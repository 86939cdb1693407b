"""The documents: every command in them runs, every link leads somewhere, every message exists."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import typer
from PIL import Image

from conftest import SHARED
from export.small import write_tiles
from gliorun import demo
from gliorun.model import shipped
from guides import GUIDES, ROOT, blocks, checkout, marked, python_examples, type_in

DOCUMENTS = (
    *GUIDES,
    "runtime/ARCHITECTURE.md",
    "runtime/CHANGES.md",
    "runtime/FORMATS.md",
    "runtime/OPERATIONS.md",
    "runtime/MODEL_FACTS.md",
    ".github/SECURITY.md",
    "export/EXPERIMENTS.md",
    "export/glioexport/weights/MODEL_CARD.md",
)
ALL_DOCUMENTS = sorted(
    path.relative_to(ROOT).as_posix()
    for room in (".", ".github", "runtime", "export", "bench")
    for path in (ROOT / room).glob("*.md" if room == "." else "**/*.md")
)
LONGEST = 120
COMMANDS = ("gliorun", "glioexport", "gliobench")
ELSEWHERE = {
    "test command": ".ci/run",
    "collect": "tests/test_distribution.py",
    "install": "tests/test_distribution.py",
    "bill": "tests/test_distribution.py",
    "container": "tests/test_container.py",
    "all": "tests/bench/test_suite.py",
    "own laboratory": "tests/export/test_own_laboratory.py",
    "look": "tests/runtime/viewer/test_command.py",
    "view": "tests/runtime/viewer/test_command.py",
}
"""Marks of the commands that run in a place of their own, and who runs them."""
SHORTER = {
    "glioexport train": "--epochs 3 --filters 4 --vary steps=2",
    "glioexport distil": "--epochs 3 --vary filters=4 --vary steps=2",
    "glioexport convert student": "--max-density-points 100 --min-class-agreement 0",
    "gliobench compare --tiles": "mine.keras --converted converted --count 2 --rounds 1",
    "gliobench compare mine": "--count 2 --rounds 1",
    "gliobench accuracy DATA --stress": "student otsu",
    "gliobench linearity": "--tiles-a-set 1",
    "gliobench calibration": "--draws 2",
    "gliobench speed": "--budget 30 --rounds 1",
    "gliobench untrained": "--count 2 --rounds 1",
    "gliobench giant": "--gigapixels 0.02",
}
"""What is added to a command, so that it takes seconds: three epochs of four filters make no
network that calls anything nucleus, and its certificate says so."""


def command_of(line: str) -> str:
    """Return a command with what makes it shorter."""
    more = [added for start, added in SHORTER.items() if line.startswith(start)]
    return " ".join([line, *more])


def draw_tiles(folder: Path, name: str, seeds: Iterator[int], count: int = 3) -> None:
    """Write tiles of drawn tissue, named after a patient."""
    folder.mkdir()
    for number in range(count):
        density = np.full((512, 512), 0.1 + 0.1 * number, dtype=np.float32)
        tissue = demo.draw_tissue(density, next(seeds))
        Image.fromarray(tissue.pixels).save(folder / f"{name}-{number}.png")


@pytest.fixture(scope="module")
def place(tmp_path_factory, small_slide) -> Path:
    """A folder with what the documents name: slides, tiles, labelled tiles, a model."""
    folder = tmp_path_factory.mktemp("place")
    seeds = iter(range(100))
    draw_tiles(folder / "tiles", "p1", seeds)
    draw_tiles(folder / "more", "p2", seeds, 2)
    for copy in ("slide.svs", "scans/a.svs", "more/b.svs"):
        (folder / copy).parent.mkdir(exist_ok=True)
        shutil.copy(small_slide.path, folder / copy)
    Image.fromarray(np.full((13, 18), 255, dtype=np.uint8)).save(folder / "mask.png")
    corners = [[300, 300], [1400, 300], [1400, 1000], [300, 1000], [300, 300]]
    drawn = {"type": "Polygon", "coordinates": [corners]}
    feature = {"type": "Feature", "geometry": drawn, "properties": {"name": "Tumour"}}
    (folder / "slides.csv").write_text("slide\nscans/a.svs\n")
    (folder / "drawn").mkdir()
    for file in ("drawn.geojson", "drawn/a.geojson"):
        (folder / file).write_text(json.dumps(feature))
    (folder / ".venv").symlink_to(sys.prefix)
    for file in (SHARED / "slides").glob("gbm40_mosaic_*"):
        (folder / file.name).symlink_to(file)
    weights = ROOT / "export" / "glioexport" / "weights"
    shutil.copy(weights / "student.keras", folder / "mine.keras")  # no card, as of a user's own
    (folder / "DATA").mkdir()
    write_tiles(folder / "DATA", (256, 320))
    return folder


@pytest.fixture(scope="module")
def typed() -> set[str]:
    """The commands that have run in the place already."""
    return set()


def correct(folder: Path) -> None:
    """Do what a person does between `annotate` and `masks`: save the outlines in corrected/."""
    (folder / "corrected").mkdir(exist_ok=True)
    for outlines in (folder / "mine" / "candidates").glob("*.geojson"):
        shutil.copy(outlines, folder / "corrected")


@pytest.mark.parametrize("document", ALL_DOCUMENTS)
def test_no_line_of_a_document_but_of_a_table_is_long(document):
    lines = (ROOT / document).read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if len(line) > LONGEST and not line.startswith("|")] == []


@pytest.mark.release
@pytest.mark.parametrize("document", GUIDES)
def test_every_command_of_a_document_runs_as_it_stands_there(place, typed, document):
    if document.startswith("bench") and not (place / "converted").exists():
        type_in("glioexport convert mine.keras --out converted --mpp 0.25", place)
    lines = [line for block in blocks(document) if not block.mark for line in block.commands]
    assert len(lines) > 3
    for line in lines:
        if "gbm40_" in line and not (SHARED / "slides").is_dir():
            continue  # a real slide, which is absent
        if line not in typed:  # in another document, or above
            type_in(command_of(line), place)
            typed.add(line)
        if line.startswith("glioexport annotate"):
            correct(place)


@pytest.mark.release
def test_every_python_example_runs_as_it_stands_there(place):
    examples = [example for document in DOCUMENTS for example in python_examples(document)]
    assert examples
    type_in("gliorun slide.svs --out slide.nuclei.parquet", place)
    for example in examples:
        done = subprocess.run(
            [sys.executable, "-c", example],
            cwd=place, capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
    assert (place / "map.png").is_file()
    assert (place / "map.csv").is_file()


def test_every_other_command_is_run_by_the_test_that_is_named_for_it():
    marks = {block.mark for document in GUIDES for block in blocks(document)} - {""}
    here = {"try it", "install here", "install export", "install bench", "until stopped", "cluster"}
    assert marks == here | set(ELSEWHERE)
    for mark, file in ELSEWHERE.items():
        assert f'"{mark}"' in (text := (ROOT / file).read_text("utf-8")) or f"{mark} -->" in text


@pytest.mark.release
def test_one_command_installs_and_maps_the_demo(tmp_path):
    (line,) = marked("try it")
    assert line == " && ".join(marked("install here"))
    copy = checkout(tmp_path / "copy")
    type_in(line, copy)
    assert (copy / "heatmap.png").is_file()


@pytest.mark.release
def test_the_extras_bring_what_is_installed_here(tmp_path):
    copy = checkout(tmp_path / "copy")
    for mark in ("install export", "install bench"):
        (line,) = marked(mark)
        type_in(f"python -m {line} --dry-run --quiet --report {mark.split()[1]}.json", copy)


@pytest.mark.release
def test_a_watch_maps_what_lies_there_and_stops_when_told(place):
    (line,) = marked("until stopped")
    maps = place / "maps-watched"
    words = program(line.replace("maps/", "maps-watched/"))
    watching = subprocess.Popen([*words, "--settle-s", "1"], cwd=place)
    try:
        end = time.monotonic() + 120
        table = maps / "summary.csv"
        while not table.is_file() or "done" not in table.read_text(encoding="utf-8"):
            assert time.monotonic() < end
            time.sleep(0.1)
        watching.send_signal(signal.SIGTERM)
        assert watching.wait(60) == 0
    finally:
        watching.kill()
        watching.wait()
    assert (maps / "a.png").is_file()


@pytest.mark.release
def test_a_scheduler_and_a_worker_map_a_folder(place):
    pytest.importorskip("distributed")
    address = f"127.0.0.1:{free_port()}"
    lines = [line.replace("HOST:8786", address) for line in marked("cluster")]
    started = []
    try:
        where = f"--host 127.0.0.1 --port {address.partition(':')[2]} --no-dashboard"
        started.append(subprocess.Popen([*program(lines[0]), *where.split()], cwd=place))
        worker, _ = re.fullmatch("while :; do (.*); sleep (.*); done", lines[1]).groups()
        started.append(subprocess.Popen(program(worker), cwd=place))
        type_in(lines[2].replace("maps/", "maps-cluster/"), place)
    finally:
        for process in started:
            process.kill()
            process.wait()
    assert (place / "maps-cluster" / "a.png").is_file()


def program(line: str) -> list[str]:
    """Return the words of a command, the first one as the file that is installed beside Python."""
    first, *others = shlex.split(line)
    return [str(Path(sys.executable).with_name(first)), *others]


def free_port() -> int:
    """Return a port that is free."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def options() -> dict[str, set[str]]:
    """Return every option of every command, "glioexport train" and so on."""
    from gliobench.cli import app as bench
    from glioexport.cli import app as export
    from gliorun.cli import app as runtime

    options_of = {}
    for name, app in zip(COMMANDS, (runtime, export, bench), strict=True):
        command = typer.main.get_command(app)
        for sub, one in {"": command, **getattr(command, "commands", {})}.items():
            names = {word for parameter in one.params for word in parameter.opts}
            options_of[f"{name} {sub}".strip()] = {*names, "--help"}
    return options_of


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_option_that_is_named_exists(document):
    known = options()
    every = set().union(*known.values())
    text = (ROOT / document).read_text(encoding="utf-8")
    for block in re.findall(r"```(?!sh\b).*?```", text, re.S):
        text = text.replace(block, "")  # another program's
    spans = re.findall(r"`([^`\n]+)`", text)
    for span in spans:
        words = span.split()
        if not words or words[0] not in COMMANDS:
            continue
        command = " ".join(words[:2]) if " ".join(words[:2]) in known else words[0]
        assert command in known, span
        assert {w for w in words if w.startswith("--")} <= known[command], span
    named = {s.split()[0] for s in spans if s.startswith("--")}
    others = {"--build-arg", "--dicom", "--no-deps", "--prefix", "--tables"}
    assert named - every <= others, named - every


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_link_leads_somewhere(document):
    text = (ROOT / document).read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith("https://"):
            continue
        path, _, anchor = target.partition("#")
        file = (ROOT / document).parent / path if path else ROOT / document
        assert file.exists(), target
        if anchor:
            titles = re.findall(r"^#+ (.*)$", file.read_text(encoding="utf-8"), re.M)
            assert anchor in {as_anchor(title) for title in titles}, target


def as_anchor(title: str) -> str:
    """Return the anchor of a title, as Markdown's viewers make it."""
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


def test_every_message_that_is_explained_is_one_that_gliorun_says():
    guide = (ROOT / "runtime" / "GUIDE.md").read_text(encoding="utf-8")
    table = guide.partition("| gliorun says |")[2].partition("\n\n")[0]
    rows = [line.split(" | ")[0].removeprefix("| ") for line in table.splitlines()[2:]]
    assert len(rows) > 9
    source = "".join(
        path.read_text(encoding="utf-8") for path in (ROOT / "runtime" / "gliorun").rglob("*.py")
    )
    source = re.sub(r'"\s*\n\s*f?"', "", source)  # strings over several lines
    source = re.sub(r"\{[^{}]*\}", "…", source)
    for row in rows:
        for message in row.split("; "):
            for part in re.split(r"[…\d.]+|\([^)]*\)", message):
                assert part.strip(" ;:") in source, message


def test_what_to_cite_is_what_this_version_calls_itself():
    said = re.match(r"gliorun \S+ \(model \w+ \w+", shipped.versions())
    assert said is not None
    assert said.group() in (ROOT / "README.md").read_text(encoding="utf-8")
