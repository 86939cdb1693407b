"""What a person drew is read as drawn, or refused: never with a wrong area."""

from __future__ import annotations

import gzip
import json
import time
from pathlib import Path

import numpy as np
import pytest
import shapely
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from gliorun.errors import GlioError
from gliorun.measuring.within import in_window, pixels_within
from gliorun.reading.regionfile import regions_file
from gliorun.reading.regions import MOST_REGIONS, read_regions
from gliorun.reading.tiles import TileSpec

SIZE = (1000, 800)
SQUARE = [[100, 100], [300, 100], [300, 300], [100, 300], [100, 100]]
HOLE = [[150, 150], [250, 150], [250, 250], [150, 250], [150, 150]]


def feature(coordinates, shape="Polygon", **properties):
    geometry = {"type": shape, "coordinates": coordinates}
    return {"type": "Feature", "geometry": geometry, "properties": properties}


def written(folder: Path, value: object, name: str = "r.geojson") -> Path:
    path = folder / name
    path.write_text(value if isinstance(value, str) else json.dumps(value), encoding="utf-8")
    return path


def read(folder: Path, value: object, **kwargs):
    return read_regions(written(folder, value), SIZE, **kwargs)


def imagescope(*regions: str, name: str = "Tumour") -> str:
    return (
        f'<Annotations MicronsPerPixel="0.25"><Annotation Id="1" Name="{name}"><Regions>'
        f"{''.join(regions)}</Regions></Annotation></Annotations>"
    )


def drawn(corners, kind="0", **attributes) -> str:
    more = "".join(f' {name}="{value}"' for name, value in attributes.items())
    vertices = "".join(f'<Vertex X="{x}" Y="{y}" Z="0"/>' for x, y in corners)
    return f'<Region Type="{kind}"{more}><Vertices>{vertices}</Vertices></Region>'


def asap(*annotations: str) -> str:
    return f"<ASAP_Annotations><Annotations>{''.join(annotations)}</Annotations></ASAP_Annotations>"


def annotated(corners, kind="Polygon", name="a", group="None", order=None) -> str:
    order = order or range(len(corners))
    inside = "".join(
        f'<Coordinate Order="{k}" X="{x}" Y="{y}"/>'
        for k, (x, y) in zip(order, corners, strict=True)
    )
    return (
        f'<Annotation Name="{name}" Type="{kind}" PartOfGroup="{group}">'
        f"<Coordinates>{inside}</Coordinates></Annotation>"
    )


@pytest.mark.parametrize("form", ["collection", "list", "one", "packed"])
def test_geojson_of_qupath_in_each_of_its_forms(tmp_path, form):
    one = feature([SQUARE, HOLE], name="Core", classification={"name": "Tumor", "color": [1, 2, 3]})
    forms = {"list": [one], "one": one}
    value = forms.get(form, {"type": "FeatureCollection", "features": [one]})
    path = written(tmp_path, value)
    if form == "packed":
        path = tmp_path / "r.geojson.gz"
        path.write_bytes(gzip.compress(json.dumps(value).encode("utf-8-sig")))
    (region,) = read_regions(path, SIZE).regions
    assert (region.name, region.class_name) == ("Core", "Tumor")
    assert region.outline.equals(shapely.from_geojson(json.dumps(one["geometry"])))
    assert region.area_l0 == 200**2 - 100**2


def test_the_parts_holes_and_classes_of_geojson(tmp_path):
    far = [[x + 400, y] for x, y in SQUARE]
    regions = read(
        tmp_path,
        [
            feature([[SQUARE, HOLE], [far]], "MultiPolygon", classification="Cortex"),
            feature([SQUARE], classification={"names": ["Tumor", "Rim"]}, objectType="annotation"),
            feature([SQUARE]),
            feature([SQUARE], objectType="cell"),
            feature([1, 2], "Point", objectType="annotation"),
        ],
    )
    assert [region.name for region in regions.regions] == ["Cortex", "Tumor: Rim", "Region"]
    assert regions.regions[0].area_l0 == 2 * 200**2 - 100**2
    (warning,) = regions.warnings
    assert "1 of type 'cell'" in warning
    assert "1 without an area (Point)" in warning


