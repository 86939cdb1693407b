"""Place a hand-drawn tissue mask on its slide."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from gliorun.reading.tiles import Box

SAME_ASPECT = 0.02
"""Greatest relative difference of aspect between a mask and its slide."""
MOST_PX = 2**24
"""Approximate bound on the pixels of a mask once it covers the whole scan area."""


def place_of(aspect: float, size_l0: tuple[int, int], bounds_l0: Box | None) -> Box | None:
    """Return the part of a slide that a mask of some width / height was drawn over.

    That is all of it or, in QuPath, its bounds: whichever shape is nearer. None if neither is near.
    """
    whole_l0 = (0, 0, *size_l0)
    places = (bounds_l0 or whole_l0, whole_l0)
    place_l0 = min(places, key=lambda box_l0: _misfit(aspect, box_l0))
    return place_l0 if _misfit(aspect, place_l0) <= SAME_ASPECT else None


def fits_both(size_l0: tuple[int, int], bounds_l0: Box) -> bool:
    """Tell whether a mask may have the shape of a slide and that of its bounds, which differ."""
    whole_l0 = (0, 0, *size_l0)
    return bounds_l0 != whole_l0 and _misfit(size_l0[0] / size_l0[1], bounds_l0) <= SAME_ASPECT


def on_whole(mask: NDArray[np.bool_], size_l0: tuple[int, int], place_l0: Box) -> NDArray[np.bool_]:
    """Return a mask, (H, W) bool, of the whole slide from one of a part of it."""
    if place_l0 == (0, 0, *size_l0):
        return mask
    fits = math.sqrt(MOST_PX / math.prod(size_l0))
    px_per_l0 = min(mask.shape[1] / (place_l0[2] - place_l0[0]), fits)
    width, height = (max(1, round(side * px_per_l0)) for side in size_l0)
    left, top, right, bottom = (round(edge * px_per_l0) for edge in place_l0)
    size = max(1, right - left), max(1, bottom - top)
    whole = Image.new("L", (width, height))
    part = Image.fromarray(mask).convert("L")
    whole.paste(part.resize(size, Image.Resampling.BOX), (left, top))
    return np.asarray(whole) > 127


def _misfit(aspect: float, box_l0: Box) -> float:
    """Return the relative difference of an aspect and that of a box."""
    left, top, right, bottom = box_l0
    return abs(aspect * (bottom - top) / (right - left) - 1)
