"""Density classes and the map that sums them."""

from __future__ import annotations

import numpy as np
import pytest

from gliorun.errors import GlioError
from gliorun.measuring.density import CLASS_EDGES, NO_CLASS, DensityMap, classify
from gliorun.measuring.tile import LeftOut, Measured, Status
from gliorun.model.outlines import Outlines
from gliorun.reading.tiles import TileGrid

TILE = 480


def grid(columns: int = 2, rows: int = 3) -> TileGrid:
    return TileGrid((columns * TILE, rows * TILE), (float(TILE), float(TILE)))


def random_masks(tiles: int) -> np.ndarray:
    return (np.random.default_rng(0).random((tiles, TILE, TILE)) < 0.13).astype(np.uint8)


def filled(cell_px: int, masks: np.ndarray) -> DensityMap:
    density = DensityMap(grid(), TILE, cell_px)
    for spec, mask in zip(density.grid, masks, strict=True):
        density.feed(Measured(spec, mask, np.ones((TILE, TILE), np.uint8)))
    return density


@pytest.mark.parametrize("number", range(6))
def test_a_class_holds_its_lower_edge_and_not_its_upper(number):
    low, high = CLASS_EDGES[number], CLASS_EDGES[number + 1]
    assert classify(low) == number
    assert classify((low + high) / 2) == number
    assert classify(np.nextafter(high, 0)) == number


def test_the_last_class_holds_full_density():
    assert classify(1.0) == 5


def test_no_value_has_no_class():
    np.testing.assert_array_equal(classify([0.05, np.nan]), [2, NO_CLASS])