def test_names_that_occur_twice_are_numbered(tmp_path):
    names = ["a", "a 2", "a", "b", ""]
    read_names = [
        region.name
        for region in read(tmp_path, [feature([SQUARE], name=name) for name in names]).regions
    ]
    assert len(set(read_names)) == 5
    assert read_names[1] == "a 2"
    assert read_names[3:] == ["b", "Region"]


def test_qupath_and_imagescope_count_from_the_bounds_and_asap_from_the_scan_area(tmp_path):
    bounds = (50, 20, 900, 700)
    (region,) = read(tmp_path, [feature([SQUARE])], bounds_l0=bounds).regions
    assert region.outline.bounds == (150, 120, 350, 320)
    path = written(tmp_path, imagescope(drawn(SQUARE[:4])), "r.xml")
    (region,) = read_regions(path, SIZE, bounds).regions
    assert region.outline.bounds == (150, 120, 350, 320)
    path = written(tmp_path, asap(annotated(SQUARE[:4])), "r.xml")
    (region,) = read_regions(path, SIZE, bounds).regions
    assert region.outline.bounds == (100, 100, 300, 300)


def test_imagescope_layers_shapes_and_the_negative_pen(tmp_path):
    text = imagescope(
        drawn(SQUARE[:4], Text="dense", NegativeROA="0"),
        drawn(HOLE[:4], NegativeROA="1"),
        drawn([(400, 100), (600, 200)], "1"),
        drawn([(400, 300), (600, 400)], "2"),
        drawn([(0, 0), (5, 5)], "3"),
    )
    regions = read_regions(written(tmp_path, text, "r.xml"), SIZE)
    dense, box, oval = regions.regions
    assert [r.name for r in regions.regions] == ["dense", "Tumour 1", "Tumour 2"]
    assert {r.class_name for r in regions.regions} == {"Tumour"}
    assert dense.area_l0 == 200**2 - 100**2
    assert box.area_l0 == 200 * 100
    assert oval.area_l0 == pytest.approx(np.pi * 100 * 50, rel=1e-4)
    assert "1 without an area (type 3)" in regions.warnings[0]


def test_asap_groups_orders_and_splines(tmp_path):
    shuffled = [SQUARE[k] for k in (2, 0, 3, 1)]
    text = asap(
        annotated(shuffled, group="Tumor", order=(2, 0, 3, 1)),
        annotated(SQUARE[:4], "Spline", name="b"),
        annotated(SQUARE[:1], "Dot"),
    )
    regions = read_regions(written(tmp_path, text, "r.xml"), SIZE)
    first, second = regions.regions
    assert (first.area_l0, first.class_name, second.class_name) == (200**2, "Tumor", "")
    assert any("splines" in warning for warning in regions.warnings)
    assert any("1 without an area (Dot)" in warning for warning in regions.warnings)


def test_a_figure_of_eight_encloses_both_its_loops_and_says_so(tmp_path):
    eight = [[100, 100], [300, 300], [300, 100], [100, 300], [100, 100]]
    regions = read(tmp_path, [feature([eight], name="x")])
    assert regions.regions[0].area_l0 == 2 * 100 * 100
    assert "'x' crosses itself" in regions.warnings[0]


