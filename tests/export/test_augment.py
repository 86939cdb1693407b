"""Crops: the label follows the image, and one seed gives one crop."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from glioexport.augment import PLAIN, Augmentation, augment
from gliorun import demo
from gliorun.findings.agreement import dice

Pixels = NDArray[np.uint8]
SIDE = 48


def numbered(height: int, width: int) -> tuple[Pixels, Pixels]:
    """Return an image whose pixels are all different, levels 0 to 255, and a label to match."""
    number = np.arange(height * width).reshape(height, width)
    pixels = np.stack([number % 256, number // 256, 255 - number % 256], axis=-1)
    return pixels.astype(np.uint8), (number % 5 == 0).astype(np.uint8)


def painted(height: int = 150, width: int = 230) -> tuple[Pixels, Pixels]:
    """Return tissue whose nuclei are black and whose ground is light: the label is in it."""
    label = demo.draw_tissue(np.full((height, width), 0.25, np.float32), seed=3).nuclei
    pixels = np.where(label[..., None] > 0, 20, 200).astype(np.uint8)
    return np.repeat(pixels, 3, axis=-1), label


def drawn_crops(how: Augmentation, count: int, seed: int = 0) -> list[tuple[Pixels, Pixels]]:
    random = np.random.default_rng(seed)
    pixels, label = painted()
    return [augment(pixels, label, SIDE, how, random) for _ in range(count)]


def as_rows(image: Pixels) -> set[bytes]:
    return {row.tobytes() for row in image.reshape(-1, image.shape[-1])}


def test_plain_only_moves_pixels() -> None:
    pixels, label = numbered(80, 100)
    known = {
        pixel.tobytes(): value
        for pixel, value in zip(pixels.reshape(-1, 3), label.ravel(), strict=True)
    }
    random = np.random.default_rng(0)
    for _ in range(10):
        crop, nuclei = augment(pixels, label, SIDE, PLAIN, random)
        assert len(as_rows(crop)) == SIDE**2  # each pixel once
        assert as_rows(crop) <= set(known)
        for pixel, value in zip(crop.reshape(-1, 3), nuclei.ravel(), strict=True):
            assert known[pixel.tobytes()] == value


def test_plain_draws_all_eight_turns_and_flips() -> None:
    pixels, label = numbered(SIDE, SIDE)
    random = np.random.default_rng(1)
    turned = {augment(pixels, label, SIDE, PLAIN, random)[1].tobytes() for _ in range(100)}
    assert len(turned) == 8


def test_plain_crops_reach_every_part_of_the_tile() -> None:
    label = np.zeros((100, 130), dtype=np.uint8)
    pixels = np.zeros((100, 130, 3), dtype=np.uint8)
    for corner in np.s_[:2, :2], np.s_[:2, -2:], np.s_[-2:, :2], np.s_[-2:, -2:]:
        only = label.copy()
        only[corner] = 1
        random = np.random.default_rng(2)
        assert any(augment(pixels, only, 96, PLAIN, random)[1].any() for _ in range(600))


@pytest.mark.parametrize("scale", [1.0, 1.35, 2.0])
def test_the_label_follows_the_image_through_scale_turn_and_flip(scale: float) -> None:
    for crop, label in drawn_crops(replace(PLAIN, scale=scale), 40):
        assert crop.shape == (SIDE, SIDE, 3)
        assert label.shape == (SIDE, SIDE)
        assert crop.dtype == label.dtype == np.uint8
        assert set(np.unique(label)) <= {0, 1}
        assert dice((crop[..., 0] < 110).astype(np.uint8), label) > 0.95
        if label.mean() > 0.1:  # the measure sees a label that did not turn along
            assert dice((crop[..., 0] < 110).astype(np.uint8), label[::-1]) < 0.9


def test_the_label_follows_the_image_through_every_variation() -> None:
    calm = replace(Augmentation(), blur_share=0.0)
    for crop, label in drawn_crops(calm, 40):
        grey = crop.astype(float).mean(axis=-1)
        if 0.05 < label.mean() < 0.95:
            middle = (grey[label == 1].mean() + grey[label == 0].mean()) / 2
            assert dice((grey < middle).astype(np.uint8), label) > 0.93


def test_scale_zooms_both_in_and_out_and_not_further_than_asked() -> None:
    ramp = np.tile(np.arange(200, dtype=np.uint8)[:, None, None], (1, 200, 3))
    label = np.zeros((200, 200), dtype=np.uint8)
    random = np.random.default_rng(3)
    how = replace(PLAIN, scale=1.5)
    spans = []
    for _ in range(200):
        crop, _ = augment(ramp, label, 64, how, random)
        spans.append((int(crop.max()) - int(crop.min()) + 1) / 64)
    assert min(spans) == pytest.approx(1 / 1.5, abs=0.08)
    assert max(spans) == pytest.approx(1.5, abs=0.08)


def test_colours_vary_but_the_label_does_not() -> None:
    how = replace(Augmentation(), scale=1.0, blur_share=0.0, noise_share=0.0, jpeg_share=0.0)
    means = np.array([crop.mean(axis=(0, 1)) for crop, _ in drawn_crops(how, 40)])
    plain = np.array([crop.mean(axis=(0, 1)) for crop, _ in drawn_crops(PLAIN, 40)])
    assert np.ptp(means[:, 0] - means[:, 2]) > 20
    assert np.ptp(plain[:, 0] - plain[:, 2]) == 0


def test_the_same_seed_gives_the_same_crop_and_another_seed_another() -> None:
    first, second, other = (drawn_crops(Augmentation(), 5, seed) for seed in (4, 4, 5))
    for (crop, label), (crop_again, label_again) in zip(first, second, strict=True):
        np.testing.assert_array_equal(crop, crop_again)
        np.testing.assert_array_equal(label, label_again)
    assert any((ours[0] != theirs[0]).any() for ours, theirs in zip(first, other, strict=True))


def test_the_tile_itself_stays_as_it_was() -> None:
    pixels, label = painted()
    before = pixels.copy(), label.copy()
    random = np.random.default_rng(6)
    for _ in range(10):
        augment(pixels, label, SIDE, Augmentation(), random)
    np.testing.assert_array_equal(pixels, before[0])
    np.testing.assert_array_equal(label, before[1])


@pytest.mark.parametrize(("height", "width"), [(30, 100), (100, 30), (30, 30), (5, 7)])
def test_a_tile_smaller_than_the_crop_is_mirrored(height: int, width: int) -> None:
    value = np.random.default_rng(7).integers(0, 2, (height, width)).astype(np.uint8)
    pixels = np.repeat(value[..., None] * 255, 3, axis=-1).astype(np.uint8)
    crop, label = augment(pixels, value, SIDE, PLAIN, np.random.default_rng(8))
    assert crop.shape == (SIDE, SIDE, 3)
    np.testing.assert_array_equal(crop[..., 0] > 127, label == 1)
    small = min(height, width)
    if height == width == small:  # nothing is free: the first mirrored line is the last true one
        turns = [np.rot90(value, k)[:, ::step] for k in range(4) for step in (1, -1)]
        colours = {
            label[top : top + small, left : left + small].tobytes()
            for top in (0, SIDE - small)
            for left in (0, SIDE - small)
        }
        assert colours & {np.ascontiguousarray(turn).tobytes() for turn in turns}
    assert 0 < label.mean() < 1  # mirrored, not filled with one value
