"""A slide that is looked at: the same masks and the same map as the run's."""

from __future__ import annotations

import json

import numpy as np
import pytest

import slides
import viewing
from gliorun import api, job
from gliorun.measuring.tile import Status
from gliorun.viewer import earlier
from gliorun.viewer.segmenter import Segmenter
from gliorun.viewer.session import Session


@pytest.fixture(scope="module")
def session(small_slide, engine):
    """The small slide, measured with cells of a quarter of a tile's side."""
    plan = viewing.plan_of(cell_px=120)
    with viewing.session_of(small_slide.path, plan, engine) as session:
        yield session


@pytest.fixture(scope="module")
def measured(small_slide, engine):
    """The same by the front door of programs, with masks."""
    settings = viewing.plan_of(cell_px=120).settings
    with api.measure(small_slide.path, engine, settings, nuclei=True, hot_spot_mm2=0.01) as result:
        yield result


def test_a_tile_on_demand_has_the_mask_of_the_run_byte_for_byte(session, measured):
    surveyed = session.surveyed
    masks = measured._result.masks
    places = [(spec.column, spec.row) for spec in surveyed.chosen]
    level = surveyed.outlines.nucleus
    compared = 0
    for (column, row), message in viewing.asked(session, places).items():
        if viewing.header_of(message)["status"] != Status.MEASURED.words:
            assert (row, column) not in masks
            continue
        _, levels, _ = viewing.planes_of(message, surveyed.card.tile_px)
        assert (levels >= level).astype(np.uint8).tobytes() == masks.mask(row, column).tobytes()
        compared += 1
    assert compared >= 8


