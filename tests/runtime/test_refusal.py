"""What OpenSlide does not open is called what it is, with what helps; each is written for it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image

import slides
from gliorun.errors import GlioError
from gliorun.reading.slide import Slide
from gliorun.reading.tiles import TileSpec

PIXELS = slides.all_tissue(600, 520)


def dicom(folder: Path, change: Callable[[pydicom.Dataset], None]) -> Path:
    """Write a DICOM slide that was changed, and return its file."""
    slides.dicom(folder / "case", PIXELS)
    file = folder / "case" / "level0.dcm"
    image = pydicom.dcmread(file)
    change(image)
    image.save_as(file, enforce_file_format=True)
    return file


def put(**values: object) -> Callable[[pydicom.Dataset], None]:
    return lambda image: [setattr(image, name, value) for name, value in values.items()]


def to_tomography(image: pydicom.Dataset) -> None:
    kind = pydicom.uid.CTImageStorage
    image.SOPClassUID = image.file_meta.MediaStorageSOPClassUID = kind


def to_jpeg_ls(image: pydicom.Dataset) -> None:
    image.file_meta.TransferSyntaxUID = pydicom.uid.JPEGLSLossless


REASONS = {
    "webp": "holds WebP, which OpenSlide does not read; save it with JPEG tiles",
    "jpegxl": "holds JPEG XL, which",
    "jpeg2000": "holds JPEG 2000, which",
    "aperio_jp2000_rgb": "holds JPEG 2000, which",
    "jpegxr": "holds JPEG XR, which",
    "lzma": "holds LZMA, which",
}


@pytest.mark.parametrize("compression", REASONS)
def test_a_compression_that_openslide_does_not_know_is_named(tmp_path, compression):
    path = slides.tiled_tiff(tmp_path / "a.tif", PIXELS, compression)
    with pytest.raises(GlioError) as caught:
        Slide(path)
    assert str(caught.value).startswith(f"{path}: {REASONS[compression]}")
    assert "vips tiffsave" in str(caught.value)
    assert "copy it again" not in str(caught.value)


@pytest.mark.parametrize(
    ("write", "reason"),
    [
        (lambda at: slides.ventana(at / "a.bif", PIXELS), "a Ventana slide that does not say"),
        (lambda at: slides.ndpi(at / "a.ndpi", PIXELS, 2000), "an NDPI without the focal plane 0"),
        (
            lambda at: dicom(at, put(ImageType=["DERIVED", "PRIMARY"])),
            "DICOM without the image type that OpenSlide needs",
        ),
        (
            lambda at: dicom(at, put(ImageType=["ORIGINAL", "PRIMARY", "LABEL", "NONE"])),
            "DICOM of no slide, such as a label or an overview",
        ),
        (lambda at: dicom(at, to_tomography), "DICOM that is of no whole slide"),
        (lambda at: dicom(at, to_jpeg_ls), "DICOM compressed in a way that OpenSlide does not"),
    ],
)
def test_a_file_is_called_what_it_is(tmp_path, write, reason):
    path = write(tmp_path)
    with pytest.raises(GlioError) as caught:
        Slide(path)
    assert str(caught.value).startswith(f"{path}: {reason}")
    assert "\n" not in str(caught.value)


def test_an_ndpi_of_the_focal_plane_0_is_read(tmp_path):
    with Slide(slides.ndpi(tmp_path / "a.ndpi", PIXELS, 0)) as slide:
        assert slide.size_l0 == (600, 520)
        assert slide.scale().x_mpp == pytest.approx(0.25)


def test_of_a_folder_the_dicom_file_is_named_that_is_no_slide(tmp_path):
    file = dicom(tmp_path, put(ImageType=["DERIVED", "PRIMARY"]))
    with pytest.raises(GlioError) as caught:
        Slide(file.parent)
    assert str(caught.value).startswith(f"{file}: DICOM without the image type")


def test_an_mrxs_without_its_folder_is_told_so(tmp_path):
    path = slides.mrxs(tmp_path / "a.mrxs", PIXELS)
    shutil.rmtree(tmp_path / "a")
    with pytest.raises(GlioError, match=r"a\.mrxs: the folder a with its pixels is not beside it"):
        Slide(path)


def test_a_link_to_an_mrxs_is_followed_to_its_folder(tmp_path):
    path = slides.mrxs(tmp_path / "a.mrxs", PIXELS)
    (tmp_path / "links").mkdir()
    link = tmp_path / "links" / "b.mrxs"
    try:
        link.symlink_to(path)
    except OSError:
        pytest.skip("no links here")
    spec = TileSpec(0, 0, 0, 0, 480, 480)
    with Slide(path) as slide, Slide(link) as linked:
        np.testing.assert_array_equal(linked.read(spec, 480), slide.read(spec, 480))


def test_an_mrxs_in_capitals_is_read_or_told_how_to_be_called(tmp_path):
    path = slides.mrxs(tmp_path / "a.mrxs", PIXELS).rename(tmp_path / "a.MRXS")
    if (tmp_path / "a.mrxs").exists():  # to a file system that does not tell them apart
        with Slide(path) as slide:
            assert slide.size_l0 == (512, 512)
        return
    with pytest.raises(GlioError, match=r"a\.MRXS: OpenSlide wants .*; rename it to a\.mrxs"):
        Slide(path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_a_pipe_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.svs")
    with pytest.raises(GlioError, match=r"a\.svs: is a pipe or a device and no file"):
        Slide(tmp_path / "a.svs")
    case = slides.dicom(tmp_path / "case", PIXELS)
    os.mkfifo(case / "b")  # OpenSlide would look into it for another part of the slide
    with pytest.raises(GlioError, match=r"case: beside it, b is a pipe or a device and no file"):
        Slide(case)


@pytest.mark.parametrize("kind", ["WEBP", "GIF", "JPEG2000"])
def test_a_picture_that_is_not_measured_is_called_by_its_format(tmp_path, kind):
    path = tmp_path / "field.img"
    Image.fromarray(PIXELS[:300, :300]).save(path, kind)
    with pytest.raises(GlioError, match=f"an image of the format {kind}, .* save it as PNG"):
        Slide(path)
