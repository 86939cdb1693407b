"""GeoJSON files are what QuPath reads: strict, closed, named, coloured, in level-0 px."""

from __future__ import annotations

import dataclasses
import json
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

import runs
import slides
from gliorun import demo
from gliorun.errors import GlioError
from gliorun.findings.nuclei import find_nuclei
from gliorun.measuring.density import CLASS_NAMES, MIN_VALID_SHARE, Status, classify
from gliorun.settings import Settings
from gliorun.writers import palette
from gliorun.writers.geojson import Feature, PathClass, write_features, write_tiles
from gliorun.writers.nuclei import write_nuclei

RED = PathClass("Red", "#ff0001")
SQUARE = [[0, 0], [1, 0], [1, 1], [0, 1], [0, 0]]


@pytest.fixture(scope="module")
def result(small_slide):
    """The small slide at 240-px cells, with tile (1, 0) unreadable."""
    found = runs.dark_run(small_slide.path, Settings(cell_px=240, threads=1))
    density = found.measured.density
    density.nucleus_px[:2, 2:4] = density.valid_px[:2, 2:4] = 0
    density.mark_unreadable(density.grid.tile(1, 0))
    return found


def refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


def objects(path: Path) -> list[dict]:
    """Read a file as QuPath does (PathObjectTypeAdapter) and check all that it relies on."""
    text = path.read_text(encoding="ascii")
    collection = json.loads(text, parse_constant=refuse)
    assert set(collection) == {"type", "features"}
    assert collection["type"] == "FeatureCollection"
    for feature in collection["features"]:
        assert set(feature) == {"type", "geometry", "properties"}
        assert feature["type"] == "Feature"
        assert feature["geometry"]["type"] == "Polygon"
        outer, *holes = feature["geometry"]["coordinates"]
        for ring in (outer, *holes):
            assert len(ring) >= 5
            assert ring[0] == ring[-1]
        assert signed_area(outer) > 0
        assert all(signed_area(hole) < 0 for hole in holes)
        properties = feature["properties"]
        assert properties["objectType"] in {"tile", "annotation", "detection"}
        name, colour = (properties["classification"][key] for key in ("name", "color"))
        assert isinstance(name, str)
        assert ":" not in name  # QuPath would split the class there
        assert len(colour) == 3
        assert all(isinstance(level, int) and 0 <= level <= 255 for level in colour)
        assert all(isinstance(value, (int, float)) for value in properties["measurements"].values())
    return collection["features"]


def signed_area(ring: list[list[float]]) -> float:
    x, y = np.array(ring).T
    return float((x[:-1] * np.diff(y)).sum())


def of_type(features: list[dict], kind: str) -> list[dict]:
    return [f for f in features if f["properties"]["objectType"] == kind]


def box(feature: dict) -> tuple[int, int, int, int]:
    x, y = np.array(feature["geometry"]["coordinates"][0]).T
    return x.min(), y.min(), x.max(), y.max()


@pytest.fixture(scope="module")
def tiles(result, tmp_path_factory):
    path = tmp_path_factory.mktemp("geojson") / "tiles.geojson"
    write_tiles(path, result)
    return objects(path)


def test_every_cell_of_the_map_is_a_tile_with_its_density_and_class(result, tiles):
    density = result.measured.density.density
    colours = palette.rgb(palette.class_colours(palette.DEFAULT)).tolist()
    seen = np.full(density.shape, np.nan)
    for tile in of_type(tiles, "tile"):
        left, top, _, _ = box(tile)
        place = top // 240, left // 240
        properties = tile["properties"]
        if "Nucleus density %" not in properties["measurements"]:
            assert np.isnan(density[place])
            continue
        seen[place] = properties["measurements"]["Nucleus density %"] / 100
        number = classify(density[place])
        assert properties["classification"] == {
            "name": f"Nucleus density {CLASS_NAMES[number]}",
            "color": colours[number],
        }
        assert "name" not in properties
    np.testing.assert_allclose(seen, density, rtol=0, atol=1e-6)


