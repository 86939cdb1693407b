"""The run record says what was run, strictly as JSON, and nothing of the patient."""

from __future__ import annotations

import dataclasses
import json
from datetime import datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import pytest

import runs
from gliorun import __version__
from gliorun.findings.nuclei import compare_counts, find_nuclei, nuclei_per_cell
from gliorun.measuring.density import CLASS_NAMES
from gliorun.measuring.tile import LeftOut, Status
from gliorun.settings import Settings
from gliorun.writers.palette import Appearance
from gliorun.writers.record import run_record, write_record

SETTINGS = Settings(cell_px=120, threads=1)
STARTED = datetime(2025, 3, 1, 14, 5, 6, 789, tzinfo=timezone(timedelta(hours=8)))
PROPERTIES = {
    "openslide.vendor": "aperio",
    "openslide.objective-power": "40",
    "aperio.Patient": "Jane Doe",
    "aperio.User": "jdoe",
    "openslide.comment": "born 1951",
}


@pytest.fixture(scope="module")
def result(small_slide):
    """The small slide at 120-px cells, with tile (1, 0) unreadable."""
    dark_result = runs.dark_run(small_slide.path, SETTINGS)
    density = dark_result.density
    density.nucleus_px[:4, 4:8] = density.valid_px[:4, 4:8] = 0
    density.feed(LeftOut(density.grid.tile(1, 0), Status.UNREADABLE))
    return dark_result


def record_of(result, **changes):
    arguments = {
        "properties": PROPERTIES,
        "fingerprint": "3f2a91",
        "fields": (5, 1.0),
        "compute": {"device": "CPU", "streams": "2"},
        "settings": SETTINGS,
        "resumed_tiles": 3,
        "started_at": STARTED,
        "seconds": {"open": 0.12345, "measure": 61.5},
    }
    return run_record(result, **{**arguments, **changes})


def written(record, result, path: Path):
    """Write a record and read it as strict JSON."""

    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is not JSON")

    write_record(path, dataclasses.replace(result, run=record), Appearance())
    return json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)


def test_the_file_holds_the_record(tmp_path, result):
    record = record_of(result)
    shown = {"appearance": {"palette": "cold-hot", "overlay": False}}
    assert written(record, result, tmp_path / "run.json") == record | shown


def test_the_record_begins_with_its_format_and_the_time_in_utc(result):
    record = record_of(result)
    assert list(record)[:2] == ["format", "started_at"]
    assert record["format"] == 1
    assert record["started_at"] == "2025-03-01T06:05:06Z"


def test_a_time_without_a_zone_is_a_bug(result):
    with pytest.raises(ValueError, match="has no time zone"):
        record_of(result, started_at=datetime(2025, 3, 1))


def test_of_the_slide_only_listed_properties_are_told(result):
    record = record_of(result)
    assert record["slide"] == {
        "name": "small.svs",
        "fingerprint": "3f2a91",
        "width_px": 1800,
        "height_px": 1300,
        "vendor": "aperio",
        "objective_power": 40,
    }
    text = json.dumps(record)
    assert not any(secret in text for secret in ("Jane", "jdoe", "1951", "Patient"))


def test_a_slide_without_vendor_and_with_a_strange_power_has_null(result):
    slide = record_of(result, properties={"openslide.objective-power": "Jane"})["slide"]
    assert (slide["vendor"], slide["objective_power"]) == (None, None)
    assert record_of(result, properties={"openslide.objective-power": "nan"})["slide"][
        "objective_power"
    ] is None  # fmt: skip


def test_the_folder_of_the_slide_is_not_told(result):
    assert (
        record_of(dataclasses.replace(result, slide_name="/home/jdoe/a.svs"))["slide"]["name"]
        == "a.svs"
    )


def test_the_scale_tells_where_it_came_from(result):
    assert record_of(result)["scale"] == {"x_mpp": 0.25, "y_mpp": 0.25, "source": "slide"}


def test_the_model_is_told_by_its_hashes_and_parity(result):
    card = dataclasses.replace(
        result.card, source_sha256="cd" * 32, parity={"dice": 0.999, "worst": float("nan")}
    )
    model = record_of(dataclasses.replace(result, card=card))["model"]
    assert model["weights_sha256"] == "ab" * 32
    assert model["source_sha256"] == "cd" * 32
    assert model["precision"] == "FP32"
    assert model["parity"] == {"dice": 0.999, "worst": None}


