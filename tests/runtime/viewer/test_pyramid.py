"""The slide as pictures at every zoom."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

import slides
from gliorun import demo
from gliorun.errors import GlioError
from gliorun.measuring.survey import survey
from gliorun.reading.slide import Slide
from gliorun.settings import Settings
from gliorun.viewer import pyramid
from gliorun.viewer.pyramid import SIDE_PX, Pyramid


def opened(slide, card, **settings):
    return Pyramid(survey(slide, card, Settings(**settings)))


def pixels(jpeg):
    return np.asarray(Image.open(io.BytesIO(jpeg))).astype(int)


def test_pictures_of_a_zoom_are_the_slide_in_its_place(small_slide, card):
    with Slide(small_slide.path) as slide:
        pictures = opened(slide, card)
        drawn = small_slide.tissue.pixels.astype(int)
        whole = pixels(pictures.picture(0, 1, 1))
        assert whole.shape == (SIDE_PX, SIDE_PX, 3)
        assert np.abs(whole - drawn[512:1024, 512:1024]).mean() < 4
        half = pixels(pictures.picture(1, 0, 0))
        wanted = drawn[:1024, :1024].reshape(512, 2, 512, 2, 3).mean(axis=(1, 3))
        assert np.abs(half - wanted).mean() < 4
        assert pictures.zooms == (0, 1, 2)


def test_what_lies_off_the_slide_is_white_and_farther_off_there_is_no_picture(small_slide, card):
    with Slide(small_slide.path) as slide:
        pictures = opened(slide, card)
        corner = pixels(pictures.picture(0, 3, 2))
        assert corner[1300 - 1024 + 8 :].min() >= 250
        for place in ((0, 4, 0), (0, 0, 3), (9, 0, 0), (0, 10**9, 10**9)):
            assert pictures.picture(*place) is None
        assert pictures.picture(0, 0, 0, lambda: False) is None


def test_of_a_slide_without_smaller_copies_no_picture_takes_more_than_16_million_px(tmp_path, card):
    path = tmp_path / "flat.svs"
    demo.write_slide(path, slides.all_tissue(9000, 600), levels=1)
    with Slide(path) as slide:
        pictures = opened(slide, card)
        assert pictures.zooms == (0, 1, 2, 3)


def test_pixels_that_are_no_squares_are_shown_as_squares(tmp_path, card):
    path = slides.tiled_tiff(tmp_path / "a.tif", slides.all_tissue(2000, 1000), "jpeg")
    with Slide(path) as slide:
        slide._properties = dict(slide.properties) | {"openslide.mpp-y": "0.5"}
        pictures = opened(slide, card)
        assert pixels(pictures.picture(0, 0, 0)).shape == (SIDE_PX, SIDE_PX, 3)
        grid = pictures._grids[0]
        assert (grid.columns, grid.rows) == (4, 4)  # 512 px of 0.25 µm are 256 px of 0.5 µm


def test_what_is_kept_is_bounded(small_slide, card, monkeypatch):
    monkeypatch.setattr(pyramid, "CACHE_BYTES", 300_000)
    with Slide(small_slide.path) as slide:
        pictures = opened(slide, card)
        for _ in range(2):
            for column in range(4):
                for row in range(3):
                    pictures.picture(0, column, row)
        assert 0 < pictures._bytes <= 300_000
        assert pictures._bytes == sum(map(len, pictures._kept.values()))


def test_a_slide_that_has_gone_is_a_sentence(tmp_path, card):
    whole = tmp_path / "w.svs"
    demo.write_slide(whole, slides.all_tissue(1500, 1500), levels=1)
    path = slides.with_bad_jpeg(tmp_path / "a.svs", whole, [(0, 0)])
    with Slide(path) as slide:
        pictures = opened(slide, card)
        with pytest.raises(GlioError, match=r"a\.svs: a part of the slide cannot be read"):
            pictures.picture(0, 0, 0)
        path.unlink()
        with pytest.raises(GlioError, match=r"a\.svs: the slide is no longer where it was"):
            pictures.picture(0, 0, 0)
