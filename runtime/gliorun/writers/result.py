"""What every writer gets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gliorun.findings.hotspots import HotSpot
from gliorun.findings.nuclei import NucleusCounts
from gliorun.measuring.masks import MaskStore
from gliorun.model.card import ModelCard
from gliorun.pipeline import SlideDensity


@dataclass(frozen=True, slots=True, eq=False)
class Result:
    """One run of one slide.

    `run` is the run record as plain JSON values (versions, hashes, settings, counts, seconds).
    `masks` holds the nucleus masks of the tiles if an output asked for them, `counts` the nuclei
    of each cell if they were counted.
    """

    slide_name: str
    measured: SlideDensity
    card: ModelCard
    hot_spots: tuple[HotSpot, ...]
    run: dict[str, Any]
    masks: MaskStore | None = None
    counts: NucleusCounts | None = None
