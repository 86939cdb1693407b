"""Outputs appear whole or not at all, and say what was measured."""

from __future__ import annotations

import csv
import hashlib
import json
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import runs
from gliorun import writers
from gliorun.atomic import replacing
from gliorun.errors import GlioError
from gliorun.findings.nuclei import NucleusCounts
from gliorun.measuring.density import classify
from gliorun.measuring.tile import LeftOut, Status
from gliorun.settings import Settings
from gliorun.writers import palette, thumbnail


@pytest.fixture(scope="module")
def measured(small_slide) -> writers.Result:
    """The small slide at 240-px cells, with tile (1, 0) unreadable."""
    made = runs.dark_run(small_slide.path, Settings(cell_px=240, threads=1))
    density = made.density
    density.outlined_px[:, :2, 2:4] = density.valid_px[:2, 2:4] = 0
    density.feed(LeftOut(density.grid.tile(1, 0), Status.UNREADABLE))
    return replace(made, hot_spots=(), masks=None)


@pytest.fixture
def result(measured) -> writers.Result:
    return measured


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def test_the_csv_begins_with_the_place_of_a_cell(tmp_path, result):
    path = tmp_path / "density.csv"
    writers.write([path], result, writers.Appearance())
    header = path.read_text(encoding="utf-8").splitlines()[0]
    assert header.startswith("minx,miny,width,height,density,density_low,density_high,class")


def test_the_csv_holds_the_band_of_every_density(tmp_path, result):
    density = deepcopy(result.density)
    inner, nucleus, outer = density.outlined_px
    inner[:], outer[:] = nucleus // 2, np.minimum(nucleus * 2, density.valid_px)
    path = tmp_path / "density.csv"
    writers.write([path], replace(result, density=density), writers.Appearance())
    for row in rows_of(path):
        place = int(row["miny"]) // 240, int(row["minx"]) // 240
        for name in ("density_low", "density", "density_high"):
            value = getattr(density, name)[place]
            assert row[name] == ("" if np.isnan(value) else f"{value:.6f}")


def test_the_csv_holds_every_cell_of_the_map(tmp_path, result):
    path = tmp_path / "density.csv"
    writers.write([path], result, writers.Appearance())
    density = result.density.density
    seen = np.full(density.shape, np.nan)
    for row in rows_of(path):
        column, line = int(row["minx"]) // 240, int(row["miny"]) // 240
        if row["density"]:
            seen[line, column] = float(row["density"])
            assert int(row["class"]) == classify(density[line, column])
            assert row["status"] == "measured"
    np.testing.assert_allclose(seen, density, rtol=0, atol=1e-6)


def test_the_cells_of_the_csv_are_cut_at_the_edge_of_the_slide_and_cover_it_once(tmp_path, result):
    path = tmp_path / "density.csv"
    writers.write([path], result, writers.Appearance())
    covered = np.zeros((1300, 1800), np.uint8)
    for row in rows_of(path):
        x, y, width, height = (int(row[k]) for k in ("minx", "miny", "width", "height"))
        assert x + width <= 1800
        assert y + height <= 1300
        covered[y : y + height, x : x + width] += 1
    tissue = result.density.cell_status != Status.NO_TISSUE
    wanted = tissue.repeat(240, axis=0).repeat(240, axis=1)[:1300, :1800]
    assert wanted.mean() > 0.7
    np.testing.assert_array_equal(covered, wanted)


def test_an_unreadable_cell_is_in_the_csv_without_a_value(tmp_path, result):
    path = tmp_path / "density.csv"
    writers.write([path], result, writers.Appearance())
    unreadable = [row for row in rows_of(path) if row["status"] == "unreadable"]
    assert [(row["minx"], row["miny"]) for row in unreadable] == [
        ("480", "0"), ("720", "0"), ("480", "240"), ("720", "240"),
    ]  # fmt: skip
    assert {(row["density"], row["class"]) for row in unreadable} == {("", "")}


@pytest.mark.parametrize("status", [s for s in Status if s > Status.MEASURED])
def test_the_csv_says_why_a_cell_has_no_value_nor_a_number_of_nuclei(tmp_path, result, status):
    density = deepcopy(result.density)
    density.feed(LeftOut(density.grid.tile(1, 0), status))
    counts = NucleusCounts(np.full(density.valid_px.shape, 3, np.int64), 0)
    changed = replace(result, density=density, counts=counts)
    path = tmp_path / "density.csv"
    writers.write([path], changed, writers.Appearance())
    rows = {(row["minx"], row["miny"]): row for row in rows_of(path)}
    left_out, fit = rows["480", "0"], rows["0", "480"]
    assert (left_out["density"], left_out["class"], left_out["nuclei"]) == ("", "", "")
    assert left_out["status"] == status.name.lower()
    assert (fit["status"], fit["nuclei"]) == ("measured", "3")


