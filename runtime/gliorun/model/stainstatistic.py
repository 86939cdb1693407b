"""The colour of the ground of a slide, which a model expects and a slide has."""

from __future__ import annotations

from dataclasses import dataclass

Densities = tuple[float, float, float]
"""Optical densities (natural logarithm) of R, G and B."""
White = tuple[int, int, int]
"""Level of the glass in R, G and B, 0 to 255."""


@dataclass(frozen=True, slots=True)
class StainStatistic:
    """Median optical density of the ground over the glass, for each of R, G and B.

    `white` is the level of the glass in each channel, 0 to 255.
    """

    ground: Densities
    white: White = (255, 255, 255)