@pytest.mark.parametrize(
    "coordinates",
    [
[[*SQUARE[:4], *([x + 5, y] for x, y in SQUARE[:4]), SQUARE[0]]],  # winds twice
        [SQUARE, [[250, 150], [400, 150], [400, 250], [250, 250]]],  # a hole half outside
        [[[100, 100], [300, 100], [300, 300], [200, 300], [200, 150], [280, 150], [280, 250],
          [100, 250]]],
    ],
)  # fmt: skip
def test_an_area_that_depends_on_how_one_reads_it_is_refused(tmp_path, coordinates):
    with pytest.raises(GlioError, match=r"region 'x' encloses \d+ or \d+ px"):
        read(tmp_path, [feature(coordinates, name="x")])


def test_parts_of_a_region_that_overlap_are_refused(tmp_path):
    moved = [[x + 100, y] for x, y in SQUARE]
    with pytest.raises(GlioError, match="depending on how one reads"):
        read(tmp_path, [feature([[SQUARE], [moved]], "MultiPolygon")])


def test_a_tiny_loop_of_a_shaky_hand_is_no_fault(tmp_path):
    shaky = [[100, 100], [300, 100], [300, 300], [301, 300], [301, 299], [299, 301], [100, 300]]
    (region,) = read(tmp_path, [feature([shaky])]).regions
    assert region.area_l0 == pytest.approx(200**2, rel=5e-3)


def test_what_lies_off_the_slide_is_cut_off_with_a_warning_or_refused(tmp_path):
    over = [[900, 100], [1100, 100], [1100, 200], [900, 200]]
    regions = read(tmp_path, [feature([over], name="x")])
    assert regions.regions[0].area_l0 == 100 * 100
    assert "50 % of region 'x' lie off the slide" in regions.warnings[0]
    off = [[x + 5000, y] for x, y in over]
    with pytest.raises(GlioError, match=r"'x' lies off the slide.*another slide"):
        read(tmp_path, [feature([off], name="x")])


def test_a_click_without_an_area_is_left_out_and_alone_refused(tmp_path):
    line = feature([[[1, 1], [5, 5], [1, 1]]], name="slip")
    regions = read(tmp_path, [line, feature([SQUARE])])
    assert len(regions.regions) == 1
    assert "'slip' has no area" in regions.warnings[0]
    with pytest.raises(GlioError, match="none of its regions has an area"):
        read(tmp_path, [line])


BOMB = '<!DOCTYPE a [<!ENTITY b "x"><!ENTITY c "&b;&b;">]><Annotations>&c;</Annotations>'


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "not GeoJSON, or cut short"),
        ('{"type": "FeatureCollection", "feat', "not GeoJSON, or cut short"),
        ("[" * 100_000, "not GeoJSON, or cut short"),
        ("\x00\x01\x02", "not GeoJSON, or cut short"),
        ("3", "no GeoJSON of objects"),
        ("[]", "holds no region"),
        ("[1]", "object 1 is no Feature"),
        (json.dumps([feature([[[0, 0], [1, "a"]]])]), "corners are"),
        (json.dumps([feature([[0, 0], [1, 1]])]), "corners are"),
        (json.dumps([feature(7)]), "its coordinates are 7"),
        (json.dumps([feature([[[0, 0], [float("nan"), 1], [1, 1]]])]), "a coordinate is nan"),
        (json.dumps([feature([[[0, 0], [1e300, 1], [1, 1]]])]), "a coordinate is 1e\\+300"),
        (json.dumps([feature([SQUARE], name=[1])]), "its name or class is"),
        (json.dumps([feature([SQUARE], objectType="tile")]), "no region, only objects 1 of type"),
        (json.dumps([feature([SQUARE])] * (MOST_REGIONS + 1)), "regions are more than"),
        ("<html></html>", "begins with html"),
        ("<Annotations>", "not XML, or cut short"),
        ("<Annotations/>", "holds no region"),
        (BOMB, "document type or entities"),
        (imagescope('<Region><Vertices><Vertex X="a" Y="1"/></Vertices></Region>'), "no number"),
        (imagescope(drawn([(0, 0), (9, 3), (5, 9)], "2")), "box lies askew"),
        (asap(annotated(SQUARE, order="abcde")), "no whole number"),
    ],
)
def test_a_wrong_file_is_one_line(tmp_path, text, reason):
    with pytest.raises(GlioError, match=reason) as caught:
        read_regions(written(tmp_path, text), SIZE)
    assert "\n" not in str(caught.value)