def test_the_same_measurement_gives_the_same_bytes(tmp_path, result):
    ours, theirs = tmp_path / "a.csv", tmp_path / "b.csv"
    for path in (ours, theirs):
        writers.write([path], result, writers.Appearance())
    assert ours.read_bytes() == theirs.read_bytes()


def test_an_upper_case_suffix_is_known(tmp_path, result):
    path = tmp_path / "DENSITY.CSV"
    writers.check_outputs([path])
    writers.write([path], result, writers.Appearance())
    assert rows_of(path)


def test_one_output_named_twice_is_refused(tmp_path):
    with pytest.raises(GlioError, match=r"a\.csv: named twice"):
        writers.check_outputs([tmp_path / "a.csv", tmp_path / "a.csv"])


def test_a_folder_under_an_output_s_name_is_refused(tmp_path):
    (tmp_path / "a.csv").mkdir()
    with pytest.raises(GlioError, match="is a folder"):
        writers.check_outputs([tmp_path / "a.csv"])


def test_a_folder_that_does_not_exist_is_refused_before_the_work(tmp_path):
    with pytest.raises(GlioError, match=r"a\.csv: cannot be written"):
        writers.check_outputs([tmp_path / "none" / "a.csv"])


def test_checking_leaves_nothing_behind_and_an_earlier_file_alone(tmp_path):
    earlier = tmp_path / "a.csv"
    earlier.write_text("earlier")
    writers.check_outputs([earlier, tmp_path / "b.png"])
    assert [path.name for path in tmp_path.iterdir()] == ["a.csv"]
    assert earlier.read_text() == "earlier"


@pytest.mark.parametrize(
    ("error", "raised"), [(ValueError("bug"), ValueError), (OSError(28, "No space"), GlioError)]
)
def test_a_failing_writer_leaves_the_earlier_file_and_no_temporary_one(tmp_path, error, raised):
    path = tmp_path / "a.csv"
    path.write_text("earlier")

    def fail_half_way() -> None:
        with replacing(path) as partial:
            partial.write_text("half a f")
            raise error

    with pytest.raises(raised):
        fail_half_way()
    assert path.read_text() == "earlier"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_appears_only_at_the_end_and_replaces_the_earlier(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("earlier")
    with replacing(path) as partial:
        partial.write_text("later")
        assert path.read_text() == "earlier"
        assert partial.suffix == ".csv"
    assert path.read_text() == "later"
    assert list(tmp_path.iterdir()) == [path]


def test_a_thumbnail_shows_the_slide_and_the_map_beside_it(tmp_path, result):
    path = tmp_path / "small.thumb.jpg"
    writers.write([path], result, writers.Appearance())
    with Image.open(path) as image:
        pixels = np.asarray(image).astype(int)
    height, width = pixels.shape[0], (pixels.shape[1] - thumbnail.GAP_PX) // 2
    assert max(height, width) == thumbnail.SIDE_PX
    assert width / height == pytest.approx(1800 / 1300, abs=0.02)
    colours = palette.cell_colours(palette.DEFAULT, result.density.density)
    rows, columns = result.density.density.shape
    for row in range(rows):
        for column in range(columns):
            y = round((row + 0.5) * 240 / 1300 * height)
            x = width + thumbnail.GAP_PX + round((column + 0.5) * 240 / 1800 * width)
            if colours[row, column, 3] and y < height - 3 and x < pixels.shape[1] - 3:
                assert np.abs(pixels[y, x] - colours[row, column, :3]).max() < 40  # it is a JPEG


def test_the_run_record_names_the_other_outputs_by_their_hashes(tmp_path, result):
    paths = [tmp_path / name for name in ("a.json", "b.csv", "a.geojson")]
    result = replace(result, run={"format": 1})
    writers.write(paths, result, writers.Appearance())
    outputs = json.loads(paths[0].read_text(encoding="utf-8"))["outputs"]
    assert outputs == {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in paths[1:]
    }
