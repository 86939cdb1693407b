"""GeoJSON files are what QuPath reads: strict, closed, named, coloured, in level-0 px."""

from __future__ import annotations

import csv
import dataclasses
import json
import tracemalloc
import uuid
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import runs
import slides
from gliorun import demo, job
from gliorun.errors import GlioError
from gliorun.findings.nuclei import find_nuclei, nuclei_per_cell
from gliorun.measuring.density import CLASS_NAMES, MIN_VALID_SHARE, classify
from gliorun.measuring.tile import LeftOut, Status
from gliorun.model import shipped
from gliorun.plan import Plan
from gliorun.reading.slide import Slide
from gliorun.reading.tiles import TileSpec
from gliorun.settings import Settings
from gliorun.writers import palette
from gliorun.writers.geojson import (
    NOTE,
    Feature,
    PathClass,
    object_id,
    write_features,
    write_tiles,
)
from gliorun.writers.nuclei import write_nuclei

RED = PathClass("Red", "#ff0001")
SQUARE = [[0, 0], [1, 0], [1, 1], [0, 1], [0, 0]]


@pytest.fixture(scope="module")
def result(small_slide):
    """The small slide at 240-px cells, with tile (1, 0) unreadable."""
    dark_result = runs.dark_run(small_slide.path, Settings(cell_px=240, threads=1))
    density = dark_result.density
    density.nucleus_px[:2, 2:4] = density.valid_px[:2, 2:4] = 0
    density.feed(LeftOut(density.grid.tile(1, 0), Status.UNREADABLE))
    return dark_result


def refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


def objects(path: Path) -> list[dict]:
    """Read a file as QuPath does (PathObjectTypeAdapter) and check all that it relies on."""
    text = path.read_text(encoding="ascii")
    collection = json.loads(text, parse_constant=refuse)
    assert set(collection) == {"type", "note", "origin_l0", "calibration", "warnings", "features"}
    assert collection["type"] == "FeatureCollection"
    for feature in collection["features"]:
        assert set(feature) == {"type", "id", "geometry", "properties"}
        assert str(uuid.UUID(feature["id"])) == feature["id"]
        assert feature["type"] == "Feature"
        assert feature["geometry"]["type"] == "Polygon"
        outer, *holes = feature["geometry"]["coordinates"]
        for ring in (outer, *holes):
            assert len(ring) >= 4
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
    identities = {feature["id"] for feature in collection["features"]}
    assert len(identities) == len(collection["features"])
    return collection["features"]


def signed_area(ring: list[list[float]]) -> float:
    x, y = np.array(ring).T
    return float(((x[:-1] + x[1:]) * np.diff(y)).sum()) / 2


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
    density = result.density.density
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
    tissue = result.density.cell_status != Status.NO_TISSUE
    wanted = tissue.repeat(240, axis=0).repeat(240, axis=1)[:1300, :1800]
    assert wanted.mean() > 0.7
    np.testing.assert_array_equal(covered, wanted)


def test_a_tile_without_a_value_says_why_and_has_no_density(tiles):
    without = [f for f in tiles if f["properties"]["classification"]["name"] == "No value"]
    assert [box(tile)[:2] for tile in without] == [(480, 0), (720, 0), (480, 240), (720, 240)]
    assert {tile["properties"]["name"] for tile in without} == {"unreadable"}
    assert list(without[0]["properties"]["measurements"]) == ["Valid fraction", "Tissue fraction"]
    assert without[0]["properties"]["measurements"]["Valid fraction"] == 0
    assert without[0]["properties"]["classification"]["color"] == [200, 200, 200]


def test_a_cell_mostly_outside_the_slide_says_so(tmp_path):
    demo.write_slide(tmp_path / "a.svs", slides.all_tissue(480 + 40, 480), levels=1)
    result = runs.dark_run(tmp_path / "a.svs", Settings(threads=1))
    assert result.density.valid_share[0, 1] < MIN_VALID_SHARE
    write_tiles(tmp_path / "a.geojson", result)
    (edge,) = [f for f in of_type(objects(tmp_path / "a.geojson"), "tile") if box(f)[0] == 480]
    assert edge["properties"]["name"] == "mostly outside the slide"
    assert box(edge) == (480, 0, 520, 480)


@pytest.mark.parametrize("status", [s for s in Status if s not in (Status.NO_TISSUE, 1)])
def test_every_status_without_a_value_is_named(tmp_path, result, status):
    density = result.density
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
    write_features(tmp_path / "a.geojson", [], origin_l0=(0, 0))
    assert objects(tmp_path / "a.geojson") == []


