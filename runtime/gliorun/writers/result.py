"""The result of a run, which every writer receives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gliorun.findings.hotspots import HotSpot
from gliorun.findings.nuclei import NucleusCounts
from gliorun.measuring.masks import MaskStore
from gliorun.model.card import ModelCard
from gliorun.pipeline import SlideDensity
from gliorun.reading.dicomheader import DicomHeader
from gliorun.reading.tiles import Box


@dataclass(frozen=True, slots=True, eq=False)
class Result:
    """One run of one slide.

    `run` is the run record as plain JSON values (versions, hashes, settings, counts, seconds).
    `masks` holds the nucleus masks of the tiles if an output asked for them, `counts` the nuclei
    of each cell if they were counted. `bounds_l0` is the part of the slide that QuPath shows; None
    for all of it. `dicom` is the header of a DICOM slide; None for any other.
    """

    slide_name: str
    measured: SlideDensity
    card: ModelCard
    hot_spots: tuple[HotSpot, ...]
    run: dict[str, Any]
    masks: MaskStore | None = None
    counts: NucleusCounts | None = None
    bounds_l0: Box | None = None
    dicom: DicomHeader | None = None

    @property
    def shown_l0(self) -> Box:
        """The part of the slide that QuPath shows; it counts from the corner of this part."""
        return self.bounds_l0 or (0, 0, *self.measured.density.grid.size_l0)
