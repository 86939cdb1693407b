"""Evidence: tiles that show what was counted, chosen, read again and drawn."""

from __future__ import annotations

import base64
import io
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from bokeh.plotting import figure
from PIL import Image

import runs
import slides
from gliorun import demo, job, writers
from gliorun.findings.evidence import MOST_HOT_SPOTS, choose
from gliorun.findings.hotspots import find_fields
from gliorun.measuring.density import CLASS_NAMES, DensityMap, classify
from gliorun.measuring.survey import survey
from gliorun.measuring.tile import Status
from gliorun.model import shipped
from gliorun.plan import Plan
from gliorun.reading.scale import Scale
from gliorun.reading.slide import Slide
from gliorun.reading.tiles import TileGrid, TileSpec
from gliorun.settings import Settings
from gliorun.sliderun import SlideRun, Stopwatch, mask_store
from gliorun.writers.evidence import BAND, DECIDES, outlined, shown, write_evidence
from gliorun.writers.palette import rgb
from gliorun.writers.viewer import _mark_evidence

TILE, ROWS, COLUMNS = 480, 9, 12
SCALE = Scale(0.25, 0.25, "slide")


def density_map(cell_px: int) -> DensityMap:
    """Return a map of whole tiles of all classes, each with its share of tissue."""
    grid = TileGrid((COLUMNS * TILE, ROWS * TILE), (float(TILE), float(TILE)))
    density = DensityMap(grid, TILE, cell_px)
    density.status[:] = Status.MEASURED
    density.valid_px[:] = cell_px**2
    values = np.random.default_rng(0).uniform(0, 0.4, density.valid_px.shape)
    density.outlined_px[:] = values * cell_px**2 * np.array([0.9, 1, 1.1])[:, None, None]
    return density


@pytest.mark.parametrize("cell_px", [120, 480])
def test_each_hot_spot_and_each_class_that_occurs_has_one_tile(cell_px):
    density = density_map(cell_px)
    spots = find_fields(density, SCALE, area_mm2=0.06, count=8)
    choices = choose(density, spots)
    tiles = density.merged(density.cells_a_tile)
    classes = classify(tiles.density)
    hot = [choice for choice in choices if choice.why.startswith("Hot spot")]
    assert [choice.why for choice in hot] == [f"Hot spot {n + 1}" for n in range(MOST_HOT_SPOTS)]
    for spot, choice in zip(spots, hot, strict=False):
        inside = [
            (row, column)
            for row, column in np.ndindex(classes.shape)
            if 0 <= (row + 0.5) * TILE - spot.miny < spot.height
            and 0 <= (column + 0.5) * TILE - spot.minx < spot.width
        ]
        assert choice.density == pytest.approx(max(tiles.density[place] for place in inside))
    typical = [choice.why for choice in choices if choice not in hot]
    present = [CLASS_NAMES[k] for k in range(5, -1, -1) if (classes == k).any()]
    assert typical == [f"Typical of {name}" for name in present]
    for choice in choices:
        place = choice.spec.row, choice.spec.column
        values = (tiles.density_low[place], tiles.density[place], tiles.density_high[place])
        assert (choice.low, choice.density, choice.high) == pytest.approx(values)
    places = [(choice.spec.row, choice.spec.column) for choice in choices]
    assert len(set(places)) == len(places)


def test_a_tile_of_little_tissue_is_shown_only_where_there_is_no_fuller_one():
    density = density_map(480)
    density.outlined_px[:] = TILE**2 * 0.1 * 0.1
    density.tissue_share[:] = 0.1  # every tile reads 10 %
    assert [choice.why for choice in choose(density, ())] == ["Typical of 8–16 %"]
    density.outlined_px[:, 3, 4], density.tissue_share[3, 4] = TILE**2 * 0.15, 1
    (choice,) = choose(density, ())
    assert (choice.spec.row, choice.spec.column) == (3, 4)