def test_a_missing_folder_or_packed_rubbish_is_one_line(tmp_path):
    with pytest.raises(GlioError, match="no such file of regions"):
        read_regions(tmp_path / "none.geojson", SIZE)
    path = tmp_path / "r.geojson.gz"
    path.write_bytes(gzip.compress(b"[" * 1000)[:-12])
    with pytest.raises(GlioError, match="damaged or cut short"):
        read_regions(path, SIZE)


def circle(corners: int) -> np.ndarray:
    angle = np.arange(corners) * 2 * np.pi / corners
    wobble = 300 + 0.2 * np.sin(40_000 * angle)
    return np.stack([500 + wobble * np.cos(angle), 400 + wobble * np.sin(angle)], axis=1)


@pytest.mark.parametrize("corners", [100_000, pytest.param(1_000_000, marks=pytest.mark.soak)])
def test_a_million_corners_are_read_in_seconds(tmp_path, corners):
    began = time.process_time()
    (region,) = read(tmp_path, [feature([circle(corners).round(3).tolist()])]).regions
    assert region.area_l0 == pytest.approx(np.pi * 300**2, rel=1e-4)
    assert pixels_within(region.edges_l0, (800, 1000)).sum() == pytest.approx(
        region.area_l0, rel=1e-3
    )
    assert time.process_time() - began < 30


def test_a_scribble_of_many_corners_is_refused_and_not_taken_apart(tmp_path):
    corners = np.random.default_rng(0).random((20_000, 2)) * 800
    with pytest.raises(GlioError, match="crosses itself without end"):
        read(tmp_path, [feature([corners.tolist()])])


def test_in_a_folder_the_file_is_called_as_the_slide(tmp_path):
    slide = tmp_path / "a.b.svs"
    with pytest.raises(GlioError, match=r"name them a\.b\.geojson or a\.b\.xml"):
        regions_file(tmp_path, slide)
    first = written(tmp_path, "[]", "a.b.geojson")
    assert regions_file(tmp_path, slide) == first
    written(tmp_path, "[]", "a.b.svs.xml")
    with pytest.raises(GlioError, match="several files of its regions"):
        regions_file(tmp_path, slide)
    assert regions_file(first, slide) == first


def test_tiles_touch_a_region_where_they_share_an_area_with_it(tmp_path):
    (region,) = read(tmp_path, [feature([SQUARE, HOLE])]).regions
    specs = [
        TileSpec(0, 0, x, y, 100, 100)
        for x, y in ((0, 0), (50, 50), (100, 100), (150, 150), (300, 100), (200, 200))
    ]
    wanted = [False, True, True, False, False, True]
    assert region.touches(specs).tolist() == wanted


def test_pixels_are_within_as_shapely_says_and_tiles_agree(tmp_path):
    corners = [[10.2, 11.7], [190.3, 40.1], [120.9, 95.5], [180, 190.2], [33.3, 150.8]]
    hole = [[60.3, 60.3], [100.3, 60.3], [90.2, 110.1]]
    (region,) = read(tmp_path, [feature([corners, hole])]).regions
    y, x = np.mgrid[:200, :200] + 0.5
    wanted = shapely.contains_xy(region.outline, x.ravel(), y.ravel()).reshape(200, 200)
    whole = pixels_within(in_window(region.edges_l0, (0, 0), (1, 1)), (200, 200))
    np.testing.assert_array_equal(whole, wanted)
    for left, top in np.ndindex(4, 4):
        tile = pixels_within(in_window(region.edges_l0, (50 * left, 50 * top), (1, 1)), (50, 50))
        part = whole[50 * top : 50 * top + 50, 50 * left : 50 * left + 50]
        np.testing.assert_array_equal(tile, part)
    halves = pixels_within(in_window(region.edges_l0, (0, 0), (2, 2)), (100, 100))
    y, x = np.mgrid[:100, :100] * 2 + 1.0
    wanted = shapely.contains_xy(region.outline, x.ravel(), y.ravel()).reshape(100, 100)
    np.testing.assert_array_equal(halves, wanted)


