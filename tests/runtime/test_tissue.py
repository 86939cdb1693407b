"""Tissue is found by its colour; glass and grey are left alone."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw

import slides
from gliorun.errors import GlioError
from gliorun.measuring import tissue
from gliorun.measuring.tissue import (
    MIN_SHARE,
    Tissue,
    check_light,
    find_tissue,
    otsu_level,
    read_tissue,
)
from gliorun.reading.scale import Scale
from gliorun.reading.slide import UNREAD, Slide
from gliorun.reading.tiles import TileGrid, TileSpec

COARSE = Scale(0.5, 0.5, "slide")
"""At 10 level-0 px a pixel of the overview it is as fine as tissue is looked for, 5 µm."""


def opaque(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.dstack([pixels, np.full(pixels.shape[:2], 255, np.uint8)])


def test_glass_has_no_tissue():
    overview = opaque(slides.glass(400, 300))
    assert not find_tissue(overview, (4000, 3000), COARSE).mask.any()


@pytest.mark.parametrize("level", [0, 60, 128, 200])
def test_a_grey_field_beside_glass_is_no_tissue(level):
    overview = opaque(slides.glass(400, 300))
    overview[50:200, 100:300, :3] = level
    assert not find_tissue(overview, (4000, 3000), COARSE).mask.any()


def test_transparent_pixels_are_no_tissue_whatever_their_colour():
    overview = opaque(slides.all_tissue(300, 200))
    overview[:, :150, 3] = 0
    mask = find_tissue(overview, (3000, 2000), COARSE).mask
    assert not mask[:, :150].any()
    assert mask[:, 160:].mean() > 0.95


def test_a_slide_that_is_nothing_but_transparent_has_no_tissue():
    assert not find_tissue(np.zeros((50, 80, 4), np.uint8), (800, 500), COARSE).mask.any()


@pytest.mark.parametrize("strength", [0.25, 1.0])
def test_the_rim_of_tissue_is_where_it_is(strength):
    """Smoothed, dark tissue spread by up to 3 px: a ring of glass, measured as 0 %."""
    overview = opaque(slides.glass(400, 300))
    stained = slides.all_tissue(400, 300)[50:250, 100:300].astype(float) / 255
    overview[50:250, 100:300, :3] = np.rint(255 * stained**strength)
    mask = find_tissue(overview, (4000, 3000), COARSE).mask
    inside = np.zeros_like(mask)
    inside[50:250, 100:300] = True
    assert not (mask & ~inside).any()
    assert mask[52:248, 102:298].mean() > 0.99


def test_the_oval_of_the_synthetic_slide_is_found(small_slide):
    with Slide(small_slide.path) as slide:
        tissue = find_tissue(slide.overview(450), slide.size_l0, slide.scale())
    rows, columns = np.mgrid[0.5:65, 0.5:90]  # of 5 µm
    oval = ((columns / 90 - 0.5) / 0.46) ** 2 + ((rows / 65 - 0.5) / 0.44) ** 2 < 1
    assert tissue.mask.shape == oval.shape
    assert (tissue.mask == oval).mean() > 0.98
    assert tissue.mask.sum() == pytest.approx(oval.sum(), rel=0.01)


def test_pale_tissue_beside_dark_tissue_is_not_lost():
    overview = opaque(slides.glass(600, 200))
    overview[50:150, 50:200, :3] = 120, 60, 140
    overview[50:150, 350:500, :3] = 215, 175, 205
    mask = find_tissue(overview, (6000, 2000), COARSE).mask
    assert mask[60:140, 60:190].all()
    assert mask[60:140, 360:490].all()
    assert not mask[:, 240:310].any()


def tile(x: int, y: int, side: int = 480) -> TileSpec:
    return TileSpec(0, 0, x, y, side, side)


def test_the_part_of_a_tile_outside_the_slide_counts_as_no_tissue():
    tissue = Tissue(np.ones((90, 120), bool), (0.125, 0.125))  # 960 x 720
    assert tissue.share(tile(0, 0)) == 1
    assert tissue.share(tile(480, 480)) == 0.5
    assert tissue.share(tile(720, 480)) == 0.25


def test_a_tile_is_measured_from_a_named_share_of_tissue():
    mask = np.zeros((100, 100), bool)
    mask[:, : int(100 * MIN_SHARE)] = True
    tissue = Tissue(mask, (100 / 480, 100 / 480))
    assert tissue.touches(tile(0, 0))
    mask[0, 0] = False
    assert not tissue.touches(tile(0, 0))


def test_a_tile_smaller_than_an_overview_pixel_still_has_a_share():
    tissue = Tissue(np.ones((4, 4), bool), (1 / 1000, 1 / 1000))
    assert [tissue.touches(spec) for spec in TileGrid((4000, 4000), (480.0, 480.0))].count(True)
    assert tissue.share(tile(2400, 2400)) == 1


def test_otsu_splits_two_groups_between_them():
    levels = np.array([10] * 50 + [12] * 50 + [200] * 30, np.uint8)
    assert 12 <= otsu_level(np.bincount(levels)) < 200


def test_the_shares_of_cells_are_those_of_their_pixels():
    mask = np.random.default_rng(0).random((30, 50)) < 0.4
    tissue = Tissue(mask, (0.1, 0.1))
    columns, rows = np.arange(0, 501, 50.0), np.arange(0, 301, 100.0)
    shares = tissue.shares(columns, rows)
    assert shares.shape == (3, 10)
    for row, column in np.ndindex(shares.shape):
        part = mask[10 * row : 10 * row + 10, 5 * column : 5 * column + 5]
        assert shares[row, column] == pytest.approx(part.mean())


def test_what_is_transparent_is_no_part_of_a_cell():
    mask, inside = np.zeros((10, 20), bool), np.ones((10, 20), bool)
    inside[:, :4], inside[:, 10:] = False, False
    mask[:5, 4:10] = True
    shares = Tissue(mask, (0.1, 0.1), inside).shares(
        np.array([0.0, 100, 200]), np.array([0.0, 100])
    )
    np.testing.assert_allclose(shares, [[0.5, 0]])


def test_the_mask_of_an_overview_says_where_it_has_pixels():
    overview = opaque(slides.all_tissue(300, 200))
    overview[:, :150, 3], overview[:20, :150, 3] = 0, UNREAD
    tissue = find_tissue(overview, (3000, 2000), COARSE)
    assert tissue.inside is not None
    np.testing.assert_array_equal(tissue.inside, overview[..., 3] > 0)
    assert tissue.mask[:20, :150].all()


def test_a_mask_of_ones_own_marks_nothing_where_the_slide_is_transparent(tmp_path):
    overview = opaque(slides.all_tissue(300, 200))
    overview[:, :150, 3] = 0
    stained = find_tissue(overview, (3000, 2000), COARSE)
    drawn = np.zeros((40, 60), np.uint8)
    drawn[10:30, 10:50] = 1
    Image.fromarray(drawn).save(tmp_path / "mask.png")
    tissue = read_tissue(tmp_path / "mask.png", (3000, 2000)).on(stained)
    wanted = np.zeros((200, 300), bool)
    wanted[50:150, 150:250] = True
    np.testing.assert_array_equal(tissue.mask, wanted)
    shares = tissue.shares(np.array([1000.0, 2000, 3000]), np.array([0.0, 1000, 2000]))
    np.testing.assert_allclose(shares, [[0.5, 0.25]] * 2)


def test_an_edge_that_cuts_a_px_counts_it_on_both_sides():
    mask = np.array([[True, False, True, True]])
    shares = Tissue(mask, (1.0, 1.0)).shares(np.array([0.0, 1.5, 2.25, 6]), np.array([0.0, 1]))
    np.testing.assert_allclose(shares, [[1 / 1.5, 0.25 / 0.75, 1]])


def test_cells_smaller_than_an_overview_pixel_take_that_pixel():
    mask = np.array([[True, False], [False, False]])
    shares = Tissue(mask, (0.01, 0.01)).shares(np.arange(0, 201, 20.0), np.arange(0, 201, 20.0))
    np.testing.assert_allclose(shares[:5, :5], 1)
    np.testing.assert_allclose(shares[:, 5:], 0, atol=1e-12)
    np.testing.assert_allclose(shares[5:], 0, atol=1e-12)


def glass_with(draw) -> np.ndarray:
    """Return an overview, (800, 1000, 4), of glass that `draw` has drawn on."""
    image = Image.fromarray(slides.glass(1000, 800))
    draw(ImageDraw.Draw(image))
    return np.dstack([np.asarray(image), np.full((800, 1000), 255, np.uint8)])


def found_on(overview: np.ndarray) -> np.ndarray:
    return find_tissue(overview, (10_000, 8_000), COARSE).mask


@pytest.mark.parametrize("width_px", [3, 8])
def test_a_thin_core_is_found_whole(width_px):
    overview = glass_with(
        lambda draw: draw.line([100, 100, 900, 700], fill=(220, 150, 200), width=width_px)
    )
    core = overview[..., 1] < 200
    tissue_mask = found_on(overview)
    assert tissue_mask[core].mean() > 0.99
    assert tissue_mask.sum() < 2 * core.sum()


def test_fat_is_measured_though_its_drops_are_no_tissue():
    def membranes(draw):
        for y in range(200, 600, 16):
            for x in range(300, 700, 16):
                draw.ellipse([x, y, x + 16, y + 16], outline=(225, 170, 205))

    overview = glass_with(membranes)
    tissue_mask = found_on(overview)
    assert tissue_mask[overview[..., 1] < 200].mean() > 0.9
    assert tissue_mask[204:596, 304:696].mean() < 0.4
    assert Tissue(tissue_mask, (0.1, 0.1)).touches(tile(3000, 2000, 240))
    assert tissue_mask[:150].mean() == 0


def share_found(pixels: NDArray[np.uint8], around_px: int = 0) -> float:
    """Return the share of a section at 0.5 µm/px that is tissue, with px of glass around it."""
    side = len(pixels) + 2 * around_px
    overview = opaque(slides.glass(side, side))
    place = slice(around_px, around_px + len(pixels))
    overview[place, place, :3] = pixels
    tissue_found = find_tissue(overview, (side, side), COARSE)
    x_scale, y_scale = tissue_found.px_per_l0
    return float(tissue_found.mask.sum() / (x_scale * y_scale * pixels[..., 0].size))


@pytest.mark.parametrize("strength", [1.0, 0.6, 0.35])
@pytest.mark.parametrize("around_px", [0, 2000])
def test_as_much_tissue_is_found_however_faint_it_is(strength, around_px):
    """Of faint tissue what is paler than half of the rest was lost."""
    section, holes = slides.section_with_holes(strength)
    assert share_found(section, around_px) == pytest.approx(1 - holes.mean(), rel=0.02)


def test_an_overview_is_searched_in_blocks_as_if_it_were_one(monkeypatch):
    section, _ = slides.section_with_holes()
    strip = opaque(section[:, :300])
    in_blocks = find_tissue(strip, (3000, 14_000), COARSE).mask
    monkeypatch.setattr(tissue, "BLOCK_ROWS", len(strip))
    at_once = find_tissue(strip, (3000, 14_000), COARSE).mask
    assert 0.5 < at_once.mean() < 0.9
    np.testing.assert_array_equal(in_blocks, at_once)


def test_the_dark_border_of_a_scan_hides_no_pale_tissue():
    def border(draw):
        draw.rectangle([0, 0, 60, 800], fill=(15, 15, 15))
        draw.rectangle([0, 0, 1000, 40], fill=(20, 18, 22))
        draw.rectangle([400, 300, 700, 600], fill=(240, 222, 235))

    tissue_mask = found_on(glass_with(border))
    assert tissue_mask[310:590, 410:690].mean() > 0.99
    assert tissue_mask[100:, :50].mean() == 0


@pytest.mark.parametrize("ink", [(20, 90, 60), (15, 15, 18), (30, 50, 150), (200, 20, 30)])
def test_ink_hides_no_tissue(ink):
    def marked(draw):
        draw.rectangle([300, 300, 700, 600], fill=(225, 170, 205))
        draw.line([100, 100, 200, 700], fill=ink, width=12)

    tissue_mask = found_on(glass_with(marked))
    assert tissue_mask[310:590, 310:690].mean() > 0.99
    assert tissue_mask[:, 800:].mean() == 0


@pytest.mark.parametrize(
    ("pixels", "said"),
    [
        (slides.all_tissue(640, 480)[..., 1:2].repeat(3, axis=2), "a grey-level image"),
        (slides.all_tissue(640, 480) // 16, "too dark"),
    ],
)
def test_what_is_no_stained_section_in_bright_field_is_refused(pixels, said):
    overview = np.dstack([pixels, np.full(pixels.shape[:2], 255, np.uint8)])
    with pytest.raises(GlioError, match=said):
        check_light(overview)


@pytest.mark.parametrize("pixels", [slides.all_tissue(640, 480), slides.glass(640, 480)])
def test_tissue_and_glass_are_in_bright_field(pixels):
    check_light(np.dstack([pixels, np.full(pixels.shape[:2], 255, np.uint8)]))
    check_light(np.zeros((10, 10, 4), np.uint8))


def test_a_mask_of_one_s_own_is_taken_at_any_size(tmp_path):
    path = tmp_path / "mask.png"
    mask = np.zeros((60, 80), np.uint8)
    mask[10:30, 40:60] = 1
    Image.fromarray(mask).save(path)
    tissue = read_tissue(path, (8000, 6000))
    assert tissue.touches(tile(4000, 1000))
    assert not tissue.touches(tile(0, 0))
    np.testing.assert_array_equal(tissue.mask, mask > 0)


def test_a_mask_as_qupath_exports_labels_marks_what_was_drawn(tmp_path):
    """White and red, of which a conversion to grey makes 255 and 60: all of it tissue."""
    drawn = np.zeros((60, 80), np.uint8)
    drawn[10:30, 40:60] = 1
    labels = Image.fromarray(drawn)
    labels.putpalette([255, 255, 255, 200, 0, 0])
    labels.save(tmp_path / "labels.png")
    tissue = read_tissue(tmp_path / "labels.png", (8000, 6000))
    np.testing.assert_array_equal(tissue.mask, drawn > 0)


def test_a_mask_of_another_shape_or_of_nothing_is_refused(tmp_path):
    path = tmp_path / "mask.png"
    Image.new("L", (80, 60)).save(path)
    with pytest.raises(GlioError, match=r"mask\.png: marks no tissue"):
        read_tissue(path, (8000, 6000))
    with pytest.raises(GlioError, match=r"80 x 60 px do not have the shape .* 6000 x 8000"):
        read_tissue(path, (6000, 8000))
    path.write_text("no image")
    with pytest.raises(GlioError, match=r"mask\.png: not an image"):
        read_tissue(path, (8000, 6000))
    with pytest.raises(GlioError, match=r"gone\.png: not an image"):
        read_tissue(tmp_path / "gone.png", (8000, 6000))
