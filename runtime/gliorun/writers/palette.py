"""The colours of a map: every writer takes them from here."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gliorun import defaults
from gliorun.errors import UsageError
from gliorun.measuring.density import CLASS_EDGES, classify

DEFAULT = defaults.PALETTE
CONTINUOUS = "continuous"
FULL_SCALE = 0.4
"""Density at the upper end of the continuous scale, fixed so that slides can be compared."""
REGION = "#6a00a8"
"""Colour of the outlines of regions: no palette has it, and it is no stain of the slide."""
NO_VALUE, HATCHING = "#c8c8c8", "#555555"
"""Tiles without a value: their ground and the lines on it."""

PALER = 90
"""Opacity, of 255, of a cell with little tissue."""
OVERLAY = 0.6
"""Opacity of a map over its slide."""

SCALE = (
    "#440154", "#48186a", "#472d7b", "#424086", "#3b528b", "#33638d", "#2c728e", "#26828e",
    "#21918c", "#1fa088", "#28ae80", "#3fbc73", "#5ec962", "#84d44b", "#addc30", "#d8e219",
    "#fde725",
)  # fmt: skip
"""Viridis at equal steps: lightness rises evenly, also with a colour blindness (van der Walt and
Smith 2015)."""


@dataclass(frozen=True, slots=True)
class Appearance:
    """How a figure is drawn: its colours, and whether the map lies over the slide or beside it."""

    palette: str = DEFAULT
    overlay: bool = False

    def __post_init__(self) -> None:
        class_colours(self.palette)  # refuses an unknown one

    @property
    def opacity(self) -> float:
        """Opacity of the map."""
        return OVERLAY if self.overlay else 1.0


def scale_colours(densities: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Return the continuous scale's colours, (…, 3) uint8 RGB, of densities from 0 to 1."""
    steps = np.linspace(0, FULL_SCALE, len(SCALE))
    channels = [np.interp(densities, steps, channel) for channel in rgb(SCALE).T]
    return np.stack(channels, axis=-1).round().astype(np.uint8)


def rgb(colours: tuple[str, ...]) -> NDArray[np.uint8]:
    """Return colours such as "#27479c" as (count, 3) uint8 RGB."""
    return np.array([tuple(bytes.fromhex(colour[1:])) for colour in colours], dtype=np.uint8)


def hexes(colours: NDArray[np.uint8]) -> tuple[str, ...]:
    """Return (count, 3) uint8 RGB as colours such as "#27479c"."""
    return tuple(f"#{bytes(colour).hex()}" for colour in colours)


def _at_class_middles() -> tuple[str, ...]:
    edges = np.minimum(CLASS_EDGES, FULL_SCALE)
    return hexes(scale_colours((edges[1:] + edges[:-1]) / 2))


_CLASS_COLOURS = {
    # cold to hot; any two differ by 18 or more (CIEDE2000), also without one kind of cone
    "cold-hot": ("#27479c", "#4a97c0", "#b5d6ee", "#ffe26e", "#e9692f", "#9b1b20"),
    # blue to red through green, our guess at the paper's figure; not for the colour-blind
    "paper-like": ("#2b5fd9", "#39b7e6", "#4db848", "#f7e12b", "#f58a1f", "#d7191c"),
    CONTINUOUS: _at_class_middles(),
}
NAMES = tuple(_CLASS_COLOURS)


def class_colours(name: str) -> tuple[str, ...]:
    """Return the colours of the six classes, as "#27479c"; of a continuous palette, those of
    the middles of the classes.

    Raises
    ------
    UsageError
        There is no palette of that name.
    """
    if name not in _CLASS_COLOURS:
        raise UsageError(f"palette '{name}': unknown; known: {', '.join(NAMES)}")
    return _CLASS_COLOURS[name]


def cell_colours(name: str, densities: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Return the colour of each density from 0 to 1, (…, 4) uint8 RGBA; clear where NaN."""
    has_value = ~np.isnan(densities)
    if name == CONTINUOUS:
        colours = scale_colours(np.where(has_value, densities, 0))
    else:
        colours = rgb(class_colours(name))[classify(densities)]
    return np.dstack([colours, np.where(has_value, 255, 0).astype(np.uint8)])


def over(
    colours: NDArray[np.uint8], ground: NDArray[np.uint8], opacity: float
) -> NDArray[np.uint8]:
    """Return RGB colours laid over a ground, both (…, 3) uint8, with an opacity from 0 to 1."""
    return (colours * opacity + ground * (1 - opacity)).round().astype(np.uint8)
