"""Files of regions in the very shape in which each program and version writes them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gliorun.errors import GlioError
from gliorun.reading.regions import Regions, read_regions

SIZE = (1000, 800)
SQUARE = [[100, 100], [300, 100], [300, 300], [100, 300], [100, 100]]
OVAL = [[400, 200], [450, 150], [500, 200], [450, 250], [400, 200]]
POLYGON = {"type": "Polygon", "coordinates": [SQUARE]}

QUPATH_0_2 = [
    {
        "type": "Feature",
        "id": "PathAnnotationObject",
        "geometry": POLYGON,
        "properties": {
            "classification": {"name": "Tumor", "colorRGB": -3670016},
            "isLocked": False,
            "measurements": [{"name": "Area", "value": 1.5}],
        },
    },
    {
        "type": "Feature",
        "id": "PathCellObject",
        "geometry": {"type": "Polygon", "coordinates": [OVAL]},
        "nucleusGeometry": {"type": "Polygon", "coordinates": [OVAL]},
        "properties": {"isLocked": False, "measurements": []},
    },
    {
        "type": "Feature",
        "id": "PathDetectionObject",
        "geometry": {"type": "Polygon", "coordinates": [OVAL]},
        "properties": {"isLocked": False, "measurements": []},
    },
]
QUPATH_0_3 = {
    "type": "FeatureCollection",
    "features": [
        {
            "type": "Feature",
            "geometry": POLYGON,
            "properties": {
                "object_type": "annotation",
                "classification": {"name": "Tumor", "colorRGB": -3670016},
                "isLocked": False,
            },
        },
        {
            "type": "Feature",
            "geometry": {"type": "Polygon", "coordinates": [OVAL]},
            "properties": {"object_type": "cell", "isLocked": False},
        },
        {
            "type": "Feature",
            "geometry": {"type": "Polygon", "coordinates": [OVAL], "isEllipse": True},
            "properties": {"object_type": "tma_core", "name": "A-1", "isMissing": False},
        },
    ],
}
QUPATH_0_6 = {
    "type": "FeatureCollection",
    "features": [
        {
            "type": "Feature",
            "id": "8c3d4e3e-5b0a-4a52-9b39-0d8b6a1e2f01",
            "geometry": {
                "type": "Polygon",
                "coordinates": [OVAL],
                "isEllipse": True,
                "plane": {"c": -1, "z": 0, "t": 0},
            },
            "properties": {
                "objectType": "tmaCore",
                "name": "A-1",
                "isMissing": False,
                "childObjects": [
                    {
                        "type": "Feature",
                        "id": "8c3d4e3e-5b0a-4a52-9b39-0d8b6a1e2f02",
                        "geometry": POLYGON,
                        "properties": {
                            "objectType": "annotation",
                            "name": "Inside",
                            "color": [1, 2, 3],
                            "classification": {"names": ["Tumor", "Positive"], "color": [1, 2, 3]},
                            "isLocked": True,
                            "measurements": {"Length µm": 1.25},
                            "metadata": {"ANNOTATION_DESCRIPTION": "by hand"},
                        },
                    },
                    {
                        "type": "Feature",
                        "id": "8c3d4e3e-5b0a-4a52-9b39-0d8b6a1e2f03",
                        "geometry": {"type": "Polygon", "coordinates": [OVAL]},
                        "properties": {"objectType": "cell"},
                    },
                ],
            },
        },
        {
            "type": "Feature",
            "id": "8c3d4e3e-5b0a-4a52-9b39-0d8b6a1e2f04",
            "geometry": {"type": "Polygon", "coordinates": [OVAL]},
            "properties": {"objectType": "tmaCore", "name": "A-2", "isMissing": True},
        },
    ],
}
IMAGESCOPE = """<?xml version="1.0" encoding="UTF-8"?>
<Annotations MicronsPerPixel="0.252000">
 <Annotation Id="1" Name="" ReadOnly="0" NameReadOnly="0" LineColorReadOnly="0" Incremental="0"
   Type="4" LineColor="65280" Visible="1" Selected="0" MarkupImagePath="" MacroName="">
  <Attributes><Attribute {attribute} Id="0"/></Attributes>
  <Regions>
   <RegionAttributeHeaders>
    <AttributeHeader Id="9999" Name="Region" ColumnWidth="-1"/>
    <AttributeHeader Id="1" Name="Description" ColumnWidth="-1"/>
   </RegionAttributeHeaders>
   <Region Id="1" Type="0" Zoom="0.05" Selected="0" ImageLocation="" ImageFocus="0" Length="800"
     Area="40000.0" LengthMicrons="201.6" AreaMicrons="2540.2" Text="" NegativeROA="0"
     InputRegionId="0" Analyze="1" DisplayId="1">
    <Attributes/>
    <Vertices>
     <Vertex X="100.0" Y="100.0"/><Vertex X="300.0" Y="100.0"/><Vertex X="300.0" Y="300.0"/>
     <Vertex X="100.0" Y="300.0"/>
    </Vertices>
   </Region>
  </Regions>
  <Plots/>
 </Annotation>
