"""Fields that were marked in the viewer are those that `glioexport annotate` cuts out."""

from __future__ import annotations

import json

import pytest

from glioexport import fields as export_fields
from gliorun.measuring.survey import survey
from gliorun.reading.slide import Slide
from gliorun.settings import Settings
from gliorun.viewer.fields import Fields


@pytest.fixture(scope="module")
def surveyed(small_slide, card):
    with Slide(small_slide.path) as slide:
        yield survey(slide, card, Settings())


@pytest.fixture
def fields(surveyed, tmp_path):
    return Fields(tmp_path / "small.fields.geojson", surveyed)


def boxes(message):
    return json.loads(message)["boxes"]


@pytest.mark.parametrize("bounds", [None, (100, 60, 1700, 1200)])
def test_annotate_cuts_out_what_was_marked(fields, surveyed, monkeypatch, bounds):
    if bounds is not None:  # QuPath crops to them, and counts from their corner
        names = ("x", "y", "width", "height")
        left, top, right, bottom = bounds
        values = dict(zip(names, (left, top, right - left, bottom - top), strict=True))
        stated = {f"openslide.bounds-{name}": str(value) for name, value in values.items()}
        monkeypatch.setattr(surveyed.slide, "_properties", surveyed.slide.properties | stated)
        assert surveyed.slide.bounds_l0 == bounds
    fields.toggled(700.4, 600.2)
    marked = boxes(fields.toggled(1200, 900))
    places = export_fields.Places(surveyed.slide, surveyed.grid)
    cut = export_fields.at_regions(places, fields.path)
    assert [
        [f.spec.x_l0, f.spec.y_l0, f.spec.x_l0 + f.spec.width_l0, f.spec.y_l0 + f.spec.height_l0]
        for f in cut
    ] == marked
    assert marked[0] == [460, 360, 940, 840]


def test_a_field_is_taken_back_by_marking_it_again(fields):
    fields.toggled(700, 600)
    assert len(boxes(fields.toggled(1300, 900))) == 2
    (left,) = boxes(fields.toggled(1290, 880))
    assert left == [460, 360, 940, 840]
    assert boxes(fields.packed()) == [left]


def test_a_file_that_holds_something_else_is_not_written_over(fields):
    for content in (
        "",
        "{}",
        '{"features": [1]}',
        '{"features": [{"geometry": null}]}',
        "[" * 9999,
    ):
        fields.path.write_text(content)
        assert "move it away" in json.loads(fields.toggled(700, 600))["fault"]
        assert fields.path.read_text() == content


def test_a_folder_that_cannot_be_written_is_a_sentence(surveyed, tmp_path):
    fields = Fields(tmp_path / "gone" / "a.fields.geojson", surveyed)
    message = json.loads(fields.toggled(700, 600))
    assert "cannot be written" in message["fault"]
    assert message["boxes"] == []


def test_the_file_has_the_keys_that_are_documented(fields):
    fields.toggled(700, 600)
    collection = json.loads(fields.path.read_bytes())
    assert list(collection) == ["type", "note", "origin_l0", "features"]
    (feature,) = collection["features"]
    assert set(feature) == {"type", "id", "geometry", "properties"}
    assert set(feature["properties"]) == {"objectType", "name", "classification"}
    assert feature["properties"]["objectType"] == "annotation"
    assert feature["properties"]["classification"]["name"] == "Field"


def test_the_command_can_be_typed(fields):
    assert fields.command.startswith("glioexport annotate ")
    assert f"--at {fields.path} --out mine" in fields.command
