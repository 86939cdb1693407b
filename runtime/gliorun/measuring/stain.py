"""The stain of a slide: its glass, seen on the overview, and its ground, seen on some tiles.

The ground is what is not nucleus, so the network says where it is: the sampled tiles are
normalised by all their tissue first, and then by what the network leaves of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from gliorun.measuring import colour
from gliorun.measuring.colour import StainStatistic, White
from gliorun.measuring.kernels import OPAQUE

Pixels = NDArray[np.uint8]
Segment = Callable[[Iterable[Pixels]], Iterable[Pixels]]
"""Gives the mask, (H, W) uint8, not 0 on a nucleus, of each normalised image, in order."""

ROUNDS = 2
"""How often the network is asked. Leaving nuclei out hardly moves the median of the ground, so
the second answer is the last that changes anything."""
LEAST_GLASS = 0.01
"""Share of an overview that must be glass for its level to be told."""


def fit_stain(
    images: Sequence[Pixels],
    segment: Segment,
    target: StainStatistic | None,
    white: White | None = None,
) -> StainStatistic | None:
    """Return the stain of some images of one slide, or None if they hold too little tissue.

    Parameters
    ----------
    images : sequence of (H, W, 4) uint8
        As scanned, straight RGBA.
    segment : callable
        The network, on images normalised to `target`.
    target : StainStatistic or None
        What the network takes; without one, it is not asked, and nuclei count as ground.
    white : (int, int, int), optional
        Level of the glass in each channel; otherwise it is estimated from the images.
    """
    stain = _measure(images, None, white)
    for _ in range(ROUNDS if target is not None else 0):
        if stain is None:
            return None
        table = colour.table_between(stain, target)
        masks = segment(colour.normalise(rgba, table)[0] for rgba in images)
        # tissue that is all nucleus has no ground: what was known of it stays
        stain = _measure(images, masks, white or stain.white) or stain
    return stain


def _measure(
    images: Sequence[Pixels], masks: Iterable[Pixels] | None, white: White | None
) -> StainStatistic | None:
    counts = colour.empty_levels()
    nothing: Iterable[Pixels | None] = [None] * len(images)
    for rgba, nuclei in zip(images, nothing if masks is None else masks, strict=True):
        colour.add_levels(rgba, counts, nuclei)
    return colour.measure(counts, white)


def glass_level(overview: Pixels, tissue: NDArray[np.bool_]) -> White | None:
    """Return the median level of the glass in each channel, or None where there is too little.

    `overview` is (H, W, 4) uint8, `tissue` (h, w) bool, of the same slide at any scale. What is
    dark or coloured beside the tissue, such as ink or the border of the scan, is no glass: of the
    rest the brighter half counts.
    """
    rows, columns = (
        ((np.arange(count) + 0.5) * side / count).astype(np.int64)
        for side, count in zip(overview.shape, tissue.shape, strict=False)
    )
    seen = overview[np.ix_(rows, columns)]
    beside = seen[~tissue & (seen[..., 3] >= OPAQUE)][:, :3]
    if len(beside) < LEAST_GLASS * tissue.size:
        return None
    darkest = beside.min(axis=1)
    red, green, blue = np.median(beside[darkest >= np.median(darkest)], axis=0)
    return int(red), int(green), int(blue)
