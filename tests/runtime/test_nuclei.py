"""Nuclei are counted once each, wherever tiles cut them, and their outlines are exact."""

from __future__ import annotations

import itertools
import tracemalloc

import numpy as np
import pytest
import scipy.stats
from PIL import Image, ImageDraw
from skimage.measure import label, regionprops

import naive
from gliorun import demo
from gliorun.findings.nuclei import (
    MIN_NUCLEUS_UM2,
    NucleusCounts,
    compare_counts,
    find_nuclei,
    find_shapes,
    nuclei_per_cell,
    split,
)
from gliorun.measuring import kernels
from gliorun.measuring.density import DensityMap
from gliorun.measuring.masks import MaskStore
from gliorun.measuring.tile import Measured
from gliorun.reading.scale import Scale
from gliorun.reading.tiles import TileGrid

TILE = 96
SCALE = Scale(0.25, 0.25, "slide")
COARSE_PX = Scale(2.5, 2.5, "slide")
"""At this scale one pixel is larger than a speck."""


def store_of(mask: np.ndarray, tile_l0: tuple[float, float] = (TILE, TILE)) -> MaskStore:
    """Cut a mask of the whole slide into tiles of `TILE` px."""
    height, width = mask.shape
    size_l0 = (round(width * tile_l0[0] / TILE), round(height * tile_l0[1] / TILE))
    grid = TileGrid(size_l0, tile_l0)
    store = MaskStore(grid, TILE)
    padded = np.pad(mask, ((0, grid.rows * TILE - height), (0, grid.columns * TILE - width)))
    for spec in grid:
        tile = padded[spec.row * TILE : (spec.row + 1) * TILE]
        tile = np.ascontiguousarray(tile[:, spec.column * TILE : (spec.column + 1) * TILE])
        if tile.any():
            store.feed(Measured(spec, tile, np.ones_like(tile)))
    return store


def noise(shape: tuple[int, int], share: float, seed: int = 0) -> np.ndarray:
    return (np.random.default_rng(seed).random(shape) < share).astype(np.uint8)


def tissue(height: int, width: int) -> np.ndarray:
    return demo.draw_tissue(np.full((height, width), 0.3, np.float32), 3).nuclei


def filled(nuclei, shape: tuple[int, int]) -> np.ndarray:
    """Draw outlines at mask scale: each px counts the outer rings around it minus the holes."""
    crossings = np.zeros((shape[0], shape[1] + 1), np.int64)
    for nucleus in nuclei:
        for ring in nucleus.outlines_l0():
            for (x, y), (next_x, next_y) in itertools.pairwise(ring):
                if x == next_x:
                    top, bottom = sorted((int(y), int(next_y)))
                    crossings[top:bottom, int(x)] += 1 if next_y < y else -1
    return crossings.cumsum(axis=1)[:, :-1]


def signed_area(ring: np.ndarray) -> float:
    return float((ring[:-1, 0] * np.diff(ring[:, 1])).sum())


@pytest.mark.parametrize("share", [0.02, 0.3, 0.55, 0.8])
@pytest.mark.parametrize("shape", [(5, 7), (1, 40), (40, 1), (61, 37)])
def test_kernels_equal_their_twins(shape, share):
    mask = noise(shape, share)
    runs = naive.find_runs(mask)
    counts, written = np.full(shape[0], 9, np.int64), np.full_like(runs, 9)
    kernels.count_runs(mask, counts)
    np.testing.assert_array_equal(counts, np.bincount(runs[:, 0], minlength=shape[0]))
    kernels.find_runs(mask, written)
    np.testing.assert_array_equal(written, runs)
    roots = np.full(len(runs), 9, np.int64)
    kernels.join_runs(runs, roots)
    np.testing.assert_array_equal(roots, naive.join_runs(runs))


@pytest.mark.parametrize("share", [0.0, 0.1, 0.4, 0.6, 0.9, 1.0])
@pytest.mark.parametrize("shape", [(4, 5), (150, 250), (200, 97), (192, 192)])
def test_every_shape_is_found_once_as_in_the_uncut_mask(shape, share):
    mask = noise(shape, share)
    whole = regionprops(label(mask, connectivity=1))
    nuclei = list(find_shapes(store_of(mask), COARSE_PX))
    assert len(nuclei) == len(whole)
    ours = sorted((n.area_um2 / 6.25, *n.centroid_l0) for n in nuclei)
    theirs = sorted((p.area, p.centroid[1] + 0.5, p.centroid[0] + 0.5) for p in whole)
    np.testing.assert_allclose(ours, theirs)


