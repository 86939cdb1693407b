"""Results of real runs on small slides, with a network of one line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gliorun.findings.hotspots import find_hot_spots
from gliorun.measuring.survey import survey
from gliorun.model.card import ModelCard
from gliorun.pipeline import Accumulator, Predict, doubts, measure
from gliorun.reading.slide import Slide
from gliorun.settings import Settings
from gliorun.sliderun import mask_store
from gliorun.writers.result import Result

OF_MASKS = {"nucleus_level": 1, "inner_level": 1, "outer_level": 1}
"""Entries of the card of a network that gives masks of 0 and 1."""
CARD = ModelCard(
    "fake",
    tile_px=480,
    mpp=0.25,
    colour_target=None,
    weights_sha256="ab" * 32,
    precision="FP32",
    **OF_MASKS,
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

    return measured_slide(path, CARD, predict, settings, hot_spot_mm2=0.01)


def measured_slide(
    path: Path,
    card: ModelCard,
    predict: Predict,
    settings: Settings,
    *others: Accumulator,
    hot_spot_mm2: float = 1.0,
) -> Result:
    """Measure a slide with any network, keep its masks and find its two densest fields."""
    with Slide(path) as slide:
        surveyed = survey(slide, card, settings)
        density, masks = surveyed.fine_map(), mask_store(surveyed)
        stain = measure(surveyed, predict, surveyed.chosen, [masks, density, *others])
        warnings = doubts(surveyed, density, stain)
    hot_spots = find_hot_spots(density, surveyed.scale, area_mm2=hot_spot_mm2, count=2)
    return Result(
        path.name,
        surveyed.cells_of(density),
        surveyed.scale,
        surveyed.tissue,
        surveyed.overview,
        card,
        hot_spots,
        warnings,
        masks=masks,
    )
