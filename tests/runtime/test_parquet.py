"""Tables come back with their types, equal to CSV and GeoJSON of the same run."""

from __future__ import annotations

import csv
import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

import runs
from gliorun import writers
from gliorun.errors import GlioError
from gliorun.findings.nuclei import find_nuclei, nuclei_per_cell
from gliorun.measuring.density import classify
from gliorun.measuring.masks import MaskStore
from gliorun.measuring.tile import LeftOut, Status
from gliorun.reading.regions import read_regions
from gliorun.settings import Settings
from gliorun.writers import Result, table
from guides import python_examples

pq = pytest.importorskip("pyarrow.parquet")

from gliorun.writers import parquet  # noqa: E402


@pytest.fixture(scope="module")
def result(small_slide) -> Result:
    """The small slide at 240-px cells, with tile (1, 0) unreadable, its nuclei counted."""
    run = runs.dark_run(small_slide.path, Settings(cell_px=240, threads=1))
    density = run.density
    density.nucleus_px[:2, 2:4] = density.valid_px[:2, 2:4] = 0
    density.feed(LeftOut(density.grid.tile(1, 0), Status.UNREADABLE))
    counts = nuclei_per_cell(find_nuclei(run.masks, run.scale), density)
    return dataclasses.replace(run, counts=counts, warnings=("a", "b"))


