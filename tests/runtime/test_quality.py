"""Sound tissue is kept, whatever its stain; what hides it is named."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageFilter

import naive
import slides
from conftest import SHARP_SETS
from gliorun import demo
from gliorun.errors import GlioError
from gliorun.measuring import colour, kernels
from gliorun.measuring.colour import DENSITY_OF_LEVEL
from gliorun.measuring.quality import Quality, edge_width_px, judge, shrink_of, solid_share
from gliorun.measuring.tile import Status
from gliorun.measuring.tissue import find_tissue
from gliorun.model.stainstatistic import StainStatistic
from gliorun.qualitylimits import QualityLimits
from gliorun.reading.slide import Slide
from gliorun.reading.tiles import TileGrid

Pixels = NDArray[np.uint8]
SIDE = 480
INKS = {
    "blue": (25, 45, 160),
    "green": (0, 130, 80),
    "pale green": (60, 160, 110),
    "teal": (20, 140, 140),
    "black": (30, 30, 35),
    "red": (200, 25, 45),
    "pale red": (215, 60, 75),
}


def drawn(density: float = 0.12, seed: int = 0, side: int = SIDE) -> Pixels:
    return slides.all_tissue(side, side, density=density, seed=seed)


def rgba_of(pixels: Pixels) -> Pixels:
    return np.dstack([pixels, np.full(pixels.shape[:2], 255, np.uint8)])


def stain_of(pixels: Pixels) -> StainStatistic:
    counts = colour.empty_levels()
    colour.add_levels(rgba_of(pixels), counts)
    stain = colour.measure(counts)
    assert stain is not None
    return stain


def judged(pixels: Pixels, *, shrink: int = 2, stain: StainStatistic | None = None) -> Quality:
    return judge(rgba_of(pixels), shrink, stain, QualityLimits())


def blurred(pixels: Pixels, sigma_px: float) -> Pixels:
    return np.asarray(Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(sigma_px)))


def scanned(pixels: Pixels, *, noise: float = 2, jpeg: int = 80) -> Pixels:
    """Add what comes after the optics: noise of the sensor, compression."""
    random = np.random.default_rng(0)
    noisy = np.clip(pixels + random.normal(0, noise, pixels.shape), 0, 255).astype(np.uint8)
    encoded = io.BytesIO()
    Image.fromarray(noisy).save(encoded, "JPEG", quality=jpeg)
    return np.asarray(Image.open(encoded))


def paler(pixels: Pixels, share: float) -> Pixels:
    return (255 - (255 - pixels.astype(float)) * share).astype(np.uint8)


def from_20x(pixels: Pixels) -> Pixels:
    half = Image.fromarray(pixels).resize((SIDE // 2, SIDE // 2), Image.Resampling.BOX)
    return np.asarray(half.resize((SIDE, SIDE), Image.Resampling.BICUBIC))


def inked(pixels: Pixels, ink: tuple[int, int, int], share: float) -> Pixels:
    """Cover the left share of a tile with opaque ink of an uneven thickness."""
    out = pixels.copy()
    width = round(share * pixels.shape[1])
    thickness = np.random.default_rng(1).normal(1, 0.06, (pixels.shape[0], width, 1))
    out[:, :width] = np.clip(np.array(ink) * thickness, 0, 255).astype(np.uint8)
    return out


def folded(pixels: Pixels, share: float) -> Pixels:
    """Lay a second layer of tissue, another part of the same, over the left share of a tile."""
    density = DENSITY_OF_LEVEL[pixels]
    width = round(share * pixels.shape[1])
    density[:, :width] += np.rot90(density, 2)[:, :width]
    return np.clip(256 * np.exp(-density) - 1, 0, 255).astype(np.uint8)


def under_rim(pixels: Pixels, rim_px: float) -> Pixels:
    """Let the rim of a bubble, dark grey, cross a tile."""
    away = np.abs(np.arange(pixels.shape[1]) - pixels.shape[1] / 2)[None, :, None]
    shade = 0.85 * np.exp(-((away / rim_px) ** 2))
    return (pixels * (1 - shade) + 70 * shade).astype(np.uint8)


@pytest.fixture(params=["compiled", "plain"])
def way(request: pytest.FixtureRequest) -> Callable[[Any], Callable[..., None]]:
    """Return a kernel as numba compiled it, or as the Python it was written in."""
    return lambda k: getattr(k, "py_func", k) if request.param == "plain" else k


def random_rgba(shape: tuple[int, int], transparent: float) -> Pixels:
    random = np.random.default_rng(shape[0])
    rgba = random.integers(0, 256, (*shape, 4), dtype=np.uint8)
    rgba[..., 3] = np.where(random.random(shape) < transparent, 127, 128)
    return rgba


@pytest.mark.parametrize("shape", [(1, 1), (7, 13), (24, 40)])
@pytest.mark.parametrize("side", [1, 2, 3])
def test_shrink_fills_what_its_twin_returns(way, shape, side):
    rgba = random_rgba(shape, 0.1)
    small = shape[0] // side, shape[1] // side
    rgb, light = np.full((*small, 3), 77, np.uint8), np.full(small, 77, np.float32)
    way(kernels.shrink)(rgba, side, rgb, light)
    wanted_rgb, wanted_light = naive.shrink(rgba, side)
    np.testing.assert_array_equal(rgb, wanted_rgb)
    np.testing.assert_allclose(light, wanted_light, rtol=1e-5)


@pytest.mark.parametrize("shape", [(10, 10), (19, 42), (45, 27)])
@pytest.mark.parametrize("transparent", [0, 0.005])
def test_look_at_squares_fills_what_its_twin_returns(way, shape, transparent):
    rgb, light = naive.shrink(random_rgba(shape, transparent), 1)
    light = light.astype(np.float32)
    wanted_span, wanted_slope, wanted_mean = naive.look_at_squares(rgb, light, kernels.SQUARE)
    span, slope = np.full_like(wanted_span, 77, np.float32), np.full_like(wanted_slope, 77)
    mean = np.full_like(wanted_mean, 77)
    way(kernels.look_at_squares)(rgb, light, span, slope, mean)
    np.testing.assert_allclose(span, wanted_span, rtol=1e-5)
    np.testing.assert_allclose(slope, wanted_slope, rtol=1e-5)
    np.testing.assert_array_equal(mean, wanted_mean)


@pytest.mark.parametrize(
    ("tile_mpp", "slide_mpp", "shrink"),
    [
        (0.25, 0.25, 2),
        (0.25, 0.2, 2),
        (0.25, 0.2628, 2),
        (0.25, 0.499, 2),
        (0.25, 0.503, 2),
        (0.25, 0.625, 3),
        (0.5, 0.25, 1),
        (0.5, 0.5, 1),
        (1.0, 1.0, 1),
        (0.125, 0.125, 4),
    ],
)
def test_a_tile_is_looked_at_in_half_micrometres_or_in_the_pixels_of_a_coarser_slide(
    tile_mpp, slide_mpp, shrink
):
    assert shrink_of(tile_mpp, slide_mpp) == shrink


@pytest.mark.parametrize("change", [{"max_pen": -0.1}, {"min_tissue": 1.1}, {"max_edge_px": -1}])
def test_limits_out_of_range_are_refused(change):
    with pytest.raises(GlioError, match="it must lie from 0 to"):
        QualityLimits(**change)


def test_one_limit_is_varied_by_name():
    assert QualityLimits().varied("max_fold=0.25") == QualityLimits(max_fold=0.25)
    assert QualityLimits().varied("max_edge_px=inf") == QualityLimits(max_edge_px=math.inf)


@pytest.mark.parametrize(
    "change", ["max_fold", "max_fold=", "max_fold=much", "sharpness=1", "", "max_pen=nan"]
)
def test_a_limit_that_does_not_exist_or_has_no_number_is_refused(change):
    with pytest.raises(GlioError):
        QualityLimits().varied(change)


@pytest.mark.parametrize(("ramp_px", "width_px"), [(1, 2), (2, 2), (4, 4), (5, 5)])
def test_the_width_of_a_ramp_is_the_ramp_s(ramp_px, width_px):
    """Hand-computed: 100 levels over `ramp_px`; central differences see no less than 2 px."""
    level = np.clip(50 + 100 // ramp_px * (np.arange(10) - 3), 50, 150).astype(np.uint8)
    pixels = np.repeat(np.tile(level, (66, 1))[..., None], 3, axis=-1)  # eight squares
    assert judged(pixels, shrink=1).scores.edge_px == pytest.approx(width_px)


def test_the_width_of_edges_is_the_median_of_squares_that_hold_one():
    span = np.array([[100.0] * 5 + [20.0] * 6 + [7.9] * 50 + [-1.0] * 9], np.float32)
    slope = np.array([[50.0] * 5 + [5.0] * 6 + [7.9] * 50 + [0.0] * 9], np.float32)
    assert edge_width_px(span, slope) == 4


def test_too_few_edges_tell_nothing():
    span, slope = np.full((1, 7), 50, np.float32), np.full((1, 7), 5, np.float32)
    assert math.isnan(edge_width_px(span, slope))


def test_a_square_counts_as_solid_if_all_around_it_do():
    squares = np.zeros((5, 6), np.bool_)
    squares[1:4, 1:5] = True  # two squares have all eight neighbours
    inside = np.ones_like(squares)
    assert solid_share(squares, inside) == 2 / 30
    assert solid_share(np.zeros_like(squares), inside) == 0
    assert solid_share(inside, inside) == 1


def test_what_lies_outside_the_slide_neither_counts_nor_hinders():
    artefact, inside = np.zeros((4, 4), np.bool_), np.zeros((4, 4), np.bool_)
    inside[:, :2] = artefact[:, :2] = True
    assert solid_share(artefact, inside) == 1
    assert solid_share(artefact, np.zeros_like(inside)) == 0


@pytest.mark.parametrize("density", [0.001, 0.04, 0.12, 0.3])
@pytest.mark.parametrize(
    "change",
    [
        lambda pixels: pixels,
        lambda pixels: scanned(pixels, jpeg=50),
        lambda pixels: scanned(pixels, noise=5),
        lambda pixels: scanned(paler(pixels, 0.3)),
        lambda pixels: scanned(from_20x(pixels)),
        lambda pixels: blurred(pixels, 1),
    ],
    ids=["as drawn", "JPEG 50", "noise", "pale", "20x", "a little soft"],
)
def test_tissue_in_focus_is_kept(density, change):
    pixels = change(drawn(density))
    assert judged(pixels, stain=stain_of(pixels)).reason is None


def test_pale_tissue_without_a_nucleus_is_not_blurred():
    pixels = scanned(paler(drawn(1e-9), 0.25), noise=1, jpeg=90)
    quality = judged(pixels, stain=stain_of(pixels))
    assert quality.reason is None
    assert not quality.scores.edge_px > 3


def test_the_width_of_edges_depends_on_blur_alone():
    sharp = judged(drawn(0.12)).scores.edge_px
    for other in (drawn(0.03), drawn(0.3), paler(drawn(0.12), 0.4), scanned(drawn(0.12), jpeg=50)):
        assert judged(other).scores.edge_px == pytest.approx(sharp, rel=0.2)
    widths = [judged(blurred(drawn(0.12), sigma)).scores.edge_px for sigma in (0, 1, 2, 3, 4, 6, 8)]
    assert widths == sorted(widths)
    assert widths[-1] > 1.6 * widths[0]


@pytest.mark.parametrize("density", [0.04, 0.12, 0.3])
@pytest.mark.parametrize("sigma_px", [5, 8, 16])
def test_tissue_out_of_focus_is_blurred(density, sigma_px):
    pixels = scanned(blurred(drawn(density), sigma_px))
    assert judged(pixels, stain=stain_of(pixels)).reason == Status.BLURRED


def test_sharp_dust_does_not_hide_that_tissue_is_out_of_focus():
    pixels = blurred(drawn(), 6).copy()
    random = np.random.default_rng(0)
    for y, x in random.integers(0, SIDE - 8, (60, 2)):
        pixels[y : y + 8, x : x + 8] = 40, 40, 45
    assert judged(scanned(pixels)).reason == Status.BLURRED


def test_tissue_out_of_focus_is_blurred_also_at_20x():
    pixels = scanned(from_20x(blurred(drawn(), 6)))
    assert judged(pixels, shrink=shrink_of(0.25, 0.5)).reason == Status.BLURRED


def test_a_coarser_slide_is_looked_at_in_its_own_pixels():
    side = round(SIDE * 0.25 / 0.625)
    small = Image.fromarray(drawn()).resize((side, side), Image.Resampling.BOX)
    pixels = np.asarray(small.resize((SIDE, SIDE), Image.Resampling.BICUBIC))
    quality = judged(pixels, shrink=shrink_of(0.25, 0.625))
    assert quality.reason is None
    assert quality.scores.edge_px < judged(pixels).scores.edge_px


@pytest.mark.parametrize("share", [0.2, 0.5, 1.0])
@pytest.mark.parametrize("ink", INKS)
def test_ink_is_a_pen(ink, share):
    assert judged(scanned(inked(drawn(), INKS[ink], share))).reason == Status.PEN


@pytest.mark.parametrize("ink", INKS)
def test_nuclei_of_any_colour_are_no_ink(ink):
    """A laboratory may stain nuclei blue or black; they are smaller than a stroke of a pen."""
    tissue = demo.draw_tissue(np.full((SIDE, SIDE), 0.2, np.float32))
    pixels = np.where(tissue.nuclei[..., None] > 0, np.array(INKS[ink], np.uint8), tissue.pixels)
    assert judged(pixels, stain=stain_of(tissue.pixels)).reason is None


@pytest.mark.parametrize("share", [0.5, 0.8])
def test_tissue_that_lies_double_is_a_fold(share):
    pixels = drawn(0.15)
    assert judged(scanned(folded(pixels, share)), stain=stain_of(pixels)).reason == Status.FOLD


def test_a_fold_is_not_told_without_the_stain_of_the_slide():
    quality = judged(folded(drawn(), 0.5))
    assert math.isnan(quality.scores.fold)
    assert quality.reason is None


def test_dense_tumour_on_a_slide_of_few_nuclei_is_no_fold():
    assert judged(drawn(0.35), stain=stain_of(drawn(0.01))).reason is None


def test_the_rim_of_a_bubble_is_named_and_what_lies_under_one_is_blurred():
    assert judged(scanned(under_rim(drawn(), 80))).reason == Status.BUBBLE
    assert judged(scanned(paler(blurred(drawn(), 6), 0.6))).reason == Status.BLURRED


@pytest.mark.parametrize("noise", [0, 1, 2])
def test_glass_is_blank(noise):
    assert judged(scanned(slides.glass(SIDE, SIDE), noise=noise)).reason == Status.BLANK


def test_a_little_tissue_on_glass_is_not_blank():
    pixels = slides.glass(SIDE, SIDE)
    pixels[:, :64] = drawn()[:, :64]
    assert judged(pixels).reason is None


@pytest.mark.parametrize("shape", [(1, 1), (2, 3), (19, 40), (20, 20), (480, 3), (481, 333)])
@pytest.mark.parametrize(
    ("level", "alpha", "reasons"),
    [
        (255, 255, {Status.BLANK}),
        (0, 255, {Status.PEN, Status.BLANK}),
        (0, 0, {Status.BLANK}),
        (200, 0, {Status.BLANK}),
    ],
    ids=["white", "black", "transparent black", "transparent grey"],
)
def test_a_tile_of_nothing_is_never_fit(shape, level, alpha, reasons):
    rgba = np.full((*shape, 4), level, np.uint8)
    rgba[..., 3] = alpha
    quality = judge(rgba, 2, None, QualityLimits())
    assert quality.reason in reasons  # black is a pen where a square fits in
    assert (quality.reason == Status.PEN) == (level == 0 and alpha == 255 and min(shape) >= 20)


def test_what_lies_outside_the_slide_changes_nothing():
    rgba = rgba_of(drawn())
    rgba[:, 300:, 3] = 0
    limits, stain = QualityLimits(), stain_of(drawn())
    wanted = judge(rgba, 2, stain, limits)
    assert wanted.reason is None
    rgba[:, 300:, :3] = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE - 300, 3))
    assert judge(rgba, 2, stain, limits) == wanted
    rgba[:, 300:, :3] = INKS["blue"]
    assert judge(rgba, 2, stain, limits) == wanted


def test_of_several_reasons_the_first_counts():
    pixels = blurred(inked(drawn(), INKS["blue"], 0.3), 8)
    assert judged(pixels).reason == Status.PEN
    lenient = QualityLimits(max_pen=1)
    assert judge(rgba_of(pixels), 2, None, lenient).reason == Status.BLURRED


def test_the_same_tile_read_only_or_strided_has_the_same_quality():
    rgba = rgba_of(drawn(side=960))[::2, ::2]
    rgba.flags.writeable = False
    limits = QualityLimits()
    assert judge(rgba, 2, None, limits) == judge(rgba.copy(), 2, None, limits)


def labelled(folder) -> list[tuple[str, Pixels, StainStatistic | None]]:
    """Return set, pixels and stain of the tiles of `SHARP_SETS`; a patient's share the stain."""
    with (folder / "index.csv").open(newline="", encoding="utf-8") as lines:
        rows = [row for row in csv.DictReader(lines) if row["set"] in SHARP_SETS]
    levels: dict[str, colour.Levels] = {}
    tiles = []
    for row in rows:
        with Image.open(folder / row["image"]) as image:
            rgba = np.asarray(image.convert("RGBA"))
        group = f"{row['set']}/{row['patient'] or row['id']}"
        colour.add_levels(rgba, levels.setdefault(group, colour.empty_levels()))
        tiles.append((row["set"], rgba[..., :3], group))
    stains = {group: colour.measure(counts) for group, counts in levels.items()}
    return [(name, pixels, stains[group]) for name, pixels, group in tiles]