def test_every_setting_is_told(result):
    settings = record_of(result)["settings"]
    assert set(settings) == {field.name for field in dataclasses.fields(Settings)}
    assert settings["cell_px"] == 120
    assert settings["mpp"] is None


def test_tiles_and_cells_are_counted(result):
    record = record_of(result)
    tiles = record["tiles"]
    assert (tiles["measured"], tiles["unreadable"], tiles["no_tissue"]) == (10, 1, 1)
    assert sum(tiles.values()) == 12
    cells = record["cells"]
    assert cells["side_px"] == 120
    density = result.density.density
    assert sum(cells[name] for name in CLASS_NAMES) == int((~np.isnan(density)).sum())
    assert cells[CLASS_NAMES[5]] == int((density >= 0.2).sum())
    tissue = result.density.cell_status != Status.NO_TISSUE
    assert sum(cells.values()) - 120 == tissue.sum() > 100
    assert cells["no value"] >= 15  # the cells with tissue of the unreadable tile


def test_the_density_is_that_of_the_map(result):
    density = record_of(result)["density"]
    assert density["mean"] == result.density.mean_density()
    assert list(density["class_shares"]) == list(CLASS_NAMES)
    assert sum(density["class_shares"].values()) == pytest.approx(1)


def test_a_map_without_a_value_has_null_for_its_mean(tmp_path, small_slide):
    empty = runs.dark_run(small_slide.path, SETTINGS)
    empty.density.valid_px[:] = 0
    record = record_of(dataclasses.replace(empty, hot_spots=()))
    assert {record["density"][name] for name in ("mean", "mean_low", "mean_high")} == {None}
    assert written(record, empty, tmp_path / "run.json")["density"] == record["density"]


def test_hot_spots_are_listed_as_they_rank(result):
    spots = record_of(result)["hot_spots"]
    assert [spot["rank"] for spot in spots] == [1, 2]
    assert spots[0] == {**dataclasses.asdict(result.hot_spots[0]), "nuclei_per_mm2": None}


def test_a_hot_spot_has_the_nuclei_of_its_tissue(result):
    spot = result.hot_spots[0]
    field = spot.minx, spot.miny, spot.minx + spot.width, spot.miny + spot.height
    nuclei = list(find_nuclei(result.masks, result.scale))
    fields = [field, (0, 0, 1, 1)]
    counts = nuclei_per_cell(nuclei, result.density, fields)
    told = record_of(dataclasses.replace(result, counts=counts))["hot_spots"]
    inside = sum(field[0] <= n.centroid_l0[0] < field[2] and field[1] <= n.centroid_l0[1] < field[3]
                 for n in nuclei)  # fmt: skip
    tissue_mm2 = spot.width * spot.height * 0.25**2 / 1e6 * spot.tissue_share
    assert told[0]["nuclei_per_mm2"] == pytest.approx(inside / tissue_mm2)
    assert (inside, told[1]["nuclei_per_mm2"]) == (counts.per_field[0], 0)
    assert inside > 5


def test_nuclei_are_told_if_they_were_counted(result):
    counts = nuclei_per_cell(find_nuclei(result.masks, result.scale), result.density)
    comparison = compare_counts(counts, result.density, result.scale)
    nuclei = record_of(dataclasses.replace(result, comparison=comparison))["nuclei"]
    assert nuclei == dataclasses.asdict(comparison)
    assert nuclei["nuclei"] > 100
    assert record_of(result)["nuclei"] is None


def test_seconds_versions_and_machine_are_told(result):
    record = record_of(result)
    assert record["seconds"] == {"open": 0.123, "measure": 61.5}
    assert record["versions"]["gliorun"] == __version__
    assert {"python", "openvino", "openslide-bin", "openslide-python", "numpy", "numba"} <= set(
        record["versions"]
    )
    assert set(record["machine"]) == {"system", "processors"}


def test_a_record_that_is_not_json_is_refused(tmp_path, result):
    with pytest.raises(ValueError, match="not JSON compliant"):
        written({"mean": float("nan")}, result, tmp_path / "run.json")