def test_tiles_cover_the_tissue_once_and_end_at_the_edge_of_the_slide(tiles, result):
    covered = np.zeros((1300, 1800), int)
    for tile in of_type(tiles, "tile"):
        left, top, right, bottom = box(tile)
        assert right <= 1800
        assert bottom <= 1300
        covered[top:bottom, left:right] += 1
    tissue = result.measured.density.cell_status != Status.NO_TISSUE
    wanted = tissue.repeat(240, axis=0).repeat(240, axis=1)[:1300, :1800]
    assert wanted.mean() > 0.7
    np.testing.assert_array_equal(covered, wanted)


def test_a_tile_without_a_value_says_why_and_has_no_density(tiles):
    without = [f for f in tiles if f["properties"]["classification"]["name"] == "No value"]
    assert [box(tile)[:2] for tile in without] == [(480, 0), (720, 0), (480, 240), (720, 240)]
    assert {tile["properties"]["name"] for tile in without} == {"unreadable"}
    assert without[0]["properties"]["measurements"] == {"Valid fraction": 0}
    assert without[0]["properties"]["classification"]["color"] == [200, 200, 200]


def test_a_cell_mostly_outside_the_slide_says_so(tmp_path):
    demo.write_slide(tmp_path / "a.svs", slides.all_tissue(480 + 40, 480), levels=1)
    result = runs.dark_run(tmp_path / "a.svs", Settings(threads=1))
    assert result.measured.density.valid_share[0, 1] < MIN_VALID_SHARE
    write_tiles(tmp_path / "a.geojson", result)
    (edge,) = [f for f in of_type(objects(tmp_path / "a.geojson"), "tile") if box(f)[0] == 480]
    assert edge["properties"]["name"] == "mostly outside the slide"
    assert box(edge) == (480, 0, 520, 480)


@pytest.mark.parametrize("status", [s for s in Status if s not in (Status.NO_TISSUE, 1)])
def test_every_status_without_a_value_is_named(tmp_path, result, status):
    density = result.measured.density
    before = density.status[0, 1]
    density.status[0, 1] = status
    write_tiles(tmp_path / "a.geojson", result)
    density.status[0, 1] = before
    named = {f["properties"].get("name") for f in of_type(objects(tmp_path / "a.geojson"), "tile")}
    assert status.name.lower().replace("_", " ") in named


def test_hot_spots_are_named_annotations_before_the_tiles(result, tiles):
    spots = of_type(tiles, "annotation")
    assert tiles[: len(spots)] == spots
    assert len(spots) == len(result.hot_spots) == 2
    for feature, spot in zip(spots, result.hot_spots, strict=True):
        assert feature["properties"]["name"] == f"Hot spot {spot.rank} ({spot.square})"
        assert box(feature) == (
            spot.minx, spot.miny, spot.minx + spot.width, spot.miny + spot.height,
        )  # fmt: skip
        measurements = feature["properties"]["measurements"]
        assert measurements["Nucleus density %"] == pytest.approx(100 * spot.density, abs=1e-4)


def test_the_palette_that_was_chosen_colours_the_classes(tmp_path, result):
    write_tiles(tmp_path / "a.geojson", result, "paper-like")
    colours = palette.rgb(palette.class_colours("paper-like")).tolist()
    for tile in of_type(objects(tmp_path / "a.geojson"), "tile"):
        name, colour = tile["properties"]["classification"].values()
        if name != "No value":
            assert colour == colours[CLASS_NAMES.index(name.removeprefix("Nucleus density "))]


def test_an_unknown_palette_is_refused(tmp_path, result):
    with pytest.raises(GlioError, match="palette 'pink': unknown"):
        write_tiles(tmp_path / "a.geojson", result, "pink")


def test_a_run_that_found_no_hot_spot_is_written(tmp_path, result):
    write_tiles(tmp_path / "a.geojson", dataclasses.replace(result, hot_spots=()))
    features = objects(tmp_path / "a.geojson")
    assert features == of_type(features, "tile")


def test_no_features_is_a_valid_file(tmp_path):
    write_features(tmp_path / "a.geojson", [])
    assert objects(tmp_path / "a.geojson") == []


