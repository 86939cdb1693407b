"""A region has the pixels within it, of tissue, and no others, wherever tiles and cells cut it."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import shapely
from PIL import Image

import gliorun
import runs
import slides
from gliorun import demo, identity
from gliorun.errors import GlioError, UsageError
from gliorun.findings.blocks import block_side, blocks_of, cells_of
from gliorun.findings.bootstrap import interval_of_difference
from gliorun.findings.nuclei import find_nuclei
from gliorun.findings.regions import FEWEST_BLOCKS, nuclei_within, results_of
from gliorun.measuring.checkpoint import checkpoint
from gliorun.measuring.density import DensityMap
from gliorun.measuring.masks import MaskStore
from gliorun.measuring.regions import InRegions
from gliorun.measuring.survey import survey
from gliorun.measuring.tile import Measured
from gliorun.model import shipped
from gliorun.model.engine import Compute
from gliorun.pipeline import measure
from gliorun.reading.scale import Scale
from gliorun.reading.slide import Slide
from gliorun.reading.tiles import TileGrid
from gliorun.settings import Settings

OUTER = [[300.3, 250.2], [1300.1, 200.7], [1400.2, 900.9], [500.4, 1100.1], [300.3, 250.2]]
HOLE = [[700.3, 500.1], [900.2, 480.9], [880.7, 700.3], [700.3, 500.1]]
SMALL = [[1000.3, 1040.2], [1400.7, 1000.1], [1380.2, 1400.3], [1000.3, 1040.2]]
SETTINGS = Settings(cell_px=240, quality=None)


def write_regions(path: Path, **polygons) -> Path:
    features = [
        {
            "type": "Feature",
            "geometry": {"type": "Polygon", "coordinates": rings},
            "properties": {"name": name, "classification": {"name": "Tumor"}},
        }
        for name, rings in polygons.items()
    ]
    path.write_text(json.dumps(features))
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("regions")
    pixels = slides.all_tissue(1700, 1500, density=0.2)
    pixels[:600] = slides.all_tissue(1700, 600, density=0.05, seed=1)
    demo.write_slide(folder / "slide.svs", pixels)
    write_regions(folder / "slide.geojson", first=[OUTER, HOLE], second=[SMALL])
    return folder


def run(folder: Path, settings: Settings):
    """Return what was surveyed, the map, what fed it, and the masks."""

    def predict(tiles):
        for tile in tiles:
            yield tile, runs.is_dark(tile.pixels)

    with Slide(folder / "slide.svs") as slide:
        surveyed = survey(slide, runs.CARD, settings)
        density = surveyed.empty_map()
        fed = InRegions(surveyed.regions, density, surveyed.chosen) if settings.regions else density
        masks = MaskStore(surveyed.grid, 480)
        measure(surveyed, predict, surveyed.chosen, [masks, fed])
    return surveyed, density, fed, masks


@pytest.fixture(scope="module")
def in_regions(folder):
    return run(folder, replace(SETTINGS, regions=folder / "slide.geojson"))


@pytest.fixture(scope="module")
def whole(folder):
    return run(folder, SETTINGS)


def truth(whole, polygon: shapely.Polygon) -> tuple[int, int]:
    """Return nucleus and valid px whose centres shapely finds within, from the map of it all."""
    masks = np.concatenate(list(whole[3].rows()))[:1500, :1700]
    y, x = np.mgrid[:1500, :1700] + 0.5
    within = shapely.contains_xy(polygon, x.ravel(), y.ravel()).reshape(1500, 1700)
    return int((masks & within).sum()), int(within.sum())


def test_a_region_has_exactly_the_pixels_within_it(in_regions, whole):
    _, _, fed, _ = in_regions
    for number, rings in enumerate(([OUTER, HOLE], [SMALL])):
        _, sums = fed.kept()
        places, _ = fed.kept()
        own = sums[places[:, 0] == number].sum(axis=(0, 2, 3))
        nucleus_px, within_px = truth(whole, shapely.Polygon(rings[0], rings[1:]))
        assert own.tolist() == [nucleus_px, nucleus_px, nucleus_px, within_px]


def test_the_map_of_a_run_with_regions_has_the_pixels_of_all_of_them(in_regions, whole):
    surveyed, density, _, _ = in_regions
    both = shapely.union(shapely.Polygon(OUTER, [HOLE]), shapely.Polygon(SMALL))
    assert (density.nucleus_px.sum(), density.valid_px.sum()) == truth(whole, both)
    assert len(surveyed.chosen) < len(whole[0].chosen)
    touched = {(spec.row, spec.column) for spec in surveyed.chosen}
    assert set(map(tuple, np.argwhere(density.status).tolist())) == touched


def test_results_of_regions_are_those_of_their_pixels(in_regions, whole):
    surveyed, _, fed, _ = in_regions
    nuclei = list(find_nuclei(whole[3], surveyed.scale))
    results, differences = results_of(
        fed,
        surveyed.tissue,
        surveyed.scale,
        cell_px=surveyed.cell_px,
        hot_spot_mm2=0.003,
        nuclei=nuclei,
    )
    for result, rings in zip(results, ([OUTER, HOLE], [SMALL]), strict=True):
        polygon = shapely.Polygon(rings[0], rings[1:])
        nucleus_px, within_px = truth(whole, polygon)
        assert result.area_mm2 == pytest.approx(polygon.area * 0.25**2 / 1e6)
        # all is tissue, which is found on px of 5 µm
        assert result.tissue_mm2 == pytest.approx(within_px * 0.25**2 / 1e6, rel=0.03)
        assert result.density == pytest.approx(nucleus_px / within_px, rel=0.03)
        assert result.class_shares.sum() == pytest.approx(1)
        centres = [shapely.Point(nucleus.centroid_l0) for nucleus in nuclei]
        assert result.nuclei == sum(polygon.contains(centre) for centre in centres)
    assert results[0].hot_spot is not None
    (difference,) = differences
    assert difference.difference == pytest.approx(results[0].density - results[1].density)
    assert difference.interval is None  # of so few blocks


def test_the_classes_of_a_region_are_by_the_cells_of_the_map(folder, whole, tmp_path):
    (tmp_path / "slide.svs").symlink_to(folder / "slide.svs")
    all_of_it = [[0, 0], [1700, 0], [1700, 1500], [0, 1500]]
    regions = write_regions(tmp_path / "slide.geojson", all=[all_of_it])
    fine = replace(SETTINGS, cell_px=60, regions=regions)
    surveyed, density, fed, _ = run(tmp_path, fine)
    (result,), _ = results_of(fed, surveyed.tissue, surveyed.scale, cell_px=240, hot_spot_mm2=0.01)
    of_map = whole[1].class_shares()
    np.testing.assert_allclose(result.class_shares, of_map, atol=0.02)
    assert np.abs(density.class_shares() - of_map).max() > 0.1


def test_nuclei_count_where_their_centre_lies_though_the_border_cuts_them(in_regions, whole):
    surveyed, _, _, masks = in_regions
    counted = list(nuclei_within(surveyed.regions, find_nuclei(masks, surveyed.scale)))
    uncut = {n.runs.tobytes(): n for n in find_nuclei(whole[3], surveyed.scale)}
    inside = [n for n in counted if n.runs.tobytes() in uncut]
    assert len(inside) > 0.95 * len(counted) > 20  # but for those cut by tiles that are not read


def test_the_stain_of_a_region_is_that_of_the_slide(in_regions, whole):
    assert in_regions[0].stained_tiles == whole[0].stained_tiles


def test_what_a_checkpoint_keeps_of_regions_comes_back(in_regions, tmp_path):
    surveyed, density, fed, _ = in_regions
    with checkpoint(tmp_path, "key", 10) as kept:
        kept.hold(density, None, fed)
        kept.save()
    with checkpoint(tmp_path, "key", 10) as kept:
        again = surveyed.empty_map()
        restored = InRegions(surveyed.regions, again, surveyed.chosen)
        kept.restore(again, None, restored)
        kept.finished = True
    wanted = fed.map_of(0, surveyed.tissue)
    came = restored.map_of(0, surveyed.tissue)
    np.testing.assert_array_equal(came.outlined_px, wanted.outlined_px)
    np.testing.assert_array_equal(came.valid_px, wanted.valid_px)
    np.testing.assert_array_equal(came.status, wanted.status)


def test_glass_in_a_region_is_no_tissue_of_it(tmp_path):
    pixels = slides.glass(1440, 960)
    pixels[:, :700] = slides.all_tissue(700, 960, density=0.2)
    demo.write_slide(tmp_path / "slide.svs", pixels)
    box = [[100, 100], [1300, 100], [1300, 800], [100, 800]]
    regions = write_regions(tmp_path / "slide.geojson", box=[box])
    surveyed, _, fed, _ = run(tmp_path, replace(SETTINGS, regions=regions))
    (result,), _ = results_of(
        fed, surveyed.tissue, surveyed.scale, cell_px=surveyed.cell_px, hot_spot_mm2=0.01
    )
    assert result.area_mm2 == pytest.approx(1200 * 700 * 0.0625 / 1e6)
    assert result.tissue_mm2 == pytest.approx(600 * 700 * 0.0625 / 1e6, rel=0.05)


def test_a_region_without_tissue_is_refused(folder, tmp_path):
    demo.write_slide(tmp_path / "slide.svs", slides.glass(1440, 960))
    pixels = slides.glass(1440, 960)
    pixels[:, :480] = slides.all_tissue(480, 960)
    demo.write_slide(tmp_path / "slide.svs", pixels)
    box = [[1000, 100], [1300, 100], [1300, 800], [1000, 800]]
    regions = write_regions(tmp_path / "slide.geojson", box=[box])
    with pytest.raises(GlioError, match="no tissue found in the regions"):
        run(tmp_path, replace(SETTINGS, regions=regions))


def correlated(rows: int, columns: int, mean: float, seed: int) -> DensityMap:
    """Return a map of tiles whose density is alike over some 200 µm."""
    random = np.random.default_rng(seed)
    noise = random.standard_normal((rows + 2, columns + 2))
    alike = sum(noise[i : i + rows, j : j + columns] for i in range(3) for j in range(3)) / 3
    grid = TileGrid((480 * columns, 480 * rows), (480.0, 480.0))
    density = DensityMap(grid, 480, 480)
    valid = np.ones((480, 480), np.uint8)
    for spec in grid:
        nuclei = np.zeros(480 * 480, np.uint8)
        share = np.clip(mean + 0.03 * alike[spec.row, spec.column], 0, 1)
        nuclei[: round(share * len(nuclei))] = 1
        density.feed(Measured(spec, nuclei.reshape(480, 480), valid))
    return density


def test_blocks_hold_all_of_a_map_and_intervals_its_difference():
    scale = Scale(0.25, 0.25, "slide")
    ours, theirs = correlated(18, 22, 0.15, 0), correlated(20, 20, 0.10, 1)
    parts = [cells_of(ours), cells_of(theirs)]
    side = block_side(parts, cell_px=ours.cell_px, cell_um=ours.cell_l0[0] * scale.x_mpp)
    assert 4 <= side <= 8  # tiles of 120 µm
    blocks = blocks_of(parts[0], side)
    assert len(blocks) == -(-18 // side) * -(-22 // side)
    assert blocks.sum(axis=0).tolist() == [ours.nucleus_px.sum(), ours.valid_px.sum()]
    low, high = interval_of_difference(blocks, blocks_of(parts[1], side))
    difference = ours.mean_density() - theirs.mean_density()
    assert low < difference < high
    assert low > 0
    # tiles drawn singly, as if neighbours were not alike, would seem far surer
    single = [
        np.stack([density.nucleus_px.ravel(), density.valid_px.ravel()], axis=1).astype(float)
        for density in (ours, theirs)
    ]
    alone_low, alone_high = interval_of_difference(*single)
    assert alone_high - alone_low < 0.75 * (high - low)


def wavy(wave: float, side: int = 160) -> np.ndarray:
    """Return cells of 100 px, all tissue, whose density waves with noise around 20 %."""
    random = np.random.default_rng(4)
    place = np.arange(side) * 2 * np.pi / wave
    density = (
        0.2 + 0.1 * np.sin(place)[:, None] * np.cos(place) + random.normal(0, 0.03, (side,) * 2)
    )
    return np.stack([density * 100, np.full((side, side), 100.0)], axis=-1)


@pytest.mark.parametrize(
    ("wave", "least", "most"), [(2, 16, 16), (40, 16, 24), (100, 36, 56), (1e6, 16, 16)]
)
def test_a_block_is_as_long_as_two_ways_over_which_density_is_alike(wave, least, most):
    side = block_side([wavy(wave)], cell_px=10, cell_um=30.0)
    assert least <= side <= most


def test_where_density_is_alike_all_over_there_are_too_few_blocks():
    long = wavy(600)
    side = block_side([long], cell_px=10, cell_um=30.0)
    assert len(blocks_of(long, side)) < FEWEST_BLOCKS
    assert block_side([long[:1]], cell_px=10, cell_um=30.0) is None
    assert block_side([], cell_px=10, cell_um=30.0) == 16
    even = wavy(2)
    even[..., 0] = 20
    even[3:9, 5:7] = 0  # glass
    assert block_side([even], cell_px=10, cell_um=30.0) == 16


def test_the_command_s_outputs_have_the_regions(folder, tmp_path):
    settings = Settings(regions=folder / "slide.geojson")
    names = ("a.regions.csv", "a.json", "a.geojson", "a.html", "a.png")
    with gliorun.measure(folder / "slide.svs", None, settings, nuclei=True,
                         hot_spot_mm2=0.01) as measured:  # fmt: skip
        measured.write(*(tmp_path / name for name in names))
        first, second = measured.regions
    with (tmp_path / "a.regions.csv").open(newline="", encoding="utf-8-sig") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["region"] for row in rows] == ["first", "second"]
    assert [row["class"] for row in rows] == ["Tumor", "Tumor"]
    assert float(rows[0]["density"]) == pytest.approx(first.density, abs=1e-6)
    assert float(rows[0]["density_low"]) <= float(rows[0]["density"])
    assert int(rows[1]["nuclei"]) == second.nuclei
    record = json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))
    assert record["regions"][0]["density"] == pytest.approx(first.density)
    assert record["settings"]["regions"] == "slide.geojson"
    (pair,) = record["region_differences"]
    assert (pair["first"], pair["second"], pair["interval"]) == ("first", "second", None)
    features = json.loads((tmp_path / "a.geojson").read_text())["features"]
    drawn = [f for f in features if f["properties"].get("name") == "first"]
    outline = shapely.from_geojson(json.dumps(drawn[0]["geometry"]))
    assert outline.equals_exact(shapely.Polygon(OUTER, [HOLE]), 1e-6, normalize=True)
    assert drawn[0]["properties"]["isLocked"]
    text = (tmp_path / "a.html").read_text(encoding="utf-8")
    assert "<td>first</td><td>Tumor</td>" in text
    for share in first.class_shares[first.class_shares > 0]:
        assert f": {100 * share:.1f} %" in text
    assert f"{100 * first.density:.1f} %" in text
    with Image.open(tmp_path / "a.png") as picture:
        assert (np.asarray(picture)[..., :3] == (0x6A, 0, 0xA8)).all(axis=-1).sum() > 500


def test_a_table_of_regions_without_regions_is_a_wrong_use(small_slide, tmp_path):
    with (
        gliorun.measure(small_slide.path) as measured,
        pytest.raises(UsageError, match="is of regions"),
    ):
        measured.write(tmp_path / "a.regions.csv")


def test_what_regions_hold_is_part_of_what_a_result_depends_on(folder, tmp_path):
    def of(path: Path) -> object:
        return identity.of_map(shipped.model_path(None), Compute(), Settings(regions=path))

    first = write_regions(tmp_path / "a.geojson", one=[SMALL])
    before = of(first)
    write_regions(tmp_path / "a.geojson", one=[OUTER])
    assert of(first) != before
    assert of(write_regions(tmp_path / "b.geojson", one=[OUTER])) == of(first)
