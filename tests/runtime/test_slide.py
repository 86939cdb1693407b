"""Slides are opened, measured and read; what is wrong with one is said in one line."""

from __future__ import annotations

import struct
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tifffile

import slides
from gliorun import demo
from gliorun.errors import GlioError, TileReadError, UsageError
from gliorun.reading.slide import MOST_FAILURES, UNREAD, Slide
from gliorun.reading.tiles import TileSpec


def spec(x: int, y: int, width: int = 480, height: int | None = None) -> TileSpec:
    return TileSpec(0, 0, x, y, width, height or width)


def test_a_missing_file_is_named(tmp_path):
    path = tmp_path / "gone.svs"
    with pytest.raises(GlioError, match=r"gone\.svs: no such file"):
        Slide(path)


@pytest.mark.skipif(sys.platform == "win32", reason="another way of forbidding")
def test_a_file_that_may_not_be_read_is_one_line(tmp_path):
    path = slides.text_file(tmp_path / "mine.svs")
    path.chmod(0)
    program = (
        "import os, sys; from pathlib import Path; from gliorun.reading.slide import Slide\n"
        "from gliorun.errors import GlioError\n"
        "os.getuid() or os.setuid(65534)\n"
        "try: Slide(Path(sys.argv[1]))\n"
        "except GlioError as error: print(error)"
    )
    for parent in (tmp_path, *tmp_path.parents[:3]):
        parent.chmod(0o755)
    done = subprocess.run(
        [sys.executable, "-c", program, path], capture_output=True, text=True, check=False
    )
    assert (
        done.stdout == f"{path}: cannot be read (Permission denied); check that you may read it\n"
    ), done.stderr


def test_a_text_file_is_no_slide(tmp_path):
    path = slides.text_file(tmp_path / "notes.svs")
    with pytest.raises(GlioError, match=r"notes\.svs: not a slide that OpenSlide can read"):
        Slide(path)


@pytest.mark.parametrize("share", [0.9, 0.5, 0.001])
def test_a_truncated_slide_is_refused(tmp_path, small_slide, share):
    path = slides.truncated(tmp_path / "cut.svs", small_slide.path, share)
    with pytest.raises(GlioError, match=r"cut\.svs: (damaged or truncated|not a slide)"):
        Slide(path)


def test_a_folder_without_dicom_is_no_slide(tmp_path):
    slides.text_file(tmp_path / "notes.dcm")
    with pytest.raises(GlioError, match="without a DICOM slide; name a slide, or --out-dir for a"):
        Slide(tmp_path)


def test_an_empty_file_is_called_empty(tmp_path):
    (tmp_path / "copied.svs").touch()
    with pytest.raises(GlioError, match=r"copied\.svs: is empty; copy it again"):
        Slide(tmp_path / "copied.svs")


def test_the_scale_comes_from_the_slide(small_slide):
    with Slide(small_slide.path) as slide:
        scale = slide.scale()
        assert slide.size_l0 == (1800, 1300)
    assert (scale.x_mpp, scale.y_mpp, scale.source) == (0.25, 0.25, "slide")


def test_the_scale_asked_for_goes_before_the_slide_s(small_slide):
    with Slide(small_slide.path) as slide:
        scale = slide.scale(0.5)
    assert (scale.x_mpp, scale.y_mpp, scale.source) == (0.5, 0.5, "--mpp")


def test_pixels_that_are_not_square_have_two_scales(tmp_path):
    path = slides.non_square(tmp_path / "oblong.tif", slides.all_tissue(512, 300), 0.25, 0.5)
    with Slide(path) as slide:
        scale = slide.scale()
    assert (scale.x_mpp, scale.y_mpp) == pytest.approx((0.25, 0.5), rel=1e-3)


def test_a_slide_without_a_scale_says_what_to_pass(tmp_path):
    path = tmp_path / "bare.svs"
    demo.write_slide(path, slides.all_tissue(300, 200), mpp=None, levels=1)
    with Slide(path) as slide:
        with pytest.raises(GlioError, match=r"bare\.svs: no micrometres per pixel; pass --mpp"):
            slide.scale()
        assert slide.scale(0.25).x_mpp == 0.25


@pytest.mark.parametrize("mpp", [9.0, 0.025])
def test_a_mad_scale_in_the_slide_is_refused(tmp_path, mpp):
    path = tmp_path / "mad.svs"
    demo.write_slide(path, slides.all_tissue(300, 200), mpp=mpp, levels=1)
    with (
        Slide(path) as slide,
        pytest.raises(GlioError, match=rf"mad\.svs: {mpp:g} micrometres per pixel.*pass --mpp"),
    ):
        slide.scale()


