"""Tissue and areas without a value go out as annotations; corrected, the tissue comes back."""

from __future__ import annotations

import dataclasses
import json
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import shapely

import runs
import slides
from gliorun import demo, job
from gliorun.errors import GlioError
from gliorun.measuring.tile import LeftOut, Status
from gliorun.measuring.tissue import read_outlined
from gliorun.model import shipped
from gliorun.plan import Plan
from gliorun.reading.slide import Slide
from gliorun.settings import Settings
from gliorun.writers import Result
from gliorun.writers.areas import write_areas


@pytest.fixture(scope="module")
def result(small_slide) -> Result:
    """The small slide, with two neighbouring tiles folded and one blurred."""
    run = runs.dark_run(small_slide.path, Settings(threads=1))
    density = run.density
    for column, row, reason in ((1, 0, "FOLD"), (1, 1, "FOLD"), (3, 1, "BLURRED")):
        density.feed(LeftOut(density.grid.tile(column, row), Status[reason]))
    return run


@pytest.fixture(scope="module")
def written(result, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("areas") / "a.tissue.geojson"
    write_areas(path, result)
    return path


def features(path: Path) -> list[dict]:
    return json.loads(path.read_text("ascii"))["features"]


def area(feature: dict) -> shapely.Geometry:
    return shapely.from_geojson(json.dumps(feature["geometry"]))


def square(left: int, top: int, side: int, **more: object) -> dict:
    corners = [[left, top], [left + side, top], [left + side, top + side], [left, top + side]]
    geometry = {"type": "Polygon", "coordinates": [[*corners, corners[0]]]}
    properties = {"objectType": "annotation", **more}
    return {"type": "Feature", "geometry": geometry, "properties": properties}


def test_the_tissue_is_one_annotation_that_may_be_changed(written, result):
    tissue, *others = features(written)
    assert tissue["properties"]["objectType"] == "annotation"
    assert tissue["properties"]["classification"]["name"] == "Tissue"
    assert "isLocked" not in tissue["properties"]
    assert all(feature["properties"]["isLocked"] for feature in others)
    shape = area(tissue)
    assert shape.is_valid
    assert shapely.box(0, 0, 1800, 1300).contains(shape)
    px_l0 = 1 / np.prod(result.tissue.px_per_l0)
    assert shape.area == pytest.approx(result.tissue.mask.sum() * px_l0, rel=0.01)


def test_tiles_without_a_value_are_one_annotation_a_reason(written):
    _, fold, blurred = features(written)
    assert [f["properties"]["name"] for f in (fold, blurred)] == ["fold", "blurred"]
    assert {f["properties"]["classification"]["name"] for f in (fold, blurred)} == {"No value"}
    assert area(fold).equals(shapely.box(480, 0, 960, 960))
    assert area(blurred).equals(shapely.box(1440, 480, 1800, 960))  # cut at the edge of the slide


def test_the_tissue_comes_back_as_it_was_and_areas_without_a_value_are_passed_over(
    written, result, small_slide
):
    tissue, warnings = read_outlined(written, (1800, 1300))
    assert warnings == ()
    back = tissue.on(result.tissue)
    assert (back.mask != result.tissue.mask).mean() < 0.01
    again = runs.dark_run(small_slide.path, Settings(threads=1, tissue_mask=written))
    first = runs.dark_run(small_slide.path, Settings(threads=1))
    assert again.density.mean_density() == pytest.approx(first.density.mean_density(), rel=0.01)


def test_what_is_drawn_is_measured_and_what_is_ignored_is_not(tmp_path):
    path = tmp_path / "a.geojson"
    drawn = [
        square(100, 100, 400),
        square(300, 300, 400, classification={"name": "Tumor"}),  # they overlap
        square(350, 350, 100, classification={"name": "Ignore*"}),
        square(900, 100, 200, classification={"name": "No value"}),
    ]
    path.write_text(json.dumps({"type": "FeatureCollection", "features": drawn}))
    tissue, _ = read_outlined(path, (1200, 800))
    px_l0 = 1 / np.prod(tissue.px_per_l0)
    wanted = 2 * 400**2 - 200**2 - 100**2
    assert tissue.mask.sum() * px_l0 == pytest.approx(wanted, rel=0.005)


def test_outlines_lie_where_qupath_shows_a_slide_that_was_scanned_in_part(tmp_path):
    pixels = slides.all_tissue(1024, 768, density=0.2)
    slide = slides.mrxs(tmp_path / "a.mrxs", pixels, before=(3, 2), after=(1, 3))
    run = runs.dark_run(slide, Settings(threads=1))
    with Slide(slide) as opened:
        run = dataclasses.replace(run, bounds_l0=opened.bounds_l0)
    write_areas(tmp_path / "a.tissue.geojson", run)
    left, top, right, bottom = area(features(tmp_path / "a.tissue.geojson")[0]).bounds
    assert (left, top) == pytest.approx((0, 0), abs=25)
    assert (right, bottom) == pytest.approx((1024, 768), abs=25)
    drawn = Settings(threads=1, tissue_mask=tmp_path / "a.tissue.geojson")
    again = runs.dark_run(slide, drawn)
    np.testing.assert_array_equal(again.density.status, run.density.status)


def test_outlines_of_the_largest_slide_are_read_within_bounds_of_memory(tmp_path):
    path = tmp_path / "a.geojson"
    path.write_text(json.dumps(square(10_000, 20_000, 50_000)))
    tracemalloc.start()
    tissue, _ = read_outlined(path, (100_000, 80_000))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert tissue.mask.sum() / np.prod(tissue.px_per_l0) == pytest.approx(50_000**2, rel=0.001)
    assert peak < 100e6


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not GeoJSON, or cut short"),
        ('{"type":"FeatureCollection","features":[]}', "holds no region"),
        (json.dumps(square(10, 10, 50, classification={"name": "No value"})), "marks no tissue"),
        (json.dumps(square(9000, 10, 50)), "lies off the slide"),
    ],
)
def test_a_file_that_cannot_be_used_is_one_line(tmp_path, content, message):
    path = tmp_path / "a.geojson"
    path.write_text(content)
    with pytest.raises(GlioError, match=message):
        read_outlined(path, (1200, 800))


def test_a_run_takes_the_outlines_and_writes_its_own(tmp_path):
    demo.write_slide(tmp_path / "a.svs", slides.all_tissue(1440, 960), levels=1)
    path = tmp_path / "drawn.geojson"
    path.write_text(json.dumps([square(0, 0, 480)]))
    outputs = [tmp_path / "a.tissue.geojson", tmp_path / "a.csv"]
    plan = Plan(outputs, shipped.DEFAULT_MODEL, Settings(threads=1, tissue_mask=path))
    job.run(tmp_path / "a.svs", plan, quiet=True)
    assert area(features(outputs[0])[0]).area == pytest.approx(480**2, rel=0.03)
    lines = outputs[1].read_text("utf-8").splitlines()
    assert len(lines) == 2
