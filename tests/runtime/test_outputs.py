"""One run writes every output that was asked for, whole, and the files agree with each other."""

from __future__ import annotations

import csv
import errno
import html
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

import figures
import runs
import slides
from full_disk import files_up_to
from gliorun import demo, job, writers
from gliorun.errors import GlioError
from gliorun.model import shipped
from gliorun.plan import Plan
from gliorun.settings import Settings
from gliorun.writers import png, qc

NAMES = (
    "map.png",
    "map.qc.png",
    "map.csv",
    "map.json",
    "map.html",
    "map.geojson",
    "map.nuclei.geojson",
    "map.ome.tif",
    "map.mask.ome.tif",
)
COMMAND = [sys.executable, "-c", "from gliorun.cli import run; run()"]


@pytest.fixture(scope="module")
def outputs(small_slide, tmp_path_factory) -> Path:
    """A folder with every output of one run of the small slide."""
    folder = tmp_path_factory.mktemp("outputs")
    words = [word for name in NAMES for word in ("--out", str(folder / name))]
    done = subprocess.run(
        [*COMMAND, str(small_slide.path), *words, "--quiet", "--hot-spot-mm2", "0.04"],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert ", densest field " in done.stdout
    return folder


@pytest.mark.release
def test_every_output_is_there_and_nothing_else(outputs):
    assert {file.name for file in outputs.iterdir()} == set(NAMES)
    assert all(file.stat().st_size for file in outputs.iterdir())


@pytest.mark.release
def test_the_outputs_tell_one_story(outputs):
    with (outputs / "map.csv").open(newline="", encoding="utf-8") as lines:
        rows = [row for row in csv.DictReader(lines) if row["density"]]
    record = json.loads((outputs / "map.json").read_text(encoding="utf-8"))
    tiles = json.loads((outputs / "map.geojson").read_text(encoding="utf-8"))["features"]
    nuclei = json.loads((outputs / "map.nuclei.geojson").read_text(encoding="utf-8"))["features"]
    assert record["tiles"]["measured"] == len(rows)
    assert sum(f["properties"]["objectType"] == "tile" for f in tiles) == len(rows)
    spots = [f for f in tiles if f["properties"]["objectType"] == "annotation"]
    assert len(spots) == len(record["hot_spots"]) > 0
    assert sum(int(row["nuclei"]) for row in rows) == len(nuclei) == record["nuclei"]["nuclei"]
    first = record["hot_spots"][0]
    held = [row for row in rows if row["hot_spot"] == "1"]
    for row in held:  # their centre lies in it
        for corner, side in (("minx", "width"), ("miny", "height")):
            offset = int(row[corner]) + int(row[side]) / 2 - first[corner]
            assert 0 <= offset < first[side]
    assert np.mean([float(row["density"]) for row in held]) > float(record["density"]["mean"])
    with tifffile.TiffFile(outputs / "map.ome.tif") as tiff:
        densities, _classes = tiff.series[0].asarray()
    densities_sorted = np.sort(densities[~np.isnan(densities)])
    np.testing.assert_allclose(
        densities_sorted, np.sort([float(r["density"]) for r in rows]), atol=1e-5
    )
    inside, tissue, of_cell = (
        np.array([float(row[name]) for row in rows])
        for name in ("valid_fraction", "tissue_fraction", "density")
    )
    mean = (of_cell * tissue * inside).sum() / (tissue * inside).sum()
    assert record["density"]["mean"] == pytest.approx(mean, rel=1e-3)
    mask = tifffile.imread(outputs / "map.mask.ome.tif")
    area = sum(float(r["density_of_tile"]) * float(r["valid_fraction"]) * 480**2 for r in rows)
    assert (mask > 0).sum() == pytest.approx(area, rel=1e-3)
    with Image.open(outputs / "map.png") as picture:
        assert min(picture.size) > 300


@pytest.mark.parametrize(
    ("name", "suffix"),
    [
        ("a.csv", ".csv"),
        ("A.PNG", ".png"),
        ("a.nuclei.geojson", ".nuclei.geojson"),
        ("my.slide.geojson", ".geojson"),
        ("a.ome.tif", ".ome.tif"),
        ("a.mask.ome.tif", ".mask.ome.tif"),
        ("a.mask.json", ".json"),
    ],
)
def test_the_longest_known_suffix_picks_the_writer(name, suffix):
    assert writers.suffix_of(Path(name)) == suffix


@pytest.mark.parametrize("name", ["a.tif", "a.svs", "a", "a.png.bak"])
def test_an_unknown_suffix_lists_the_known(name):
    with pytest.raises(GlioError, match=r"unknown suffix; known: \.png, \.qc\.png, \.html, \.csv"):
        writers.suffix_of(Path(name))


@pytest.fixture(scope="module")
def result(small_slide):
    dark_result = runs.dark_run(small_slide.path, Settings(threads=1))
    return replace(dark_result, run={"a": 1})


@pytest.mark.parametrize("name", NAMES)
def test_a_full_disk_is_one_line_and_the_earlier_file_stays(result, tmp_path, name):
    path = tmp_path / name
    writers.write([path], result, writers.Appearance())
    earlier = path.read_bytes()
    with (
        files_up_to(len(earlier) // 2),
        pytest.raises(GlioError, match=f"{name}: cannot be written [^\n]*$"),
    ):
        writers.write([path], result, writers.Appearance())
    assert path.read_bytes() == earlier
    assert [file.name for file in tmp_path.iterdir()] == [name]


@pytest.mark.release
def test_a_full_disk_ends_the_command_with_one_line(small_slide, tmp_path):
    kept = tmp_path / "a.mask.ome.tif"
    kept.write_text("earlier", encoding="utf-8")
    with files_up_to(20_000):
        done = subprocess.run(
            [*COMMAND, str(small_slide.path), "--out", str(kept), "--quiet"],
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
    assert done.returncode == 1, done.stdout
    assert done.stderr.startswith("gliorun: ")
    assert done.stderr.count("\n") == 1
    assert kept.read_text(encoding="utf-8") == "earlier"
    left = {file.name for file in tmp_path.iterdir()}
    assert left - {".gliorun"} == {kept.name}  # the tiles that were measured are kept there


def test_of_several_outputs_none_takes_its_place_if_one_cannot_be_written(
    small_slide, tmp_path, monkeypatch
):
    result = runs.dark_run(small_slide.path, Settings())
    first, second = tmp_path / "a.csv", tmp_path / "b.geojson"
    first.write_text("earlier")

    def full(path, result, appearance):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setitem(writers.WRITERS, ".geojson", full)
    with pytest.raises(GlioError, match=r"b\.geojson: cannot be written \(No space left"):
        writers.write([first, second], result, writers.Appearance())
    assert [file.name for file in tmp_path.iterdir()] == ["a.csv"]
    assert first.read_text() == "earlier"


UNMATCHED = (
    "colour not matched to the model's, as too little stained tissue was found to measure it; "
    "most nuclei of a pale slide are missed"
)


def test_every_output_says_that_the_colour_was_not_matched(tmp_path, capsys):
    """On a pale laboratory such a map had Dice 0.02, and nothing said so."""
    pale = np.rint(255 * (slides.all_tissue(960, 960) / 255) ** 0.05).astype(np.uint8)
    demo.write_slide(tmp_path / "pale.svs", pale, levels=1)
    without_regions = set(writers.WRITERS) - {writers.REGIONS}
    outputs = {suffix: tmp_path / f"a{suffix}" for suffix in without_regions}
    plan = Plan(list(outputs.values()), shipped.DEFAULT_MODEL, Settings(threads=1))
    summary = job.run(tmp_path / "pale.svs", plan, quiet=True)
    assert capsys.readouterr().err == f"warning: pale.svs: {UNMATCHED}\n"
    assert summary.endswith(", 1 warning")
    for suffix in (".json", ".geojson", ".nuclei.geojson"):
        assert json.loads(outputs[suffix].read_text(encoding="utf-8"))["warnings"] == [UNMATCHED]
    with outputs[".csv"].open(newline="", encoding="utf-8") as lines:
        rows = list(csv.DictReader(lines))
    assert {row["warnings"] for row in rows} == {UNMATCHED}
    assert list(rows[0])[-1] == "warnings"
    assert UNMATCHED in html.unescape(outputs[".html"].read_text(encoding="utf-8"))
    for suffix in (".ome.tif", ".mask.ome.tif"):
        with tifffile.TiffFile(outputs[suffix]) as image:
            assert f"Warning: {UNMATCHED}" in image.ome_metadata
    with Image.open(outputs[writers.THUMBNAIL]) as image:
        assert image.info["comment"].decode() == UNMATCHED


def test_both_pictures_say_that_the_colour_was_not_matched():
    result = figures.made((4_800, 3_360))
    result = replace(result, warnings=(UNMATCHED,))
    for page in (png.draw(result, writers.Appearance()), qc.draw(result)):
        text = " ".join(figures.texts_of(page))
        assert "colour not matched to the model's" in text