@pytest.fixture(scope="module")
def folder(result, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("tables")
    names = ("a.parquet", "a.nuclei.parquet", "a.csv", "a.nuclei.geojson")
    writers.write([folder / name for name in names], result, writers.Appearance())
    return folder


def strip(name: str, left: int, right: int) -> dict:
    corners = [[left, 0], [right, 0], [right, 1300], [left, 1300], [left, 0]]
    geometry = {"type": "Polygon", "coordinates": [corners]}
    return {"type": "Feature", "geometry": geometry, "properties": {"name": name}}


def test_cells_are_those_of_the_csv_unrounded_and_with_their_types(folder, result):
    rows = pq.read_table(folder / "a.parquet").to_pylist()
    with (folder / "a.csv").open(newline="", encoding="utf-8") as lines:
        wanted = list(csv.DictReader(lines))
    assert list(rows[0]) == ["x", "y", "area_um2", *wanted[0]]
    decimals = {column.name: column.decimals for column in table.cells(result).columns}
    for ours, theirs in zip(rows, wanted, strict=True):
        for name, text in theirs.items():
            value = ours[name]
            if isinstance(value, float):
                value = f"{value:.{decimals[name]}f}"
            assert ("" if value is None else str(value)) == text, name
    assert {row["status"] for row in rows} == {"measured", "unreadable"}
    assert [row["density"] for row in rows if row["status"] == "unreadable"] == [None] * 4
    densities = [row["density"] for row in rows if row["density"] is not None]
    density = result.density.density
    assert densities == density[~np.isnan(density)].tolist()


def test_cells_have_their_centre_and_area(folder, result):
    for row in pq.read_table(folder / "a.parquet").to_pylist():
        assert (row["x"], row["y"]) == (
            row["minx"] + row["width"] / 2,
            row["miny"] + row["height"] / 2,
        )
        assert row["area_um2"] == pytest.approx(row["width"] * row["height"] * 0.25**2)


def test_nuclei_are_those_of_geojson_with_their_boxes_and_the_class_of_their_cell(folder, result):
    rows = pq.read_table(folder / "a.nuclei.parquet").to_pylist()
    features = json.loads((folder / "a.nuclei.geojson").read_text("ascii"))["features"]
    classes = classify(result.density.density)
    assert len(rows) == len(features) > 100
    without_class = 0
    for row, feature in zip(rows, features, strict=True):
        told = feature["properties"]["measurements"]
        assert row["area_um2"] == pytest.approx(told["Area µm^2"], abs=1e-3)
        assert (row["x"], row["y"]) == pytest.approx(
            (told["Centre x px"], told["Centre y px"]), abs=0.006
        )
        corners = np.array(feature["geometry"]["coordinates"][0])
        (left, top), (right, bottom) = corners.min(axis=0), corners.max(axis=0)
        box = (row["minx"], row["miny"], row["width"], row["height"])
        assert box == pytest.approx((left, top, right - left, bottom - top), abs=0.6)
        cell = int(classes[int(row["y"] // 240), int(row["x"] // 240)])
        assert row["class"] == (None if cell < 0 else cell)
        without_class += cell < 0
    assert without_class > 0  # those of the tile that has no value


def test_the_file_says_what_its_numbers_hang_on(folder):
    for name in ("a.parquet", "a.nuclei.parquet"):
        about = json.loads(pq.read_schema(folder / name).metadata[b"gliorun"])
        assert (about["slide"], about["x_mpp"], about["mpp_source"]) == ("small.svs", 0.25, "slide")
        assert about["model_sha256"] == "ab" * 32
        assert about["warnings"] == ["a", "b"]


def test_cells_and_nuclei_say_in_which_regions_they_lie(tmp_path, result):
    edges = {"left": (0, 900), "middle": (500, 1300)}
    drawn_file = tmp_path / "a.geojson"
    drawn_file.write_text(json.dumps([strip(name, *sides) for name, sides in edges.items()]))
    regions = read_regions(drawn_file, (1800, 1300)).regions
    drawn = dataclasses.replace(result, drawn_regions=regions)
    parquet.write_cells(tmp_path / "a.parquet", drawn)
    parquet.write_nuclei(tmp_path / "b.parquet", drawn)
    assert set(pq.read_table(tmp_path / "b.parquet")["region"].to_pylist()) <= {
        "left", "left; middle", "middle",
    }  # fmt: skip
    rows = pq.read_table(tmp_path / "a.parquet").to_pylist()
    assert {row["region"] for row in rows} == {"left", "left; middle", "middle", None}
    for row in rows:
        wanted = [name for name, (left, right) in edges.items() if left <= row["x"] < right]
        assert row["region"] == ("; ".join(wanted) or None)


def test_a_table_of_many_batches_is_whole_and_an_empty_one_has_its_columns(
    tmp_path, result, monkeypatch
):
    monkeypatch.setattr(parquet, "BATCH_ROWS", 7)
    parquet.write_cells(tmp_path / "a.parquet", result)
    batched = pq.read_table(tmp_path / "a.parquet")
    monkeypatch.undo()
    parquet.write_cells(tmp_path / "b.parquet", result)
    assert batched.equals(pq.read_table(tmp_path / "b.parquet"))
    assert pq.ParquetFile(tmp_path / "a.parquet").num_row_groups > 2
    none = dataclasses.replace(result, masks=MaskStore(result.density.grid, 480))
    parquet.write_nuclei(tmp_path / "c.parquet", none)
    empty = pq.read_table(tmp_path / "c.parquet")
    assert (empty.num_rows, empty.column_names) == (0, [c.name for c in table.NUCLEUS])


def test_a_missing_library_is_one_line_before_the_work(tmp_path, monkeypatch):
    monkeypatch.setattr(writers, "find_spec", {"pyarrow": None}.__getitem__)
    with pytest.raises(GlioError, match=r"a\.parquet: needs pyarrow; pip install 'gliorun\[tables"):
        writers.check_outputs([tmp_path / "a.parquet"])


def test_the_guide_makes_anndata_of_the_nuclei_in_three_lines(folder, monkeypatch):
    anndata = pytest.importorskip("anndata")
    (example,) = (e for e in python_examples("runtime/GUIDE.md") if "anndata" in e)
    assert len([line for line in example.splitlines() if line and "import " not in line]) == 3
    (folder / "slide.nuclei.parquet").write_bytes((folder / "a.nuclei.parquet").read_bytes())
    monkeypatch.chdir(folder)
    names: dict[str, object] = {}
    exec(example, names)
    slide, rows = names["slide"], pq.read_table(folder / "a.nuclei.parquet")
    assert isinstance(slide, anndata.AnnData)
    assert slide.shape == (rows.num_rows, 1)
    np.testing.assert_array_equal(slide.X[:, 0], rows["area_um2"].to_numpy())
    np.testing.assert_array_equal(slide.obsm["spatial"][:, 1], rows["y"].to_numpy())