@pytest.mark.parametrize("share", [0.1, 0.4, 0.6, 0.9])
def test_outlines_filled_give_the_mask_back(share):
    mask = noise((200, 290), share)
    np.testing.assert_array_equal(filled(find_shapes(store_of(mask), COARSE_PX), mask.shape), mask)


def test_outlines_of_drawn_nuclei_filled_by_pillow_give_the_nuclei_back():
    mask = tissue(300, 400)
    drawn = Image.new("L", (400 * 3, 300 * 3))
    pen = ImageDraw.Draw(drawn)
    for nucleus in find_shapes(store_of(mask), COARSE_PX):
        outer, *holes = nucleus.outlines_l0()
        # three px a px, so that Pillow's inclusive borders stay clear of px centres
        pen.polygon([tuple(corner * 3) for corner in outer], fill=1)
        for hole in holes:
            pen.polygon([tuple(corner * 3) for corner in hole], fill=0)
    np.testing.assert_array_equal(np.asarray(drawn)[1::3, 1::3], mask)


@pytest.mark.parametrize("seed", range(12))
def test_outlines_equal_those_walked_edge_by_edge(seed):
    mask = noise((23, 31), 0.62, seed)
    names = label(mask, connectivity=1)
    nuclei = list(find_shapes(store_of(mask), COARSE_PX))
    assert nuclei
    for nucleus in nuclei:
        row, start, _ = nucleus.runs[0]
        wanted = naive.outlines(names == names[row, start])
        members = set()
        for ring in nucleus.outlines_l0():
            corners = [tuple(corner) for corner in ring[:-1].astype(int).tolist()]
            first = corners.index(min(corners))
            members.add((*corners[first:], *corners[:first]))
        assert members == wanted


@pytest.mark.parametrize("seed", range(5))
def test_outlines_are_closed_turn_one_way_and_meet_themselves_nowhere(seed):
    for nucleus in find_shapes(store_of(noise((60, 80), 0.65, seed)), COARSE_PX):
        outer, *holes = nucleus.outlines_l0()
        assert signed_area(outer) > 0
        assert all(signed_area(hole) < 0 for hole in holes)
        assert sum(map(signed_area, (outer, *holes))) == pytest.approx(nucleus.area_um2 / 6.25)
        for ring in (outer, *holes):
            np.testing.assert_array_equal(ring[0], ring[-1])
            assert len(np.unique(ring[:-1], axis=0)) == len(ring) - 1  # no corner twice
            turns = np.abs(np.diff(ring, axis=0)) > 0
            assert (turns[:-1] != turns[1:]).all()  # no corner on a straight line


def test_a_hole_that_opens_at_a_corner_only_stays_a_hole():
    mask = np.array([[1, 1, 1], [1, 0, 1], [1, 1, 0]], np.uint8)
    (nucleus,) = find_shapes(store_of(mask), COARSE_PX)
    outer, hole = nucleus.outlines_l0()
    corners = {tuple(corner) for corner in outer.astype(int).tolist()}
    assert corners == {(0, 0), (3, 0), (3, 2), (2, 2), (2, 3), (0, 3)}
    assert {tuple(corner) for corner in hole.astype(int).tolist()} == {
        (1, 1), (2, 1), (2, 2), (1, 2),
    }  # fmt: skip


def test_nuclei_that_meet_at_a_corner_are_two():
    mask = np.zeros((10, 10), np.uint8)
    mask[2:5, 2:5] = mask[5:8, 5:8] = 1
    first, second = find_shapes(store_of(mask), COARSE_PX)
    assert (first.centroid_l0, second.centroid_l0) == ((3.5, 3.5), (6.5, 6.5))


def test_a_nucleus_over_the_corner_of_four_tiles_is_one():
    mask = np.zeros((2 * TILE, 2 * TILE), np.uint8)
    mask[TILE - 10 : TILE + 20, TILE - 15 : TILE + 5] = 1
    (nucleus,) = find_nuclei(store_of(mask), SCALE)
    assert nucleus.area_um2 == 30 * 20 * 0.0625
    assert nucleus.centroid_l0 == (TILE - 5, TILE + 5)
    (ring,) = nucleus.outlines_l0()
    corners = {tuple(corner) for corner in ring.tolist()}
    assert len(ring) == 5
    assert corners == {(81.0, 86.0), (101.0, 86.0), (101.0, 116.0), (81.0, 116.0)}


def test_a_u_whose_arms_join_two_rows_of_tiles_below_is_one():
    mask = np.zeros((3 * TILE, TILE), np.uint8)
    mask[5:, 5:10] = mask[5:, 40:45] = mask[-5:, 5:45] = 1
    (nucleus,) = find_nuclei(store_of(mask), SCALE)
    assert nucleus.area_um2 == mask.sum() * 0.0625
    assert len(nucleus.outlines_l0()) == 1