@pytest.mark.release
def test_of_the_labelled_tiles_none_is_discarded_and_blurred_they_nearly_all_are(shared_data):
    """149 tiles of six sources, every one good: 0 discarded; 4 px is a blur of 1 µm."""
    tiles = labelled(shared_data)
    kept = [judged(pixels, stain=stain).reason is None for _, pixels, stain in tiles]
    assert all(kept)
    some = [(pixels[:SIDE, :SIDE], stain) for _, pixels, stain in tiles[::4]]
    soft = [judged(scanned(blurred(pixels, 2)), stain=stain).reason for pixels, stain in some]
    assert soft.count(None) == len(some)
    strong = [judged(scanned(blurred(pixels, 5)), stain=stain).reason for pixels, stain in some]
    assert strong.count(Status.BLURRED) >= 0.95 * len(some)


def test_a_real_20x_slide_is_not_blurred(shared_slides):
    """The skin's dense horn may be taken for a fold, 3 of 63 tiles; nothing else is left out."""
    with Slide(shared_slides / "CMU-1-Small-Region.svs") as slide:
        scale = slide.scale()
        grid = TileGrid.over(slide.size_l0, (scale.x_mpp, scale.y_mpp), SIDE, 0.25)
        tissue = find_tissue(slide.overview(2048), slide.size_l0, slide.scale())
        tiles = [slide.read(spec, SIDE) for spec in grid if tissue.touches(spec)]
    counts = colour.empty_levels()
    for rgba in tiles:
        colour.add_levels(rgba, counts)
    stain, shrink = colour.measure(counts), shrink_of(0.25, scale.x_mpp)
    reasons = [judge(rgba, shrink, stain, QualityLimits()).reason for rgba in tiles]
    assert len(reasons) > 60
    assert set(reasons) <= {None, Status.FOLD}
    assert reasons.count(Status.FOLD) <= 0.05 * len(reasons)
