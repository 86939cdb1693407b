"""One slide through the pipeline, with a network of one line."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image, ImageFilter

import runs
import slides
from gliorun import demo
from gliorun.errors import GlioError
from gliorun.findings.hotspots import find_fields
from gliorun.measuring import colour, stain
from gliorun.measuring.density import DensityMap
from gliorun.measuring.survey import sample_tiles, survey
from gliorun.measuring.tile import LeftOut, Measured, Status, Tile
from gliorun.model.card import ModelCard
from gliorun.model.stainstatistic import StainStatistic
from gliorun.pipeline import BURST, measure
from gliorun.qualitylimits import QualityLimits
from gliorun.reading.slide import Slide
from gliorun.settings import Settings

CARD = ModelCard("fake", tile_px=480, mpp=0.25, colour_target=None, **runs.OF_MASKS)
TWO = Settings(threads=2)


def is_dark(pixels: np.ndarray) -> np.ndarray:
    return (pixels[..., 0] < 120).astype(np.uint8)


def dark(tiles: Iterable[Tile]) -> Generator[tuple[Tile, np.ndarray]]:
    for tile in tiles:
        yield tile, is_dark(tile.pixels)


def run(path, *others, card=CARD, predict=dark, settings=TWO):
    return runs.measured_slide(path, card, predict, settings, *others)


@pytest.fixture(scope="module")
def wide(tmp_path_factory):
    """Tissue over 8640 × 960 px, so wide that its overview comes from the pyramid: 18 × 2 tiles."""
    path = tmp_path_factory.mktemp("wide") / "wide.svs"
    demo.write_slide(path, slides.all_tissue(8640, 960), levels=2)
    return path


def test_every_tile_with_tissue_has_the_density_of_its_own_pixels(small_slide):
    measured = run(small_slide.path)
    density = measured.density
    with Slide(small_slide.path) as slide:
        for spec in density.grid:
            value = density.density_of_tile[spec.row, spec.column]
            if measured.tissue.touches(spec):
                tile = slide.read(spec, 480)
                inside = tile[..., 3] >= 128
                assert value == is_dark(tile)[inside].mean()
            else:
                assert np.isnan(value)
    assert density.measured_tiles() == 11
    assert measured.warnings == ()


@pytest.mark.parametrize("settings", [Settings(threads=1), Settings(threads=7)])
def test_the_number_of_threads_changes_nothing(small_slide, settings):
    ours, theirs = run(small_slide.path).density, run(small_slide.path, settings=settings).density
    np.testing.assert_array_equal(ours.nucleus_px, theirs.nucleus_px)
    np.testing.assert_array_equal(ours.valid_px, theirs.valid_px)


def test_a_finer_map_holds_the_same_pixels(small_slide):
    coarse = run(small_slide.path).density
    fine = run(small_slide.path, settings=Settings(cell_px=120, threads=2)).density
    assert fine.density.shape == (12, 16)
    np.testing.assert_array_equal(
        fine.nucleus_px.reshape(3, 4, 4, 4).sum(axis=(1, 3)), coarse.nucleus_px
    )


def test_glass_inside_a_measured_tile_has_no_value_on_a_finer_map(small_slide):
    measured = run(small_slide.path, settings=Settings(cell_px=120, threads=2))
    fine = measured.density
    height, width = small_slide.tissue.nuclei.shape
    oval = demo.demo_density(height, width) > 0
    shares = np.array(
        [
            [
                oval[r * 120 : r * 120 + 120, c * 120 : c * 120 + 120].sum() / 120**2
                for c in range(16)
            ]
            for r in range(12)
        ]
    )
    measured_tile = fine.status.repeat(4, axis=0).repeat(4, axis=1) == Status.MEASURED
    glass, tissue = measured_tile & (shares == 0), measured_tile & (shares > 0.3)
    assert glass.sum() > 5
    assert np.isnan(fine.density[glass]).mean() > 0.9
    assert not np.isnan(fine.density[tissue]).any()
    assert (fine.cell_status[np.isnan(fine.density)] == Status.NO_TISSUE).all()


def test_the_mean_is_of_the_tissue_whatever_the_cells_and_the_shape(small_slide):
    """Over the area of the cells it would be the less, the larger they are."""
    tissue = small_slide.tissue
    true = is_dark(tissue.pixels).sum() / (demo.demo_density(*tissue.nuclei.shape) > 0).sum()
    means = [
        run(small_slide.path, settings=Settings(cell_px=cell_px, threads=2)).density.mean_density()
        for cell_px in (480, 240, 60, 30)
    ]
    assert means == pytest.approx([true] * 4, rel=0.04)


def test_the_mean_is_of_the_tissue_also_where_a_part_of_it_is_marked(small_slide, tmp_path):
    mask = np.zeros((130, 180), np.uint8)
    mask[50:80, 60:120] = 255  # inside the tissue, off the tiles' edges
    Image.fromarray(mask).save(tmp_path / "mask.png")
    settings = Settings(tissue_mask=tmp_path / "mask.png", threads=2)
    density = run(small_slide.path, settings=settings).density
    measured = density.status == Status.MEASURED
    assert 0 < measured.sum() < 11
    assert density.mean_density() == pytest.approx(density.density[measured].mean(), rel=0.05)


@pytest.mark.parametrize("side_mm", [0.7, 3, pytest.param(25, marks=pytest.mark.release)])
def test_the_mean_does_not_depend_on_the_size_of_the_glass(tmp_path, side_mm):
    """A round hole of 25 µm was two px of the overview of a large slide, and filled as a pore."""
    section, holes = slides.section_with_holes()
    path = slides.on_glass(tmp_path / "slide.tif", section, round(side_mm * 2000), mpp=0.5)
    card = replace(CARD, mpp=0.5)
    density = run(path, card=card).density
    assert density.tissue_px.sum() == pytest.approx((~holes).sum(), rel=0.03)
    true = is_dark(section).sum() / (~holes).sum()
    assert density.mean_density() == pytest.approx(true, rel=0.02)


@pytest.fixture(scope="module")
def sparse(tmp_path_factory):
    """Return a function that writes tissue of 4 × 2 cells, so many fifths of each transparent."""
    pixels = slides.all_tissue(1920, 960)
    folder = tmp_path_factory.mktemp("sparse")

    def write(fifths: int):
        missing = [n for n in range(40) if n % 5 < fifths]
        path = folder / f"{fifths}.tif"
        size = (96, 480)  # a fifth of a cell
        return slides.jpeg_tiff(path, pixels, tile_px=size, mpp=0.25, missing=missing)

    return write


@pytest.mark.parametrize("fifths", [0, 1, 2, 3])
@pytest.mark.parametrize("cell_px", [480, 240])
def test_what_is_transparent_counts_once(sparse, fifths, cell_px):
    path = sparse(fifths)
    density = run(path, settings=Settings(cell_px=cell_px, threads=2)).density
    with Slide(path) as slide:
        whole = slide.overview(1920)
    inside = whole[..., 3] == 255
    true = is_dark(whole)[inside].mean()
    assert inside.mean() == pytest.approx(1 - fifths / 5)
    np.testing.assert_allclose(density.tissue_share[density.trusted], 1, atol=0.01)
    assert density.mean_density() == pytest.approx(true, rel=0.01)
    assert density.tissue_px.sum() == pytest.approx(inside.sum(), rel=0.01)


@pytest.mark.parametrize(("fifths", "share"), [(1, 0.8), (2, None)])
def test_a_field_is_a_hot_spot_by_the_tissue_that_was_measured(sparse, fifths, share):
    """Of four fifths, 0.64 were counted, and no field of a sparse slide was one."""
    measured = run(sparse(fifths))
    spots = find_fields(measured.density, measured.scale, area_mm2=0.24**2, count=1)
    assert [spot.tissue_share for spot in spots] == pytest.approx(
        [share] if share else [], rel=0.01
    )


class Fed:
    """An accumulator that notes which tiles it is fed with, and what came of them."""

    def __init__(self) -> None:
        self.tiles: dict[tuple[int, int], Status] = {}
        self.count = 0

    def feed(self, tile: Measured | LeftOut) -> None:
        reason = tile.reason if isinstance(tile, LeftOut) else Status.MEASURED
        self.tiles[tile.spec.row, tile.spec.column] = reason
        self.count += 1

    def status(self, density: DensityMap) -> np.ndarray:
        """What the status of the tiles should be."""
        status = np.zeros_like(density.status)
        for place, reason in self.tiles.items():
            status[place] = reason
        return status


def test_every_tile_with_tissue_is_fed_once(small_slide):
    fed = Fed()
    measured = run(small_slide.path, fed)
    assert fed.count == len(fed.tiles) == 11
    np.testing.assert_array_equal(fed.status(measured.density), measured.density.status)


def test_the_network_sees_the_ground_in_the_colours_of_the_card(wide):
    target = StainStatistic(ground=(0.45, 0.75, 0.35))
    card = replace(CARD, colour_target=target)
    asked = []

    def note_colours(tiles):
        counts = colour.empty_levels()
        asked.append(counts)
        for tile in tiles:
            nuclei = is_dark(tile.pixels)
            colour.add_levels(np.dstack([tile.pixels, tile.valid * 255]), counts, nuclei)
            yield tile, nuclei

    run(wide, card=card, predict=note_colours)
    assert len(asked) == stain.ROUNDS + 1  # to see where the ground is, and to measure
    seen = colour.measure(asked[-1])
    np.testing.assert_allclose(seen.ground, target.ground, atol=0.03)


def test_what_the_network_claims_outside_the_slide_is_not_counted(small_slide):
    def all_nuclei(tiles):
        for tile in tiles:
            yield tile, np.ones((480, 480), np.uint8)

    density = run(small_slide.path, predict=all_nuclei).density
    assert (
        density.nucleus_px.sum() == density.valid_px.sum() == 1800 * 1300 - 360 * 340
    )  # no tissue in the last tile
    assert density.mean_density() == 1


def test_tiles_that_cannot_be_read_are_marked_counted_and_the_rest_measured(wide, tmp_path):
    # one JPEG tile inside the map tile at column 4, row 1
    path = slides.with_bad_jpeg(tmp_path / "bad.svs", wide, [(8, 2)])
    measured = run(path, settings=Settings(threads=2, max_bad_tiles=0.2))
    bad = np.argwhere(measured.density.status == Status.UNREADABLE).tolist()
    assert bad == [[1, 4]]
    assert np.isnan(measured.density.density[1, 4])
    assert measured.density.measured_tiles() == 35
    assert measured.warnings == ("1 of 36 tiles could not be read: no value there",)
    sound = run(wide).density
    rest = measured.density.status == Status.MEASURED
    np.testing.assert_array_equal(measured.density.nucleus_px[rest], sound.nucleus_px[rest])


def test_a_slide_past_the_share_of_bad_tiles_fails_and_says_so(wide, tmp_path):
    path = slides.with_bad_jpeg(tmp_path / "bad.svs", wide, [(n, 2) for n in range(8, 20)])
    with pytest.raises(
        GlioError,
        match=r"at least \d of 36 tiles cannot be read, more than --max-bad-tiles 0\.05",
    ):
        run(path)


def test_a_bad_tile_is_marked_on_a_slide_whose_overview_comes_from_level_0(small_slide, tmp_path):
    path = slides.with_bad_jpeg(tmp_path / "bad.svs", small_slide.path, [(4, 2)])  # x 1024, y 512
    density = run(path, settings=Settings(threads=2, max_bad_tiles=0.5)).density
    assert np.argwhere(density.status == Status.UNREADABLE).tolist() == [[1, 2]]
    assert density.measured_tiles() == 10


def test_glass_has_no_tissue_and_never_0_percent(tmp_path):
    path = tmp_path / "glass.svs"
    demo.write_slide(path, slides.glass(1200, 900), levels=1)
    with pytest.raises(GlioError, match=r"glass\.svs: no tissue found"):
        run(path)


def test_a_slide_smaller_than_a_tile_is_measured(tmp_path):
    path = tmp_path / "tiny.svs"
    demo.write_slide(path, slides.all_tissue(300, 250), levels=1)
    density = run(path).density
    assert density.density.shape == (1, 1)
    assert density.valid_px[0, 0] == 300 * 250
    assert 0 < density.mean_density() < 1


def test_a_coarse_slide_is_measured_with_a_warning(tmp_path):
    path = tmp_path / "coarse.svs"
    demo.write_slide(path, slides.all_tissue(600, 500), mpp=0.5, levels=1)
    measured = run(path)
    assert measured.density.grid.tile_l0 == (240.0, 240.0)
    assert measured.warnings == (
        "0.5 µm/px is coarser than the model's 0.25; small nuclei may be missed",
    )


@pytest.mark.parametrize(("mpp", "warned"), [(0.35, True), (0.24, False), (0.25, False)])
def test_a_scale_that_goes_before_the_slides_own_is_told(small_slide, mpp, warned):
    """Given for a whole folder, as one slide of it lacks a scale, it is wrong for the others."""
    warnings = run(small_slide.path, settings=Settings(mpp=mpp, threads=2)).warnings
    said = f"--mpp {mpp} goes before the slide's own 0.25 µm/px; densities are wrong if the slide"
    assert any(warning.startswith(said) for warning in warnings) == warned


def test_a_slide_too_coarse_to_see_nuclei_is_refused(small_slide):
    with pytest.raises(GlioError, match="1 µm/px is too coarse to see nuclei"):
        run(small_slide.path, settings=Settings(mpp=1.0))


def test_an_error_of_the_network_surfaces_as_it_is(small_slide):
    def fail(tiles):
        for number, tile in enumerate(tiles):
            if number == 2:
                raise LookupError("network died")
            yield tile, is_dark(tile.pixels)

    with pytest.raises(LookupError, match="network died"):
        run(small_slide.path, predict=fail)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"threads": 0}, "threads is 0; it must be at least 1"),
        ({"max_bad_tiles": -0.1}, "max_bad_tiles is -0.1; it must lie from 0 to 1"),
        ({"max_bad_tiles": 1.5}, "max_bad_tiles is 1.5"),
        ({"max_bad_tiles": float("nan")}, "max_bad_tiles is nan"),
    ],
)
def test_settings_without_sense_are_refused(settings, message):
    with pytest.raises(GlioError, match=message):
        Settings(**settings)


@pytest.mark.parametrize("cell_px", [100, -5, 0])
def test_a_cell_that_does_not_divide_the_tile_is_refused(small_slide, cell_px):
    with pytest.raises(GlioError, match=f"a cell of {cell_px} px does not divide"):
        run(small_slide.path, settings=Settings(cell_px=cell_px))


def test_a_tile_of_which_nothing_can_be_read_is_marked_and_not_taken_for_glass(
    small_slide, tmp_path
):
    # every JPEG tile under the map tile at column 1, row 1, and so some of each neighbour
    holes = [(column, row) for column in (1, 2, 3) for row in (1, 2, 3)]
    path = slides.with_bad_jpeg(tmp_path / "bad.svs", small_slide.path, holes)
    density = run(path, settings=Settings(threads=2, max_bad_tiles=1)).density
    unreadable = density.status == Status.UNREADABLE
    assert unreadable[:3, :3].all()
    assert unreadable.sum() == 9
    assert density.measured_tiles() == 2


@pytest.fixture(scope="module")
def spoiled(tmp_path_factory):
    """Tissue over 4 x 2 tiles, and the same out of focus at (1, 0) and inked at (2, 1).

    The spoiled areas end a little inside their tile, as JPEG lets colours run over borders.
    """
    folder = tmp_path_factory.mktemp("spoiled")
    pixels = slides.all_tissue(1920, 960, density=0.15)
    demo.write_slide(folder / "sound.svs", pixels, levels=1)
    tile = pixels[16:464, 496:944]
    blur = ImageFilter.GaussianBlur(8)
    pixels[16:464, 496:944] = np.asarray(Image.fromarray(tile).filter(blur))
    pixels[496:944, 976:1120] = 25, 45, 160
    demo.write_slide(folder / "spoiled.svs", pixels, levels=1)
    return folder


def test_blurred_and_inked_tiles_have_no_value_and_their_neighbours_the_same(spoiled):
    measured, sound = run(spoiled / "spoiled.svs"), run(spoiled / "sound.svs")
    density = measured.density
    assert sound.density.measured_tiles() == 8
    assert sound.warnings == ()
    wanted = [[1, Status.BLURRED, 1, 1], [1, 1, Status.PEN, 1]]
    assert density.status.tolist() == wanted
    measured_there = density.status == Status.MEASURED
    np.testing.assert_array_equal(np.isnan(density.density), ~measured_there)
    for ours, theirs in (
        (density.nucleus_px, sound.density.nucleus_px),
        (density.valid_px, sound.density.valid_px),
    ):
        np.testing.assert_array_equal(ours[measured_there], theirs[measured_there])
        assert not ours[~measured_there].any()
    assert measured.warnings == (
        "2 of 8 tiles not fit to be measured (1 pen, 1 blurred): no value there",
    )


def test_tiles_that_are_not_fit_never_reach_the_network(spoiled):
    seen = []

    def note(tiles):
        for tile in tiles:
            seen.append((tile.spec.column, tile.spec.row))
            yield tile, is_dark(tile.pixels)

    fed = Fed()
    run(spoiled / "spoiled.svs", fed, predict=note)
    assert len(seen) == 6
    assert not {(1, 0), (2, 1)} & set(seen)
    assert fed.count == len(fed.tiles) == 8


@pytest.fixture(scope="module")
def mostly_blurred(tmp_path_factory):
    """Sixteen tiles, of which the last twelve are out of focus."""
    pixels = slides.all_tissue(4 * 480, 4 * 480)
    soft = Image.fromarray(pixels[480:]).filter(ImageFilter.GaussianBlur(8))
    path = tmp_path_factory.mktemp("soft") / "soft.svs"
    demo.write_slide(path, np.vstack([pixels[:480], np.asarray(soft)]), levels=1)
    return path


def test_tiles_left_out_are_fed_as_the_others_are(mostly_blurred):
    fed = Fed()
    measured = run(mostly_blurred, fed)
    assert measured.density.left_out() == {Status.BLURRED: 12}
    assert fed.count == 16
    np.testing.assert_array_equal(fed.status(measured.density), measured.density.status)


def test_a_burst_of_tiles_left_out_does_not_wait_for_the_network(mostly_blurred):
    """A bar would stand still while thousands of blurred tiles go by, and nothing be saved."""
    fed, left_out_when_asked = Fed(), []

    def note(tiles):
        left_out_when_asked.append(sum(r != Status.MEASURED for r in fed.tiles.values()))
        yield from dark(tiles)

    run(mostly_blurred, fed, predict=note)
    assert left_out_when_asked == [0, BURST]


def test_the_tiles_asked_for_are_measured_and_no_others(mostly_blurred):
    with Slide(mostly_blurred) as slide:
        surveyed = survey(slide, CARD, TWO)
        density = surveyed.empty_map()
        measure(surveyed, dark, surveyed.chosen[2:7], [density])
    assert density.missing(surveyed.chosen) == surveyed.chosen[:2] + surveyed.chosen[7:]


def test_without_limits_every_tile_is_measured(spoiled):
    measured = run(spoiled / "spoiled.svs", settings=Settings(threads=2, quality=None))
    assert measured.density.measured_tiles() == 8
    assert measured.warnings == ()


def test_a_limit_of_ones_own_decides(spoiled):
    limits = QualityLimits(max_pen=1)
    status = run(spoiled / "spoiled.svs", settings=Settings(quality=limits)).density.status
    assert (status == Status.BLURRED).sum() == 1
    assert not (status == Status.PEN).any()


def test_the_stain_of_a_slide_is_measured_on_fit_tiles_alone(spoiled):
    stains = []
    for name, limits in (("sound", None), ("spoiled", QualityLimits()), ("spoiled", None)):
        with Slide(spoiled / f"{name}.svs") as slide:
            surveyed = survey(slide, CARD, replace(TWO, quality=limits))
            chosen = list(surveyed.grid)
            if limits is None and name == "sound":
                chosen = [s for s in chosen if (s.column, s.row) not in {(1, 0), (2, 1)}]
            surveyed = replace(surveyed, chosen=chosen, white=None)
            stains.append(sample_tiles(surveyed, lambda places, images: ()).stain)
    sound, fit, all_tiles = stains
    # ink and blur are gone, but for what JPEG carries over the borders of tiles
    np.testing.assert_allclose(fit.ground, sound.ground, atol=0.01)
    assert np.abs(np.subtract(all_tiles.ground, sound.ground)).max() > 0.015


def test_unreadable_and_unfit_tiles_are_told_apart(spoiled, tmp_path):
    path = slides.with_bad_jpeg(tmp_path / "bad.svs", spoiled / "spoiled.svs", [(7, 0)])
    measured = run(path, settings=Settings(threads=2, max_bad_tiles=0.2))
    assert measured.density.status.tolist() == [[1, 7, 1, 2], [1, 1, 3, 1]]
    assert measured.warnings == (
        "1 of 8 tiles could not be read: no value there",
        "2 of 8 tiles not fit to be measured (1 pen, 1 blurred): no value there",
    )


def test_a_slide_out_of_focus_fails_and_says_so(tmp_path):
    pixels = slides.all_tissue(960, 480)
    blurred = Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(8))
    demo.write_slide(tmp_path / "soft.svs", np.asarray(blurred), levels=1)
    with pytest.raises(
        GlioError, match=r"soft\.svs: none of 2 tiles can be measured \(2 blurred\); --any-quality"
    ):
        run(tmp_path / "soft.svs")


def test_a_20x_slide_is_not_blurred(tmp_path):
    pixels = Image.fromarray(slides.all_tissue(1920, 960)).resize((960, 480), Image.Resampling.BOX)
    demo.write_slide(tmp_path / "20x.svs", np.asarray(pixels), mpp=0.5, levels=1)
    assert run(tmp_path / "20x.svs").density.measured_tiles() == 8


@pytest.mark.parametrize(
    ("strength", "target", "number"),
    [
        (0.05, StainStatistic((0.4, 0.7, 0.3), (0.9, 1.2, 0.6)), 1),
        (1.0, StainStatistic((0.4, 0.7, 0.3), (0.9, 1.2, 0.6)), 0),
        (0.05, None, 0),  # a model that wants no matching lacks nothing
    ],
)
def test_a_slide_whose_colour_cannot_be_matched_says_so(tmp_path, strength, target, number):
    pixels = np.rint(255 * (slides.all_tissue(960, 960) / 255) ** strength).astype(np.uint8)
    demo.write_slide(tmp_path / "a.svs", pixels, levels=1)
    card = replace(CARD, colour_target=target)
    warnings = run(tmp_path / "a.svs", card=card, settings=Settings(threads=1)).warnings
    assert len([w for w in warnings if w.startswith("colour not matched")]) == number


def test_a_slide_in_another_stain_or_without_nuclei_is_told(tmp_path):
    target = StainStatistic((0.2, 0.5, 0.2))
    tissue = slides.all_tissue(960, 960)
    demo.write_slide(tmp_path / "yellow.svs", tissue[..., [0, 2, 1]], levels=1)
    demo.write_slide(tmp_path / "sound.svs", tissue, levels=1)

    def blind(tiles):
        for tile in tiles:
            yield tile, np.zeros(tile.pixels.shape[:2], dtype=np.uint8)

    matched = replace(CARD, colour_target=target)
    assert run(tmp_path / "sound.svs", card=matched).warnings == ()
    (stained,) = run(tmp_path / "yellow.svs", card=matched).warnings
    assert "colours that H&E does not have" in stained
    (empty,) = run(tmp_path / "sound.svs", card=matched, predict=blind).warnings
    assert empty.startswith("hardly any nucleus found in the sampled tiles (0.00 %")
