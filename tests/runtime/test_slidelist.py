"""A list of slides: each row is measured as it says, and a bad row is that slide's reason."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

import batches
from gliorun.batch import command, loop
from gliorun.batch.ledger import Ledger
from gliorun.batch.slidelist import read_list
from gliorun.errors import GlioError, UsageError
from gliorun.model.calibration import Calibration
from gliorun.model.outlines import Outlines
from gliorun.plan import Plan

BOX = {
    "type": "Feature",
    "properties": {"name": "box"},
    "geometry": {
        "type": "Polygon", "coordinates": [[[10, 10], [290, 10], [290, 250], [10, 250]]]
    },
}  # fmt: skip


def write(path: Path, text: str, encoding: str = "utf-8") -> Path:
    path.write_text(text, encoding=encoding, newline="")
    return path


def test_paths_are_relative_to_the_list_and_spreadsheets_may_write_it(tmp_path):
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "mask.png").touch()
    text = "Slide;Name;MPP;Tissue mask\r\nhere/ä.svs;Fall 1;0,25;here/mask.png\r\n;;;\r\nb.svs\r\n"
    listed = read_list(write(tmp_path / "list.csv", text, "utf-8-sig"))
    first, second = listed.rows.values()
    assert first.slide == tmp_path / "here" / "ä.svs"
    assert (first.name, first.mpp, first.fault) == ("Fall 1", 0.25, "")
    assert first.tissue_mask == tmp_path / "here" / "mask.png"
    assert (second.slide, second.name, second.mpp) == (tmp_path / "b.svs", "", None)
    assert listed.complaints == ()


def test_a_bad_row_is_the_fault_of_its_slide_alone(tmp_path):
    text = (
        "slide,name,mpp,regions,notes\na.svs,x,fine,,\nb.svs,y,,none.geojson,\n"
        "c.svs,X,,,n\nc.svs,z,,,\n,w,,,\nd.svs,,,,\n"
    )
    listed = read_list(write(tmp_path / "list.csv", text))
    faults = {path.name: row.fault for path, row in listed.rows.items()}
    assert "line 2: mpp is 'fine'" in faults["a.svs"]
    assert "line 3: none.geojson: no such file of regions" in faults["b.svs"]
    assert "line 4: another slide is called X" in faults["c.svs"]
    assert faults["d.svs"] == ""
    unread, again, nameless = listed.complaints
    assert "column 'notes' is not read" in unread
    assert "line 5 names" in again
    assert "line 6 names no slide" in nameless


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is empty"),
        (b"path,name\na.svs,b\n", "no column 'slide'"),
        (b"slide,slide\na.svs,b\n", "is there twice"),
        (b"slide\n\n", "names no slide"),
        (b"\xff\xfe\x00", "no CSV in UTF-8"),
        (b'slide\n"a.svs\n', "no CSV in UTF-8"),
    ],
)
def test_a_file_that_is_no_list_is_one_line(tmp_path, content, reason):
    (tmp_path / "list.csv").write_bytes(content)
    with pytest.raises(GlioError, match=reason) as caught:
        read_list(tmp_path / "list.csv")
    assert "\n" not in str(caught.value)


def run(
    request: command.Request, monkeypatch, plan: Plan | None = None
) -> tuple[bool, list[loop.Task]]:
    """Run a request with work that copies, and return what was to be measured."""
    tasks: list[loop.Task] = []

    def work(feed):
        for task in feed:
            tasks.append(task)
            yield task, batches.copied(task)

    monkeypatch.setattr(loop, "local_work", lambda *arguments: work)
    return command.run(request, plan or batches.plan(), command.OutputMode(quiet=True)), tasks


def test_each_row_is_measured_as_it_says_and_not_again(tmp_path, monkeypatch):
    for name in "abc":
        batches.tiny(tmp_path / f"{name}.svs", density=0.1 + 0.1 * "abc".index(name))
    write(tmp_path / "b.geojson", json.dumps([BOX]))
    text = "slide,name,mpp,regions\na.svs,first,0.5,\nb.svs,,,b.geojson\nc.svs,,99,\nnone.svs,,,\n"
    named = [str(write(tmp_path / "list.csv", text))]
    maps = tmp_path / "maps"
    all_done, tasks = run(command.Request(named, maps, "csv", 30), monkeypatch)
    assert not all_done
    settings = {task.path.name: task.plan.settings for task in tasks}
    assert (settings["a.svs"].mpp, settings["a.svs"].regions) == (0.5, None)
    assert (settings["b.svs"].mpp, settings["b.svs"].regions) == (None, tmp_path / "b.geojson")
    assert (maps / "first.csv").is_file()
    rows = batches.summary(maps)
    assert {name: row["state"].partition(",")[0] for name, row in rows.items()} == {
        "first": "done", "b": "done", "c": "failed", "none": "failed"
    }  # fmt: skip
    assert "mpp is 99" in rows["c"]["reason"]
    with (maps / "summary.csv").open("rb") as table:
        assert table.read(3) == b"\xef\xbb\xbf"
    # nothing has changed: only what failed is tried again
    assert [task.path.name for task in run(command.Request(named, maps, "csv", 30), monkeypatch)[1]
            ] == ["none.svs"]  # fmt: skip
    # other regions, another scale and another name are measured anew
    write(tmp_path / "b.geojson", json.dumps([{**BOX, "properties": {"name": "other"}}]))
    write(tmp_path / "list.csv", text.replace("first", "renamed"))
    again = run(command.Request(named, maps, "csv", 30), monkeypatch)[1]
    assert [task.path.name for task in again] == ["a.svs", "b.svs", "none.svs"]
    assert (maps / "renamed.csv").is_file()
    assert set(batches.summary(maps)) == {"renamed", "b", "c", "none"}


def test_a_row_that_became_wrong_is_told_though_its_slide_was_done(tmp_path, monkeypatch):
    batches.tiny(tmp_path / "a.svs")
    named = [str(write(tmp_path / "list.csv", "slide,mpp\na.svs,\n"))]
    assert run(command.Request(named, tmp_path / "maps", "csv", 30), monkeypatch)[0]
    write(tmp_path / "list.csv", "slide,mpp\na.svs,wrong\n")
    assert not run(command.Request(named, tmp_path / "maps", "csv", 30), monkeypatch)[0]
    assert "mpp is 'wrong'" in batches.summary(tmp_path / "maps")["a"]["reason"]


def test_a_row_has_a_calibration_of_its_own_or_none(tmp_path, monkeypatch):
    ours, theirs = (
        Calibration(name, "student", "ab" * 32, Outlines(160, 140, 120), "2026-01-01")
        for name in ("ours", "theirs")
    )
    for name in "abcd":
        batches.tiny(tmp_path / f"{name}.svs", density=0.1 + 0.1 * "abcd".index(name))
    write(tmp_path / "cal.json", theirs.to_json({}))
    write(tmp_path / "no.json", "{}")
    text = "slide,calibration\na.svs,cal.json\nb.svs,none\nc.svs,\nd.svs,no.json\n"
    named = [str(write(tmp_path / "list.csv", text))]
    plan = batches.plan(calibration=ours)
    all_done, tasks = run(command.Request(named, tmp_path / "maps", "csv", 30), monkeypatch, plan)
    assert not all_done
    found = {task.path.name: task.plan.settings.calibration for task in tasks}
    assert found == {"a.svs": theirs, "b.svs": None, "c.svs": ours}
    assert "no.json" in batches.summary(tmp_path / "maps")["d"]["reason"]


def test_of_a_folder_of_regions_each_slide_has_its_own(tmp_path, monkeypatch):
    for name in "ab":
        batches.tiny(tmp_path / "scans" / f"{name}.svs")
    (tmp_path / "drawn").mkdir()
    write(tmp_path / "drawn" / "a.geojson", json.dumps([BOX]))
    request = command.Request(
        [str(tmp_path / "scans")], tmp_path / "maps", "csv", 30, regions=tmp_path / "drawn"
    )
    all_done, (task,) = run(request, monkeypatch)
    assert not all_done
    assert task.plan.settings.regions == tmp_path / "drawn" / "a.geojson"
    assert "holds no regions of it" in batches.summary(tmp_path / "maps")["b"]["reason"]


def test_a_list_stands_alone_and_regions_of_many_slides_in_a_folder(tmp_path):
    with pytest.raises(UsageError, match="named alone"):
        command.Request(["a.csv", "b.svs"], tmp_path, "csv", 30)
    with pytest.raises(UsageError, match="is no folder"):
        command.Request(["b.svs"], tmp_path, "csv", 30, regions=tmp_path / "r.geojson")
    with pytest.raises(UsageError, match="--watch waits for slides"):
        command.watch(command.Request(["a.csv"], tmp_path, "csv", 30), batches.plan(),
                      command.OutputMode())  # fmt: skip


def test_a_name_that_is_taken_by_another_slide_is_kept_with_a_number(tmp_path):
    a, b = (
        batches.tiny(tmp_path / f"{name}.svs", density=d) for name, d in (("a", 0.1), ("b", 0.3))
    )
    (tmp_path / "maps").mkdir()
    ledger = Ledger(tmp_path / "maps", {}, ())
    first, _ = ledger.start(a, {}, "same")
    second, _ = ledger.start(b, {}, "same")
    assert first.name == "same"
    assert second.name.startswith("same-")
    for path, record in ((a, first), (b, second)):
        ledger.done(record, (), {}, {})
        assert ledger.settled(path, retry=True, made_with={}, name="same").name == record.name


def test_the_program_measures_a_list(tmp_path):
    batches.tiny(tmp_path / "a.svs")
    write(tmp_path / "a.geojson", json.dumps([BOX]))
    write(tmp_path / "list.csv", "slide,name,regions\na.svs,case 7,a.geojson\n")
    done = batches.type_in(
        tmp_path / "list.csv", "--out-dir", tmp_path / "maps", "--count",
        "--format", "regions.csv", "--checkpoint", "0",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    with (tmp_path / "maps" / "case 7.regions.csv").open(encoding="utf-8-sig") as stream:
        (row,) = csv.DictReader(stream)
    assert row["region"] == "box"
    assert float(row["area_mm2"]) == pytest.approx(280 * 240 * 0.25**2 / 1e6, abs=1e-6)
    per_mm2 = float(batches.summary(tmp_path / "maps")["case 7"]["nuclei_per_mm2"])
    assert per_mm2 == pytest.approx(float(row["nuclei_per_mm2"]), rel=0.01)


def test_a_folder_measured_with_regions_and_then_without_has_no_failure(tmp_path):
    batches.tiny(tmp_path / "scans" / "a.svs")
    corners = [[10, 10], [290, 10], [290, 250], [10, 250], [10, 10]]
    drawn = {"type": "Polygon", "coordinates": [corners]}
    (tmp_path / "drawn").mkdir()
    (tmp_path / "drawn" / "a.geojson").write_text(
        json.dumps({"type": "Feature", "geometry": drawn, "properties": {"name": "all"}})
    )
    words = (tmp_path / "scans", "--out-dir", tmp_path / "maps", "--format")
    first = batches.type_in(*words, "csv,regions.csv", "--regions", tmp_path / "drawn")
    assert first.returncode == 0, first.stdout + first.stderr
    again = batches.type_in(*words, "csv")
    assert again.returncode == 0, again.stdout + again.stderr
    assert batches.summary(tmp_path / "maps")["a"]["outputs"] == "a.csv a.thumb.jpg"
