"""Pixels stay as they are, text is measured before it is set."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from gliorun.writers.page import MISSING, Page, printable, shorten, text_width, wrap

DPI = 200


def test_pixels_arrive_dot_for_dot(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (37, 53, 3), dtype=np.uint8)
    page = Page(101, 77, DPI)
    page.paint(11, 23, noise)
    page.save(tmp_path / "page.png")
    with Image.open(tmp_path / "page.png") as image:
        pixels = np.asarray(image)
        assert image.size == (101, 77)
        assert image.info["dpi"] == pytest.approx((DPI, DPI), rel=1e-3)
        assert image.info["Software"] == "gliorun"
    np.testing.assert_array_equal(pixels[23:60, 11:64], noise)
    pixels = pixels.copy()
    pixels[23:60, 11:64] = 255
    assert (pixels == 255).all()


def test_a_box_lies_where_it_is_told_from_the_top_left(tmp_path):
    page = Page(90, 70, DPI)
    page.box((10, 20, 40, 30), 0, "black", "black")
    page.save(tmp_path / "page.png")
    with Image.open(tmp_path / "page.png") as image:
        dark = np.asarray(image)[..., 0] < 128
    rows, columns = np.flatnonzero(dark.any(axis=1)), np.flatnonzero(dark.any(axis=0))
    assert rows[0] == pytest.approx(20, abs=1)
    assert rows[-1] == pytest.approx(29, abs=1)
    assert columns[0] == pytest.approx(10, abs=1)
    assert columns[-1] == pytest.approx(39, abs=1)


def test_bold_and_larger_text_is_wider():
    plain = text_width("Nucleus density", 9, DPI)
    assert text_width("Nucleus density", 9, DPI, bold=True) > plain
    assert text_width("Nucleus density", 18, DPI) == pytest.approx(2 * plain, rel=0.05)


def test_wrapped_lines_hold_every_word_and_fit():
    text = "Density is nucleus area over the area of the cell inside the slide."
    lines = wrap(text, 300, 9, DPI)
    assert " ".join(lines) == text
    assert len(lines) > 2
    assert all(text_width(line, 9, DPI) <= 300 for line in lines)


def test_a_word_too_long_for_a_line_stands_alone():
    assert wrap("a " + "b" * 99 + " c", 200, 9, DPI) == ["a", "b" * 99, "c"]
    assert wrap("", 200, 9, DPI) == []


def test_shortened_text_fits_and_keeps_both_ends():
    text = "TCGA-06-0125 " + "x" * 200 + " level 3.svs"
    short = shorten(text, 500, 9, DPI, bold=True)
    assert text_width(short, 9, DPI, bold=True) <= 500
    assert short.startswith("TCGA")
    assert short.endswith(".svs")
    assert shorten("short.svs", 500, 9, DPI) == "short.svs"


def test_what_no_font_can_draw_becomes_a_box():
    assert printable("a\nb\x00c") == f"a{MISSING}b{MISSING}c"
    assert printable("Glioma №7 µm² – $x$") == "Glioma №7 µm² – $x$"
    assert printable("\U0010fffd") == MISSING