@pytest.mark.parametrize("mpp", [0.0, -0.25, 0.09, 4.01, float("nan"), float("inf")])
def test_a_mad_scale_asked_for_is_refused(small_slide, mpp):
    with (
        Slide(small_slide.path) as slide,
        pytest.raises(UsageError, match=r"mpp is .* per pixel"),
    ):
        slide.scale(mpp)


def test_reads_what_was_drawn(small_slide):
    with Slide(small_slide.path) as slide:
        tile = slide.read(spec(640, 320), 480)
    drawn = small_slide.tissue.pixels[320:800, 640:1120].astype(int)
    assert tile.shape == (480, 480, 4)
    assert tile.dtype == np.uint8
    assert (tile[..., 3] == 255).all()
    assert np.abs(tile[..., :3] - drawn).mean() < 6  # JPEG, chroma halved
    assert abs((tile[..., :3] - drawn).mean()) < 1


def test_outside_the_slide_is_transparent(small_slide):
    with Slide(small_slide.path) as slide:
        tile = slide.read(spec(1720, 960), 480)
        beyond = slide.read(spec(5000, 5000), 480)
    assert (tile[:340, :80, 3] == 255).all()
    assert (tile[340:, :, 3] == 0).all()
    assert (tile[:, 80:, 3] == 0).all()
    assert not beyond.any()


def test_a_slide_smaller_than_a_tile_is_read_with_its_surroundings_transparent(tmp_path):
    path = tmp_path / "tiny.svs"
    demo.write_slide(path, slides.all_tissue(200, 120), levels=1)
    with Slide(path) as slide:
        tile = slide.read(spec(0, 0), 480)
        assert slide.overview(2048).shape == (120, 200, 4)
    assert (tile[:120, :200, 3] == 255).all()
    assert (tile[..., 3] == 255).sum() == 120 * 200


def test_a_20x_tile_is_enlarged_to_the_model_s_side(small_slide):
    with Slide(small_slide.path) as slide:
        full = slide.read(spec(640, 320, 240), 240)
        enlarged = slide.read(spec(640, 320, 240), 480)
    assert enlarged.shape == (480, 480, 4)
    shrunk = enlarged.reshape(240, 2, 240, 2, 4).mean(axis=(1, 3))
    assert np.abs(shrunk - full).mean() < 3


def test_a_tile_much_larger_than_the_model_s_is_read_from_the_pyramid(small_slide):
    with Slide(small_slide.path) as slide:
        tile = slide.read(spec(0, 0, 960), 240)
    drawn = small_slide.tissue.pixels[:960, :960].reshape(240, 4, 240, 4, 3).mean(axis=(1, 3))
    assert np.abs(tile[..., :3] - drawn).mean() < 4


def test_the_overview_read_in_blocks_is_the_slide_made_small(tmp_path):
    pixels = slides.all_tissue(2500, 2100, density=0.2)
    path = tmp_path / "wide.svs"
    demo.write_slide(path, pixels, levels=1)  # one level: more than one block is read
    with Slide(path) as slide:
        overview = slide.overview(500)
    assert overview.shape == (420, 500, 4)
    assert (overview[..., 3] == 255).all()
    drawn = pixels.reshape(420, 5, 500, 5, 3).mean(axis=(1, 3))
    assert np.abs(overview[..., :3] - drawn).mean() < 4


@pytest.fixture
def damaged(tmp_path, small_slide):
    """A slide whose second JPEG tile of the first row of level 0 cannot be decoded."""
    return slides.with_bad_jpeg(tmp_path / "damaged.svs", small_slide.path, [(1, 0)])


def test_a_tile_that_cannot_be_decoded_raises_and_names_its_place(damaged):
    with (
        Slide(damaged) as slide,
        pytest.raises(TileReadError, match=r"damaged\.svs: at \(300, 0\)"),
    ):
        slide.read(spec(300, 0), 480)


def test_after_a_read_error_the_slide_is_read_on(damaged, small_slide):
    with Slide(small_slide.path) as slide:
        whole = slide.read(spec(640, 320), 480)
    with Slide(damaged) as slide:
        for _ in range(3):
            with pytest.raises(TileReadError):
                slide.read(spec(0, 0), 480)
            np.testing.assert_array_equal(slide.read(spec(640, 320), 480), whole)


