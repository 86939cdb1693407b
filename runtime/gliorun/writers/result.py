"""The result of measuring a slide, which every writer receives."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gliorun.findings.evidence import Exhibit
from gliorun.findings.hotspots import HotSpot
from gliorun.findings.nuclei import CountComparison, Nucleus, NucleusCounts, find_nuclei
from gliorun.measuring.density import DensityMap
from gliorun.measuring.masks import MaskStore
from gliorun.measuring.tissue import Tissue
from gliorun.model.calibration import Calibration
from gliorun.model.card import ModelCard
from gliorun.reading.dicomheader import DicomHeader
from gliorun.reading.scale import Scale
from gliorun.reading.slide import Rgba
from gliorun.reading.tiles import Box

if TYPE_CHECKING:
    from gliorun.findings.regions import RegionDifference, RegionResult
    from gliorun.reading.regions import Region


@dataclass(frozen=True, slots=True, eq=False)
class Result:
    """A slide whose map is finished, and what was found on it.

    `warnings` are what is doubtful about the map, `run` the run record as plain JSON values
    (versions, hashes, settings, counts, seconds). `masks` holds the nucleus masks of the tiles if
    an output asked for them; `counts` the nuclei of each cell, and `comparison` what counting them
    says beside their area, if they were counted. `calibration` decides where nuclei are outlined,
    or if there is none the card does. Of `drawn_regions` `regions` and `differences` say
    what was measured. `bounds_l0` is the part of the slide that QuPath shows; None for all of it.
    `dicom` is the header of a DICOM slide; None for any other.
    `evidence` are tiles that show what was counted, if an output needs them.
    """

    slide_name: str
    density: DensityMap
    scale: Scale
    tissue: Tissue
    overview: Rgba
    card: ModelCard
    hot_spots: tuple[HotSpot, ...] = ()
    warnings: tuple[str, ...] = ()
    run: dict[str, Any] = field(default_factory=dict)
    masks: MaskStore | None = None
    counts: NucleusCounts | None = None
    comparison: CountComparison | None = None
    calibration: Calibration | None = None
    bounds_l0: Box | None = None
    evidence: tuple[Exhibit, ...] = ()
    dicom: DicomHeader | None = None
    drawn_regions: tuple[Region, ...] = ()
    regions: tuple[RegionResult, ...] = ()
    differences: tuple[RegionDifference, ...] = ()

    def field_nuclei_per_mm2(self, spot: HotSpot) -> float | None:
        """Return nuclei a mm² of the tissue of a hot spot; None if they were not counted."""
        if self.counts is None or len(self.counts.per_field) != len(self.hot_spots):
            return None
        area_mm2 = spot.width * self.scale.x_mpp * spot.height * self.scale.y_mpp / 1e6
        return self.counts.per_field[spot.rank - 1] / (area_mm2 * spot.tissue_share)

    def cell_nuclei_per_mm2(self) -> NDArray[np.float64]:
        """Return nuclei a mm² of the tissue of each cell; NaN without tissue, or uncounted."""
        density = self.density
        width_l0, height_l0 = density.cell_l0
        px_mm2 = width_l0 * self.scale.x_mpp * height_l0 * self.scale.y_mpp
        px_mm2 /= density.cell_px**2 * 1e6
        per_mm2 = np.full(density.valid_px.shape, np.nan)
        if self.counts is not None:
            tissue_mm2 = density.tissue_px * px_mm2
            np.divide(self.counts.per_cell, tissue_mm2, out=per_mm2, where=tissue_mm2 > 0)
        return per_mm2

    def nuclei(self) -> Iterator[Nucleus]:
        """Yield the nuclei of the masks, of regions those that have their centre in one.

        Raises
        ------
        ValueError
            The run kept no masks.
        """
        if self.masks is None:
            raise ValueError(f"{self.slide_name}: nuclei need the masks of the run")
        nuclei = find_nuclei(self.masks, self.scale)
        if not self.drawn_regions:
            return nuclei
        from gliorun.findings.regions import nuclei_within

        return nuclei_within(self.drawn_regions, nuclei)

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences that belong to every picture: the calibration, and what is doubtful."""
        return *self.calibrated, *(f"Warning: {warning}" for warning in self.warnings)

    @property
    def calibrated(self) -> tuple[str, ...]:
        """A sentence that names the calibration; none without one."""
        return () if self.calibration is None else (f"Calibrated to {self.calibration}.",)

    @property
    def of_all_lines(self) -> dict[str, str]:
        """Calibration and warnings, where there are such: the last columns of tables."""
        values = {
            "calibration": "" if self.calibration is None else str(self.calibration),
            "warnings": "; ".join(self.warnings),
        }
        return {name: text for name, text in values.items() if text}

    @property
    def shown_l0(self) -> Box:
        """The part of the slide that QuPath shows; it counts from the corner of this part."""
        return self.bounds_l0 or (0, 0, *self.density.grid.size_l0)
