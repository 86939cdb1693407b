"""Cut tiles for calibrating a converted model, and others for comparing it with Keras."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from glioexport.dataset import IMAGE_SUFFIXES, Entry, read_index, read_rgba, stain_statistics
from gliorun import demo
from gliorun.errors import GlioError
from gliorun.measuring import colour
from gliorun.model.card import ModelCard
from gliorun.model.stainstatistic import StainStatistic
from gliorun.reading.scale import SAME_SCALE
from gliorun.reading.windows import windows

Pixels = NDArray[np.uint8]
T = TypeVar("T")

CALIBRATION_WINDOWS = 24
COMPARISON_WINDOWS = 36
"""Most windows to compare; with 36, one changed class is still within the tolerance of 97 %."""
WINDOWS_A_TILE = 4
GREEN_OVER_RED, GREEN_OVER_BLUE = 1.1, 1.1
"""Haematoxylin and eosin both absorb green most: least ratios of the median optical densities.
Of 149 tiles of six sources 147 lie above; a grey picture has 1, a brown stain less over blue."""


@dataclass(frozen=True, slots=True)
class CheckTiles:
    """Colour-normalised windows of the network's size, for calibration and for comparison."""

    calibration: list[Pixels]
    comparison: list[Pixels]
    source: str


def load_check_tiles(
    folder: Path | None, card: ModelCard, *, any_stain: bool = False
) -> CheckTiles:
    """Cut windows from labelled tiles, from a folder of images, or from synthetic tissue.

    With an `index.csv`, the split `train` calibrates and `val` compares, at the card's scale;
    otherwise images take turns.

    Raises
    ------
    GlioError
        The folder holds no image that can be used, or not images of haematoxylin and eosin
        (unless `any_stain`).
    """
    side = card.tile_px
    if folder is None:
        images = [
            demo.draw_tissue(demo.demo_density(2 * side, 3 * side), seed).pixels for seed in (0, 1)
        ]
        first, second = ([*windows(image, side)] for image in images)
        return CheckTiles(first, second, "synthetic tissue (pass --tiles for real ones)")
    entries, chosen = _entries(folder, card)
    if not all(chosen):
        raise GlioError(f"{folder}: needs at least two images, one to calibrate, one to compare")
    statistics = stain_statistics(entries)
    if not any_stain:
        _check_stain(folder, entries, statistics)

    def cut(some: list[Entry], most: int) -> list[Pixels]:
        cut_windows: list[Pixels] = []
        for entry in _spread(some, most):
            table = colour.table_between(statistics.get(entry.stain_group), card.colour_target)
            pixels, _ = colour.normalise(read_rgba(entry.image), table)
            cut_windows += islice(
                windows(_at_scale(pixels, entry.mpp / card.mpp), side), WINDOWS_A_TILE
            )
        return _spread(cut_windows, most)

    return CheckTiles(
        cut(chosen[0], CALIBRATION_WINDOWS), cut(chosen[1], COMPARISON_WINDOWS), folder.name
    )


def check_folder(folder: Path) -> None:
    """Refuse what is no folder.

    Raises
    ------
    GlioError
        There is none of that name.
    """
    if not folder.is_dir():
        raise GlioError(f"{folder}: no such folder of tiles; check its name")


def _entries(folder: Path, card: ModelCard) -> tuple[list[Entry], list[list[Entry]]]:
    """Return all images of a folder, and those to calibrate and to compare on."""
    if (folder / "index.csv").is_file():
        entries = read_index(folder)
        return entries, [[e for e in entries if e.split == split] for split in ("train", "val")]
    check_folder(folder)
    files = sorted(file for file in folder.iterdir() if file.suffix.lower() in IMAGE_SUFFIXES)
    entries = [Entry("", file.stem, "", "", "", file, file, card.mpp) for file in files]
    return entries, [entries[::2], entries[1::2]]


def _check_stain(folder: Path, entries: list[Entry], statistics: dict[str, StainStatistic]) -> None:
    """Raise GlioError unless at least half of the stain groups look like H&E."""
    groups = {entry.stain_group for entry in entries}
    fitting = sum(map(_like_h_and_e, statistics.values()))
    if 2 * fitting < len(groups):
        raise GlioError(
            f"{folder}: not tiles of haematoxylin and eosin: of {len(groups)} slides or images "
            f"{len(groups) - len(statistics)} hold hardly any tissue and "
            f"{len(statistics) - fitting} have another colour; pass others, or --any-stain"
        )


def _like_h_and_e(statistic: StainStatistic) -> bool:
    """Tell whether tissue absorbs green most, as both stains do."""
    red, green, blue = statistic.ground
    return green > GREEN_OVER_RED * red and green > GREEN_OVER_BLUE * blue


def _at_scale(pixels: Pixels, factor: float) -> Pixels:
    """Resample (H, W, 3) pixels by `factor`, unless it is nearly 1."""
    if abs(factor - 1) <= SAME_SCALE:
        return pixels
    height, width = (max(1, round(side * factor)) for side in pixels.shape[:2])
    return np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC))


def _spread(items: list[T], most: int) -> list[T]:
    """Return up to `most` items, evenly spread over all."""
    places = np.linspace(0, len(items) - 1, min(most, len(items))).round().astype(int)
    return [items[place] for place in places]
