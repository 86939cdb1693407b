"""The plain baseline finds what is plain to see."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from glioexport.otsu import candidate_nuclei, haematoxylin_otsu
from gliorun import demo
from gliorun.findings.agreement import dice

PINK, BLUE, DARK_RED = (235, 170, 200), (70, 50, 130), (150, 40, 60)
CENTRES = ((40, 40), (40, 120), (90, 70), (100, 170), (25, 200))


def discs(centres: tuple[tuple[int, int], ...], radius: int) -> NDArray[np.bool_]:
    y, x = np.mgrid[0:130, 0:230]
    return np.any([np.hypot(y - top, x - left) < radius for top, left in centres], axis=0)


def painted(mask: NDArray[np.bool_], colour: tuple[int, int, int]) -> NDArray[np.uint8]:
    pixels = np.where(mask[..., None], np.array(colour), np.array(PINK)).astype(float)
    noise = np.random.default_rng(0).normal(0, 4, pixels.shape)
    return np.clip(pixels + noise, 0, 255).astype(np.uint8)


def test_finds_dark_blue_discs_on_pink() -> None:
    wanted = discs(CENTRES, 12)
    nuclei = haematoxylin_otsu(painted(wanted, BLUE))
    assert nuclei.shape == wanted.shape
    assert nuclei.dtype == np.uint8
    assert set(np.unique(nuclei)) == {0, 1}
    assert dice(nuclei, wanted.astype(np.uint8)) > 0.95


def test_drops_specks_smaller_than_the_opening() -> None:
    wanted = discs(CENTRES, 12)
    specks = discs(((120, 20), (70, 140), (15, 80)), 2)
    nuclei = haematoxylin_otsu(painted(wanted | specks, BLUE))
    assert not nuclei[specks].any()
    assert dice(nuclei, wanted.astype(np.uint8)) > 0.95


def test_takes_blue_for_a_nucleus_and_not_dark_red() -> None:
    blue, red = discs(CENTRES[:3], 12), discs(CENTRES[3:], 12)
    pixels = painted(blue, BLUE)
    pixels[red] = DARK_RED
    nuclei = haematoxylin_otsu(pixels)
    assert nuclei[blue].mean() > 0.9
    assert nuclei[red].mean() < 0.1


def test_agrees_with_drawn_tissue() -> None:
    tissue = demo.draw_tissue(np.full((200, 320), 0.2, np.float32), seed=2)
    assert dice(haematoxylin_otsu(tissue.pixels), tissue.nuclei) > 0.8


PALE_BLUE = (147, 117, 172)


def test_candidates_are_numbered_one_for_each_nucleus() -> None:
    wanted = discs(CENTRES, 12)
    nuclei = candidate_nuclei(painted(wanted, BLUE), 0.25)
    assert nuclei.shape == wanted.shape
    assert nuclei.dtype == np.int32
    assert set(np.unique(nuclei)) == set(range(6))
    assert {int(nuclei[centre]) for centre in CENTRES} == {1, 2, 3, 4, 5}
    assert dice((nuclei > 0).astype(np.uint8), wanted.astype(np.uint8)) > 0.93


def test_a_faint_nucleus_that_otsu_misses_is_a_candidate() -> None:
    dark, faint = discs(CENTRES[:4], 12), discs(CENTRES[4:], 12)
    pixels = painted(dark, BLUE)
    pixels[faint] = painted(faint, PALE_BLUE)[faint]
    assert haematoxylin_otsu(pixels)[faint].mean() < 0.1
    assert (candidate_nuclei(pixels, 0.25)[faint] > 0).mean() > 0.6


def test_nuclei_that_touch_are_split_and_a_long_one_is_not() -> None:
    pair = discs(((65, 60), (65, 82)), 12)
    y, x = np.mgrid[0:130, 0:230]
    long = ((y - 65) / 8) ** 2 + ((x - 170) / 24) ** 2 < 1
    nuclei = candidate_nuclei(painted(pair | long, BLUE), 0.25)
    assert nuclei.max() == 3
    assert nuclei[65, 60] != nuclei[65, 82]
    assert nuclei[65, 152] == nuclei[65, 188] != 0


def test_pale_chromatin_is_filled_and_a_wide_hole_is_not() -> None:
    small, wide = discs(((60, 60),), 16), discs(((60, 150),), 30)
    pixels = painted(small | wide, BLUE)
    for hole in (discs(((60, 60),), 5), discs(((60, 150),), 14)):
        pixels[hole] = PINK
    nuclei = candidate_nuclei(pixels, 0.25)
    assert nuclei[60, 60] > 0
    assert nuclei[60, 150] == 0


def test_specks_smaller_than_a_nucleus_are_no_candidates() -> None:
    wanted = discs(CENTRES, 12)
    specks = discs(((120, 20), (70, 140), (15, 80)), 4)  # 3 µm²
    assert candidate_nuclei(painted(wanted | specks, BLUE), 0.25).max() == len(CENTRES)


@pytest.mark.parametrize("factor", [0.5, 1.5])
def test_candidates_do_not_depend_on_the_scale_of_the_tile(factor: float) -> None:
    tissue = demo.draw_tissue(np.full((240, 320), 0.2, np.float32), seed=2)
    size = (round(320 * factor), round(240 * factor))
    resized = np.asarray(Image.fromarray(tissue.pixels).resize(size, Image.Resampling.BICUBIC))
    ours = candidate_nuclei(tissue.pixels, 0.25)
    theirs = candidate_nuclei(resized, 0.25 / factor)
    assert theirs.max() == pytest.approx(ours.max(), rel=0.1)
    assert (theirs > 0).mean() == pytest.approx((ours > 0).mean(), abs=0.01)


@pytest.mark.parametrize("level", [0, 128, 255])
def test_a_tile_of_one_colour_has_no_candidates(level: int) -> None:
    assert not candidate_nuclei(np.full((40, 60, 3), level, np.uint8), 0.25).any()


def test_finds_faint_nuclei_of_real_tiles_that_otsu_misses(shared_data: Path) -> None:
    """Of the faintest quarter of the labelled nuclei of a tile, most are at least half covered."""
    for tile in ("emory_gbm40/01", "tnbc_curie/tnbc04_hflipped", "tnbc_curie/tnbc26_hflipped"):
        pixels = np.asarray(Image.open(shared_data / "images" / f"{tile}.png").convert("RGB"))
        labels = np.asarray(Image.open(shared_data / "labels" / f"{tile}.png"))
        red = [pixels[..., 0][labels == n].mean() for n in range(1, labels.max() + 1)]
        faint = np.flatnonzero(red >= np.nanquantile(red, 0.75)) + 1

        def covered(mask: NDArray[np.bool_], labels=labels, faint=faint) -> float:
            return float(np.mean([mask[labels == n].mean() >= 0.5 for n in faint]))

        ours = covered(candidate_nuclei(pixels, 0.25) > 0)
        assert ours > 0.7
        assert ours > covered(haematoxylin_otsu(pixels) > 0) + 0.1