def test_nan_is_refused_rather_than_written(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_features(
            tmp_path / "a.geojson",
            [Feature(object_id("a"), "tile", [[SQUARE]], RED, {"a": float("nan")})],
            origin_l0=(0, 0),
        )


def test_a_name_with_quotes_and_umlauts_comes_back(tmp_path):
    name = 'a "b" \\ ü\n'
    features = [Feature(object_id("a"), "annotation", [[SQUARE]], RED, {}, name)]
    write_features(tmp_path / "a.geojson", features, origin_l0=(0, 0))
    (feature,) = objects(tmp_path / "a.geojson")
    assert feature["properties"]["name"] == name
    assert feature["properties"]["classification"]["color"] == [255, 0, 1]


def test_a_feature_is_a_line_and_is_written_before_the_next_is_made(tmp_path):
    path = tmp_path / "a.geojson"

    def watched():
        for number in range(3_000):
            yield Feature(object_id(number), "tile", [[SQUARE]], RED, {"n": number})
            if number == 2_999:
                assert path.stat().st_size > 400_000

    tracemalloc.start()
    write_features(path, watched(), origin_l0=(3, 4))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 100_000
    first, *lines, last = path.read_text().splitlines()
    head = json.loads(first + "]}")
    assert head == {
        "type": "FeatureCollection", "note": NOTE, "origin_l0": [3, 4], "calibration": None,
        "warnings": [], "features": [],
    }  # fmt: skip
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
    listed_nuclei = list(find_nuclei(result.masks, result.scale))
    assert len(nuclei) == len(listed_nuclei) > 100
    assert of_type(nuclei, "detection") == nuclei
    for feature, nucleus in zip(nuclei, listed_nuclei, strict=True):
        properties = feature["properties"]
        assert properties["classification"]["name"] == "Nucleus"
        assert list(properties["measurements"].values()) == pytest.approx(
            [nucleus.area_um2, *nucleus.centroid_l0], abs=0.006
        )
        area_px = sum(map(signed_area, feature["geometry"]["coordinates"]))
        assert area_px * 0.0625 == pytest.approx(nucleus.area_um2, rel=0.02)


def test_a_nucleus_takes_half_the_bytes_that_its_exact_outline_took(result, nuclei):
    exact, written = (
        sum(len(json.dumps(rings, separators=(",", ":"))) for rings in outlines)
        for outlines in (
            [
                [ring.astype(int).tolist() for ring in nucleus.outlines_l0()]
                for nucleus in find_nuclei(result.masks, result.scale)
            ],
            [feature["geometry"]["coordinates"] for feature in nuclei],
        )
    )
    assert written < 0.6 * exact


def test_the_same_objects_have_the_same_identity_in_another_run(
    tmp_path, result, tiles, nuclei, small_slide
):
    again = runs.dark_run(small_slide.path, Settings(cell_px=240, threads=1, quality=None))
    write_tiles(tmp_path / "a", dataclasses.replace(again, hot_spots=result.hot_spots))
    write_nuclei(tmp_path / "b", again)
    for before, file in ((tiles, "a"), (nuclei, "b")):
        places = {feature["id"]: box(feature) for feature in before}
        assert places == {feature["id"]: box(feature) for feature in objects(tmp_path / file)}
    write_nuclei(tmp_path / "c", dataclasses.replace(again, slide_name="other.svs"))
    others = {feature["id"] for feature in objects(tmp_path / "c")}
    assert not others & {feature["id"] for feature in nuclei}


def test_hot_spots_alone_are_locked(tiles):
    locked = [f for f in tiles if f["properties"].get("isLocked")]
    assert locked == of_type(tiles, "annotation")


def test_cells_say_how_much_tissue_and_how_many_nuclei_they_hold(tmp_path, result):
    density = result.density
    nuclei = find_nuclei(result.masks, result.scale)
    counts = nuclei_per_cell(nuclei, density)
    write_tiles(tmp_path / "a.geojson", dataclasses.replace(result, counts=counts))
    for tile in of_type(objects(tmp_path / "a.geojson"), "tile"):
        left, top, _, _ = box(tile)
        place = top // 240, left // 240
        told = tile["properties"]["measurements"]
        assert told["Tissue fraction"] == pytest.approx(density.tissue_share[place], abs=1e-4)
        if not np.isnan(density.density[place]):
            of_tile = 100 * density.density_of_tile[place]
            assert told["Density of tile %"] == pytest.approx(of_tile, abs=1e-4)
            tissue_mm2 = density.tissue_px[place] * 0.0625 / 1e6
            assert told["Nuclei per mm^2"] == pytest.approx(counts.per_cell[place] / tissue_mm2)
        if density.cell_status[place] == Status.MEASURED:
            assert told["Nuclei"] == counts.per_cell[place]
        else:
            assert "Nuclei" not in told


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
    wanted = result.density.mean_density() * 700 * 500
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


SCANNED = 768, 512, 1792, 1280
"""Left, top, right, bottom px of what was scanned of the slides below."""


def scanned_in_part(folder: Path, kind: str) -> Path:
    """Write a slide of which QuPath shows `SCANNED` alone."""
    pixels = slides.all_tissue(1024, 768, density=0.2)
    if kind == "mirax":
        return slides.mrxs(folder / "a.mrxs", pixels, before=(3, 2), after=(1, 3))
    whole = np.pad(pixels, [(512, 768), (768, 256), (0, 0)])
    return slides.sparse(folder / "a.tif", whole, SCANNED, 0.25)


@pytest.mark.parametrize("kind", ["mirax", "sparse"])
def test_objects_lie_where_qupath_shows_what_they_are_of(tmp_path, kind):
    """QuPath subtracts the corner of the bounds; a slide scanned whole is the same slide there."""
    path = scanned_in_part(tmp_path, kind)
    outputs = [tmp_path / f"a{suffix}" for suffix in (".geojson", ".nuclei.geojson", ".csv")]
    plan = Plan(outputs, shipped.DEFAULT_MODEL, Settings(threads=1, cell_px=120), hot_spot_mm2=0.01)
    job.run(path, plan, quiet=True)
    tiles, nuclei = map(objects, outputs[:2])
    assert json.loads(outputs[0].read_text())["origin_l0"] == [768, 512]
    with Slide(path) as slide:
        left, top, right, bottom = slide.bounds_l0
        assert (left, top, right, bottom) == SCANNED
        shown = slide.read(TileSpec(0, 0, left, top, 768, 768), 768)
    with outputs[2].open() as stream:
        cells = [
            (int(row["minx"]), int(row["miny"]))
            for row in csv.DictReader(stream)
            if row["status"] == "measured" and float(row["valid_fraction"]) == 1
        ]
    of_tiles = {box(tile)[:2] for tile in of_type(tiles, "tile")}
    assert len(cells) > 30
    assert {(x - 768, y - 512) for x, y in cells} <= of_tiles  # the CSV counts from the scan area
    boxes = np.array([box(feature) for feature in (*of_type(tiles, "tile"), *nuclei)])
    assert boxes.min() == 0
    assert boxes[:, 2].max() <= 1024
    assert boxes[:, 3].max() <= 768
    dark = shown[..., 0] < 120
    inside = [n for n in nuclei if box(n)[2] < 768]
    centres = [list(n["properties"]["measurements"].values())[1:] for n in inside]
    hit = [dark[int(y), int(x)] for x, y in centres]
    assert len(hit) > 100
    assert np.mean(hit) > 3 * dark.mean()


def test_hot_spots_lie_where_qupath_shows_them(tmp_path):
    result = runs.dark_run(scanned_in_part(tmp_path, "mirax"), Settings(cell_px=120, threads=1))
    write_tiles(tmp_path / "a.geojson", dataclasses.replace(result, bounds_l0=SCANNED))
    spots = of_type(objects(tmp_path / "a.geojson"), "annotation")
    assert [box(feature)[:2] for feature in spots] == [
        (spot.minx - 768, spot.miny - 512) for spot in result.hot_spots
    ]
    assert len(spots) == 2


def test_a_mask_drawn_on_what_qupath_shows_lies_there(tmp_path):
    """Drawn on the cropped slide it was stretched over the scan area, or refused for its shape."""
    path = scanned_in_part(tmp_path, "mirax")
    mask = np.zeros((768 // 8, 1024 // 8), np.uint8)
    mask[:, : 512 // 8] = 1  # the left half of what is shown
    Image.fromarray(mask).save(tmp_path / "mask.png")
    settings = Settings(threads=1, cell_px=120, tissue_mask=tmp_path / "mask.png")
    measured = runs.dark_run(path, settings)
    rows, columns = (np.flatnonzero(measured.tissue.mask.any(axis=axis)) for axis in (1, 0))
    for px, px_per_l0, edges_l0 in zip(
        (columns, rows), measured.tissue.px_per_l0, ((768, 768 + 512), (512, 1280)), strict=True
    ):
        found_l0 = px[0] / px_per_l0, (px[-1] + 1) / px_per_l0
        assert found_l0 == pytest.approx(edges_l0, abs=0.5 / px_per_l0)  # the nearest px of 5 µm
    with_value = np.flatnonzero((~np.isnan(measured.density.density)).any(axis=0))
    assert with_value[0] * 120 <= 768 < (with_value[0] + 1) * 120
    assert with_value[-1] * 120 < 768 + 512 <= (with_value[-1] + 1) * 120


def test_warnings_stand_in_the_head_of_both_files(tmp_path, result):
    result = dataclasses.replace(result, warnings=("20 µm is odd",))
    write_tiles(tmp_path / "a", result)
    write_nuclei(tmp_path / "b", result)
    for name in "ab":
        assert json.loads((tmp_path / name).read_text())["warnings"] == ["20 µm is odd"]
