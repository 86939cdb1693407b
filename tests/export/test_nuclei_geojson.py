"""Labels become GeoJSON and come back as they were; what QuPath writes is read, the rest named."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from skimage.measure import points_in_poly
from skimage.segmentation import relabel_sequential

from glioexport.nuclei_geojson import (
    area_px,
    draw_labels,
    lies_outside,
    read_outlines,
    to_geojson,
)
from gliorun import demo
from gliorun.errors import GlioError

SQUARE = [[[1, 1], [4, 1], [4, 3], [1, 3], [1, 1]]]


def labels_of(text: str) -> NDArray[np.int32]:
    """Return labels drawn as lines of digits."""
    return np.array([[int(c) for c in line] for line in text.split()], dtype=np.int32)


def returned(labels: NDArray[np.int32], folder: Path) -> NDArray[np.int32]:
    """Write labels as GeoJSON and read them back."""
    path = folder / "tile.geojson"
    path.write_text(to_geojson(labels), encoding="utf-8")
    return draw_labels(read_outlines(path).nuclei, labels.shape)


def geometries(labels: NDArray[np.int32]) -> list[dict[str, Any]]:
    return [feature["geometry"] for feature in json.loads(to_geojson(labels))["features"]]


def polygons(geometry: dict[str, Any]) -> list[list[list[list[int]]]]:
    coordinates = geometry["coordinates"]
    return [coordinates] if geometry["type"] == "Polygon" else coordinates


def feature(
    coordinates: Any = SQUARE, classification: Any = None, **members: Any
) -> dict[str, Any]:
    properties = {"objectType": "annotation"}
    if classification is not None:
        properties["classification"] = classification
    geometry = {"type": "Polygon", "coordinates": coordinates}
    return {"type": "Feature", "geometry": geometry, "properties": properties, **members}


def written(value: Any, folder: Path) -> Path:
    path = folder / "tile.geojson"
    path.write_text(value if isinstance(value, str) else json.dumps(value), encoding="utf-8")
    return path


def drawn(coordinates: Any, shape: tuple[int, int], folder: Path) -> list[str]:
    """Return the mask of a polygon as lines of 0 and 1."""
    outlines = read_outlines(written(feature(coordinates), folder))
    return ["".join(map(str, row)) for row in draw_labels(outlines.nuclei, shape).tolist()]


def test_the_outline_of_a_pixel_runs_along_its_edges() -> None:
    labels = labels_of("00000 00000 00010 00000")
    assert geometries(labels) == [
        {"type": "Polygon", "coordinates": [[[3, 2], [4, 2], [4, 3], [3, 3], [3, 2]]]}
    ]


def test_a_hole_is_an_inner_ring_that_turns_the_other_way() -> None:
    (geometry,) = geometries(labels_of("11110 10010 11110"))
    outer, hole = (np.array(ring) for ring in geometry["coordinates"])
    assert sorted(map(tuple, outer[:-1])) == [(0, 0), (0, 3), (4, 0), (4, 3)]
    assert sorted(map(tuple, hole[:-1])) == [(1, 1), (1, 2), (3, 1), (3, 2)]
    assert [np.sign(x @ np.roll(y, -1) - y @ np.roll(x, -1)) for x, y in (outer.T, hole.T)] == [
        1,
        -1,
    ]


def test_parts_that_meet_at_a_corner_are_the_polygons_of_one_nucleus() -> None:
    (geometry,) = geometries(labels_of("10 01"))
    assert geometry["type"] == "MultiPolygon"
    assert geometry["coordinates"] == [
        [[[0, 0], [1, 0], [1, 1], [0, 1], [0, 0]]],
        [[[1, 1], [2, 1], [2, 2], [1, 2], [1, 1]]],
    ]


@pytest.mark.parametrize(
    "text",
    [
        "1",
        "12 12",  # touch along a side
        "1221 2112",  # touch at corners, parts cross
        "111 101 111",  # a hole
        "111 121 111",  # a nucleus in the hole of another one
        "11111 10001 10201 10001 11111",  # the same, apart
        "10 01",  # only a corner in common
        "011 101 111",  # a bay that touches the outside at a corner
        "11100 10100 11111 00101 00111",  # two holes
        "11110 10101 11011 10101 11110",  # holes that touch each other at a corner
        "1000000002",  # at the borders
        "333 322 112",
    ],
)
def test_labels_come_back_pixel_for_pixel(text: str, tmp_path: Path) -> None:
    labels = labels_of(text)
    np.testing.assert_array_equal(returned(labels, tmp_path), labels)


@settings(max_examples=60, deadline=None)
@given(arrays(np.int32, st.tuples(*[st.integers(1, 12)] * 2), elements=st.integers(0, 3)))
def test_any_labels_come_back_pixel_for_pixel(tmp_path_factory: Any, values: Any) -> None:
    labels = relabel_sequential(values)[0].astype(np.int32)
    np.testing.assert_array_equal(returned(labels, tmp_path_factory.getbasetemp()), labels)


@settings(max_examples=60, deadline=None)
@given(arrays(np.int32, st.tuples(*[st.integers(1, 12)] * 2), elements=st.integers(0, 2)))
def test_no_ring_meets_itself_and_every_ring_is_closed(labels: Any) -> None:
    for geometry in geometries(labels):
        for ring in itertools.chain.from_iterable(polygons(geometry)):
            assert ring[0] == ring[-1]
            corners = list(map(tuple, ring[:-1]))
            assert len(corners) >= 4
            assert len(set(corners)) == len(corners)


def test_drawn_tissue_comes_back_pixel_for_pixel(tmp_path: Path) -> None:
    from skimage.measure import label

    tissue = demo.draw_tissue(np.full((150, 230), 0.3, np.float32), seed=4)
    labels = label(tissue.nuclei).astype(np.int32)
    assert labels.max() > 10
    np.testing.assert_array_equal(returned(labels, tmp_path), labels)


def test_numbers_left_out_are_closed_up_in_order(tmp_path: Path) -> None:
    labels = labels_of("0505 7702")
    np.testing.assert_array_equal(returned(labels, tmp_path), labels_of("0202 3301"))


def test_no_nucleus_is_an_empty_collection(tmp_path: Path) -> None:
    labels = np.zeros((3, 5), np.int32)
    assert json.loads(to_geojson(labels)) == {"type": "FeatureCollection", "features": []}
    np.testing.assert_array_equal(returned(labels, tmp_path), labels)


def test_nuclei_are_annotations_of_a_coloured_class() -> None:
    (only,) = json.loads(to_geojson(labels_of("1")))["features"]
    assert only["type"] == "Feature"
    assert only["properties"]["objectType"] == "annotation"
    assert only["properties"]["classification"]["name"] == "Nucleus"
    assert len(only["properties"]["classification"]["color"]) == 3


def test_reads_a_collection_an_array_and_a_single_feature_alike(tmp_path: Path) -> None:
    one = feature()
    for value in ({"type": "FeatureCollection", "features": [one]}, [one], one):
        ((polygon,),) = read_outlines(written(value, tmp_path)).nuclei
        np.testing.assert_array_equal(polygon[0], SQUARE[0])


def test_reads_what_qupath_exports(tmp_path: Path) -> None:
    """Annotations, one of two parts and one with a hole, and cells, as QuPath 0.5 writes them."""
    text = """[
    {"type": "Feature", "id": "3f0cbd4e-8a4e-4c3c-9a5e-0d5b8f7f1c55",
     "geometry": {"type": "Polygon", "coordinates":
       [[[1.5, 1], [6, 1], [6, 6], [1.5, 6], [1.5, 1]],
        [[3, 3], [4, 3], [4, 4], [3, 4], [3, 3]]]},
     "properties": {"objectType": "annotation", "isLocked": true, "color": [1, 2, 3],
                    "classification": {"name": "Nucleus", "color": [0, 170, 0]}}},
    {"type": "Feature", "id": "PathAnnotationObject",
     "geometry": {"type": "MultiPolygon", "coordinates":
       [[[[8, 0], [9, 0], [9, 1], [8, 1], [8, 0]]], [[[9, 1], [10, 1], [10, 2], [9, 2], [9, 1]]]],
       "plane": {"c": -1, "z": 0, "t": 0}},
     "properties": {"name": "drawn by hand", "measurements": {"Area": 2.0}}},
    {"type": "Feature",
     "geometry": {"type": "Polygon", "coordinates": [[[7, 4], [10, 4], [10, 7], [7, 7], [7, 4]]]},
     "nucleusGeometry": {"type": "Polygon", "coordinates":
       [[[8, 5], [9, 5], [9, 6], [8, 6], [8, 5]]]},
     "properties": {"objectType": "cell", "measurements": [{"name": "x", "value": 1}]}},
    {"type": "Feature",
     "geometry": {"type": "Polygon", "coordinates": [[[0, 0], [9, 0], [9, 9], [0, 9], [0, 0]]]},
     "properties": {"objectType": "cell"}}
    ]"""
    outlines = read_outlines(written(text, tmp_path))
    assert outlines.ignored == Counter({"without an outline (cell)": 1})
    np.testing.assert_array_equal(
        draw_labels(outlines.nuclei, (7, 11)),
        labels_of(
            "00000000200 01111100020 01111100000 01101100000 01111100000 01111100300 00000000000"
        ),
    )


@pytest.mark.parametrize(
    "classification",
    [
        None,
        {},
        "Nucleus",
        "nucleus",
        {"name": "Nucleus", "color": [1, 2, 3]},
        {"name": "Nucleus", "colorRGB": -16711936},
        {"name": "Nucleus: Positive"},
        {"names": ["Nucleus", "Positive"], "color": [1, 2, 3]},
    ],
)
def test_no_class_and_the_class_nucleus_in_any_form_are_nuclei(
    classification: Any, tmp_path: Path
) -> None:
    assert len(read_outlines(written([feature(classification=classification)], tmp_path)).nuclei)


def test_other_classes_types_and_shapes_are_ignored_and_counted(tmp_path: Path) -> None:
    others = [
        feature(classification={"name": "Tumor"}),
        feature(classification={"names": ["Tumor", "Positive"]}),
        feature(properties={"objectType": "tile"}),
        feature(geometry={"type": "Point", "coordinates": [1, 2]}),
        feature(geometry=None),
        feature(coordinates=[]),
    ]
    outlines = read_outlines(written([feature(), *others], tmp_path))
    assert len(outlines.nuclei) == 1
    assert outlines.ignored == {
        "of class Tumor": 2,
        "objects of type tile": 1,
        "without an outline (Point)": 1,
        "without an outline (no geometry)": 1,
        "without an outline (empty)": 1,
    }


def test_further_classes_count_if_they_are_named(tmp_path: Path) -> None:
    path = written([feature(), feature(classification={"name": "Immune cells"})], tmp_path)
    assert len(read_outlines(path, ["immune CELLS"]).nuclei) == 2


def test_objects_none_of_which_is_a_nucleus_are_a_fault_and_no_objects_are_not(
    tmp_path: Path,
) -> None:
    path = written([feature(classification="Tumor")], tmp_path)
    with pytest.raises(GlioError, match=r"no nucleus, only 1 of class Tumor; pass --class"):
        read_outlines(path)
    assert read_outlines(written([], tmp_path)).nuclei == []


def test_a_pixel_belongs_to_the_outline_that_its_centre_lies_in(tmp_path: Path) -> None:
    triangle = [[[0, 0], [4.2, 0], [0, 4.2], [0, 0]]]
    assert drawn(triangle, (5, 5), tmp_path) == ["11110", "11100", "11000", "10000", "00000"]
    shifted = [[[0.6, 0.4], [3.4, 0.4], [3.4, 1.6], [0.6, 1.6], [0.6, 0.4]]]
    assert drawn(shifted, (3, 4), tmp_path) == ["0110", "0110", "0000"]


@pytest.mark.parametrize("seed", range(5))
def test_any_outline_covers_what_an_independent_test_of_its_points_says(seed: int) -> None:
    random = np.random.default_rng(seed)
    ring = random.uniform(-8, 30, (9, 2))  # crosses itself and the borders
    rows, columns = np.mgrid[0:20, 0:25] + 0.5
    inside = points_in_poly(np.column_stack([columns.ravel(), rows.ravel()]), ring)
    labels = draw_labels([[[ring]]], (20, 25))
    np.testing.assert_array_equal(labels, inside.reshape(20, 25))


def test_an_outline_is_cut_at_the_borders_of_the_image(tmp_path: Path) -> None:
    corner = [[[-9, -3.5], [2, -3.5], [2, 1], [-9, 1], [-9, -3.5]]]
    assert drawn(corner, (2, 4), tmp_path) == ["1100", "0000"]
    everywhere = [[[-1e6, -1e6], [1e6, -1e6], [1e6, 1e6], [-1e6, 1e6], [-1e6, -1e6]]]
    assert drawn(everywhere, (2, 4), tmp_path) == ["1111", "1111"]
    beside = [[[4, 0], [9, 0], [9, 2], [4, 2], [4, 0]]]
    assert drawn(beside, (2, 4), tmp_path) == ["0000", "0000"]


def test_an_open_ring_is_closed(tmp_path: Path) -> None:
    assert drawn([SQUARE[0][:-1]], (4, 5), tmp_path) == drawn(SQUARE, (4, 5), tmp_path)


def test_of_a_ring_that_crosses_itself_both_loops_count(tmp_path: Path) -> None:
    bow = [[[0, 0], [5, 4], [5, 0], [0, 4], [0, 0]]]
    assert drawn(bow, (4, 5), tmp_path) == ["10001", "11011", "11011", "10001"]


def test_a_hole_takes_away_and_never_adds(tmp_path: Path) -> None:
    hole = [[3, 0], [6, 0], [6, 2], [3, 2], [3, 0]]  # mostly outside its polygon
    assert drawn([*SQUARE, hole], (4, 6), tmp_path) == ["000000", "011000", "011100", "000000"]


def test_the_later_of_two_nuclei_lies_on_top_and_one_hidden_has_no_number() -> None:
    big, small = np.array(SQUARE[0], float), np.array([[2, 1], [3, 1], [3, 2], [2, 2]], float)
    np.testing.assert_array_equal(
        draw_labels([[[big]], [[small]]], (4, 5)), labels_of("00000 01210 01110 00000")
    )
    np.testing.assert_array_equal(
        draw_labels([[[small]], [[big]]], (4, 5)), labels_of("00000 01110 01110 00000")
    )


def test_area_counts_every_polygon_without_its_holes() -> None:
    outer, hole = np.array([[0, 0], [9, 0], [9, 4], [0, 4]]), np.array([[1, 1], [3, 1], [3, 2]])
    assert area_px([[outer.astype(float), hole.astype(float)], [hole + 1000.0]]) == 36 - 1 + 1


def test_outside_is_what_has_no_part_over_the_image() -> None:
    square = np.array(SQUARE[0], float)
    shape = (10, 20)
    assert not lies_outside([[square]], shape)
    assert not lies_outside([[square + 500], [np.add(square, (18, 8))]], shape)
    for shift in ((19, 0), (0, 9), (-4, 0), (0, -3)):
        assert lies_outside([[square + shift]], shape)


BEYOND = [[0, 0], [1e300, 0], [0, 1]]
FAULTS: dict[str, tuple[Any, str]] = {
    "no JSON": ("nuclei", "not GeoJSON, or cut short"),
    "empty": ("", "not GeoJSON, or cut short"),
    "cut short": (to_geojson(labels_of("1"))[:-30], "not GeoJSON, or cut short"),
    "nested without end": ("[" * 200_000, "not GeoJSON, or cut short"),
    "a number": ("7", "no GeoJSON of objects"),
    "another object": ({"type": "Topology"}, "no GeoJSON of objects"),
    "features that are no list": (
        {"type": "FeatureCollection", "features": {}},
        "no GeoJSON of objects",
    ),
    "a feature that is none": ([feature(), 5], "object 2 is no Feature"),
    "a bare geometry": ([feature()["geometry"]], "object 1 is no Feature"),
    "properties that are a list": ([feature(properties=[1])], r"object 1: its properties is \[1\]"),
    "a geometry that is text": ([feature(geometry="here")], "its geometry is 'here'"),
    "a class that is a number": ([feature(classification=5)], "its classification is 5"),
    "a class name that is a number": (
        [feature(classification={"name": 5})],
        "its classification is {'name': 5}",
    ),
    "NaN": ('[{"type": "Feature", "geometry": {"type": "Polygon", "coordinates": '
            '[[[0, 0], [NaN, 1], [1, 1]]]}}]', "a coordinate is nan"),
    "infinity": ([feature([[[0, 0], [float("inf"), 1], [1, 1]]])], "a coordinate is inf"),
    "huge": ([feature([BEYOND])], r"a coordinate is 1e\+300"),
    "an integer past 64 bits": ([feature([[[0, 0], [10**30, 0], [0, 1]]])], "not a list of"),
    "text": ([feature([[["0", "0"], ["1", "0"], ["0", "1"]]])], "not a list of"),
    "truth values": ([feature([[[True, False], [True, True], [False, True]]])], "not a list of"),
    "null": ([feature([[[0, 0], None, [1, 1]]])], "not a list of"),
    "one number a corner": ([feature([[[0], [1], [2]]])], "not a list of"),
    "ragged corners": ([feature([[[0, 0], [1], [2, 2]]])], "not a list of"),
    "an empty ring": ([feature([[]])], "not a list of"),
    "coordinates too flat": ([feature([0, 0])], "not a list of"),
    "no coordinates": ([feature(geometry={"type": "Polygon"})], "coordinates are None"),
    "coordinates too deep": ([feature(json.loads("[" * 300 + "]" * 300))], "not a list of"),
}  # fmt: skip


@pytest.mark.parametrize(("value", "message"), FAULTS.values(), ids=FAULTS.keys())
def test_names_what_is_wrong_in_one_short_line(value: Any, message: str, tmp_path: Path) -> None:
    path = written(value, tmp_path)
    with pytest.raises(GlioError, match=message) as caught:
        read_outlines(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < len(str(path)) + 200


def test_names_a_file_that_is_missing_a_folder_or_not_text(tmp_path: Path) -> None:
    for path in (tmp_path / "none.geojson", tmp_path):
        with pytest.raises(GlioError, match="cannot be read"):
            read_outlines(path)
    binary = tmp_path / "binary.geojson"
    binary.write_bytes(b"\x89PNG\xff\xfe")
    with pytest.raises(GlioError, match="not GeoJSON"):
        read_outlines(binary)


def test_a_byte_order_mark_is_no_fault(tmp_path: Path) -> None:
    path = tmp_path / "tile.geojson"
    path.write_text(json.dumps([feature()]), encoding="utf-8-sig")
    assert len(read_outlines(path).nuclei) == 1
