"""The images of a TIFF are walked in bounded steps; what OpenSlide draws wrongly is refused."""

from __future__ import annotations

import struct

import numpy as np
import pytest
import tifffile

import slides
from gliorun.errors import GlioError
from gliorun.reading import tiff
from gliorun.reading.field import read_field
from gliorun.reading.jpegtiles import JpegTiles
from gliorun.reading.slide import Slide

PIXELS = slides.all_tissue(700, 500)
SIZE = (700, 500)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("big", [False, True])
def test_the_images_are_those_that_tifffile_finds(tmp_path, order, big):
    path = tmp_path / "three.tif"
    with tifffile.TiffWriter(path, bigtiff=big, byteorder=order) as file:
        for step, tile in ((1, (256, 256)), (2, None), (4, (128, 64))):
            file.write(PIXELS[::step, ::step], tile=tile, photometric="rgb", metadata=None)
    with tifffile.TiffFile(path) as file:
        wanted = [{tag.code: tag.count for tag in page.tags} for page in file.pages]
        parts = [len(page.dataoffsets) for page in file.pages]
    images = list(tiff.directories(path))
    assert [dict(image.counts) for image in images] == wanted
    assert [image.is_tiled for image in images] == [True, False, True]
    assert [image.parts_needed() for image in images] == parts
    assert [image.values[tiff.WIDTH] for image in images] == [700, 350, 175]
    assert list(tiff.directories(slides.text_file(tmp_path / "notes.tif"))) == []


@pytest.mark.parametrize("levels", [1, 3])
def test_images_that_point_back_end(tmp_path, levels):
    path = slides.looped(tmp_path / "loop.svs", levels)
    assert len(list(tiff.directories(path))) == levels
    with pytest.raises(GlioError, match=r"loop\.svs: (damaged|not a slide)"):
        Slide(path)


def test_a_walk_ends_after_many_steps(tmp_path):
    """Each directory is empty, six bytes long, and points to the next one."""
    path = tmp_path / "chain.tif"
    places = range(8, 8 + 6 * (tiff.MOST_ENTRIES + 10), 6)
    links = b"".join(struct.pack("<HI", 0, place + 6) for place in places)
    path.write_bytes(b"II*\0" + struct.pack("<I", 8) + links)
    assert sum(1 for _ in tiff.directories(path)) == tiff.MOST_ENTRIES


@pytest.mark.parametrize(
    "content",
    [
        b"II*\0", b"MM\0*\0", b"II*\0\x08\0\0", b"II*\0\xff\xff\xff\xff",
        b"II*\0" + struct.pack("<IH", 8, 65_535),
        b"II+\0" + struct.pack("<HHQQ", 8, 0, 16, 2**60),
        b"II+\0" + struct.pack("<HHQ", 8, 0, 2**64 - 1),
    ],
)  # fmt: skip
def test_what_ends_too_early_or_points_outside_holds_no_image(tmp_path, content):
    path = tmp_path / "odd.tif"
    path.write_bytes(content)
    assert list(tiff.directories(path)) == []
    with pytest.raises(GlioError, match=r"odd\.tif: (damaged|not a slide)"):
        Slide(path)


def turned(path, orientation, compression, **more):
    tag = (tiff.ORIENTATION, "H", 1, orientation, True)
    return slides.tiled_tiff(path, PIXELS, compression, extratags=[tag], **more)


@pytest.mark.parametrize("orientation", range(2, 9))
@pytest.mark.parametrize("compression", [None, "deflate", "lzw"])
def test_a_slide_that_is_stored_turned_is_refused(tmp_path, orientation, compression):
    path = turned(tmp_path / "turned.tif", orientation, compression)
    with pytest.raises(GlioError, match=rf"turned\.tif: .*orientation {orientation}\).*upright"):
        Slide(path)


@pytest.mark.parametrize(
    ("compression", "more"),
    [
        ("jpeg", {}),
        ("aperio_jp2000_rgb", {"description": "Aperio Image Library v12\n700x500 J2K|MPP = 0.25"}),
    ],
)
def test_of_jpeg_and_aperio_s_jpeg_2000_every_tile_stays_as_it_is(tmp_path, compression, more):
    drawn = []
    for orientation in (1, 3, 6, 0, 9):
        with Slide(turned(tmp_path / "a.svs", orientation, compression, **more)) as slide:
            assert slide.size_l0 == SIZE
            drawn.append(slide.overview(700))
    assert np.abs(drawn[0][..., :3].astype(int) - PIXELS).mean() < 4
    for other in drawn[1:]:
        np.testing.assert_array_equal(other, drawn[0])


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("kind", [np.float32, np.uint32])
def test_pixels_of_more_bits_than_are_drawn_are_no_damage(tmp_path, kind, big):
    path = tmp_path / "deep.tif"
    tile = (256, 256)
    pixels = PIXELS.astype(kind)
    tifffile.imwrite(path, pixels, tile=tile, photometric="rgb", bigtiff=big, metadata=None)
    with pytest.raises(GlioError, match=r"deep\.tif: 32 bits a colour, .*; save it with 8 bits"):
        Slide(path)


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_of_sixteen_bits_the_upper_eight_are_read(tmp_path, kind, big):
    path = tmp_path / "deep.tif"
    pixels = PIXELS.astype(kind) * (257 if kind == np.uint16 else 1)
    tile = (256, 256)
    tifffile.imwrite(path, pixels, tile=tile, photometric="rgb", bigtiff=big, metadata=None)
    assert next(tiff.directories(path)).values[tiff.BITS] == 8 * np.dtype(kind).itemsize
    with Slide(path) as slide:
        np.testing.assert_array_equal(slide.overview(700)[..., :3], PIXELS)


def test_an_orientation_that_there_is_not_is_no_reason(tmp_path):
    """Beyond 8 libtiff takes it for upright."""
    with Slide(turned(tmp_path / "odd.tif", 9, "deflate")) as slide:
        np.testing.assert_array_equal(slide.overview(700)[..., :3], PIXELS)


def in_jpeg_tiles(path, pixels):
    return slides.tiled_tiff(path, pixels, "jpeg")


@pytest.mark.parametrize("write", [slides.strips, in_jpeg_tiles])
def test_a_tag_that_claims_a_billion_values_is_taken_in_by_nobody(tmp_path, write):
    path = write(tmp_path / "odd.tif", PIXELS)
    content = bytearray(path.read_bytes())
    with tifffile.TiffFile(path) as file:
        at = file.pages[0].tags["ResolutionUnit"].valueoffset - 8
    struct.pack_into("<HHI", content, at, 65_000, 1, 2**30)
    path.write_bytes(content)
    assert not next(tiff.directories(path)).is_bounded
    assert read_field(path) is None
    with pytest.raises(ValueError, match="tags of any length"):
        JpegTiles(path, cache_mb=1)
