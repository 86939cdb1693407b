"""Masks and label images mean what their values say, however a program has saved them."""

from __future__ import annotations

from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image

from gliorun.reading.images import NO_IMAGE, read_labels, read_mask

MARKED = np.zeros((6, 8), bool)
MARKED[1:3, 2:7] = True
ORIENTATION = 0x0112


def with_table(colours: list[int], **save: object) -> tuple[Image.Image, dict[str, object]]:
    """Return the mask as indices 0 and 1 of a colour table."""
    image = Image.fromarray(MARKED.astype(np.uint8))
    image.putpalette(colours)
    return image, save


def channels(*values: tuple[int, int]) -> tuple[Image.Image, dict[str, object]]:
    """Return channels with one value where nothing is marked, another one where it is."""
    planes = [np.where(MARKED, marked, rest).astype(np.uint8) for rest, marked in values]
    return Image.fromarray(np.dstack(planes)), {}


WAYS = {
    "white and red, as QuPath exports labels": with_table([255, 255, 255, 200, 0, 0]),
    "black and black": with_table([0, 0, 0, 0, 0, 0]),
    "an index that is transparent": with_table([255, 0, 0, 255, 0, 0], transparency=0),
    "one bit": (Image.fromarray(MARKED), {}),
    "the lowest level": (Image.fromarray(MARKED.astype(np.uint8)), {}),
    "16 bits": (Image.fromarray(MARKED.astype(np.uint16)), {}),
    "a dark blue": channels((0, 0), (0, 0), (0, 2)),
    "white on a transparent ground": channels((255, 255), (255, 255), (255, 255), (0, 255)),
    "grey on a transparent ground": channels((90, 90), (0, 255)),
    "white on opaque black": channels((0, 255), (0, 255), (0, 255), (255, 255)),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_mask_says_the_same_in_every_way_to_save_it(tmp_path: Path, way: str) -> None:
    image, save = WAYS[way]
    image.save(tmp_path / "mask.png", **save)
    np.testing.assert_array_equal(read_mask(tmp_path / "mask.png"), MARKED)


def test_a_mask_of_probabilities_is_marked_from_the_least_of_them(tmp_path: Path) -> None:
    levels = np.where(MARKED, np.float32(0.9), np.float32(0))
    levels[0, 0], levels[0, 1], levels[1, 2] = np.nan, -1, 0.001
    Image.fromarray(levels).save(tmp_path / "mask.tif")
    np.testing.assert_array_equal(read_mask(tmp_path / "mask.tif"), MARKED)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_a_mask_is_turned_as_its_exif_says(tmp_path: Path, orientation: int, suffix: str) -> None:
    stored = {
        1: MARKED,
        2: MARKED[:, ::-1],
        3: MARKED[::-1, ::-1],
        4: MARKED[::-1],
        5: MARKED.T,
        6: np.rot90(MARKED),
        7: MARKED[::-1, ::-1].T,
        8: np.rot90(MARKED, -1),
    }[orientation]
    path = tmp_path / f"mask{suffix}"
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    Image.fromarray(stored.astype(np.uint8)).save(path, exif=exif)
    np.testing.assert_array_equal(read_mask(path), MARKED)


def test_labels_keep_their_values(tmp_path: Path) -> None:
    labels = np.arange(48, dtype=np.uint16).reshape(6, 8) * 900
    Image.fromarray(labels).save(tmp_path / "labels.png")
    np.testing.assert_array_equal(read_labels(tmp_path / "labels.png"), labels)


def test_what_pillow_would_cut_to_nothing_is_refused(tmp_path: Path) -> None:
    """Of 16 bits in several channels it keeps the upper eight, and a label of 1 is 0 in them."""
    colours = MARKED[..., None].repeat(3, axis=2).astype(np.uint16)
    (tmp_path / "mask.png").write_bytes(imagecodecs.png_encode(colours))
    with pytest.raises(NO_IMAGE, match="16 bits in several channels"):
        read_mask(tmp_path / "mask.png")


@pytest.mark.parametrize("dtype", [bool, np.uint8])
def test_a_mask_of_which_0_stands_for_white_is_not_inverted(tmp_path, dtype):
    """As tifffile writes an array of bool."""
    mask = np.zeros((20, 30), dtype)
    mask[3:8, 4:20] = 1
    path = tmp_path / "mask.tif"
    tifffile.imwrite(path, mask, photometric="miniswhite")
    np.testing.assert_array_equal(read_mask(path), mask > 0)
