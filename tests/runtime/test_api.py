"""What programs get from `import gliorun`: the numbers of the command, as arrays."""

from __future__ import annotations

import csv
import inspect
import json
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import typer

import gliorun
import slides
from gliorun import api, cli
from gliorun.model import shipped
from gliorun.model.card import sha256_of
from gliorun.plan import Plan
from test_architecture import imported_by

COMMAND = [sys.executable, "-c", "from gliorun.cli import run; run()"]
SETTINGS = gliorun.Settings(cell_px=120, max_bad_tiles=1.0)


@pytest.fixture(scope="module")
def model() -> gliorun.Engine:
    return gliorun.open_model()


@pytest.fixture(scope="module")
def damaged(small_slide, tmp_path_factory) -> Path:
    """The small slide with a tile that cannot be read: (1, 1) of its grid."""
    path = tmp_path_factory.mktemp("damaged") / "damaged.svs"
    return slides.with_bad_jpeg(path, small_slide.path, [(2, 2)])


@pytest.fixture(scope="module")
def slide_map(damaged, model):
    with gliorun.measure(damaged, model, SETTINGS, nuclei=True, hot_spot_mm2=0.01) as measured:
        yield measured


@pytest.fixture(scope="module")
def typed(damaged, tmp_path_factory) -> Path:
    """The outputs of the command on the same slide with the same options."""
    folder = tmp_path_factory.mktemp("typed")
    outs = [word for name in NAMES for word in ("--out", str(folder / name))]
    options = ["--cell-px", "120", "--max-bad-tiles", "1", "--hot-spot-mm2", "0.01", "--quiet"]
    done = subprocess.run(
        [*COMMAND, str(damaged), *options, *outs],
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder


NAMES = ("a.csv", "a.geojson", "a.nuclei.geojson", "a.ome.tif", "a.mask.ome.tif", "a.qc.png")
CHANGING = ("started_at", "started_at_local", "seconds")
"""What differs between two records of the same."""


def test_the_arrays_hold_the_numbers_of_the_table_that_the_command_writes(slide_map, typed):
    with (typed / "a.csv").open(newline="", encoding="utf-8") as lines:
        rows = list(csv.DictReader(lines))
    lefts = {round(x): column for column, x in enumerate(slide_map.column_edges_l0)}
    tops = {round(y): row for row, y in enumerate(slide_map.row_edges_l0)}
    density, classes, status = slide_map.density, slide_map.classes, slide_map.status
    valid_share = slide_map.valid_px / 120**2
    for line in rows:
        cell = tops[int(line["miny"])], lefts[int(line["minx"])]
        assert gliorun.Status(status[cell]).name.lower() == line["status"]
        assert f"{valid_share[cell]:.4f}" == line["valid_fraction"]
        assert f"{slide_map.tissue_share[cell]:.4f}" == line["tissue_fraction"]
        if line["status"] == "measured":
            assert str(slide_map.nuclei[cell]) == line["nuclei"]
        if line["density"]:
            assert f"{density[cell]:.6f}" == line["density"]
            assert str(classes[cell]) == line["class"]
        else:
            assert math.isnan(density[cell])
            assert classes[cell] == -1
    valued = sum(bool(line["density"]) for line in rows)
    assert valued == np.count_nonzero(~np.isnan(density)) > 80
    assert {line["status"] for line in rows} == {"measured", "unreadable"}


def test_what_is_written_is_what_the_command_writes(slide_map, typed, tmp_path):
    slide_map.write(*(tmp_path / name for name in NAMES))
    assert {file.name for file in tmp_path.iterdir()} == set(NAMES)
    for name in NAMES:
        assert (tmp_path / name).read_bytes() == (typed / name).read_bytes(), name


def test_the_record_is_that_of_the_output(slide_map, tmp_path):
    slide_map.write(tmp_path / "run.json")
    record = json.loads((tmp_path / "run.json").read_text(encoding="utf-8"))
    assert record.pop("appearance") == {"palette": "cold-hot", "overlay": False}
    assert record.pop("outputs") == {}
    assert record == slide_map.record
    assert record["density"]["mean"] == slide_map.mean_density
    assert list(record["density"]["class_shares"].values()) == slide_map.class_shares.tolist()
    assert record["warnings"] == list(slide_map.warnings)
    assert record["nuclei"]["nuclei"] == slide_map.nuclei.sum() > 100
    assert record["scale"]["x_mpp"] == slide_map.scale.x_mpp == 0.25
    assert record["model"]["name"] == slide_map.model.name
    assert {"open", "measure", "summarise"} < set(record["seconds"])


def test_the_arrays_have_the_shape_of_the_map(slide_map):
    rows, columns = 12, 16  # 3 x 4 tiles of 4 x 4 cells
    types = {
        "density": np.float64,
        "classes": np.int8,
        "status": np.uint8,
        "nucleus_px": np.int64,
        "valid_px": np.int64,
        "tissue_share": np.float64,
        "nuclei": np.int64,
    }
    for name, dtype in types.items():
        array = getattr(slide_map, name)
        assert (array.shape, array.dtype) == ((rows, columns), dtype), name
    np.testing.assert_allclose(slide_map.column_edges_l0, np.arange(columns + 1) * 120)
    np.testing.assert_allclose(slide_map.row_edges_l0, np.arange(rows + 1) * 120)
    assert slide_map.class_shares.shape == (len(gliorun.CLASS_NAMES),)
    assert slide_map.class_shares.sum() == pytest.approx(1)


def test_a_density_is_nucleus_px_of_tissue_px(slide_map):
    known = ~np.isnan(slide_map.density)
    share = slide_map.nucleus_px[known] / slide_map.valid_px[known]
    np.testing.assert_array_equal(slide_map.density_of_tile[known], share)
    tissue_px = (slide_map.valid_px * slide_map.tissue_share)[known]
    share = np.minimum(slide_map.nucleus_px[known], tissue_px) / tissue_px
    np.testing.assert_array_equal(slide_map.density[known], share)


def test_an_array_that_is_changed_changes_no_map(slide_map):
    before = slide_map.mean_density
    for name in ("nucleus_px", "valid_px", "tissue_share", "nuclei"):
        getattr(slide_map, name)[:] = 0
    assert slide_map.mean_density == before > 0
    assert slide_map.nuclei.any()


def test_hot_spots_and_doubts_are_told(slide_map):
    first = slide_map.hot_spots[0]
    assert (first.rank, first.width, first.height) == (1, 400, 400)  # 0.01 mm² at 0.25 µm/px
    assert first.density > slide_map.mean_density
    (doubt,) = slide_map.warnings
    assert doubt == "1 of 11 tiles could not be read: no value there"


def test_a_map_without_nuclei_has_none_and_no_masks_to_write(small_slide, model, tmp_path):
    steps: list[tuple[int, int]] = []
    plain = gliorun.measure(
        str(small_slide.path), model, hot_spots=1, progress=lambda *step: steps.append(step)
    )
    assert steps == [(done, 11) for done in range(12)]
    assert plain.nuclei is None
    (spot,) = plain.hot_spots
    assert spot.area_mm2 < 0.05  # none of 1 mm² fits
    before = tmp_path / "a.csv"
    before.write_text("earlier", encoding="utf-8")
    with pytest.raises(gliorun.GlioError, match=r"a\.nuclei\.geojson: needs the masks of nuclei"):
        plain.write(before, tmp_path / "a.nuclei.geojson")
    assert before.read_text(encoding="utf-8") == "earlier"
    assert [file.name for file in tmp_path.iterdir()] == ["a.csv"]
    with pytest.raises(gliorun.GlioError, match=r"b\.png: is read by this run"):
        plain.write(link_to(small_slide.path, tmp_path / "b.png"))
    with pytest.raises(gliorun.GlioError, match=r"a\.xyz: unknown suffix"):
        plain.write(tmp_path / "a.xyz")


def link_to(path: Path, link: Path) -> Path:
    try:
        link.symlink_to(path)
    except OSError:
        pytest.skip("no links here")
    return link


def test_a_closed_map_still_has_its_arrays(small_slide, model, tmp_path):
    with gliorun.measure(small_slide.path, model, nuclei=True) as closed:
        pass
    assert closed.nuclei.sum() > 100
    closed.write(tmp_path / "a.csv")
    with pytest.raises(gliorun.GlioError, match="before the map is closed"):
        closed.write(tmp_path / "a.mask.ome.tif")
    closed.close()  # a second time does no harm


def test_what_cannot_be_used_is_a_fault_that_names_the_way_out(small_slide, model, tmp_path):
    with pytest.raises(gliorun.GlioError, match="no such file"):
        gliorun.measure(tmp_path / "none.svs", model)
    with pytest.raises(gliorun.GlioError, match=r"pass a file .* or reference or student"):
        gliorun.open_model("teacher")
    with pytest.raises(gliorun.GlioError, match="does not divide the tile"):
        gliorun.measure(small_slide.path, model, replace(SETTINGS, cell_px=7))
    with pytest.raises(gliorun.GlioError, match="must be above 0"):
        gliorun.measure(small_slide.path, model, hot_spots=0)
    with pytest.raises(gliorun.GlioError, match="mpp is 9"):
        gliorun.Settings(mpp=9)


def test_a_model_is_opened_by_the_name_that_ships_or_by_its_file(model):
    ships = shipped.models()
    for name, engine in (("reference", gliorun.open_model("reference")), ("student", model)):
        assert engine.card.weights_sha256 == sha256_of(ships[name].with_suffix(".bin"))
    assert gliorun.open_model(ships["student"]).card == model.card


def test_what_is_not_said_is_what_the_command_takes():
    options = {option.name: option.default for option in typer.main.get_command(cli.app).params}
    compute, plan = gliorun.Compute(), Plan([], shipped.DEFAULT_MODEL, gliorun.Settings())
    here = {
        **{name: getattr(plan.settings, name) for name in ("mpp", "cell_px", "threads")},
        **{name: getattr(plan.settings, name) for name in ("max_bad_tiles", "tissue_mask")},
        **{name: getattr(compute, name) for name in ("device", "requests", "streams", "cores")},
        "memory": plan.settings.memory_mb,
        "network_threads": compute.threads,
        "precision": compute.precision,
        "timeout": compute.timeout_s,
        "palette": plan.appearance.palette,
        "overlay": plan.appearance.overlay,
        "hot_spots": plan.hot_spots,
        "hot_spot_mm2": plan.hot_spot_mm2,
        "checkpoint": plan.checkpoint_s,
    }
    assert {name: options[name] for name in here} == here
    of_measure = inspect.signature(gliorun.measure).parameters
    for name in ("hot_spots", "hot_spot_mm2"):
        assert of_measure[name].default == here[name]


def test_the_import_loads_nothing_beyond_python_itself():
    loaded = imported_by("import gliorun") - imported_by("pass")
    assert "gliorun" in loaded
    assert loaded - sys.stdlib_module_names == {"gliorun", "openvino_telemetry"}


def test_a_name_brings_what_it_needs():
    assert {"numpy", "openvino", "numba"} <= imported_by("from gliorun import measure")


def test_every_name_of_the_front_door_is_there_and_no_other():
    assert set(gliorun.__all__) == {*api.__all__, "__version__"}
    for name in api.__all__:
        assert getattr(gliorun, name) is getattr(api, name)
    assert set(gliorun.__all__) <= set(dir(gliorun))
    with pytest.raises(AttributeError, match="has no attribute 'measure_all'"):
        _ = gliorun.measure_all
