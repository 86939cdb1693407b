"""OME-TIFFs hold the map and the mask at every level, in µm, for tifffile and OpenSlide."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import openslide
import pytest
import tifffile

import naive
import runs
import slides
from gliorun import demo
from gliorun.measuring import kernels
from gliorun.measuring.density import DensityMap, classify
from gliorun.measuring.masks import MaskStore
from gliorun.measuring.tile import LeftOut, Measured, Status
from gliorun.reading.tiles import TileGrid
from gliorun.settings import Settings
from gliorun.writers.ometiff import write_density, write_mask
from gliorun.writers.result import Result

OME = "{http://www.openmicroscopy.org/Schemas/OME/2016-06}"


@pytest.fixture(scope="module")
def result(small_slide) -> Result:
    """The small slide, 1800 × 1300 px, at 120-px cells, with tile (1, 0) unreadable."""
    dark_result = runs.dark_run(small_slide.path, Settings(cell_px=120, threads=1))
    density = dark_result.density
    density.nucleus_px[:4, 4:8] = density.valid_px[:4, 4:8] = 0
    density.feed(LeftOut(density.grid.tile(1, 0), Status.UNREADABLE))
    return dark_result


def with_map(result: Result, shape: tuple[int, int]) -> Result:
    """Return the result with a map of one cell a tile, (rows, columns), of random counts."""
    random = np.random.default_rng(0)
    grid = TileGrid((shape[1] * 480, shape[0] * 480), (480.0, 480.0))
    density = DensityMap(grid, 480, 480)
    density.valid_px[:] = random.choice([0, 480**2], shape, p=[0.3, 0.7])
    density.nucleus_px[:] = density.valid_px * random.random(shape) * 0.4
    return dataclasses.replace(result, density=density)


def with_mask(result: Result, mask: np.ndarray, tile_px: int) -> Result:
    """Return the result with a mask cut into tiles of `tile_px` px."""
    grid = TileGrid((mask.shape[1], mask.shape[0]), (float(tile_px), float(tile_px)))
    store = MaskStore(grid, tile_px)
    padded = np.pad(mask, ((0, tile_px), (0, tile_px)))
    for spec in grid:
        tile = padded[spec.row * tile_px :][:tile_px, spec.column * tile_px :][:, :tile_px]
        store.feed(Measured(spec, tile, np.ones_like(tile)))
    return dataclasses.replace(result, masks=store)


def image_entries(path: Path) -> list[tuple[dict, dict, str]]:
    """Return attributes of Image and Pixels, and the description, of every image."""
    with tifffile.TiffFile(path) as tiff:
        root = ElementTree.fromstring(tiff.ome_metadata)
    return [
        (image.attrib, image.find(f"{OME}Pixels").attrib, image.findtext(f"{OME}Description"))
        for image in root.iter(f"{OME}Image")
    ]


def levels_of(path: Path, series: int = 0) -> list[np.ndarray]:
    with tifffile.TiffFile(path) as tiff:
        return [level.asarray() for level in tiff.series[series].levels]


@pytest.mark.parametrize("shape", [(1, 1), (7, 13), (40, 24), (33, 57), (8, 3), (3, 8)])
def test_mean_blocks_fills_what_its_twin_returns(shape):
    image = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    wanted = naive.mean_blocks(image, 4)
    out = np.full_like(wanted, 77)
    kernels.mean_blocks(image, out)
    np.testing.assert_array_equal(out, wanted)


def test_the_density_and_its_class_come_back(tmp_path, result):
    write_density(tmp_path / "a.ome.tif", result)
    density = result.density.density
    ((values, classes),) = levels_of(tmp_path / "a.ome.tif")
    assert values.dtype == classes.dtype == np.float32
    np.testing.assert_array_equal(values, density.astype(np.float32))
    has_value = ~np.isnan(density)
    np.testing.assert_array_equal(classes[has_value], classify(density)[has_value])
    assert np.isnan(classes[~has_value]).all()
    assert np.isnan(values[:4, 4:8]).all()


def test_the_map_says_its_channels_its_cell_size_and_what_no_value_is(tmp_path, result):
    write_density(tmp_path / "a.ome.tif", result)
    ((image, pixels, description),) = image_entries(tmp_path / "a.ome.tif")
    assert image["Name"] == "Nucleus density of small.svs"
    assert "NaN = no value" in description
    assert (pixels["PhysicalSizeX"], pixels["PhysicalSizeXUnit"]) == ("30.0", "µm")
    assert (pixels["PhysicalSizeY"], pixels["PhysicalSizeYUnit"]) == ("30.0", "µm")
    assert (pixels["SizeX"], pixels["SizeY"], pixels["SizeC"]) == ("16", "12", "2")
    with tifffile.TiffFile(tmp_path / "a.ome.tif") as tiff:
        root = ElementTree.fromstring(tiff.ome_metadata)
    names = [channel.attrib["Name"] for channel in root.iter(f"{OME}Channel")]
    assert names == ["Nucleus density", "Nucleus density class"]
    assert [plane.attrib["PositionX"] for plane in root.iter(f"{OME}Plane")] == ["0.0", "0.0"]


def test_the_levels_of_a_large_map_sum_the_pixels_below_them(tmp_path, result):
    large = with_map(result, (301, 1027))
    write_density(tmp_path / "a.ome.tif", large)
    levels = levels_of(tmp_path / "a.ome.tif")
    shapes = [(2, 301, 1027), (2, 151, 514), (2, 76, 257), (2, 38, 129)]
    assert [level.shape for level in levels] == shapes
    density = large.density
    for number, (level, classes) in enumerate(levels):
        side = 2**number
        padding = [(0, -length % side) for length in density.valid_px.shape]
        nucleus, valid = (
            np.pad(px, padding).reshape(level.shape[0], side, -1, side).sum(axis=(1, 3))
            for px in (density.nucleus_px, density.valid_px)
        )
        wanted = np.divide(nucleus, valid, out=np.full(level.shape, np.nan), where=valid > 0)
        np.testing.assert_array_equal(level, wanted.astype(np.float32))
        np.testing.assert_array_equal(np.isnan(classes), np.isnan(level))
        np.testing.assert_array_equal(classes[valid > 0], classify(wanted)[valid > 0])


def test_a_density_on_the_edge_of_a_class_keeps_its_class(tmp_path, result):
    edges = with_map(result, (1, 4))
    density = edges.density
    density.valid_px[:] = 100_000
    density.nucleus_px[:] = (2_000, 4_000, 8_000, 20_000)  # 0.08 is less than that in float32
    write_density(tmp_path / "a.ome.tif", edges)
    assert levels_of(tmp_path / "a.ome.tif")[0][1].tolist() == [[1, 2, 3, 5]]


def test_smaller_levels_are_subifds_of_the_first_and_marked_reduced(tmp_path, result):
    write_density(tmp_path / "map.ome.tif", with_map(result, (301, 1027)))
    write_mask(tmp_path / "slide.mask.ome.tif", result)
    for name, images, subifds in (("map.ome.tif", 2, 3), ("slide.mask.ome.tif", 1, 1)):
        with tifffile.TiffFile(tmp_path / name) as tiff:
            assert tiff.is_ome
            assert len(tiff.pages) == images  # the spec wants full resolutions alone up here
            for page in tiff.pages:
                assert not page.is_reduced
                assert len(page.subifds) == subifds
                assert all(level.is_reduced for level in page.pages)


def test_the_mask_is_that_of_the_slide_and_ends_at_its_edge(tmp_path, result):
    write_mask(tmp_path / "slide.mask.ome.tif", result)
    mask, _ = levels_of(tmp_path / "slide.mask.ome.tif")
    assert mask.dtype == np.uint8
    whole = np.vstack(list(result.masks.rows()))
    np.testing.assert_array_equal(mask, 255 * whole[:1300, :1800])
    assert set(np.unique(mask)) == {0, 255}


@pytest.mark.parametrize("tile_px", [480, 240, 250, 96])
def test_tiles_of_any_side_give_one_mask_and_its_pyramid(tmp_path, result, tile_px):
    mask = np.random.default_rng(0).integers(0, 2, (1001, 2030), dtype=np.uint8)
    write_mask(tmp_path / "a.mask.ome.tif", with_mask(result, mask, tile_px))
    levels = levels_of(tmp_path / "a.mask.ome.tif")
    assert [level.shape for level in levels] == [(1001, 2030), (251, 508), (63, 127)]
    wanted = mask * np.uint8(255)
    for level in levels:
        np.testing.assert_array_equal(level, wanted)
        wanted = naive.mean_blocks(wanted, 4)


def test_every_level_of_the_mask_keeps_the_nucleus_area(tmp_path, result):
    write_mask(tmp_path / "a.mask.ome.tif", result)
    fine, coarse = levels_of(tmp_path / "a.mask.ome.tif")
    assert coarse.mean() == pytest.approx(fine.mean(), rel=0.005)


def test_the_mask_is_tiled_and_compressed(tmp_path, result):
    path = tmp_path / "a.mask.ome.tif"
    write_mask(path, result)
    with tifffile.TiffFile(path) as tiff:
        for page in (tiff.pages[0], *tiff.pages[0].pages):
            assert page.tile == (480, 480)
            assert page.compression == tifffile.COMPRESSION.ADOBE_DEFLATE
        assert not tiff.is_bigtiff
    assert path.stat().st_size < 1800 * 1300 / 20


def test_the_mask_opens_in_openslide_at_its_scale(tmp_path, result):
    write_mask(tmp_path / "a.mask.ome.tif", result)
    whole = np.vstack(list(result.masks.rows()))
    with openslide.OpenSlide(tmp_path / "a.mask.ome.tif") as slide:
        assert slide.dimensions == (1800, 1300)
        assert float(slide.properties[openslide.PROPERTY_NAME_MPP_X]) == pytest.approx(0.25)
        region = np.asarray(slide.read_region((400, 300), 0, (700, 600)))
    np.testing.assert_array_equal(region[..., 0], 255 * whole[300:900, 400:1100])


@pytest.mark.parametrize(
    ("slide_mpp", "size", "mask_mpp"),
    [
        (0.25, (700, 500), 0.25),
        (0.252, (700, 500), 0.252),  # as good as the model's scale: not resampled
        (0.5, (1400, 1000), 0.25),
        (0.2, (560, 400), 0.25),
    ],
)
def test_the_mask_has_the_size_in_µm_that_its_slide_has(tmp_path, slide_mpp, size, mask_mpp):
    path = tmp_path / "a.svs"
    demo.write_slide(path, slides.all_tissue(700, 500), mpp=slide_mpp, levels=1)
    write_mask(tmp_path / "a.mask.ome.tif", runs.dark_run(path, Settings(threads=1)))
    ((_, pixels, _),) = image_entries(tmp_path / "a.mask.ome.tif")
    assert (int(pixels["SizeX"]), int(pixels["SizeY"])) == size
    assert float(pixels["PhysicalSizeX"]) == pytest.approx(mask_mpp)
    assert float(pixels["PhysicalSizeY"]) == pytest.approx(mask_mpp)


def test_a_slide_smaller_than_a_tile_gives_one_level(tmp_path):
    path = tmp_path / "a.svs"
    demo.write_slide(path, slides.all_tissue(300, 250), levels=1)
    result = runs.dark_run(path, Settings(threads=1))
    write_mask(tmp_path / "a.mask.ome.tif", result)
    write_density(tmp_path / "a.ome.tif", result)
    assert [level.shape for level in levels_of(tmp_path / "a.mask.ome.tif")] == [(250, 300)]
    assert [level.shape for level in levels_of(tmp_path / "a.ome.tif")] == [(2, 1, 1)]


def test_a_slide_name_with_angle_brackets_comes_back(tmp_path, result):
    name = 'a <b> & "c" {0} ü.svs'
    write_density(tmp_path / "a.ome.tif", dataclasses.replace(result, slide_name=name))
    assert image_entries(tmp_path / "a.ome.tif")[0][0]["Name"] == f"Nucleus density of {name}"


def test_a_mask_without_masks_is_a_bug(tmp_path, result):
    with pytest.raises(ValueError, match="needs the masks of the run"):
        write_mask(tmp_path / "a.mask.ome.tif", dataclasses.replace(result, masks=None))


def test_the_same_run_gives_the_same_bytes_and_another_map_another_identity(tmp_path, result):
    for name in ("a", "b"):
        write_density(tmp_path / name, result)
        write_mask(tmp_path / f"{name}.mask", result)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert (tmp_path / "a.mask").read_bytes() == (tmp_path / "b.mask").read_bytes()

    def identity(path: Path) -> str:
        with tifffile.TiffFile(path) as tiff:
            return ElementTree.fromstring(tiff.ome_metadata).attrib["UUID"]

    write_density(tmp_path / "c", with_map(result, (3, 4)))
    assert len({identity(tmp_path / name) for name in ("a", "a.mask", "c")}) == 3


PROGRAM = """
import resource, sys
import numpy as np
from types import SimpleNamespace
from gliorun.model.card import ModelCard
from gliorun.measuring.density import DensityMap
from gliorun.measuring.masks import MaskStore
from gliorun.measuring.tile import Measured
from gliorun.reading.scale import Scale
from gliorun.reading.tiles import TileGrid
from gliorun.writers.ometiff import write_mask

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024

def write(width, height):
    grid = TileGrid((width, height), (480.0, 480.0))
    masks = MaskStore(grid, 480)
    tile = (np.indices((480, 480)).sum(axis=0) % 40 < 8).astype(np.uint8)
    for spec in grid:
        if spec.column % 20 == 0:
            masks.feed(Measured(spec, tile, np.ones_like(tile)))
    scale = Scale(0.25, 0.25, "slide")
    card = ModelCard("fake", tile_px=480, mpp=0.25, colour_target=None)
    result = SimpleNamespace(
        slide_name="a.svs", density=DensityMap(grid, 480, 480), scale=scale, notes=(), card=card,
        masks=masks,
    )
    write_mask(sys.argv[1], result)

write(960, 960)
before = peak()
write(24_000, 24_000)
print(peak() - before)
"""


@pytest.mark.release
@pytest.mark.skipif(sys.platform == "win32", reason="asks for the peak as POSIX has it")
def test_a_large_mask_needs_the_memory_of_a_few_rows_of_tiles(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path / "a.mask.ome.tif")],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    row_of_tiles = 24_000 * 480 / 2**20
    assert json.loads(done.stdout) < 5 * row_of_tiles + 16  # measured: 37 MiB; the whole is 549