</Annotations>
"""
HALO = """<Annotations>
  <Annotation Name="Layer 1" Visible="True" LineColor="5634047">
    <Regions>
      <Region Type="Rectangle" HasEndcaps="0" NegativeROA="0">
        <Vertices><V X="-266" Y="492" /><V X="-79" Y="654" /></Vertices>
      </Region>
    </Regions>
  </Annotation>
</Annotations>
"""
ASAP = """<?xml version="1.0"?>
<ASAP_Annotations>
\t<Annotations>
\t\t<Annotation Name="Annotation 0" Type="Polygon" PartOfGroup="Tumor" Color="#F4FA58">
\t\t\t<Coordinates>
\t\t\t\t<Coordinate Order="0" X="100{0}5" Y="100{0}25" />
\t\t\t\t<Coordinate Order="1" X="300{0}5" Y="100{0}25" />
\t\t\t\t<Coordinate Order="2" X="300{0}5" Y="300{0}25" />
\t\t\t\t<Coordinate Order="3" X="100{0}5" Y="300{0}25" />
\t\t\t</Coordinates>
\t\t</Annotation>
\t\t<Annotation Name="Annotation 1" Type="Polygon" PartOfGroup="Exclusion" Color="#64FE2E">
\t\t\t<Coordinates>
\t\t\t\t<Coordinate Order="0" X="150" Y="150" />
\t\t\t\t<Coordinate Order="1" X="250" Y="150" />
\t\t\t\t<Coordinate Order="2" X="250" Y="250" />
\t\t\t</Coordinates>
\t\t</Annotation>
\t</Annotations>
\t<AnnotationGroups>
\t\t<Group Name="Tumor" PartOfGroup="None" Color="#64FE2E">
\t\t\t<Attributes />
\t\t</Group>
\t\t<Group Name="Exclusion" PartOfGroup="Tumor" Color="#ff0000">
\t\t\t<Attributes />
\t\t</Group>
\t</AnnotationGroups>
</ASAP_Annotations>
"""


def read(folder: Path, content: object, name: str = "a.geojson") -> Regions:
    path = folder / name
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return read_regions(path, SIZE)


def lines(regions: Regions) -> list[tuple[str, str, float]]:
    return [(region.name, region.class_name, region.area_l0) for region in regions.regions]


@pytest.mark.parametrize("wrap", [list, lambda features: {"type": "FeatureCollection",
                                                          "features": features}])  # fmt: skip
def test_of_qupath_0_2_the_identity_says_which_are_cells(tmp_path, wrap):
    regions = read(tmp_path, wrap(QUPATH_0_2))
    assert lines(regions) == [("Tumor", "Tumor", 40_000)]
    (warning,) = regions.warnings
    assert "cell" in warning
    assert "detection" in warning


def test_of_qupath_0_3_the_object_type_has_another_name(tmp_path):
    regions = read(tmp_path, QUPATH_0_3)
    assert lines(regions) == [("Tumor", "Tumor", 40_000), ("A-1", "", 5_000)]
    assert "cell" in regions.warnings[0]


def test_of_qupath_0_4_and_newer_cores_what_lies_in_them_and_missing_ones(tmp_path):
    regions = read(tmp_path, QUPATH_0_6)
    assert lines(regions) == [("A-1", "", 5_000), ("Inside", "Tumor: Positive", 40_000)]
    (warning,) = regions.warnings
    assert "cell" in warning
    assert "missing cores" in warning


@pytest.mark.parametrize(
    ("attribute", "class_name"),
    [
        ('Name="CaP" Value=""', "CaP"),
        ('Name="Description" Value="Tumour"', "Tumour"),
        ('Name="Description" Value=""', ""),
    ],
)
def test_an_imagescope_layer_without_a_name_is_called_as_it_is_described(
    tmp_path, attribute, class_name
):
    regions = read(tmp_path, IMAGESCOPE.format(attribute=attribute), "a.xml")
    assert lines(regions) == [(class_name or "Region", class_name, 40_000)]


def test_a_file_of_halo_is_refused_by_its_name(tmp_path):
    with pytest.raises(GlioError, match=r"written by HALO.*as GeoJSON"):
        read(tmp_path, HALO, "a.annotations")


@pytest.mark.parametrize("point", [".", ","])
def test_asap_with_groups_and_the_comma_of_another_language(tmp_path, point):
    regions = read(tmp_path, ASAP.format(point), "a.xml")
    assert lines(regions) == [
        ("Annotation 0", "Tumor", 40_000),
        ("Annotation 1", "Exclusion", 5_000),
    ]
    assert regions.regions[0].outline.bounds == (100.5, 100.25, 300.5, 300.25)


def test_a_hand_that_overlaps_its_beginning_is_no_reason_to_refuse(tmp_path):
    end = [[100, 302], [106, 302], [106, 96], [112, 96], [112, 100]]
    ring = [*SQUARE[:3], *end]
    hooked = [{"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [ring]}}]
    regions = read(tmp_path, hooked)
    assert regions.regions[0].area_l0 == pytest.approx(200 * 200, rel=0.05)
