"""Tiles read past OpenSlide are OpenSlide's to the byte, or OpenSlide is left to read them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import openslide
import pytest
import tifffile
from numpy.typing import NDArray

import slides
from gliorun import demo
from gliorun.errors import TileReadError
from gliorun.reading.jpegtiles import JpegTiles
from gliorun.reading.slide import Slide
from gliorun.reading.tiles import TileGrid, TileSpec

Pixels = NDArray[np.uint8]
WIDTH, HEIGHT = 1100, 700


@pytest.fixture(scope="module")
def tissue() -> Pixels:
    return slides.all_tissue(WIDTH, HEIGHT, density=0.2)


@pytest.fixture(scope="module")
def plain(tmp_path_factory, tissue) -> Path:
    return slides.jpeg_tiff(tmp_path_factory.mktemp("tiff") / "plain.tif", tissue)


def drawn(path: Path, left: int, top: int, width: int, height: int) -> Pixels | None:
    """Return what OpenSlide alone draws of level 0, None where it cannot."""
    with openslide.OpenSlide(path) as slide:
        try:
            return np.asarray(slide.read_region((left, top), 0, (width, height)))
        except openslide.OpenSlideError:
            return None


def read_by_openslide(path: Path, spec: TileSpec, side_px: int) -> Pixels:
    with Slide(path) as slide:
        slide.jpeg_tiles = None
        return slide.read(spec, side_px)


PLACES = [
    (0, 0, 480, 480),
    (480, 0, 480, 480),  # shares tiles with the one before
    (960, 480, 480, 480),  # beyond the right and the lower border
    (37, 411, 301, 173),
    (1099, 699, 5, 7),  # the last pixel
    (-20, -30, 100, 90),
    (0, 0, WIDTH, HEIGHT),
    (WIDTH, 0, 64, 64),
    (5000, 9000, 64, 64),
    (-100, -100, 64, 64),
]


@pytest.mark.parametrize(
    ("space", "subsampling"),
    [("RGB", "444"), ("YCbCr", "444"), ("YCbCr", "422"), ("YCbCr", "420")],
)
@pytest.mark.parametrize(
    ("tile_px", "tables"), [((240, 240), True), ((256, 128), False), ((512, 512), True)]
)
def test_every_place_is_openslide_s_to_the_byte(
    tmp_path, tissue, tile_px, space, subsampling, tables
):
    path = slides.jpeg_tiff(
        tmp_path / "slide.tif",
        tissue,
        tile_px=tile_px,
        space=space,
        subsampling=subsampling,
        tables=tables,
    )
    with Slide(path) as slide:
        assert slide.jpeg_tiles is not None  # proven by tiles of this slide
        for place in PLACES:
            np.testing.assert_array_equal(slide.jpeg_tiles.read(place), drawn(path, *place))


def test_a_tile_that_is_resampled_is_the_same_too(plain):
    with Slide(plain) as slide:
        assert slide.jpeg_tiles is not None
        for spec in (TileSpec(0, 0, 300, 100, 240, 240), TileSpec(0, 0, 1000, 600, 240, 241)):
            wanted = read_by_openslide(plain, spec, 480)
            np.testing.assert_array_equal(slide.read(spec, 480), wanted)


def test_a_level_below_is_openslide_s(small_slide):
    spec = TileSpec(0, 0, 13, 27, 960, 960)
    with Slide(small_slide.path) as slide:
        assert slide.jpeg_tiles is not None
        wanted = read_by_openslide(small_slide.path, spec, 240)
        np.testing.assert_array_equal(slide.read(spec, 240), wanted)


@pytest.mark.parametrize("name", ["gbm40_mosaic_aperio_style.svs", "CMU-1-Small-Region.svs"])
def test_a_real_slide_is_read_the_same_from_end_to_end(shared_slides, name):
    path = shared_slides / name
    with Slide(path) as slide, openslide.OpenSlide(path) as plain:
        assert slide.jpeg_tiles is not None
        for spec in TileGrid(slide.size_l0, (480.0, 480.0)):
            wanted = np.asarray(plain.read_region((spec.x_l0, spec.y_l0), 0, (480, 480)))
            np.testing.assert_array_equal(slide.read(spec, 480), wanted)


def test_many_threads_with_little_memory_read_the_same(plain):
    places = [(x, y, 300, 300) for x in range(0, WIDTH, 150) for y in range(0, HEIGHT, 150)]
    wanted = [drawn(plain, *place) for place in places]
    tiles = JpegTiles(plain, cache_mb=1)  # four tiles of 15
    with ThreadPoolExecutor(8) as pool:
        tiles_read = list(pool.map(tiles.read, places))
    tiles.close()
    for ours, theirs in zip(tiles_read, wanted, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_the_proof_covers_the_slide_and_its_last_tile(plain):
    places = JpegTiles(plain, cache_mb=1).samples(5)
    assert 5 <= len(places) <= 6
    assert (1024, 512, 256, 256) in places
    assert len({top for _, top, _, _ in places}) == 3


@pytest.fixture
def other(tmp_path, tissue, request) -> Path:
    """A slide that OpenSlide reads, and that is not of JPEG tiles in colour."""
    path, small = tmp_path / "other.tif", tissue[:300, :300]
    options = {
        "uncompressed": {"photometric": "rgb"},
        "JPEG 2000": {
            "photometric": "rgb",
            "compression": "aperio_jp2000_rgb",
            "description": "Aperio Image Library v12",
        },
        "deflate": {"photometric": "rgb", "compression": "deflate"},
        "grey": {"photometric": "minisblack", "compression": "jpeg"},
    }[request.param]
    pixels = small[..., 0] if request.param == "grey" else small
    tifffile.imwrite(path, pixels, tile=(128, 128), metadata=None, **options)
    return path


@pytest.mark.parametrize("other", ["uncompressed", "JPEG 2000", "deflate", "grey"], indirect=True)
def test_a_slide_of_another_compression_is_read_by_openslide(other):
    with Slide(other) as slide:
        assert slide.jpeg_tiles is None
        tile = slide.read(TileSpec(0, 0, 0, 0, 300, 300), 300)
    np.testing.assert_array_equal(tile, drawn(other, 0, 0, 300, 300))


@pytest.mark.parametrize("tile", [0, 7, 14])
def test_tiles_that_differ_anywhere_from_openslide_s_are_not_trusted(
    tmp_path, plain, tissue, tile, monkeypatch
):
    """As if a TIFF meant another picture to OpenSlide: here that of another file."""
    pixels = tissue.copy()
    top, left = tile // 5 * 256, tile % 5 * 256
    pixels[top : top + 256, left : left + 256] //= 2
    other = slides.jpeg_tiff(tmp_path / "other.tif", pixels)
    monkeypatch.setattr("gliorun.reading.slide.JpegTiles", partial(_tiles_of, other))
    monkeypatch.setattr("gliorun.reading.slide.PROOFS", 15)
    with Slide(plain) as slide:
        assert slide.jpeg_tiles is None
        tile_read = slide.read(TileSpec(0, 0, 0, 0, 480, 480), 480)
    np.testing.assert_array_equal(tile_read, drawn(plain, 0, 0, 480, 480))


def _tiles_of(other: Path, path: Path, cache_mb: float) -> JpegTiles:
    return JpegTiles(other, cache_mb)


def test_a_slide_whose_tiles_contradict_its_colour_space_is_read_by_openslide(tmp_path, plain):
    """OpenSlide heeds the TIFF, which says RGB; libjpeg by itself would heed the JPEG."""
    path = tmp_path / "lying.tif"
    content = plain.read_bytes()
    with tifffile.TiffFile(plain) as tiff:
        tag = tiff.pages.first.tags["PhotometricInterpretation"]
    path.write_bytes(content[: tag.valueoffset] + b"\x02\x00" + content[tag.valueoffset + 2 :])
    with Slide(path) as slide:
        assert slide.jpeg_tiles is None
        tile = slide.read(TileSpec(0, 0, 0, 0, 480, 480), 480)
    np.testing.assert_array_equal(tile, drawn(path, 0, 0, 480, 480))


def patched(path: Path, whole: Path, tag_name: str, index: int, value: int) -> Path:
    """Copy a TIFF with another value of its list of tiles' places or lengths."""
    content = bytearray(whole.read_bytes())
    with tifffile.TiffFile(whole) as tiff:
        tag = tiff.pages.first.tags[tag_name]
        bytes_each = {3: 2, 4: 4, 16: 8}[tag.dtype]
    start = tag.valueoffset + index * bytes_each
    content[start : start + bytes_each] = value.to_bytes(bytes_each, "little")
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("tag", "value"),
    [("TileByteCounts", 0), ("TileByteCounts", 60_000), ("TileOffsets", 8)],
)
def test_a_tile_that_is_missing_or_elsewhere_is_left_to_openslide(tmp_path, plain, tag, value):
    path = patched(tmp_path / "patched.tif", plain, tag, 6, value)  # the tile at (256, 256)
    place = (200, 200, 200, 200)
    wanted = drawn(path, *place)
    with Slide(path) as slide:
        assert slide.jpeg_tiles is not None
        pixels = slide.jpeg_tiles.read(place)
        if wanted is None:
            assert pixels is None
            with pytest.raises(TileReadError):
                slide.read(TileSpec(0, 0, *place), 200)
        else:
            np.testing.assert_array_equal(slide.read(TileSpec(0, 0, *place), 200), wanted)
        np.testing.assert_array_equal(
            slide.read(TileSpec(0, 0, 0, 0, 250, 250), 250), drawn(path, 0, 0, 250, 250)
        )


