"""The settings by which a slide is measured; they are checked once and passed whole."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path

from gliorun import defaults
from gliorun.errors import UsageError
from gliorun.model.calibration import Calibration
from gliorun.processors import processors
from gliorun.qualitylimits import QualityLimits
from gliorun.reading.files import check_file
from gliorun.reading.scale import check_mpp

BYTES_A_PIXEL = 9
"""Memory of a tile in the pipeline: 4 as read, 3 normalised, 1 valid, 1 level."""
LEAST_MEMORY_MB = 16
DENSITIES = ("tissue", "tile")
"""What a density is of."""


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings by which a slide is measured.

    Parameters
    ----------
    mpp : float, optional
        Micrometres per level-0 pixel; overrides the scale of the slide.
    cell_px : int, optional
        Side of a map cell in model px; by default that of a tile.
    threads : int, optional
        Reader threads; by default half the processors, as the network needs the rest.
    max_bad_tiles : float
        Share of unreadable tiles above which the slide fails.
    quality : QualityLimits, optional
        Limits beyond which a blurred or spoilt tile is left out; None measures every tile.
    tissue_mask : Path, optional
        Image whose pixels above 0 are tissue; replaces the tissue found on the overview.
    memory_mb : float
        Bound on the buffers: half for decoded parts of the file, half for tiles in the pipeline.
    calibration : Calibration, optional
        Of the model to a laboratory; by default the levels of the model's card decide.
    density : str
        What the nucleus area is divided by: "tissue", or the area of the "tile" as in the paper.
    regions : Path, optional
        File of regions, of QuPath, ImageScope or ASAP; only what lies in one is measured.
    """

    mpp: float | None = None
    cell_px: int | None = None
    threads: int | None = None
    max_bad_tiles: float = defaults.MAX_BAD_TILES
    quality: QualityLimits | None = field(default_factory=QualityLimits)
    tissue_mask: Path | None = None
    memory_mb: float = defaults.MEMORY_MB
    calibration: Calibration | None = None
    regions: Path | None = None
    density: str = defaults.DENSITY

    def __post_init__(self) -> None:
        check_mpp(self.mpp)
        if self.threads is not None and self.threads < 1:
            raise UsageError(f"threads is {self.threads}; it must be at least 1")
        if self.density not in DENSITIES:
            raise UsageError(f"density '{self.density}': unknown; known: {', '.join(DENSITIES)}")
        if not 0 <= self.max_bad_tiles <= 1:
            raise UsageError(f"max_bad_tiles is {self.max_bad_tiles}; it must lie from 0 to 1")
        if self.tissue_mask is not None:
            check_file(self.tissue_mask, "tissue mask", "check its name")
        if self.regions is not None:
            check_file(self.regions, "file of regions", "check its name")
        if not LEAST_MEMORY_MB <= self.memory_mb < math.inf:
            raise UsageError(
                f"memory is {self.memory_mb:g} MB; it must be {LEAST_MEMORY_MB} or more"
            )

    @property
    def readers(self) -> int:
        """Number of reader threads."""
        return self.threads or max(1, processors() // 2)

    @property
    def cache_mb(self) -> float:
        """Bound on the decoded pixels that are cached for neighbouring tiles, in MB."""
        return self.memory_mb / 2

    def tiles_ahead(self, tile_px: int) -> int:
        """Return how many tiles of `tile_px` px may be read ahead of the network."""
        fit = int(self.memory_mb / 2 * 2**20 / (BYTES_A_PIXEL * tile_px**2))
        return max(1, min(2 * self.readers + 2, fit))