@pytest.mark.parametrize("cell_px", [120, 240, 480])
def test_the_cells_sum_to_the_pixels_of_the_masks(cell_px):
    masks = random_masks(6)
    density = filled(cell_px, masks)
    whole = np.block([[masks[2 * row], masks[2 * row + 1]] for row in range(3)])
    rows, columns = (side // cell_px for side in whole.shape)
    wanted = whole.reshape(rows, cell_px, columns, cell_px).sum(axis=(1, 3))
    np.testing.assert_array_equal(density.nucleus_px, wanted)
    np.testing.assert_array_equal(density.density, wanted / cell_px**2)
    assert density.cell_l0 == (cell_px, cell_px)


def test_the_density_of_a_tile_is_the_mean_over_its_patches():
    masks = random_masks(6)
    fine, coarse = filled(120, masks), filled(480, masks)
    patches = fine.density.reshape(3, 4, 2, 4).mean(axis=(1, 3))
    np.testing.assert_allclose(patches, coarse.density, rtol=0, atol=1e-12)
    assert fine.mean_density() == pytest.approx(coarse.mean_density(), abs=1e-12)


def test_an_edge_tile_is_divided_by_the_pixels_inside_the_slide():
    density = DensityMap(grid(), TILE, TILE)
    valid = np.zeros((TILE, TILE), np.uint8)
    valid[:, :120] = 1
    mask = np.zeros((TILE, TILE), np.uint8)
    mask[:, :30] = 1
    mask[:, 200:] = 1  # the network saw nuclei outside the slide
    density.feed(Measured(density.grid.tile(0, 0), mask, valid))
    assert density.density[0, 0] == 0.25
    assert density.mean_density() == 0.25
    assert density.valid_share[0, 0] == 0.25


def test_a_sliver_inside_the_slide_has_no_value():
    density = DensityMap(grid(), TILE, TILE)
    valid = np.zeros((TILE, TILE), np.uint8)
    valid[:, :47] = 1  # 9.8 %
    density.feed(Measured(density.grid.tile(0, 0), np.ones((TILE, TILE), np.uint8), valid))
    assert np.isnan(density.density).all()
    assert np.isnan(density.mean_density())


def test_levels_are_counted_within_each_outline():
    outlines = Outlines(inner=200, nucleus=128, outer=60)
    density = DensityMap(grid(1, 1), TILE, 240, outlines)
    levels = np.random.default_rng(3).integers(0, 256, (TILE, TILE), dtype=np.uint8)
    levels[:240] = np.random.default_rng(4).choice([59, 60, 127, 128, 199, 200], (240, TILE))
    valid = np.ones((TILE, TILE), np.uint8)
    valid[:, 400:] = 0
    density.feed(Measured(density.grid.tile(0, 0), levels, valid))
    for level, map_of in (
        (200, density.density_low),
        (128, density.density),
        (60, density.density_high),
    ):
        inside = (levels >= level) & (valid != 0)
        wanted = inside.reshape(2, 240, 2, 240).sum(axis=(1, 3)) / density.valid_px
        np.testing.assert_array_equal(map_of, wanted)
    low, high = density.mean_band()
    assert low == pytest.approx((levels[:, :400] >= 200).mean())
    assert high == pytest.approx((levels[:, :400] >= 60).mean())
    assert low < density.mean_density() < high
    assert density.merged(2).mean_band() == pytest.approx((low, high))


@pytest.mark.parametrize("levels", [(10, 20, 5), (20, 10, 15), (20, 10, 0), (256, 10, 1)])
def test_outlines_that_cannot_be_are_refused(levels):
    with pytest.raises(GlioError, match="each must lie from 1 to 255"):
        Outlines(*levels)


def test_what_was_not_measured_has_no_value_and_is_not_zero():
    density = DensityMap(grid(), TILE, 240)
    density.feed(
        Measured(
            density.grid.tile(1, 2),
            np.zeros((TILE, TILE), np.uint8),
            np.ones((TILE, TILE), np.uint8),
        )
    )
    density.feed(LeftOut(density.grid.tile(0, 1), Status.UNREADABLE))
    assert (density.density[4:, 2:] == 0).all()
    assert np.isnan(density.density).sum() == 6 * 4 - 4
    assert density.measured_tiles() == 1
    assert (density.cell_status[4:, 2:] == Status.MEASURED).all()
    assert (density.cell_status[2:4, :2] == Status.UNREADABLE).all()
    assert (density.cell_status[:2] == Status.NO_TISSUE).all()


@pytest.mark.parametrize("status", [s for s in Status if s > Status.MEASURED])
def test_a_tile_that_is_left_out_says_why_and_does_not_count(status):
    density = DensityMap(grid(), TILE, 240)
    masks = random_masks(2)
    valid = np.ones((TILE, TILE), np.uint8)
    density.feed(Measured(density.grid.tile(0, 0), masks[0], valid))
    density.feed(LeftOut(density.grid.tile(1, 0), status))
    assert density.mean_density() == masks[0].mean()
    assert density.measured_tiles() == 1
    assert (density.cell_status[:2, 2:] == status).all()
    assert np.isnan(density.density[:2, 2:]).all()
    assert density.class_shares().sum() == pytest.approx(1)


def test_the_mean_and_the_classes_leave_out_the_glass_of_a_cell():
    density = DensityMap(grid(), TILE, TILE)
    mask, valid = np.zeros((TILE, TILE), np.uint8), np.ones((TILE, TILE), np.uint8)
    mask[:, :48] = 1
    density.feed(Measured(density.grid.tile(0, 0), mask, valid))  # 10 %, all of it tissue
    density.feed(Measured(density.grid.tile(1, 0), mask, valid))  # 10 %, a quarter of it tissue
    density.tissue_share[0, 1] = 0.25
    np.testing.assert_array_equal(density.density[0, :2], [0.1, 0.4])
    np.testing.assert_array_equal(density.density_of_tile[0, :2], [0.1, 0.1])
    assert density.mean_density() == pytest.approx(0.2 / 1.25)
    np.testing.assert_allclose(density.class_shares(), [0, 0, 0, 0.8, 0, 0.2])
    density.per_tissue = False
    np.testing.assert_array_equal(density.density[0, :2], [0.1, 0.1])
    assert density.mean_density() == pytest.approx(0.1)
    np.testing.assert_allclose(density.class_shares(), [0, 0, 0, 1, 0, 0])


def test_cells_with_little_tissue_and_cells_between_two_classes_are_told():
    density = DensityMap(grid(), TILE, TILE, Outlines(200, 128, 60))
    levels, valid = np.zeros((TILE, TILE), np.uint8), np.ones((TILE, TILE), np.uint8)
    levels[:7] = 100
    levels[:5] = 255
    for column in range(2):  # 5 rows within the inner outline, 7 within the outer one
        density.feed(Measured(density.grid.tile(column, 0), levels, valid))
    density.tissue_share[0, :2] = 1, 0.2
    assert TILE == 480
    np.testing.assert_allclose(density.density_low[0, 0], 5 / TILE)
    np.testing.assert_allclose(density.density_high[0, 1], 7 / TILE / 0.2)
    np.testing.assert_array_equal(density.sparse[0, :2], [False, True])
    np.testing.assert_array_equal(density.straddling[0, :2], [False, False])  # 1–1.5, 5–7 %
    density.tissue_share[0, 1] = 0.17  # 6.1 to 8.6 %
    np.testing.assert_array_equal(density.straddling[0, :2], [False, True])


def test_no_cell_counts_more_nucleus_than_it_has_tissue():
    density = filled(480, [np.ones((TILE, TILE), np.uint8)] * 6)
    density.tissue_share[:] = 0.5
    assert density.mean_density() == 1


def test_merged_cells_hold_the_sums_of_theirs():
    fine = filled(120, random_masks(6))
    fine.tissue[:4, :4] = False
    fine.tissue_share = np.random.default_rng(1).uniform(0.2, 1, fine.valid_px.shape)
    fine.feed(LeftOut(fine.grid.tile(1, 1), Status.FOLD))
    coarse = fine.merged(4)
    assert coarse.cell_px == 480
    assert coarse.nucleus_px.sum() == fine.nucleus_px.sum()
    np.testing.assert_array_equal(coarse.status, fine.status)
    assert not coarse.trusted[0, 0]
    assert coarse.tissue_px.sum() == pytest.approx(fine.tissue_px.sum())
    assert coarse.mean_density() == pytest.approx(fine.mean_density())


def test_class_shares_weigh_by_valid_area():
    density = DensityMap(grid(), TILE, TILE)
    full, half = np.ones((TILE, TILE), np.uint8), np.zeros((TILE, TILE), np.uint8)
    half[:240] = 1
    density.feed(
        Measured(density.grid.tile(0, 0), np.zeros((TILE, TILE), np.uint8), full)
    )  # class 0
    density.feed(Measured(density.grid.tile(1, 0), full, half))  # class 5, half inside
    np.testing.assert_allclose(density.class_shares(), [2 / 3, 0, 0, 0, 0, 1 / 3])


@pytest.mark.parametrize("cell_px", [0, -1, 100, 960])
def test_refuses_a_cell_that_does_not_divide_the_tile(cell_px):
    with pytest.raises(GlioError, match=f"{cell_px} px does not divide the tile of 480 px"):
        DensityMap(grid(), TILE, cell_px)


def test_a_map_of_more_cells_than_memory_holds_is_refused_with_the_side_that_fits():
    """As of a slide of 100,000 x 100,000 px: 43,681 tiles."""
    wide = grid(209, 209)
    with pytest.raises(GlioError, match=r"--cell-px 1 makes 10,064,102,400 cells .*; pass 40 or"):
        DensityMap(wide, TILE, 1)
    with pytest.raises(GlioError, match="--cell-px 32 makes 9,828,225 cells"):
        DensityMap(wide, TILE, 32)
    assert DensityMap(wide, TILE, 40).valid_px.size == 6_290_064
