"""One slide through the pipeline, with a network of one line."""

from __future__ import annotations

from collections.abc import Generator, Iterable

import numpy as np
import pytest

import slides
from gliorun import colour, demo
from gliorun.card import ModelCard
from gliorun.colour import StainStatistic
from gliorun.density import Status
from gliorun.errors import GlioError
from gliorun.pipeline import Settings, Tile, measure
from gliorun.reading.slide import Slide

CARD = ModelCard("fake", tile_px=480, mpp=0.25, colour_target=None)
TWO = Settings(threads=2)


def is_dark(pixels: np.ndarray) -> np.ndarray:
    return (pixels[..., 0] < 120).astype(np.uint8)


def dark(tiles: Iterable[Tile]) -> Generator[tuple[Tile, np.ndarray]]:
    for tile in tiles:
        yield tile, is_dark(tile.pixels)


def run(path, *, card=CARD, predict=dark, settings=TWO, **more):
    with Slide(path) as slide:
        return measure(slide, card, predict, settings, **more)


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
            found = density.density[spec.row, spec.column]
            if measured.tissue.touches(spec):
                tile = slide.read(spec, 480)
                inside = tile[..., 3] >= 128
                assert found == is_dark(tile)[inside].mean()
            else:
                assert np.isnan(found)
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


def test_progress_counts_every_tile_once(small_slide):
    seen = []
    run(small_slide.path, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(n, 11) for n in range(1, 12)]


def test_the_network_sees_the_colours_of_the_card(wide):
    target = StainStatistic(median=(0.45, 0.75, 0.35), high=(0.9, 1.3, 0.7))
    card = ModelCard("fake", tile_px=480, mpp=0.25, colour_target=target)
    counts = colour.empty_levels()

    def note_colours(tiles):
        for tile in tiles:
            colour.add_levels(np.dstack([tile.pixels, tile.valid * 255]), counts)
            yield tile, is_dark(tile.pixels)

    run(wide, card=card, predict=note_colours)
    seen = colour.measure(counts)
    np.testing.assert_allclose(seen.median, target.median, atol=0.03)
    np.testing.assert_allclose(seen.high, target.high, atol=0.05)


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
        GlioError, match=r"bad\.svs: \d of 36 tiles cannot be read, more than --max-bad-tiles 0\.05"
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
