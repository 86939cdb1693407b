"""A stain that is not H&E is told; none of the labelled slides is."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path

import numpy as np
import pytest

from gliorun.measuring.scene import MOST_FOREIGN, foreign_share, warnings_of_scene
from gliorun.model.stainstatistic import StainStatistic

HAEMATOXYLIN = np.array([0.650, 0.704, 0.286])
EOSIN = np.array([0.072, 0.990, 0.105])
DAB = np.array([0.268, 0.570, 0.776])
GREEN = np.array([0.98, 0.13, 0.45])
WHITE = (255, 255, 255)
STAIN = StainStatistic((0.2, 0.5, 0.2), WHITE)


def tile(ground: np.ndarray, nuclei: np.ndarray, share: float = 0.25) -> np.ndarray:
    """A tile of 480 × 480 px: `nuclei` in the upper rows, `ground` below, with noise."""
    random = np.random.default_rng(1)
    density = np.broadcast_to(0.7 * ground, (480, 480, 3)).copy()
    density[: round(480 * share)] = 1.2 * nuclei
    light = 255 * np.exp(-density) + random.normal(0, 6, density.shape)
    rgba = np.full((480, 480, 4), 255, dtype=np.uint8)
    rgba[..., :3] = np.clip(light.round(), 0, 255)
    return rgba


def test_haematoxylin_and_eosin_pass() -> None:
    assert foreign_share([tile(EOSIN, HAEMATOXYLIN)], WHITE) < 0.01
    assert foreign_share([tile(HAEMATOXYLIN, HAEMATOXYLIN)], WHITE) < 0.01
    assert not list(warnings_of_scene([tile(EOSIN, HAEMATOXYLIN)], STAIN, 9_000))


@pytest.mark.parametrize(
    "image",
    [
        tile(DAB, HAEMATOXYLIN),
        tile(HAEMATOXYLIN, DAB, share=0.3),
        tile(GREEN, HAEMATOXYLIN),
    ],
    ids=["brown ground", "brown nuclei", "green ground"],
)
def test_another_stain_is_told(image: np.ndarray) -> None:
    (warning,) = warnings_of_scene([image], STAIN, 9_000)
    assert "H&E does not have" in warning


def test_a_slide_without_any_nucleus_is_told() -> None:
    (warning,) = warnings_of_scene([tile(EOSIN, EOSIN)] * 3, STAIN, 0)
    assert warning.startswith("hardly any nucleus found in the sampled tiles (0.00 %")
    assert not list(warnings_of_scene([tile(EOSIN, EOSIN)] * 3, STAIN, None))


def test_glass_and_transparent_pixels_have_no_colour() -> None:
    glass = np.full((480, 480, 4), 250, dtype=np.uint8)
    glass[..., 3] = 255
    assert foreign_share([glass], WHITE) == 0
    brown = tile(DAB, DAB)
    brown[..., 3] = 0
    assert foreign_share([brown], WHITE) == 0
    assert foreign_share([], WHITE) == 0


def test_grey_glass_is_no_colour() -> None:
    """The level of the glass is taken off first: a yellowish lamp is no brown stain."""
    lamp = np.array([1.0, 0.9, 0.5])
    yellowish = tile(EOSIN, HAEMATOXYLIN)
    yellowish[..., :3] = (yellowish[..., :3] * lamp).round()
    assert foreign_share([yellowish], (255, 230, 128)) < 0.01
    assert foreign_share([yellowish], WHITE) > MOST_FOREIGN


@pytest.mark.release
def test_no_labelled_slide_is_told(shared_data: Path) -> None:
    from glioexport.dataset import read_index, read_rgba, stain_statistics

    entries = sorted(read_index(shared_data), key=lambda entry: entry.stain_group)
    statistics = stain_statistics(entries)
    shares = {}
    for group, of_slide in groupby(entries, key=lambda entry: entry.stain_group):
        if group in statistics:
            images = [read_rgba(entry.image) for entry in of_slide]
            shares[group] = foreign_share(images, statistics[group].white)
    assert len(shares) > 280
    told = {group: share for group, share in shares.items() if share > MOST_FOREIGN}
    assert not told
