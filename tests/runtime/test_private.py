"""Nothing of a patient reaches an output, and nothing is asked of or sent to the network."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import openslide
import pytest
import tifffile
from PIL import Image

import slides
from gliorun import job
from gliorun.model import shipped
from gliorun.plan import Plan
from gliorun.settings import Settings

OUTPUTS = (
    "a.png", "a.qc.png", "a.html", "a.csv", "a.geojson", "a.nuclei.geojson", "a.ome.tif",
    "a.mask.ome.tif", "a.json", "a.parquet", "a.nuclei.parquet", "a.dcm", "a.nuclei.dcm",
    "a.tissue.geojson",
)  # fmt: skip
SECRET = "Doe^Jane"


@pytest.fixture(scope="module")
def named(tmp_path_factory) -> Path:
    """A slide that names its patient in its properties and on its label."""
    path = tmp_path_factory.mktemp("named") / "case 7.svs"
    tiles = {"tile": (256, 256), "photometric": "rgb", "compression": "jpeg", "metadata": None}
    aperio = "Aperio Image Library v12\n{}|AppMag = 40|MPP = 0.25|Patient = " + SECRET
    with tifffile.TiffWriter(path) as slide:
        slide.write(slides.all_tissue(960, 480), description=aperio.format("960x480"), **tiles)
        small = {"metadata": None, "photometric": "rgb", "rowsperstrip": 64}
        slide.write(slides.all_tissue(64, 64), description=aperio.format("64x64"), **small)
        label = aperio.format("label 96x64")
        slide.write(slides.all_tissue(96, 64), description=label, subfiletype=1, **small)
    with openslide.OpenSlide(path) as slide:
        assert "label" in slide.associated_images
        assert any(SECRET in value for value in slide.properties.values())
    return path


def test_no_name_reaches_an_output_and_no_label_is_opened(named, tmp_path, monkeypatch):
    def opened(slide):
        raise AssertionError("the associated images were asked for")

    monkeypatch.setattr(openslide.OpenSlide, "associated_images", property(opened))
    outputs = [tmp_path / name for name in OUTPUTS]
    job.run(named, Plan(outputs, shipped.DEFAULT_MODEL, Settings()), quiet=True)
    for output in outputs:
        assert SECRET.encode() not in output.read_bytes(), output.name
    with Image.open(tmp_path / "a.png") as image:
        assert SECRET not in str(image.info)


STARTED = """
import sys
def told(event, arguments):
    if event in ("subprocess.Popen", "os.posix_spawn", "os.exec", "os.system", "os.startfile"):
        print("started", arguments[0], file=sys.stderr)
    if event in ("os.fork", "os.forkpty"):
        print("started", event, file=sys.stderr)
sys.addaudithook(told)
from gliorun.cli import run
run()
"""


def test_no_program_is_started_but_the_one_that_lists_fonts(small_slide, tmp_path):
    words = [word for name in OUTPUTS for word in ("--out", tmp_path / name)]
    done = subprocess.run(
        [sys.executable, "-c", STARTED, small_slide.path, *words, "--quiet"],
        env={**os.environ, "MPLCONFIGDIR": str(tmp_path / "fonts")},  # as in the first run
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert set(done.stderr.splitlines()) <= {"started fc-list"}, done.stderr


@pytest.mark.skipif(shutil.which("unshare") is None, reason="no network namespaces here")
def test_every_output_is_made_without_a_network(small_slide, tmp_path):
    alone = ["unshare", "--net"]
    if subprocess.run([*alone, "true"], capture_output=True, check=False).returncode:
        pytest.skip("network namespaces are not allowed here")
    words = [word for name in OUTPUTS for word in ("--out", tmp_path / name)]
    command = [*alone, sys.executable, "-c", "from gliorun.cli import run; run()"]
    done = subprocess.run(
        [*command, small_slide.path, *words, "--quiet"],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(OUTPUTS)


RECORDED = """
import sys

calls = []


def note(event, details):
    if event.startswith("socket."):
        calls.append([event, str(details[-1])])


sys.addaudithook(note)
import gliorun

PROGRAM
assert sys.modules["openvino_telemetry"] is None
import json

print(json.dumps(calls))
"""
A_RUN = """
from gliorun.cli import app

try:
    app(sys.argv[1:])
except SystemExit as ended:
    assert not ended.code, ended.code
"""
A_CALL = """
import socket

with socket.socket() as asked:
    asked.connect_ex(("127.0.0.1", 9))
"""


def out(folder: Path) -> list[str]:
    return [str(word) for name in OUTPUTS for word in ("--out", folder / name)]


def recorded(program: str, *arguments: object) -> list[tuple[str, str]]:
    """Return every call for a socket that a program makes through Python, and to where."""
    command = [sys.executable, "-c", RECORDED.replace("PROGRAM", program), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return [(event, to) for event, to in json.loads(done.stdout.splitlines()[-1])]


def test_a_run_to_every_output_opens_no_socket_but_a_local_one(small_slide, tmp_path):
    calls = recorded(A_RUN, small_slide.path, *out(tmp_path), "--quiet")
    # pydicom imports requests where that is there, which binds a socket to find out about IPv6
    local = {("socket.bind", "('::1', 0)")}
    assert {call for call in calls if call[0] != "socket.__new__"} <= local


def test_a_socket_that_was_opened_would_be_recorded():
    assert ("socket.connect", "('127.0.0.1', 9)") in recorded(A_CALL)


@pytest.mark.release
@pytest.mark.skipif(shutil.which("strace") is None, reason="no strace here")
def test_no_library_asks_the_kernel_for_another_machine(small_slide, tmp_path):
    trace = tmp_path / "trace"
    record = ["strace", "-f", "-qq", "-o", str(trace), "-e", "trace=network"]
    if subprocess.run([*record, "true"], capture_output=True, check=False).returncode:
        pytest.skip("processes may not be traced here")
    program = "from gliorun.cli import run; run()"
    command = [*record, sys.executable, "-c", program, small_slide.path, *out(tmp_path)]
    subprocess.run(command, capture_output=True, timeout=600, check=True)
    calls = trace.read_text("utf-8", "replace").splitlines()
    abroad = re.compile(r" (listen|accept4?)\(| (connect|send\w+)\(.*AF_INET")
    assert [call for call in calls if abroad.search(call)] == []
    bound = [call for call in calls if " bind(" in call and "AF_INET" in call]
    assert all('"::1"' in call for call in bound)