def test_its_pixels_and_shares_give_the_density_of_the_cells_of_the_map(session, measured):
    surveyed, side = session.surveyed, session.surveyed.card.tile_px
    places = [(spec.column, spec.row) for spec in surveyed.chosen]
    density = measured.density
    for (column, row), message in viewing.asked(session, places).items():
        share, levels, counts = viewing.planes_of(message, side)
        n = len(share)
        cells = (n, side // n, n, side // n)
        nucleus = ((levels >= surveyed.outlines.nucleus) & counts).reshape(cells).sum(axis=(1, 3))
        area = counts.reshape(cells).sum(axis=(1, 3)) * share
        of_cells = np.full((n, n), np.nan)
        np.divide(np.minimum(nucleus, area), area, out=of_cells, where=area > 0)
        wanted = density[row * n : (row + 1) * n, column * n : (column + 1) * n]
        np.testing.assert_allclose(of_cells, wanted, atol=1e-6)


def test_of_regions_only_what_lies_within_counts_but_all_is_outlined(
    tmp_path, small_slide, engine, session
):
    corners = [[300, 300], [1410, 333], [1290, 1000], [317, 950], [300, 300]]
    drawn = {"type": "Polygon", "coordinates": [corners]}
    file = tmp_path / "drawn.geojson"
    feature = {"type": "Feature", "geometry": drawn, "properties": {"name": "A"}}
    file.write_text(json.dumps(feature))
    plan = viewing.plan_of(cell_px=120, regions=file)
    with (
        viewing.session_of(small_slide.path, plan, engine) as within,
        api.measure(small_slide.path, engine, plan.settings, hot_spot_mm2=0.01) as result,
    ):
        side = within.surveyed.card.tile_px
        level = within.surveyed.outlines.nucleus
        places = [(spec.column, spec.row) for spec in within.surveyed.stained_tiles]
        in_all = viewing.asked(session, places)
        nucleus_px, partly = result.nucleus_px, 0
        for place, message in viewing.asked(within, places).items():
            if not viewing.header_of(message)["cells"]:
                continue
            share, levels, counts = viewing.planes_of(message, side)
            assert np.array_equal(levels, viewing.planes_of(in_all[place], side)[1])
            (column, row), n = place, len(share)
            cells = (n, side // n, n, side // n)
            nuclei = ((levels >= level) & counts).reshape(cells).sum(axis=(1, 3))
            here = np.s_[row * n : (row + 1) * n, column * n : (column + 1) * n]
            assert np.array_equal(nuclei, nucleus_px[here])
            partly += counts.any() and not counts.all()
        assert partly >= 4
        assert within.progress.regions[0]["name"] == "A"
        assert within.progress.regions[0]["density"] == result.regions[0].density
        assert len(within.scene["drawn"]) == 1


def test_a_place_without_tissue_has_no_levels(session):
    grid = session.surveyed.grid
    chosen = {(spec.column, spec.row) for spec in session.surveyed.chosen}
    empty = [
        (column, row)
        for row in range(grid.rows)
        for column in range(grid.columns)
        if (column, row) not in chosen
    ]
    places = [*empty, (grid.columns, 0), (-1, 2**40)]
    for message in viewing.asked(session, places).values():
        assert viewing.header_of(message)["status"] == "no tissue"
        assert viewing.header_of(message)["cells"] == 0


def test_the_map_and_the_figures_are_those_of_the_run(session, measured):
    header = viewing.header_of(session.cells())
    assert (header["rows"], header["columns"]) == measured.density.shape
    progress = session.progress
    assert progress.stage == "finished"
    assert progress.figures["mean"] == measured.mean_density
    assert [spot["density"] for spot in progress.hot_spots] == [
        spot.density for spot in measured.hot_spots
    ]
    assert progress.done == progress.total == len(session.surveyed.chosen)


def test_a_new_wish_takes_the_place_of_the_one_before(session):
    """The page has moved on: what it wanted before is not computed for it."""
    places = [(spec.column, spec.row) for spec in session.surveyed.chosen]
    segmenter = Segmenter(session.surveyed, session.run.engine, session.run.density, None)
    came = []
    try:
        segmenter.ask("page", places, came.append)
        segmenter.ask("page", places[-1:], came.append)
        viewing.wait_for(lambda: not segmenter.is_busy)
        segmenter.forget("page")
        last = [tuple(viewing.header_of(message)["place"]) for message in came]
        assert last.count(places[-1]) == 1
        assert len(came) < len(places)
    finally:
        segmenter.close(5)


def test_what_is_kept_of_segmented_tiles_is_bounded(session, monkeypatch):
    side = session.surveyed.card.tile_px
    monkeypatch.setattr("gliorun.viewer.segmenter.CACHE_BYTES", 3 * side * side)
    places = [(spec.column, spec.row) for spec in session.surveyed.chosen]
    segmenter = Segmenter(session.surveyed, session.run.engine, session.run.density, None)
    came = []
    try:
        segmenter.ask("page", places, came.append)
        viewing.wait_for(lambda: len(came) == len(places))
        assert len(segmenter._kept) <= 3
        assert segmenter._bytes == sum(map(len, segmenter._kept.values()))
    finally:
        segmenter.close(5)


def test_closed_in_the_middle_it_ends_at_once_and_a_run_goes_on_from_there(
    tmp_path, small_slide, engine
):
    whole, stopped = tmp_path / "whole.csv", tmp_path / "stopped.csv"
    plan = viewing.plan_of(whole)
    job.measure(small_slide.path, plan, lambda: engine)
    plan = viewing.plan_of(stopped)
    session = Session(small_slide.path, plan, engine)
    viewing.wait_for(lambda: session.progress.done >= 2)
    session.close()
    viewing.wait_for(lambda: not session._thread.is_alive())
    assert session.progress.done < session.progress.total
    assert not stopped.exists()
    assert list((tmp_path / ".gliorun").glob("*.npz"))
    outcome = job.measure(small_slide.path, plan, lambda: engine)
    assert outcome.run["resumed_tiles"] >= 1
    assert stopped.read_bytes() == whole.read_bytes()
    assert not (tmp_path / ".gliorun").exists()


@pytest.mark.parametrize(
    ("change", "is_taken"),
    [({}, True), ({"density": "tile"}, False)],
)
def test_a_finished_map_is_taken_over_only_where_it_is_the_same(
    tmp_path, small_slide, engine, change, is_taken
):
    outputs = [tmp_path / "a.csv", tmp_path / "a.json"]
    job.measure(small_slide.path, viewing.plan_of(*outputs, cell_px=120), lambda: engine)
    plan = viewing.plan_of(*outputs, **{"cell_px": 120} | change)
    run_before = outputs[1].read_bytes()
    with Session(small_slide.path, plan, engine, lambda run: earlier.beside(plan, run)) as session:
        viewing.wait_for(lambda: session.is_done)
        assert session.progress.words.startswith("measured before") == is_taken
        assert (outputs[1].read_bytes() == run_before) == is_taken
        if is_taken:
            run = json.loads(run_before)
            assert session.progress.figures["mean"] == run["density"]["mean"]
            assert list(session.progress.hot_spots) == run["hot_spots"]
            with viewing.session_of(small_slide.path, viewing.plan_of(cell_px=120), engine) as new:
                assert session.cells() == new.cells()


def test_a_table_of_another_slide_is_not_taken_for_its_map(tmp_path, small_slide, engine):
    outputs = [tmp_path / "a.csv", tmp_path / "a.json"]
    plan = viewing.plan_of(*outputs)
    job.measure(small_slide.path, plan, lambda: engine)
    lines = outputs[0].read_text().splitlines()
    outputs[0].write_text("\n".join([lines[0], *lines[3:]]) + "\n")
    with Session(small_slide.path, plan, engine, lambda run: earlier.beside(plan, run)) as session:
        viewing.wait_for(lambda: session.is_done)
        assert session.progress.words.startswith("written")
    assert outputs[0].read_text().splitlines() == lines


def test_a_fault_of_the_run_is_one_line_on_the_page(tmp_path, engine, small_slide):
    said = []
    whole = slides.tiled_tiff(tmp_path / "w.tif", slides.all_tissue(1800, 1300), "jpeg")
    every = [(column, row) for column in range(1, 8) for row in range(6)]
    path = slides.with_bad_jpeg(tmp_path / "bad.tif", whole, every)
    with Session(path, viewing.plan_of(), engine, say=said.append) as session:
        viewing.wait_for(lambda: session.fault is not None)
        assert session.progress.stage == "failed"
        assert said == [session.progress.words]
        assert "--max-bad-tiles" in said[0]