def test_nan_is_refused_rather_than_written(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_features(
            tmp_path / "a.geojson", [Feature("tile", [SQUARE], RED, {"a": float("nan")})]
        )


def test_a_name_with_quotes_and_umlauts_comes_back(tmp_path):
    name = 'a "b" \\ ü\n'
    write_features(tmp_path / "a.geojson", [Feature("annotation", [SQUARE], RED, {}, name)])
    (feature,) = objects(tmp_path / "a.geojson")
    assert feature["properties"]["name"] == name
    assert feature["properties"]["classification"]["color"] == [255, 0, 1]


def test_a_feature_is_a_line_and_is_written_before_the_next_is_made(tmp_path):
    path = tmp_path / "a.geojson"

    def watched():
        for number in range(3_000):
            yield Feature("tile", [SQUARE], RED, {"n": number})
            if number == 2_999:
                assert path.stat().st_size > 400_000

    tracemalloc.start()
    write_features(path, watched())
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 100_000
    first, *lines, last = path.read_text().splitlines()
    assert first == '{"type":"FeatureCollection","features":['
    assert [json.loads(line.rstrip(","))["properties"]["measurements"]["n"] for line in lines] == (
        list(range(3_000))
    )
    assert last == "]}"


@pytest.fixture(scope="module")
def nuclei(result, tmp_path_factory):
    path = tmp_path_factory.mktemp("geojson") / "slide.nuclei.geojson"
    write_nuclei(path, result)
    return objects(path)


def test_every_nucleus_is_a_detection_with_its_area_and_centre(result, nuclei):
    found = list(find_nuclei(result.masks, result.measured.scale))
    assert len(nuclei) == len(found) > 100
    assert of_type(nuclei, "detection") == nuclei
    for feature, nucleus in zip(nuclei, found, strict=True):
        properties = feature["properties"]
        assert properties["classification"]["name"] == "Nucleus"
        assert list(properties["measurements"].values()) == pytest.approx(
            [nucleus.area_um2, *nucleus.centroid_l0], abs=0.006
        )
        area_px = sum(map(signed_area, feature["geometry"]["coordinates"]))
        assert area_px * 0.0625 == pytest.approx(nucleus.area_um2)


def test_nuclei_of_a_slide_at_the_model_s_scale_have_whole_coordinates(nuclei):
    assert all(
        isinstance(value, int)
        for feature in nuclei
        for ring in feature["geometry"]["coordinates"]
        for corner in ring
        for value in corner
    )


def test_nuclei_of_a_coarser_slide_lie_on_that_slide(tmp_path):
    path = tmp_path / "coarse.svs"
    demo.write_slide(path, slides.all_tissue(700, 500), mpp=0.36, levels=1)
    result = runs.dark_run(path, Settings(threads=1))
    write_nuclei(tmp_path / "a.nuclei.geojson", result)
    nuclei = objects(tmp_path / "a.nuclei.geojson")
    boxes = np.array([box(feature) for feature in nuclei])
    assert (boxes[:, :2] >= 0).all()
    assert 650 < boxes[:, 2].max() <= 701
    assert 450 < boxes[:, 3].max() <= 501
    area_px = sum(signed_area(f["geometry"]["coordinates"][0]) for f in nuclei)
    wanted = result.measured.density.mean_density() * 700 * 500
    assert area_px == pytest.approx(wanted, rel=0.06)  # less the specks, plus the holes


def test_nuclei_without_masks_are_a_bug(tmp_path, result):
    with pytest.raises(ValueError, match="needs the masks of the run"):
        write_nuclei(tmp_path / "a.nuclei.geojson", dataclasses.replace(result, masks=None))


def test_the_same_run_gives_the_same_bytes(tmp_path, result):
    def both() -> tuple[bytes, bytes]:
        write_tiles(tmp_path / "a", result)
        write_nuclei(tmp_path / "b", result)
        return (tmp_path / "a").read_bytes(), (tmp_path / "b").read_bytes()

    assert both() == both()
