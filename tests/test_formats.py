"""`runtime/FORMATS.md` names what is written: every column, key and property, and nothing else."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import gliorun
import slides
from formats import DOCUMENT, columns, is_of, names, tables, types
from gliobench import giant
from gliorun import demo
from gliorun.batch import summary
from gliorun.batch.health import HEALTH, Health
from gliorun.qualitylimits import QualityLimits
from gliorun.reading.slide import Slide
from gliorun.reporting import jsonlines
from gliorun.reporting.jsonlines import JsonLines
from gliorun.reporting.progress import RunProgress
from gliorun.sliderecord import Record
from guides import ROOT

OUTPUTS = (
    "a.csv",
    "a.regions.csv",
    "a.json",
    "a.geojson",
    "a.nuclei.geojson",
    "a.tissue.geojson",
    "a.parquet",
    "a.nuclei.parquet",
)
RECORDS = [
    Record(
        "a", "/x/a.svs", None, "", {}, "done", 1, "2026-01-01T00:00:00+00:00",
        outputs=("a.csv",), warnings=("w",),
        pace={"tiles": 9, "tiles_per_s": 4.0, "bottleneck": "reading"},
    ),
    Record("b", "/x/b.svs", None, "", {}, "failed", 2, "2026-01-01T00:00:00+00:00", reason="why"),
]  # fmt: skip


@pytest.fixture(scope="module")
def written(small_slide, tmp_path_factory) -> Path:
    """The outputs of a calibrated slide with a warning, hot spots, nuclei and unmeasured cells."""
    folder = tmp_path_factory.mktemp("written")
    damaged = slides.with_bad_jpeg(folder / "a.svs", small_slide.path, [(2, 2)])
    with Slide(damaged) as opened:
        width, height = opened.size_l0
    boxes = [(0, width // 2), (width // 2, width)]
    drawn = [
        {"type": "Feature", "properties": {}, "geometry": {
            "type": "Polygon", "coordinates": [[[a, 0], [b, 0], [b, height], [a, height]]],
        }}
        for a, b in boxes
    ]  # fmt: skip
    (folder / "drawn.geojson").write_text(json.dumps(drawn))
    card = gliorun.open_model().card
    calibration = gliorun.Calibration(
        "lab", card.name, card.weights_sha256, card.outlines, "2026-01-01"
    )
    settings = gliorun.Settings(
        max_bad_tiles=1.0, calibration=calibration, regions=folder / "drawn.geojson"
    )
    with gliorun.measure(damaged, None, settings, nuclei=True, hot_spot_mm2=0.01) as slide_map:
        slide_map.write(*(folder / name for name in OUTPUTS))
    return folder


def header(table: Path) -> list[str]:
    with table.open(newline="", encoding="utf-8-sig") as lines:
        return next(csv.reader(lines))


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def test_lines_are_short():
    lines = (ROOT / DOCUMENT).read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if len(line) > 120] == []


def test_the_columns_of_density_csv(written):
    assert header(written / "a.csv") == columns("density.csv")


def test_the_columns_of_regions_csv(written):
    assert header(written / "a.regions.csv") == columns("regions.csv")


def test_the_columns_and_metadata_of_parquet(written):
    parquet = pytest.importorskip("pyarrow.parquet")
    of_cells, of_nuclei, of_metadata = tables("Parquet")
    known = types(of_metadata)
    for name, documented in (("a.parquet", of_cells), ("a.nuclei.parquet", of_nuclei)):
        schema = parquet.read_schema(written / name)
        in_file = {field.name: str(field.type) for field in schema}
        assert (list(in_file)[-1], in_file.pop("region")) == ("region", "string")
        if documented is of_cells:
            assert list(in_file)[3:] == header(written / "a.csv")
            in_file = dict(list(in_file.items())[:3])
        assert in_file == types(documented)
        about = json.loads(schema.metadata[b"gliorun"])
        assert set(about) == set(known)
        assert [key for key, value in about.items() if not is_of(value, known[key])] == []


def test_the_columns_of_summary_csv(tmp_path):
    summary.write(tmp_path, RECORDS)
    assert header(tmp_path / summary.TABLE) == columns("summary.csv")


def leaves(value: Any, known: dict[str, str], path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the path and value of all that is named, or holds nothing that could be."""
    if path in known or not isinstance(value, dict | list):
        yield path, value
    elif isinstance(value, list):
        for member in value:
            yield from leaves(member, known, f"{path}[]")
    else:
        for key, member in value.items():
            yield from leaves(member, known, f"{path}.{key}".removeprefix("."))


def test_the_keys_of_the_run_record_and_their_types(written):
    known = types(tables("run.json")[0])
    record = read(written / "a.json")
    in_file = list(leaves(record, known))
    assert {path for path, _ in in_file} == set(known)
    assert [(path, value) for path, value in in_file if not is_of(value, known[path])] == []
    assert list(record["density"]["class_shares"]) == list(gliorun.CLASS_NAMES)