def test_of_two_regions_that_share_a_side_each_pixel_is_in_one(tmp_path):
    random = np.random.default_rng(3)
    side = np.stack([100 + 40 * random.random(30), np.linspace(0, 200, 30)], axis=1)
    left = [[0, 0], *side.tolist(), [0, 200]]
    right = [[300, 0], *side.tolist(), [300, 200]]
    regions = read(tmp_path, [feature([left]), feature([right])]).regions
    inside = [pixels_within(region.edges_l0, (200, 300)).astype(int) for region in regions]
    assert (inside[0] + inside[1] == 1).all()


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5)
    | st.sampled_from(["Feature", "Polygon", "annotation"]),
    lambda part: st.lists(part, max_size=4)
    | st.dictionaries(
        st.sampled_from(["type", "features", "geometry", "coordinates", "properties", "name",
                         "classification", "names", "objectType", "geometries"]),
        part, max_size=4,
    ),
    max_leaves=12,
)  # fmt: skip
CORNERS = st.lists(
    st.tuples(st.integers(-50, 1100), st.integers(-50, 900)) | st.tuples(st.floats(), st.floats()),
    max_size=12,
)
SHAPES = st.builds(
    lambda rings, multi: feature(
        [rings] if multi else rings, "MultiPolygon" if multi else "Polygon"
    ),
    st.lists(CORNERS, max_size=3),
    st.booleans(),
)
XML = st.builds(
    lambda rings, kinds, negative: imagescope(
        *(drawn(r, kind, NegativeROA=int(negative)) for r, kind in zip(rings, kinds, strict=False))
    ),
    st.lists(CORNERS, max_size=3), st.lists(st.sampled_from("0123x"), max_size=3), st.booleans(),
)  # fmt: skip


def check_content(content: bytes, folder: Path) -> None:
    """Read a file of any content: a GlioError of one line, or areas that hold."""
    path = folder / "fuzz"
    path.write_bytes(content)
    try:
        regions = read_regions(path, SIZE).regions
    except GlioError as error:
        assert "\n" not in str(error)  # noqa: PT017, what is read may as well be sound
        return
    assert len({region.name for region in regions}) == len(regions) > 0
    for region in regions:
        assert region.outline.is_valid
        left, top, right, bottom = region.outline.bounds
        assert 0 <= left < right <= SIZE[0]
        assert 0 <= top < bottom <= SIZE[1]
        inside = pixels_within(region.edges_l0, SIZE[::-1]).sum()
        assert abs(inside - region.area_l0) <= 2 * region.outline.length + 10


def fuzz(examples: int, folder: Path) -> None:
    @settings(
        max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck),
        derandomize=examples < 1000,
    )  # fmt: skip
    @given(
        JSON.map(lambda value: json.dumps(value).encode())
        | st.lists(SHAPES, max_size=3).map(lambda value: json.dumps(value).encode())
        | XML.map(str.encode)
        | st.binary(max_size=40)
    )
    @example(b"<")
    @example(b"\x1f\x8b")
    @example(b"\xff\xfe<\x00a\x00/\x00>\x00")
    def check(content: bytes) -> None:
        check_content(content, folder)

    check()


def test_any_file_is_regions_or_one_line(tmp_path):
    fuzz(60, tmp_path)


@pytest.mark.soak
def test_any_file_is_regions_or_one_line_for_long(tmp_path):
    fuzz(2_000, tmp_path)