def discs(shape: tuple[int, int], *places: tuple[float, float, float]) -> np.ndarray:
    """Return a mask of discs of (y, x, radius)."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    inside = [np.hypot(y - at_y, x - at_x) <= radius for at_y, at_x, radius in places]
    return np.any(inside, axis=0).astype(np.uint8)


@pytest.mark.parametrize(
    ("places", "wanted"),
    [
        ([(40, 40, 12)], 1),
        ([(40, 40, 12), (40, 60, 12)], 2),  # they touch, with a waist
        ([(40, 30, 12), (40, 53, 12), (60, 42, 12)], 3),
        ([(40, 40, 12), (40, 46, 12)], 1),  # one long nucleus
        ([(40, 40, 14), (40, 61, 9)], 2),
        ([(40, 40, 14), (40, 54, 3)], 1),  # a bump
    ],
)
def test_touching_nuclei_are_split_at_their_waist(places, wanted):
    mask = discs((96, 96), *places)
    nuclei = list(find_nuclei(store_of(mask), SCALE))
    assert len(nuclei) == wanted
    assert sum(nucleus.area_um2 for nucleus in nuclei) == mask.sum() * 0.0625
    if wanted == len(places):
        for y, x, _ in places:
            centres = [np.hypot(n.centroid_l0[0] - x - 0.5, n.centroid_l0[1] - y - 0.5)
                       for n in nuclei]  # fmt: skip
            assert min(centres) < 2


def clumps(height: int, width: int, seed: int = 1) -> np.ndarray:
    random = np.random.default_rng(seed)
    places = random.random((height * width // 500, 3)) * (height, width, 8) + (0, 0, 5)
    return discs((height, width), *map(tuple, places.tolist()))


def parts_of(mask: np.ndarray) -> list[list[list[int]]]:
    return [nucleus.runs.tolist() for nucleus in find_nuclei(store_of(mask), SCALE)]


def test_the_borders_of_tiles_decide_nothing_about_a_split():
    """The same nuclei, elsewhere on the grid of tiles, are cut at the same pixels."""
    mask = clumps(170, 170)
    moved = np.pad(mask, ((41, 0), (57, 0)))
    elsewhere = [
        [[row - 41, start - 57, end - 57] for row, start, end in runs] for runs in parts_of(moved)
    ]
    here = parts_of(mask)
    assert sorted(here) == sorted(elsewhere)
    assert len(here) > 1.5 * len(list(find_shapes(store_of(mask), SCALE)))


@pytest.mark.parametrize("seed", range(3))
def test_the_parts_of_a_shape_are_whole_sorted_no_specks_and_all_of_it(seed):
    mask = clumps(170, 170, seed)
    for shape in find_shapes(store_of(mask), SCALE):
        parts = split(shape.runs, 0.0625)
        drawn = np.zeros(mask.shape, int)
        for runs in parts:
            one = np.zeros(mask.shape, bool)
            for row, start, end in runs.tolist():
                one[row, start:end] = True
            assert label(one, connectivity=1).max() == 1
            assert len(parts) == 1 or one.sum() * 0.0625 >= MIN_NUCLEUS_UM2
            np.testing.assert_array_equal(runs, naive.find_runs(one))
            drawn += one
        assert drawn.max() == 1
        assert drawn.sum() * 0.0625 == shape.area_um2


@pytest.mark.parametrize("seed", range(4))
def test_the_kernels_of_the_split_equal_their_twins(seed):
    random = np.random.default_rng(seed)
    mask = np.zeros((23, 31), np.uint8)
    mask[1:-1, 1:-1] = random.random((21, 29)) < 0.7 + 0.07 * seed
    squared = np.full(mask.shape, -1, np.int32)
    kernels.distances_to_edge(mask, np.full(mask.shape, -1, np.int32), squared)
    np.testing.assert_array_equal(squared, naive.distances_to_edge(mask))
    heights = random.integers(0, 9, mask.shape).astype(np.int32)
    pixels = np.flatnonzero(mask)
    order = pixels[np.argsort(-heights.ravel()[pixels], kind="stable")]
    basins = np.zeros(mask.shape, np.int32)
    roots, peaks, met = (np.zeros(mask.sum() + 1, np.int64) for _ in range(3))
    hills = kernels.flood(heights.ravel(), order, 3, basins, roots, peaks, met)
    for hill in range(1, hills + 1):
        while roots[hill] != roots[roots[hill]]:
            roots[hill] = roots[roots[hill]]
    ours, theirs = roots[basins], naive.flood(heights, mask, 3)
    assert ((ours > 0) == (theirs >= 0)).all()
    pairs = set(zip(ours.ravel().tolist(), theirs.ravel().tolist(), strict=True))
    assert len(pairs) == len(np.unique(ours)) == len(np.unique(theirs))
    again = np.zeros_like(mask)
    kernels.draw_runs(naive.find_runs(mask[2:, 3:]), 0, 0, again[2:, 3:])
    again[:2], again[:, :3] = mask[:2], mask[:, :3]
    np.testing.assert_array_equal(again, mask)
    runs, names = np.empty((mask.size, 3), np.int32), np.empty(mask.size, np.int32)
    count = kernels.find_label_runs(ours.astype(np.int32), runs, names)
    drawn = np.zeros(mask.shape, np.int64)
    for (row, start, end), name in zip(runs[:count].tolist(), names[:count].tolist(), strict=True):
        assert not drawn[row, start:end].any()
        drawn[row, start:end] = name
    np.testing.assert_array_equal(drawn, ours)


def test_a_vast_shape_is_ink_and_stays_whole():
    runs = np.array([[row, 0, 9000] for row in range(2000)], np.int32)
    (whole,) = split(runs, 0.0625)
    assert whole is runs


def test_specks_are_no_nuclei():
    smallest_px = int(MIN_NUCLEUS_UM2 / 0.0625)
    mask = np.zeros((TILE, 2 * TILE), np.uint8)
    mask[3, 3 : 3 + smallest_px] = 1
    mask[6, 3 : 3 + smallest_px - 1] = 1
    (nucleus,) = find_nuclei(store_of(mask), SCALE)
    assert nucleus.area_um2 == MIN_NUCLEUS_UM2


def test_places_and_areas_follow_the_scale_of_the_slide():
    mask = np.zeros((TILE, TILE), np.uint8)
    mask[10:30, 20:60] = 1
    # slide px of 0.5 × 0.6 µm, two mask px a slide px along x and 2.4 along y
    store = store_of(mask, tile_l0=(TILE / 2, TILE / 2.4))
    (nucleus,) = find_nuclei(store, Scale(0.5, 0.6, "slide"))
    assert nucleus.area_um2 == pytest.approx(20 * 40 * 0.25 * 0.25)
    assert nucleus.centroid_l0 == pytest.approx((20, 20 / 2.4))
    (ring,) = nucleus.outlines_l0()
    np.testing.assert_allclose(ring.max(axis=0), (30, 30 / 2.4))


def test_an_empty_store_has_no_nuclei():
    assert list(find_nuclei(store_of(np.zeros((50, 60), np.uint8)), SCALE)) == []


def test_memory_does_not_grow_with_the_height_of_the_slide():
    def peak(rows: int) -> int:
        store = store_of(np.tile(drawn, (rows, 1)))
        tracemalloc.start()
        for _ in find_nuclei(store, SCALE):
            pass
        _, top = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return top

    drawn = tissue(TILE, 4 * TILE)
    list(find_nuclei(store_of(drawn), SCALE))  # compile
    assert peak(40) < 1.5 * peak(10)


def map_of(mask: np.ndarray, cell_px: int) -> DensityMap:
    grid = TileGrid((mask.shape[1], mask.shape[0]), (TILE, TILE))
    density = DensityMap(grid, TILE, cell_px)
    for spec in grid:
        place = np.s_[
            spec.row * TILE : (spec.row + 1) * TILE, spec.column * TILE : (spec.column + 1) * TILE
        ]
        density.feed(
            Measured(spec, np.ascontiguousarray(mask[place]), np.ones((TILE, TILE), np.uint8))
        )
    return density


def test_each_nucleus_counts_in_the_cell_of_its_centre():
    mask = np.zeros((2 * TILE, 2 * TILE), np.uint8)
    mask[40:60, 30:50] = 1  # crosses the border of cells at 48 px, centre at (40, 50)
    mask[100:110, 100:110] = 1
    mask[120:140, 150:160] = 1
    fields = [
        (0, 0, 40, 60),
        (40, 50, 160, 130),
        (40, 51, 150, 200),
    ]  # centres at 40, 50 and 155, 130
    counts = nuclei_per_cell(find_nuclei(store_of(mask), SCALE), map_of(mask, 48), fields)
    assert counts.per_field == (0, 2, 1)
    wanted = np.zeros((4, 4), int)
    wanted[1, 0] = wanted[2, 2] = wanted[2, 3] = 1
    np.testing.assert_array_equal(counts.per_cell, wanted)
    assert counts.crossing == 1


def test_cells_count_every_nucleus_of_a_slide():
    mask = tissue(4 * TILE, 6 * TILE)
    nuclei = list(find_shapes(store_of(mask), SCALE))
    counts = nuclei_per_cell(nuclei, map_of(mask, 24))
    assert counts.per_cell.sum() == len(nuclei)
    inside = sum(len({(y // 24, x // 24) for y, x in p.coords.tolist()}) > 1
                 for p in regionprops(label(mask, connectivity=1)) if p.area >= 80)  # fmt: skip
    assert counts.crossing == inside


def test_a_count_in_proportion_to_the_area_displaces_nothing():
    mask = np.zeros((TILE, 2 * TILE), np.uint8)
    for x in (10, 40, 70, 110):
        mask[20:40, x : x + 20] = 1
    density = map_of(mask, TILE)
    counts = nuclei_per_cell(find_nuclei(store_of(mask), SCALE), density)
    comparison = compare_counts(counts, density, SCALE)
    assert counts.per_cell.tolist() == [[3, 1]]
    assert comparison.displaced_share == pytest.approx(0)
    assert comparison.other_class_share == 0
    assert comparison.rank_correlation == pytest.approx(1)
    assert comparison.crossing_share == 0
    assert comparison.nuclei_per_mm2 == pytest.approx(4 / (2 * (TILE * 0.25e-3) ** 2))


def test_nuclei_of_other_sizes_displace_the_count():
    mask = np.zeros((TILE, 2 * TILE), np.uint8)
    mask[20:40, 10:70] = 1  # a long one
    for x in (110, 140, 170):
        mask[20:40, x : x + 20] = 1
    density = map_of(mask, TILE)
    comparison = compare_counts(
        nuclei_per_cell(find_nuclei(store_of(mask), SCALE), density), density, SCALE
    )
    # one nucleus and three, of the same area: 1/4 lies in the wrong cell
    assert comparison.nuclei == 4
    assert comparison.displaced_share == pytest.approx(0.25)
    assert comparison.rank_correlation is None


def test_the_area_that_counting_puts_into_another_class_is_told():
    density = map_of(np.zeros((2 * TILE, TILE), np.uint8), TILE)
    density.nucleus_px[:, 0] = [0.10 * TILE**2, 0.01 * TILE**2]
    # 5.5 % each if counted alike: from 8–16 % to 4–8 %, and from 0–2 % to 4–8 %
    alike = compare_counts(NucleusCounts(np.array([[3], [3]]), 0), density, SCALE)
    assert alike.other_class_share == 1
    # 9.2 % and 1.8 %: as by area
    five_to_one = compare_counts(NucleusCounts(np.array([[5], [1]]), 0), density, SCALE)
    assert five_to_one.other_class_share == 0
    assert five_to_one.displaced_share == pytest.approx(10 / 11 - 5 / 6, abs=1e-3)


def test_the_rank_correlation_is_spearman_s_with_ties():
    random = np.random.default_rng(5)
    mask = noise((4 * TILE, 5 * TILE), 0.3)
    density = map_of(mask, TILE)
    per_cell = random.integers(0, 5, density.valid_px.shape)
    comparison = compare_counts(NucleusCounts(per_cell, 0), density, SCALE)
    wanted = scipy.stats.spearmanr(per_cell.ravel(), density.density.ravel()).statistic
    assert comparison.rank_correlation == pytest.approx(wanted)


def test_cells_without_a_value_are_left_out_of_the_comparison():
    mask = tissue(2 * TILE, 3 * TILE)
    density = map_of(mask, TILE)
    counts = nuclei_per_cell(find_nuclei(store_of(mask), SCALE), density)
    density.nucleus_px[0, 0] = density.valid_px[0, 0] = 0
    comparison = compare_counts(counts, density, SCALE)
    rest = (counts.per_cell.sum() - counts.per_cell[0, 0]) / (5 * (TILE * 0.25e-3) ** 2)
    assert comparison.nuclei_per_mm2 == pytest.approx(rest)


def test_a_slide_without_nuclei_is_compared_without_a_fault():
    mask = np.zeros((TILE, TILE), np.uint8)
    density = map_of(mask, TILE)
    counts = nuclei_per_cell(find_nuclei(store_of(mask), SCALE), density)
    comparison = compare_counts(counts, density, SCALE)
    assert (comparison.nuclei, comparison.nuclei_per_mm2, comparison.crossing_share) == (0, 0, 0)
    assert comparison.displaced_share is None
    assert comparison.other_class_share is None
    assert comparison.rank_correlation is None
