"""Results of real runs on small slides, with a network of one line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gliorun.findings.hotspots import find_hot_spots
from gliorun.measuring.masks import MaskStore
from gliorun.measuring.survey import tile_grid
from gliorun.model.card import ModelCard
from gliorun.pipeline import measure
from gliorun.reading.slide import Slide
from gliorun.settings import Settings
from gliorun.writers.result import Result

CARD = ModelCard(
    "fake", tile_px=480, mpp=0.25, colour_target=None, weights_sha256="ab" * 32, precision="FP32"
)


def is_dark(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return (pixels[..., 0] < 120).astype(np.uint8)


def dark_run(
    path: Path,
    settings: Settings,
    segment: Callable[[NDArray[np.uint8]], NDArray[np.uint8]] = is_dark,
) -> Result:
    """Measure a slide, keep its masks and find its two densest fields of 0.01 mm²."""

    def predict(tiles):
        for tile in tiles:
            yield tile, segment(tile.pixels)

    with Slide(path) as slide:
        masks = MaskStore(tile_grid(slide, CARD, settings), CARD.tile_px)
        measured = measure(slide, CARD, predict, settings, keep=masks.add)
    density = measured.density
    hot_spots = find_hot_spots(density, measured.scale, area_mm2=0.01, count=2)
    return Result(path.name, measured, CARD, hot_spots, run={}, masks=masks)