def test_sound_tiles_are_read_while_other_threads_meet_errors(damaged, small_slide):
    with Slide(small_slide.path) as slide:
        whole = slide.read(spec(640, 320), 480)
    start = threading.Barrier(4)

    def read_many(bad: bool) -> int:
        start.wait()
        errors = 0
        for _ in range(10):
            try:
                tile = slide.read(spec(0, 0) if bad else spec(640, 320), 480)
            except TileReadError:
                errors += 1
            else:
                np.testing.assert_array_equal(tile, whole)
        return errors

    with Slide(damaged) as slide, ThreadPoolExecutor(4) as pool:
        assert list(pool.map(read_many, [True, False, True, False])) == [10, 0, 10, 0]


def test_the_overview_of_a_damaged_slide_shows_what_can_be_read(damaged, small_slide):
    with Slide(small_slide.path) as slide:
        whole = slide.overview(1800)
    with Slide(damaged) as slide:
        overview = slide.overview(1800)
    np.testing.assert_array_equal(overview[600:], whole[600:])


def test_a_slide_that_is_damaged_all_over_is_not_opened_anew_for_every_pixel(tmp_path, monkeypatch):
    pixels = slides.all_tissue(1500, 1500)
    whole = slides.tiled_tiff(tmp_path / "whole.tif", pixels, "deflate")
    every = [(column, row) for column in range(6) for row in range(6)]
    damaged = slides.with_bad_jpeg(tmp_path / "damaged.tif", whole, every)
    with Slide(damaged) as slide:
        opened = []
        open_anew = slide._open
        monkeypatch.setattr(slide, "_open", lambda: opened.append(1) or open_anew())
        overview = slide.overview(1500)
    assert (overview[..., 3] == UNREAD).all()
    assert MOST_FAILURES <= len(opened) < 2 * MOST_FAILURES


@pytest.mark.parametrize("named", ["folder", "file"])
def test_a_dicom_slide_is_read_by_its_folder_or_a_file_of_it(tmp_path, named):
    drawn = slides.all_tissue(1300, 900)
    folder = slides.dicom(tmp_path / "Schnitt 1 – é", drawn)
    with Slide(folder if named == "folder" else folder / "level0.dcm") as slide:
        assert slide.size_l0 == (1300, 900)
        assert slide.scale().x_mpp == pytest.approx(0.25)
        pixels = slide.read(spec(480, 0), 480)
    assert (pixels[..., 3] == 255).all()
    assert np.abs(pixels[..., :3].astype(int) - drawn[:480, 480:960]).mean() < 5


def test_a_folder_of_two_dicom_slides_is_refused(tmp_path):
    folder = slides.dicom(tmp_path / "one", slides.all_tissue(600, 300))
    other = slides.dicom(tmp_path / "two", slides.all_tissue(600, 300))
    (other / "level0.dcm").rename(folder / "other.dcm")
    with pytest.raises(GlioError, match="one: holds several DICOM slides"):
        Slide(folder)


@pytest.mark.parametrize("kind", ["width", "height"])
def test_a_slide_whose_tiles_do_not_make_up_its_size_is_refused(tmp_path, small_slide, kind):
    path = tmp_path / "liar.svs"
    content = bytearray(small_slide.path.read_bytes())
    code = {"width": 256, "height": 257}[kind]
    with tifffile.TiffFile(small_slide.path) as slide:
        tag = slide.pages[0].tags[code]
        struct.pack_into({3: "<H", 4: "<I"}[tag.dtype], content, tag.valueoffset, 1000)
    path.write_bytes(content)
    with pytest.raises(GlioError, match=r"liar\.svs: damaged: .* the file lists 48"):
        Slide(path)


def test_a_small_cache_changes_no_pixel(small_slide):
    with Slide(small_slide.path, cache_mb=1) as slide, Slide(small_slide.path) as wanted:
        for x in (0, 240, 480):
            np.testing.assert_array_equal(
                slide.read(spec(x, 100), 480), wanted.read(spec(x, 100), 480)
            )


def test_the_bounds_are_what_was_scanned_and_all_of_a_slide_that_names_none(tmp_path, small_slide):
    path = slides.mrxs(tmp_path / "a.mrxs", slides.all_tissue(512, 256), before=(3, 1))
    with Slide(path) as slide:
        assert slide.size_l0 == (1280, 512)
        assert slide.bounds_l0 == (768, 256, 1280, 512)
    with Slide(small_slide.path) as slide:
        assert slide.bounds_l0 == (0, 0, 1800, 1300)