@pytest.mark.parametrize("offset", [2**40, 2**63, 2**64 - 1])
def test_a_tile_beyond_the_end_of_any_file_is_none(tmp_path, tissue, offset):
    whole = slides.jpeg_tiff(tmp_path / "big.tif", tissue, big=True)
    path = patched(tmp_path / "patched.tif", whole, "TileOffsets", 6, offset)
    tiles = JpegTiles(path, cache_mb=1)
    assert tiles.read((300, 300, 100, 100)) is None
    np.testing.assert_array_equal(tiles.read((0, 0, 9, 9)), drawn(whole, 0, 0, 9, 9))
    tiles.close()


@pytest.mark.parametrize(
    ("space", "tables"), [("RGB", False), ("RGB", True), ("YCbCr", False), ("YCbCr", True)]
)
def test_damage_that_openslide_refuses_is_never_read(tmp_path, tissue, space, tables):
    """A bit or a stretch of a tile is changed: the same pixels, or None, never other ones."""
    path = slides.jpeg_tiff(
        tmp_path / "flips.tif", tissue[:128, :384], tile_px=(128, 128), space=space, tables=tables
    )
    with tifffile.TiffFile(path) as tiff:
        start, length = (
            int(n[1]) for n in (tiff.pages.first.dataoffsets, tiff.pages.first.databytecounts)
        )
    sound, random = path.read_bytes(), np.random.default_rng(0)
    refused = same = 0
    for turn in range(120):
        content = bytearray(sound)
        at = start + int(random.integers(0, 100 if turn % 3 == 0 else length - 200))
        if turn % 3 == 2:
            content[at : at + 200] = random.bytes(200)
        else:
            content[at] ^= 1 << int(random.integers(0, 8))
        path.write_bytes(content)
        wanted = drawn(path, 128, 0, 128, 128)
        tiles = JpegTiles(path, cache_mb=1)
        pixels = tiles.read((128, 0, 128, 128))
        tiles.close()
        if pixels is not None:
            assert wanted is not None, (turn, at - start)
            np.testing.assert_array_equal(pixels, wanted)
        same += pixels is not None
        refused += wanted is None
    assert refused > 10
    assert same > 10


def test_tifffile_quotes_nothing_of_a_slide_on_stderr(tmp_path, capfd):
    path = tmp_path / "named.svs"
    demo.write_slide(path, slides.all_tissue(300, 200), levels=1)
    content = path.read_bytes().replace(b"Q=90", b"\xe9\xff\x81\x8d")
    path.write_bytes(content)
    with Slide(path):
        pass
    assert capfd.readouterr().err == ""