def test_nothing_measured_shows_nothing():
    density = density_map(480)
    density.valid_px[:] = 0
    assert choose(density, ()) == ()


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    """A small slide with its evidence, measured by the default model in fine cells."""
    folder = tmp_path_factory.mktemp("evidence")
    demo.write_slide(folder / "a.svs", slides.all_tissue(1500, 1100, density=0.2), levels=1)
    kept = []
    write = writers.write
    plan = Plan(
        [folder / "a.html"], shipped.DEFAULT_MODEL, Settings(cell_px=240), hot_spot_mm2=0.02
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(writers, "write", lambda *given: (kept.append(given[1]), write(*given)))
        job.run(folder / "a.svs", plan, quiet=True)
    return kept[0], folder / "a.html"


def test_what_is_shown_is_what_was_counted(result):
    result, _ = result
    assert result.evidence
    tiles = result.density.merged(result.density.cells_a_tile)
    for exhibit in result.evidence:
        place = exhibit.choice.spec.row, exhibit.choice.spec.column
        counted = exhibit.within.sum(axis=(1, 2)).tolist()
        assert counted == tiles.outlined_px[(slice(None), *place)].tolist()
        assert counted == sorted(counted)
        assert exhibit.pixels.shape == (480, 480, 3)
    assert "evidence" in result.run["seconds"]


def test_masks_that_were_kept_are_shown_and_the_network_is_not_asked_again(tmp_path):
    demo.write_slide(tmp_path / "a.svs", slides.all_tissue(1500, 1100, density=0.2), levels=1)

    def predict(tiles):
        for tile in tiles:
            asked.append(tile.spec)
            yield tile, runs.is_dark(tile.pixels)

    asked: list[TileSpec] = []
    with Slide(tmp_path / "a.svs") as slide:
        surveyed = survey(slide, runs.CARD, Settings(quality=None))
        density = surveyed.fine_map()
        engine = SimpleNamespace(predict=predict)
        with mask_store(surveyed) as masks:
            run = SlideRun(surveyed, engine, density, masks, None, Stopwatch())
            _, stain = run.measure(lambda done, total: None)
            asked.clear()
            exhibits = run.evidence((), stain)
            assert asked == []
            again = replace(run, masks=None).evidence((), stain)
            assert asked
    assert exhibits
    for kept, anew in zip(exhibits, again, strict=True):
        np.testing.assert_array_equal(kept.within, anew.within)
        np.testing.assert_array_equal(kept.pixels, anew.pixels)
        assert kept.within.any()


def test_the_outline_runs_along_the_rim_of_each_nucleus(result):
    result, _ = result
    exhibit = result.evidence[0]
    drawn = outlined(exhibit)
    decides, band = (np.all(drawn == colour, axis=-1) for colour in rgb((DECIDES, BAND)))
    assert (exhibit.within[1] | ~decides).all()
    changed = (drawn != exhibit.pixels).any(axis=-1)
    assert (changed <= (decides | band)).all()
    assert 0 < decides.sum() < exhibit.within[1].sum()
    page = shown(exhibit)
    with Image.open(io.BytesIO(base64.b64decode(page.outlines.partition(",")[2]))) as overlay:
        pixels = np.asarray(overlay.convert("RGBA"))
    np.testing.assert_array_equal(pixels[..., 3] > 0, decides | band)
    np.testing.assert_array_equal(pixels[decides][:, :3], drawn[decides])


def test_the_picture_holds_each_tile_twice(tmp_path, result):
    result, _ = result
    for name in "ab":
        write_evidence(tmp_path / name, result)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    with Image.open(tmp_path / "a") as image:
        pixels = np.asarray(image.convert("RGB"))
    for exhibit in result.evidence[:2]:
        for tile in (exhibit.pixels, outlined(exhibit)):
            rows, columns = np.nonzero(
                (pixels[: -TILE + 1 or None, : -TILE + 1 or None] == tile[0, 0]).all(axis=-1)
            )
            assert any(
                np.array_equal(pixels[y : y + TILE, x : x + TILE], tile)
                for y, x in zip(rows, columns, strict=True)
            )


def test_a_slide_without_evidence_has_a_picture_that_says_so(tmp_path, result):
    write_evidence(tmp_path / "none.png", replace(result[0], evidence=()))
    with Image.open(tmp_path / "none.png") as image:
        assert image.width > 500


@pytest.mark.parametrize("name", ["evidence.png", "a.evidence.png", "EVIDENCE.PNG"])
def test_the_name_of_the_file_asks_for_evidence(name):
    assert writers.suffix_of(Path(name)) == ".evidence.png"


def test_hot_spots_do_not_hang_on_the_side_of_a_cell(tmp_path):
    demo.write_demo(tmp_path / "demo.svs")
    results = [
        runs.dark_run(tmp_path / "demo.svs", Settings(cell_px=cell_px, threads=1))
        for cell_px in (480, 240, 120)
    ]
    assert [result.density.cell_px for result in results] == [480, 240, 120]
    assert len(results[0].hot_spots) == 2
    assert results[0].hot_spots == results[1].hot_spots == results[2].hot_spots


def test_the_map_marks_every_tile_on_the_slide(result):
    """A tile at the lower border reaches beyond the slide; its mark does not."""
    whole = result[0]
    *_, lowest = whole.density.grid
    first = whole.evidence[0]
    shown_low = replace(first, choice=replace(first.choice, spec=lowest))
    plot = figure()
    _mark_evidence(plot, replace(whole, evidence=(first, shown_low)))
    (marks,) = plot.renderers
    low_mm = whole.density.grid.size_l0[1] * whole.scale.y_mpp / 1000
    ends = [max(corner) for corner in marks.data_source.data["ys"]]
    assert ends == [pytest.approx(0.12 * (first.choice.spec.row + 1)), pytest.approx(low_mm)]