def test_the_keys_and_properties_of_geojson(written):
    of_collection, of_feature, of_objects, of_cells = tables("GeoJSON")
    besides = {name for row in of_cells for name in names(row[0])}
    documented = {
        (*names(kind), *names(file), *names(path_class)[:1], tuple(names(measurements)))
        for kind, file, path_class, measurements in of_objects
    }
    in_file, properties = set(), set()
    for file in (".geojson", ".nuclei.geojson", ".tissue.geojson"):
        collection = read(written / f"a{file}")
        assert list(collection) == [name for row in of_collection for name in names(row[0])]
        for feature in collection["features"]:
            assert feature["geometry"]["type"] in ("Polygon", "MultiPolygon")
            told = feature["properties"]
            properties |= set(told)
            assert set(told["classification"]) == {"name", "color"}
            path_class = told["classification"]["name"]
            if path_class in {f"Nucleus density {name}" for name in gliorun.CLASS_NAMES}:
                path_class = "Nucleus density 0–2 %"
            is_cell = told["objectType"] == "tile"
            own = besides if is_cell else set()
            named = tuple(name for name in told["measurements"] if name not in own)
            in_file.add((told["objectType"], file, path_class, named))
            has_all = is_cell and path_class != "No value"
            assert (besides <= set(told["measurements"])) == has_all
    assert in_file == documented
    assert properties == {name for row in of_feature for name in names(row[0])}


def events(capsys, monkeypatch) -> list[dict[str, Any]]:
    """Return every event that can be told, each at least once."""
    path = Path("/x/a.svs")
    monkeypatch.setattr(jsonlines, "IDLE_S", 0)
    calls: dict[str, list[tuple[Any, ...]]] = {
        "watching": [("x; results go to m",)],
        "waiting": [({path: "unchanged for less than 30 s"},)],
        "back": [("x: is there again",)],
        "started": [(path,)],
        "say": [("model: student",)],
        "tiles": [(path, 0, 9, "reading"), (path, 3, 9, "network", "ws1")],
        "idle": [(1, 0, "2026-01-01T00:00:00+00:00", ["x: not there"])],
        "ended": [(RECORDS[0], "done"), (RECORDS[1], "")],
        "skipped": [(path, RECORDS[0])],
        "complain": [("odd",)],
        "total": [(1, 1, 1, Path("/m/index.html"))],
    }
    assert set(calls) == {name for name in vars(JsonLines) if not name.startswith("_")}
    for sizes in ({}, {path: 100, Path("/x/b.svs"): 100}):  # a watch, and a run
        reporter = JsonLines(RunProgress(sizes))
        for name, arguments in calls.items():
            for those in arguments:
                getattr(reporter, name)(*those)
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_the_events_of_json_lines_their_keys_and_types(capsys, monkeypatch):
    of_events, of_keys = tables("--json-lines")
    documented: dict[str, set[str]] = {}
    for event, _, keys in of_events:
        documented.setdefault(*names(event), {"event", "time", "level"}).update(names(keys))
    known = {**types(of_keys), "event": "text", "time": "text"}
    told = events(capsys, monkeypatch)
    assert {event["event"] for event in told} == set(documented)
    for event in told:
        assert set(event) == documented[event["event"]], event
        assert [key for key, value in event.items() if not is_of(value, known[key])] == [], event
    assert set(known) == set().union(*documented.values())


def test_the_keys_of_health_json_and_their_types(tmp_path):
    health = Health(tmp_path)
    health.stand({"/mnt/scans": "not there"})
    for record in RECORDS:
        health.ended(record)
    known = types(tables("health.json")[0])
    in_file = list(leaves(read(tmp_path / HEALTH), known))
    assert {path for path, _ in in_file} == set(known)
    assert [(path, value) for path, value in in_file if not is_of(value, known[path])] == []


def test_the_columns_of_truth_csv(tmp_path):
    giant.write_giant(tmp_path / "big.svs", giant.GiantSpec(0.01))
    assert header(tmp_path / "big.truth.csv") == columns("truth.csv")


def test_the_columns_of_clean_index_and_candidates(tmp_path):
    pytest.importorskip("skimage")
    from glioexport.annotate import Source, annotate, take_corrections
    from glioexport.clean import clean
    from gliorun.model.stainstatistic import StainStatistic

    tile = demo.draw_tissue(np.full((320, 320), 0.15, np.float32))
    (tmp_path / "tiles").mkdir()
    Image.fromarray(tile.pixels).save(tmp_path / "tiles" / "t.png")
    stain = StainStatistic((0.4, 0.8, 0.3), (240, 240, 240))
    mine, source = tmp_path / "mine", Source("lab", "p1", "CC0", 0.25, stain)
    annotate([tmp_path / "tiles"], mine, source, overwrite=False, say=lambda line: None)
    candidates = header(mine / "candidates.csv")
    assert {*candidates, "split"} == set(columns("index.csv"))
    outlines = [mine / "candidates" / "t.geojson"]
    quiet = {"further_classes": (), "overwrite": False, "say": lambda line: None}
    take_corrections(outlines, mine, split="train", **quiet)
    assert sorted(header(mine / "index.csv")) == sorted(columns("index.csv"))
    clean(mine, tmp_path / "cleaned", QualityLimits())
    assert header(tmp_path / "cleaned" / "clean.csv") == columns("clean.csv")
    assert header(tmp_path / "cleaned" / "index.csv") == header(mine / "index.csv")


def test_the_keys_of_a_calibration_and_their_types(tmp_path):
    pytest.importorskip("scipy")
    from glioexport.calibrate import Calibrated, to_json
    from glioexport.unbiased import Field, fit

    drawn = np.zeros((8, 8), np.uint8)
    drawn[:4] = 1
    fields = [Field.of(name, 100 + 60 * drawn, drawn) for name in "abc"]
    card = gliorun.open_model().card
    calibration = gliorun.Calibration(
        "lab", card.name, card.weights_sha256, card.outlines, "2026-01-01"
    )
    known = types(tables("lab.json")[0])
    text = to_json(Calibrated(calibration, 128, fields, fit(fields, 128)))
    in_file = list(leaves(json.loads(text), known))
    assert {path for path, _ in in_file} == set(known)
    assert [(path, value) for path, value in in_file if not is_of(value, known[path])] == []
