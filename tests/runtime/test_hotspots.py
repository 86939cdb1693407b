"""The densest fields: exactly summed, apart from each other, the same in every run."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import naive
from gliorun.errors import GlioError
from gliorun.findings import hotspots
from gliorun.findings.hotspots import (
    MIN_TISSUE_SHARE,
    MOST_OF_TISSUE,
    HotSpot,
    find_fields,
    find_hot_spots,
)
from gliorun.measuring.density import DensityMap
from gliorun.reading.scale import Scale
from gliorun.reading.tiles import TileGrid

TILE = 480
SQUARE = Scale(0.25, 0.25, "slide")
TILE_MM2 = 0.12**2


def whole_tiles(densities: list[list[float]], cell_px: int = TILE) -> DensityMap:
    """Return a map of whole tiles at 0.25 µm/px; NaN is a tile that was not measured."""
    values = np.array(densities)
    rows, columns = values.shape
    grid = TileGrid((columns * TILE, rows * TILE), (float(TILE), float(TILE)))
    density = DensityMap(grid, TILE, cell_px)
    fine = values.repeat(density.cells_a_tile, 0).repeat(density.cells_a_tile, 1)
    density.valid_px[:] = np.where(np.isnan(fine), 0, cell_px**2)
    density.nucleus_px[:] = np.rint(np.nan_to_num(fine) * cell_px**2)
    return density


def box(spot: HotSpot) -> tuple[int, int, int, int]:
    return spot.minx, spot.miny, spot.width, spot.height


def test_the_densest_field_comes_first_with_its_place_and_square():
    density = whole_tiles([[0.1, 0.1, 0.1], [0.1, 0.1, 0.4], [0.1, 0.2, 0.1]])
    first, second, third = find_fields(density, SQUARE, area_mm2=TILE_MM2, count=3)
    assert box(first) == (960, 480, 480, 480)
    assert (first.rank, first.square) == (1, "B3")  # squares of one tile
    assert first.density == pytest.approx(0.4)
    assert first.tissue_share == pytest.approx(1)
    assert box(second) == (480, 960, 480, 480)
    assert box(third) == (0, 0, 480, 480)


def test_a_field_has_the_band_of_its_cells():
    density = whole_tiles([[0.4, 0.2], [0.1, 0.1]])
    density.outlined_px[0] = density.nucleus_px * 0.75
    density.outlined_px[2] = density.nucleus_px * 1.25
    (spot,) = find_fields(density, SQUARE, area_mm2=2 * TILE_MM2, count=1)
    assert spot.density_low == pytest.approx(0.75 * spot.density, abs=1e-4)
    assert spot.density_high == pytest.approx(1.25 * spot.density, abs=1e-4)


def test_a_cut_cell_counts_with_the_share_that_is_covered():
    density = whole_tiles([[0.4, 0.1, 0.0], [0.2, 0.0, 0.0], [0.0, 0.0, 0.0]])
    (spot,) = find_fields(density, SQUARE, area_mm2=(1.5 * 0.12) ** 2, count=1)
    assert box(spot) == (0, 0, 720, 720)
    assert spot.density == pytest.approx((0.4 + 0.5 * 0.1 + 0.5 * 0.2) / 2.25)


def test_fields_may_touch_and_never_overlap():
    density = whole_tiles([[0.3] * 6] * 2)
    spots = find_fields(density, SQUARE, area_mm2=4 * TILE_MM2, count=9)
    assert [spot.minx for spot in spots] == [0, 960, 1920]


@pytest.mark.parametrize("mpp", [0.26, 0.27, 0.4991])
def test_rounding_to_px_makes_no_overlap_and_leaves_no_field_outside(mpp):
    grid = TileGrid.over((5003, 4001), (mpp, mpp), TILE, 0.25)
    density = DensityMap(grid, TILE, 120)
    density.valid_px[:] = 120**2
    density.nucleus_px[:] = np.random.default_rng(0).integers(0, 9000, density.valid_px.shape)
    spots = find_fields(density, Scale(mpp, mpp, "slide"), area_mm2=0.0225, count=30)
    assert len(spots) == 30
    for one, other in combinations(spots, 2):
        assert (
            one.minx + one.width <= other.minx
            or other.minx + other.width <= one.minx
            or one.miny + one.height <= other.miny
            or other.miny + other.height <= one.miny
        )
    for spot in spots:
        assert spot.minx + spot.width <= 5003
        assert spot.miny + spot.height <= 4001


def test_equal_fields_come_in_reading_order():
    density = whole_tiles([[0.2] * 3] * 3)
    spots = find_fields(density, SQUARE, area_mm2=TILE_MM2, count=9)
    assert [(spot.miny, spot.minx) for spot in spots] == [
        (480 * row, 480 * column) for row in range(3) for column in range(3)
    ]


def test_rounding_errors_do_not_decide_between_equals():
    # sums of thirds differ in the last digits from place to place
    density = whole_tiles([[0.3] * 40] * 40, cell_px=160)
    spots = find_fields(density, SQUARE, area_mm2=(0.12 * 7 / 3) ** 2 * 1.01, count=1)
    assert (spots[0].minx, spots[0].miny) == (0, 0)


def test_there_are_fewer_when_the_slide_has_no_room():
    density = whole_tiles([[0.2] * 3] * 3)
    assert len(find_fields(density, SQUARE, area_mm2=4 * TILE_MM2, count=5)) == 1


def test_a_field_is_no_hot_spot_without_enough_measured_tissue():
    nan = float("nan")
    density = whole_tiles([[0.1, 0.1, nan, 0.9], [0.1, 0.1, nan, nan]])
    spots = find_fields(density, SQUARE, area_mm2=4 * TILE_MM2, count=5)
    assert [box(spot) for spot in spots] == [(0, 0, 960, 960)]


def test_a_field_with_just_enough_counts_only_what_was_measured():
    density = whole_tiles([[0.1, 0.3], [0.2, float("nan")]])
    assert MIN_TISSUE_SHARE == 0.75
    (spot,) = find_fields(density, SQUARE, area_mm2=4 * TILE_MM2, count=5)
    assert spot.density == pytest.approx(0.2)  # and not 0.15
    assert spot.tissue_share == pytest.approx(0.75)


def test_a_field_may_end_with_a_cell_and_so_at_the_edge_of_the_slide():
    density = whole_tiles([[0.1, 0.1, 0.1], [0.1, 0.1, 0.1], [0.1, 0.1, 0.4]])
    (spot,) = find_fields(density, SQUARE, area_mm2=(1.5 * 0.12) ** 2, count=1)
    assert box(spot) == (720, 720, 720, 720)
    assert spot.density == pytest.approx((0.4 + 1.25 * 0.1) / 2.25)


def test_glass_in_measured_cells_is_no_tissue_of_a_field():
    density = whole_tiles([[0.3, 0.3, 0.2, 0.2]] * 2)
    density.tissue_share = np.array([[1.0, 0.4, 1.0, 0.8]] * 2)
    (spot,) = find_fields(density, SQUARE, area_mm2=4 * TILE_MM2, count=5)
    assert box(spot) == (960, 0, 960, 960)  # and not the denser one, of which 70 % is tissue
    assert spot.density == pytest.approx(0.2 / 0.9)  # of the tissue, as everywhere
    assert spot.tissue_share == pytest.approx(0.9)


def test_cells_without_trusted_pixels_count_for_nothing():
    density = whole_tiles([[0.2, 0.2], [0.2, 0.2]])
    density.valid_px[0, 1] = density.nucleus_px[0, 1] = 0.09 * TILE**2  # all nucleus, below 10 %
    (spot,) = find_fields(density, SQUARE, area_mm2=4 * TILE_MM2, count=1)
    assert spot.density == pytest.approx(0.2)
    assert spot.tissue_share == pytest.approx(0.75)


def test_fields_without_a_nucleus_are_no_hot_spots():
    assert find_fields(whole_tiles([[0.0] * 4] * 4), SQUARE, area_mm2=TILE_MM2) == ()


def test_nothing_measured_gives_no_hot_spots():
    assert find_fields(whole_tiles([[float("nan")] * 3] * 3), SQUARE) == ()


def test_on_a_slide_smaller_than_a_field_the_field_is_the_slide():
    grid = TileGrid((600, 300), (float(TILE), float(TILE)))
    density = DensityMap(grid, TILE, TILE)
    density.valid_px[:] = [[480 * 300, 120 * 300]]
    density.nucleus_px[:] = [[14_400, 18_000]]
    (spot,) = find_fields(density, SQUARE)
    assert box(spot) == (0, 0, 600, 300)
    assert spot.density == pytest.approx(density.mean_density()) == pytest.approx(0.18)
    assert spot.tissue_share == pytest.approx(1)
    assert spot.square == "A1"


def test_on_a_strip_narrower_than_a_field_the_field_is_as_narrow():
    density = whole_tiles([[0.1, 0.1, 0.1, 0.3, 0.3, 0.3, 0.1]])
    (spot, *_) = find_fields(density, SQUARE, area_mm2=9 * TILE_MM2)
    assert box(spot) == (1440, 0, 1440, 480)
    assert spot.density == pytest.approx(0.3)


def test_a_field_smaller_than_a_cell_has_the_density_of_its_cell():
    density = whole_tiles([[0.1, 0.3], [0.2, 0.1]])
    spots = find_fields(density, SQUARE, area_mm2=TILE_MM2 / 16, count=2)
    assert [box(spot) for spot in spots] == [(480, 0, 120, 120), (0, 480, 120, 120)]
    assert [spot.density for spot in spots] == pytest.approx([0.3, 0.2])


def test_a_field_is_square_in_mm_where_pixels_are_not():
    scale = Scale(0.5, 0.25, "slide")
    grid = TileGrid.over((4800, 4800), (0.5, 0.25), TILE, 0.25)
    density = DensityMap(grid, TILE, TILE)
    density.valid_px[:] = TILE**2
    density.nucleus_px[:] = 1
    density.nucleus_px[4:6, 8:10] = 70_000
    (spot,) = find_fields(density, scale, area_mm2=4 * TILE_MM2, count=1)
    assert box(spot) == (8 * 240, 4 * 480, 480, 960)
    assert spot.density == pytest.approx(70_000 / TILE**2)
    assert spot.square == "C5"  # squares of two tiles; the centre is that of tile 9, 5


@pytest.mark.parametrize(
    ("area", "count"), [(0.0, 5), (-1.0, 5), (float("nan"), 5), (float("inf"), 5), (1.0, 0)]
)
def test_refuses_an_area_or_a_count_that_is_not_above_zero(area, count):
    said = f"{count} fields of .* mm²: --hot-spots and --hot-spot-mm2 must be above 0"
    with pytest.raises(GlioError, match=said):
        find_fields(whole_tiles([[0.1]]), SQUARE, area_mm2=area, count=count)


@st.composite
def maps(draw: st.DrawFn) -> tuple[DensityMap, Scale]:
    """A slide of a few tiles, cut at its edges, with holes; pixels seldom square."""
    scale = Scale(
        draw(st.sampled_from([0.25, 0.252, 0.3, 0.5])),
        draw(st.sampled_from([0.25, 0.3, 0.5])),
        "slide",
    )
    size = draw(st.integers(20, 2200)), draw(st.integers(20, 2200))
    grid = TileGrid.over(size, (scale.x_mpp, scale.y_mpp), TILE, 0.25)
    cell_px = draw(st.sampled_from([160, 240, 480]))
    density = DensityMap(grid, TILE, cell_px)
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    shares = []
    for cells, side, end in zip(density.valid_px.shape[::-1], density.cell_l0, size, strict=True):
        shares.append(np.clip((end - np.arange(cells) * side) / side, 0, 1))
    density.valid_px[:] = np.rint(shares[1][:, None] * shares[0] * cell_px**2)
    density.valid_px[random.random(density.valid_px.shape) < draw(st.sampled_from([0, 0.2]))] = 0
    levels = random.integers(0, draw(st.sampled_from([2, 50])), density.valid_px.shape)
    density.nucleus_px[:] = np.minimum(levels * 300, density.valid_px)
    return density, scale


@settings(deadline=None, max_examples=60)
@given(maps(), st.floats(0.002, 0.2), st.integers(1, 6), st.sampled_from([2, 20]))
def test_agrees_with_summing_every_field_cell_by_cell(drawn, area_mm2, count, many_cells):
    density, scale = drawn
    density.tissue_share = np.random.default_rng(0).uniform(0.5, 1, density.valid_px.shape)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hotspots, "MANY_CELLS", many_cells)
        ours = find_fields(density, scale, area_mm2=area_mm2, count=count)
    share = MIN_TISSUE_SHARE
    theirs = naive.hot_spots(density, scale, area_mm2, count, share, many_cells)
    assert [box(spot) for spot in ours] == [field[:4] for field in theirs]
    np.testing.assert_allclose(
        [(spot.density, spot.tissue_share) for spot in ours],
        [field[4:] for field in theirs],
        rtol=1e-9,
        atol=1e-9,
    )


@pytest.mark.parametrize("cell_px", [120, 240])
def test_finer_cells_find_fields_at_least_as_dense(cell_px):
    random = np.random.default_rng(3).uniform(0, 0.4, (9, 11))
    coarse = find_fields(whole_tiles(random), SQUARE, area_mm2=0.05, count=1)
    fine = find_fields(whole_tiles(random, cell_px), SQUARE, area_mm2=0.05, count=1)
    assert fine[0].density >= coarse[0].density - 1e-9


def test_on_little_tissue_a_field_is_the_largest_part_that_fits_and_says_so():
    random = np.random.default_rng(4).uniform(0.1, 0.4, (10, 10))
    density = whole_tiles(random, cell_px=120)  # 1.44 mm², of which a field may take a quarter
    spots = find_hot_spots(density, SQUARE, area_mm2=1.0)
    assert {spot.area_mm2 for spot in spots} == {0.2}
    assert [box(spot) for spot in spots] == [
        box(spot) for spot in find_fields(density, SQUARE, area_mm2=0.2)
    ]
    for spot in spots:
        assert spot.width * spot.height <= MOST_OF_TISSUE * 4800**2
        assert spot.width == pytest.approx(1000 * 0.2**0.5 / 0.25, abs=1)
    assert {spot.area_mm2 for spot in find_hot_spots(density, SQUARE, area_mm2=0.3)} == {0.3}


def test_a_field_that_fits_nowhere_on_a_ragged_section_shrinks():
    striped = [[0.3, float("nan"), float("nan")] * 4] * 12
    density = whole_tiles(striped, cell_px=120)
    assert find_fields(density, SQUARE, area_mm2=0.1) == ()  # too much is not tissue
    spots = find_hot_spots(density, SQUARE, area_mm2=0.1)
    assert {spot.area_mm2 for spot in spots} == {0.02}


def test_a_slide_of_next_to_no_tissue_has_no_hot_spot():
    assert find_hot_spots(whole_tiles([[0.3]]), SQUARE) == ()


def test_a_field_as_small_as_asked_for_is_searched_whatever_its_size():
    (spot, *_) = find_hot_spots(whole_tiles([[0.1, 0.3], [0.2, 0.1]]), SQUARE, area_mm2=0.001)
    assert (spot.area_mm2, spot.density) == (0.001, pytest.approx(0.3))
