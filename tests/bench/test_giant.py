"""Giant slides open in OpenSlide and in tifffile, and their truth is what was drawn."""

import csv
from dataclasses import replace

import numpy as np
import pytest
import tifffile

import runs
from gliobench.giant import DENSITIES, TILE_PX, GiantSpec, truth_path, write_giant
from gliorun.errors import GlioError
from gliorun.reading.slide import Slide
from gliorun.settings import Settings


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    path = tmp_path_factory.mktemp("giant") / "small.svs"
    return path, write_giant(path, GiantSpec(0.03, tissue_share=0.4))


def rows_of(path):
    with truth_path(path).open(newline="", encoding="utf-8") as lines:
        return list(csv.DictReader(lines))


def darkness(pixels):
    """Return the share of pixels as dark as a nucleus, (H, W, 3) uint8."""
    return float((pixels[..., 0] < 125).mean())


def test_openslide_sees_an_aperio_pyramid_with_its_scale(written):
    path, giant = written
    with Slide(path) as slide:
        assert slide.properties["openslide.vendor"] == "aperio"
        assert slide.properties["openslide.objective-power"] == "40"
        assert slide.size_l0 == (giant.width_px, giant.height_px)
        scale = slide.scale()
        assert (scale.x_mpp, scale.y_mpp, scale.source) == (0.25, 0.25, "slide")
        assert slide.properties["openslide.level-count"] == "2"
        assert slide.properties["openslide.level[1].tile-width"] == str(TILE_PX)
        assert slide.properties["openslide.associated.thumbnail.width"] == "1024"


def test_both_levels_show_the_same_picture(written):
    path, _ = written
    with tifffile.TiffFile(path) as tiff:
        fine, coarse = (level.asarray() for level in tiff.series[0].levels)
    fine, coarse = fine.squeeze(), coarse.squeeze()
    height, width, _ = coarse.shape
    difference = np.abs(fine.reshape(height, 4, width, 4, 3).mean(axis=(1, 3)) - coarse)
    assert difference.mean() < 3
    assert np.quantile(difference, 0.99) < 20  # JPEG halves the colour's resolution


def test_the_truth_of_each_tile_follows_from_its_pixels(written):
    path, _ = written
    with Slide(path) as slide:
        handle = slide._handle
        pairs = []
        for row in rows_of(path):
            corner = int(row["minx"]), int(row["miny"])
            size = int(row["width"]), int(row["height"])
            pixels = np.asarray(handle.read_region(corner, 0, size))[..., :3]
            pairs.append((float(row["density_of_tile"]), darkness(pixels), row["tissue"] == "1"))
    assert all(dark == density == 0 for density, dark, tissue in pairs if not tissue)
    true, dark = np.array([pair[:2] for pair in pairs if pair[2]]).T
    assert np.unique(true).size > 5
    assert true.max() > 0.2
    assert np.abs(dark - true).max() < 0.03


def test_the_true_densities_are_about_those_wanted(written):
    _, giant = written
    densities = np.unique(giant.density[np.isfinite(giant.density)])
    assert np.abs(densities[:, None] - DENSITIES).min(axis=1).max() < 0.05


@pytest.mark.parametrize(("gigapixels", "share"), [(0.01, 1.0), (0.1, 0.1), (1.0, 0.35)])
def test_size_and_tissue_share_are_as_asked(tmp_path, gigapixels, share):
    giant = write_giant(tmp_path / "a.svs", GiantSpec(gigapixels, share))
    assert giant.width_px * giant.height_px == pytest.approx(gigapixels * 1e9, rel=0.1)
    assert giant.tissue_tiles == round(share * giant.density.size)


def test_ten_gigapixels_take_megabytes_and_show_tissue_where_the_truth_has_it(tmp_path):
    path = tmp_path / "a.svs"
    giant = write_giant(path, GiantSpec(10))
    assert giant.width_px * giant.height_px == pytest.approx(1e10, rel=0.01)
    assert path.stat().st_size < 50e6
    with Slide(path) as slide:
        overview = slide.overview(1800)  # of the coarsest level
        corner = (giant.width_px - 100, giant.height_px - 100)
        far = np.asarray(slide._handle.read_region(corner, 0, (100, 100)))
    assert far[..., 3].min() == 255
    assert overview[..., 3].min() == 255
    rows, columns = np.indices(giant.density.shape) * TILE_PX + TILE_PX // 2
    shrink = giant.width_px / overview.shape[1]
    green = overview[(rows / shrink).astype(int), (columns / shrink).astype(int), 1]
    assert np.array_equal(green < 200, np.isfinite(giant.density))


def test_copies_hold_the_same_pixels_in_more_bytes(tmp_path, written):
    path, giant = written
    again = write_giant(tmp_path / "b.svs", GiantSpec(0.03, tissue_share=0.4, share_bytes=False))
    assert np.array_equal(again.density, giant.density, equal_nan=True)
    assert (tmp_path / "b.svs").stat().st_size > 2 * path.stat().st_size
    with Slide(path) as one, Slide(tmp_path / "b.svs") as other:
        assert np.array_equal(one.overview(500), other.overview(500))


def test_another_seed_draws_other_nuclei(tmp_path, written):
    _, giant = written
    other = write_giant(tmp_path / "c.svs", GiantSpec(0.03, tissue_share=0.4, seed=7))
    assert not np.array_equal(other.density, giant.density, equal_nan=True)


def test_a_perfect_network_measures_the_truth(written):
    """The pipeline finds the tissue, and its tiles are those of the truth."""
    from gliobench.truth import against_cells, read_cells
    from gliorun.model.engine import open_model
    from gliorun.model.shipped import DEFAULT_MODEL

    path, giant = written
    card = open_model(DEFAULT_MODEL).card

    def dark_pixels(tiles):
        for tile in tiles:
            red = tile.pixels[..., 0].astype(float)
            yield tile, (red < 0.6 * np.median(red)).astype(np.uint8)

    card = replace(card, **runs.OF_MASKS)
    density = runs.measured_slide(path, card, dark_pixels, Settings()).density
    cells = [
        (density.cell_box(row, column), float(density.density[row, column]))
        for row, column in np.ndindex(density.density.shape)
        if np.isfinite(density.density[row, column])
    ]
    comparison = against_cells(cells, read_cells(truth_path(path)))
    assert giant.tissue_tiles <= comparison.cells <= 1.4 * giant.tissue_tiles
    assert comparison.correlation > 0.95


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"gigapixels": 11}, "gigapixels is 11"),
        ({"gigapixels": 0}, "gigapixels is 0"),
        ({"gigapixels": float("nan")}, "gigapixels is nan"),
        ({"gigapixels": 1, "tissue_share": 0}, "tissue is 0"),
        ({"gigapixels": 1, "tissue_share": 1.5}, "tissue is 1.5"),
    ],
)
def test_a_spec_that_cannot_be_is_refused(spec, message):
    with pytest.raises(GlioError, match=message):
        GiantSpec(**spec)


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(GlioError, match="cannot be written"):
        write_giant(tmp_path / "none" / "a.svs", GiantSpec(0.01))
