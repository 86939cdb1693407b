"""A field without tiles is read as the slide would be, or refused in one line; never half of it."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageOps

import slides
from gliorun.errors import GlioError
from gliorun.reading import field, tiff
from gliorun.reading.scale import stated_scale
from gliorun.reading.slide import Slide
from gliorun.reading.tiles import TileSpec
from gliorun.settings import Settings
from runs import dark_run

WIDTH, HEIGHT = 701, 499
PIXELS = slides.all_tissue(WIDTH, HEIGHT, density=0.2)
EXACT = ("png", "bmp", "tif")


def saved(path: Path, pixels: np.ndarray = PIXELS, **more: object) -> Path:
    """Write a field in the format of its suffix."""
    if path.suffix == ".tif":
        return slides.strips(path, pixels, **more)
    Image.fromarray(pixels).save(path, **more)
    return path


@pytest.mark.parametrize("suffix", EXACT)
def test_the_pixels_are_the_file_s_and_transparent_outside(tmp_path, suffix):
    with Slide(saved(tmp_path / f"field.{suffix}")) as slide:
        assert slide.size_l0 == (WIDTH, HEIGHT)
        tile = slide.read(TileSpec(0, 0, 480, 240, 480, 480), 480)
        overview = slide.overview(2048)
    inside = tile[: HEIGHT - 240, : WIDTH - 480]
    np.testing.assert_array_equal(inside[..., :3], PIXELS[240:, 480:])
    assert (inside[..., 3] == 255).all()
    assert (tile[..., 3] == 255).sum() == (HEIGHT - 240) * (WIDTH - 480)
    np.testing.assert_array_equal(overview[..., :3], PIXELS)


def test_a_jpeg_is_decoded_as_libjpeg_does(tmp_path):
    path = saved(tmp_path / "field.jpg", quality=90)
    with Slide(path) as slide, Image.open(path) as image:
        np.testing.assert_array_equal(slide.overview(2048)[..., :3], np.asarray(image))


@pytest.mark.parametrize("suffix", EXACT)
def test_the_map_is_that_of_the_same_pixels_in_tiles(tmp_path, suffix):
    settings = Settings(mpp=0.25, cell_px=120, quality=None)
    slide = slides.tiled_tiff(tmp_path / "tiled.tif", PIXELS, "deflate")
    wanted = dark_run(slide, settings).density
    density = dark_run(saved(tmp_path / f"field.{suffix}"), settings).density
    assert wanted.nucleus_px.sum() > 20_000
    np.testing.assert_array_equal(density.nucleus_px, wanted.nucleus_px)
    np.testing.assert_array_equal(density.valid_px, wanted.valid_px)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["png", "jpg", "tif"])
def test_a_field_that_is_stored_turned_is_read_upright(tmp_path, suffix, orientation):
    path = tmp_path / f"field.{suffix}"
    if suffix == "tif":
        tag = (tiff.ORIENTATION, "H", 1, orientation, True)
        saved(path, extratags=[tag])
    else:
        exif = Image.Exif()
        exif[tiff.ORIENTATION] = orientation
        saved(path, exif=exif)
    stored = Image.fromarray(PIXELS)
    stored.getexif()[tiff.ORIENTATION] = orientation
    upright = np.asarray(ImageOps.exif_transpose(stored)).astype(int)
    with Slide(path) as slide:
        assert slide.size_l0 == (upright.shape[1], upright.shape[0])
        overview = slide.overview(2048)[..., :3]
    assert np.abs(overview - upright).mean() < (4 if suffix == "jpg" else 1e-9)


def test_the_scale_of_a_field_that_lies_on_its_side_lies_there_too(tmp_path):
    path = tmp_path / "field.tif"
    tifffile.imwrite(
        path,
        PIXELS,
        photometric="rgb",
        metadata=None,
        resolution=(1e4 / 0.25, 1e4 / 0.5),
        resolutionunit="CENTIMETER",
        extratags=[(tiff.ORIENTATION, "H", 1, 6, True)],
    )
    with Slide(path) as slide:
        scale = slide.scale()
    assert (scale.x_mpp, scale.y_mpp) == pytest.approx((0.5, 0.25))


@pytest.mark.parametrize("suffix", ["png", "tif", "bmp"])
def test_the_scale_is_what_the_file_states(tmp_path, suffix):
    more = {} if suffix == "tif" else {"dpi": (25_400 / 0.25, 25_400 / 0.25)}
    with Slide(saved(tmp_path / f"field.{suffix}", **more)) as slide:
        scale = slide.scale()
    assert (scale.x_mpp, scale.y_mpp) == pytest.approx((0.25, 0.25), rel=1e-4)
    assert scale.source == "slide"


@pytest.mark.parametrize("more", [{}, {"dpi": (300, 300)}, {"dpi": (1, 1)}])
@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_a_printer_s_resolution_is_no_scale(tmp_path, suffix, more):
    with Slide(saved(tmp_path / f"field.{suffix}", **more)) as slide:
        assert stated_scale(slide.properties) is None
        with pytest.raises(GlioError, match=r"field\..*: no micrometres per pixel; pass --mpp"):
            slide.scale()
        assert slide.scale(0.25).x_mpp == 0.25


def test_what_is_transparent_stays_so(tmp_path):
    alpha = np.full((HEIGHT, WIDTH, 1), 255, np.uint8)
    alpha[:, :300] = 0
    with Slide(saved(tmp_path / "field.png", np.concatenate([PIXELS, alpha], axis=-1))) as slide:
        overview = slide.overview(2048)
    np.testing.assert_array_equal(overview[..., 3], alpha[..., 0])
    np.testing.assert_array_equal(overview[:, 300:, :3], PIXELS[:, 300:])


def test_a_colour_table_is_looked_up(tmp_path):
    path = tmp_path / "field.png"
    image = Image.fromarray(PIXELS).quantize(200)
    image.save(path)
    with Slide(path) as slide:
        np.testing.assert_array_equal(
            slide.overview(2048)[..., :3], np.asarray(image.convert("RGB"))
        )


def png_header(path: Path, width: int, height: int) -> Path:
    """Write the beginning of a PNG that claims a size."""
    size = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = struct.pack(">I", 13), size, struct.pack(">I", zlib.crc32(size))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts) + struct.pack(">I", 9) + b"IDAT")
    return path


@pytest.mark.parametrize("side", [11_586, 13_000, 60_000])
def test_a_field_past_the_stated_size_is_refused_before_it_is_read(tmp_path, side):
    path = png_header(tmp_path / "vast.png", side, side)
    with pytest.raises(GlioError, match=r"vast\.png: .* up to 134 million px; save it with tiles"):
        Slide(path)


def test_a_field_of_the_stated_size_is_not(tmp_path):
    """Its size is let pass; then it is found to be cut."""
    assert 11_585**2 <= field.LARGEST_PX < 11_586**2
    path = png_header(tmp_path / "cut.png", 11_585, 11_585)
    with pytest.raises(GlioError, match=r"cut\.png: damaged or truncated"):
        Slide(path)


@pytest.mark.parametrize("share", [0.02, 0.3, 0.8, 0.99])
@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "tif"])
def test_a_truncated_field_is_refused(tmp_path, suffix, share):
    whole = saved(tmp_path / f"whole.{suffix}")
    path = slides.truncated(tmp_path / f"cut.{suffix}", whole, share)
    with pytest.raises(GlioError, match=r"cut\..*: (damaged or truncated|not a slide)"):
        Slide(path)


def test_a_jpeg_of_which_others_would_show_grey_pixels_is_refused(tmp_path):
    path = saved(tmp_path / "field.jpg")
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 2] = b"\xff\xd9"  # the end of an image
    path.write_bytes(content)
    with Image.open(path) as image:
        image.load()  # without a word
    with pytest.raises(GlioError, match=r"field\.jpg: damaged or truncated"):
        Slide(path)


@pytest.mark.parametrize("tag", [tiff.WIDTH, tiff.LENGTH])
def test_a_field_whose_strips_do_not_make_up_its_size_is_refused(tmp_path, tag):
    path = saved(tmp_path / "liar.tif")
    content = bytearray(path.read_bytes())
    with tifffile.TiffFile(path) as file:
        entry = file.pages[0].tags[tag]
        struct.pack_into({3: "<H", 4: "<I"}[entry.dtype], content, entry.valueoffset, 9000)
    path.write_bytes(content)
    with pytest.raises(GlioError, match=r"liar\.tif: (damaged|not a slide)"):
        Slide(path)


def test_of_several_images_none_is_guessed(tmp_path):
    path = tmp_path / "stack.tif"
    with tifffile.TiffWriter(path) as file:
        for _ in range(3):
            file.write(PIXELS, photometric="rgb", metadata=None)
    with pytest.raises(GlioError, match=r"stack\.tif: holds 3 images; save the one to measure"):
        Slide(path)


def test_a_smaller_copy_in_the_file_is_no_second_image(tmp_path):
    path = tmp_path / "preview.tif"
    with tifffile.TiffWriter(path) as file:
        file.write(PIXELS, photometric="rgb", metadata=None)
        file.write(PIXELS[::4, ::4], photometric="rgb", subfiletype=1, metadata=None)
    with Slide(path) as slide:
        np.testing.assert_array_equal(slide.overview(2048)[..., :3], PIXELS)


@pytest.mark.parametrize("kind", ["cmyk.jpg", "cmyk.tif", "grey16.png", "float.tif", "deep.tif"])
def test_what_is_not_in_eight_bits_of_colour_is_refused(tmp_path, kind):
    path = tmp_path / kind
    if kind.startswith("cmyk"):
        Image.fromarray(PIXELS).convert("CMYK").save(path)
    elif kind == "grey16.png":
        Image.fromarray(PIXELS[..., 0].astype(np.uint16) * 257).save(path)
    else:
        deep = PIXELS.astype(np.float32 if kind == "float.tif" else np.uint32)
        tifffile.imwrite(path, deep, photometric="rgb", metadata=None)
    with pytest.raises(GlioError, match=rf"{kind}: an image that is not read .*; save it as PNG"):
        Slide(path)


def test_a_slide_that_is_damaged_is_not_taken_for_a_field(tmp_path, small_slide):
    """Pillow would read the tiles of a TIFF as well, whatever OpenSlide finds wrong with it."""
    path = slides.truncated(tmp_path / "cut.svs", small_slide.path, 0.999)
    assert field.read_field(path) is None
    assert field.read_field(slides.text_file(tmp_path / "notes.png")) is None
