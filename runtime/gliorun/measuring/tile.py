"""What becomes of a tile of a slide: it is measured, or left out with the reason."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from gliorun.reading.tiles import TileSpec

Pixels = NDArray[np.uint8]
Levels = NDArray[np.uint8]
"""What the network gives, (tile_px, tile_px): the higher, the more surely a pixel is nucleus."""


class Status(IntEnum):
    """The status of a tile; tiles above `MEASURED` hold tissue but have no value.

    PEN is ink or what has its colour, the black border of a scan or a pool of blood; BUBBLE the
    rim of an air bubble or other grey; BLANK neither stained nor structured; FOLD double tissue.
    """

    NO_TISSUE = 0
    MEASURED = 1
    UNREADABLE = 2
    PEN = 3
    BUBBLE = 4
    BLANK = 5
    FOLD = 6
    BLURRED = 7

    @property
    def words(self) -> str:
        """The name in plain words."""
        return self.name.lower().replace("_", " ")


@dataclass(frozen=True, slots=True, eq=False)
class Tile:
    """A tile ready for the network.

    pixels : (tile_px, tile_px, 3) uint8, colour-normalised
    valid : (tile_px, tile_px) uint8, not 0 inside the slide
    """

    spec: TileSpec
    pixels: Pixels
    valid: NDArray[np.uint8]


@dataclass(frozen=True, slots=True, eq=False)
class Measured:
    """A tile that is measured.

    levels : (tile_px, tile_px) uint8, of the network
    valid : (tile_px, tile_px) uint8, not 0 inside the slide
    """

    spec: TileSpec
    levels: Levels
    valid: NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A tile that is not measured, and the reason."""

    spec: TileSpec
    reason: Status
