"""Nothing of a patient reaches an output, and nothing is asked of the network."""

from __future__ import annotations

import os
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
from gliorun.settings import Settings

OUTPUTS = (
    "a.png", "a.qc.png", "a.html", "a.csv", "a.geojson", "a.nuclei.geojson", "a.ome.tif",
    "a.mask.ome.tif", "a.json",
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
    job.run(named, job.Plan(outputs, job.DEFAULT_MODEL, Settings()), quiet=True)
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
