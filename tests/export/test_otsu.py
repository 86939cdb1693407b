"""The plain baseline finds what is plain to see."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from glioexport.otsu import haematoxylin_otsu
from gliorun import demo
from gliorun.agreement import dice

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
    found = haematoxylin_otsu(painted(wanted, BLUE))
    assert found.shape == wanted.shape
    assert found.dtype == np.uint8
    assert set(np.unique(found)) == {0, 1}
    assert dice(found, wanted.astype(np.uint8)) > 0.95


def test_drops_specks_smaller_than_the_opening() -> None:
    wanted = discs(CENTRES, 12)
    specks = discs(((120, 20), (70, 140), (15, 80)), 2)
    found = haematoxylin_otsu(painted(wanted | specks, BLUE))
    assert not found[specks].any()
    assert dice(found, wanted.astype(np.uint8)) > 0.95


def test_takes_blue_for_a_nucleus_and_not_dark_red() -> None:
    blue, red = discs(CENTRES[:3], 12), discs(CENTRES[3:], 12)
    pixels = painted(blue, BLUE)
    pixels[red] = DARK_RED
    found = haematoxylin_otsu(pixels)
    assert found[blue].mean() > 0.9
    assert found[red].mean() < 0.1


def test_agrees_with_drawn_tissue() -> None:
    tissue = demo.draw_tissue(np.full((200, 320), 0.2, np.float32), seed=2)
    assert dice(haematoxylin_otsu(tissue.pixels), tissue.nuclei) > 0.8
