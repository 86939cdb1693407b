"""A scale that no microscope has is refused; one that contradicts the slide is a warning."""

from __future__ import annotations

from pathlib import Path

import pytest

import batches
import runs
import slides
from gliorun import demo
from gliorun.errors import GlioError
from gliorun.reading.scale import Scale, check_scale, objective_power
from gliorun.settings import Settings

SLIDE = Path("a.svs")
CONTRADICTS = "0.5 µm/px and an objective of 40x contradict each other (0.25 µm/px is usual)"


def warned(scale: Scale, **properties: str) -> list[str]:
    """Return the warnings for a slide of a scale and what it says of itself."""
    named = {f"openslide.{name.replace('_', '-')}": text for name, text in properties.items()}
    return list(check_scale(SLIDE, named, scale, 0.25))


def square(mpp: float) -> Scale:
    return Scale(mpp, mpp, "slide")


def relabelled(path: Path, before: bytes, after: bytes) -> Path:
    """Write a slide of 2 × 2 tiles at 0.25 µm/px and exchange some of its description."""
    demo.write_slide(path, slides.all_tissue(960, 960), levels=1)
    content = path.read_bytes()
    assert len(before) == len(after)
    assert content.count(before) == 1
    path.write_bytes(content.replace(before, after))
    return path


def test_a_scale_that_no_microscope_has_is_refused_in_one_line(tmp_path):
    slide = relabelled(tmp_path / "slip.svs", b"MPP = 0.25", b"MPP=0.0250")
    done = batches.type_in(slide, "--out", tmp_path / "a.csv")
    assert done.returncode == 1
    assert done.stderr == (
        f"gliorun: {slide}: 0.025 micrometres per pixel is not from 0.1 to 4.0; pass --mpp\n"
    )
    assert not (tmp_path / "a.csv").exists()


def test_a_scale_twice_that_of_the_objective_is_a_warning_of_the_result(tmp_path):
    slide = relabelled(tmp_path / "a.svs", b"MPP = 0.25", b"MPP = 0.50")
    (warning, coarse) = runs.dark_run(slide, Settings(threads=1)).warnings
    assert warning == f"{CONTRADICTS}; pass --mpp if the scale is wrong"
    assert coarse.startswith("0.5 µm/px is coarser")


def test_pixels_twice_as_high_as_wide_are_a_warning_of_the_result(tmp_path):
    slide = slides.non_square(tmp_path / "a.tif", slides.all_tissue(960, 960), 0.2, 0.4)
    warnings = runs.dark_run(slide, Settings(threads=1)).warnings
    assert warnings[0] == (
        "0.2 µm/px along x and 0.4 along y: the pixels of a scanner are nearly square; "
        "pass --mpp if the slide is wrong"
    )


@pytest.mark.parametrize(("x_mpp", "y_mpp", "number"), [(0.25, 0.29, 0), (0.25, 0.31, 1)])
def test_pixels_may_be_a_fifth_wider_than_high(x_mpp, y_mpp, number):
    assert len(warned(Scale(x_mpp, y_mpp, "slide"))) == number
    assert len(warned(Scale(y_mpp, x_mpp, "slide"))) == number


@pytest.mark.parametrize(
    ("vendor", "power", "mpp"),
    [
        ("aperio", "40", 0.2525),
        ("aperio", "20", 0.499),
        ("aperio", "40", 0.2265),
        ("hamamatsu", "40", 0.2204),
        ("leica", "20", 0.5),
        ("ventana", "20", 0.465),
        ("mirax", "20", 0.2325),
        ("zeiss", "20", 0.22),
        ("zeiss", "40", 0.11),
        ("generic-tiff", "0", 0.25),
        ("generic-tiff", "nan", 0.25),
        ("generic-tiff", "inf", 0.25),
        ("generic-tiff", "x", 0.25),
    ],
)
def test_the_scanners_that_there_are_contradict_nothing(vendor, power, mpp):
    warnings = warned(square(mpp), vendor=vendor, objective_power=power)
    assert not [warning for warning in warnings if "objective" in warning]


@pytest.mark.parametrize(
    ("vendor", "power", "mpp"),
    [("aperio", "20", 0.25), ("aperio", "40", 0.5), ("mirax", "20", 0.1), ("leica", "5", 0.25)],
)
def test_a_scale_that_its_objective_does_not_give_is_told(vendor, power, mpp):
    (warning, *_) = warned(square(mpp), vendor=vendor, objective_power=power)
    assert f"{mpp:g} µm/px and an objective of {power}x contradict" in warning


def test_a_typed_scale_that_the_objective_does_not_give_is_told_as_typed():
    warnings = warned(Scale(0.5, 0.5, "--mpp"), vendor="aperio", objective_power="40")
    assert warnings[0] == f"{CONTRADICTS}; check --mpp"


def test_a_coarse_slide_is_refused_for_a_finer_model():
    with pytest.raises(GlioError, match=r"a\.svs: 0\.7 µm/px is too coarse to see nuclei"):
        warned(square(0.7))


def test_an_objective_that_is_no_number_is_none():
    assert objective_power({"openslide.objective-power": "forty"}) is None
