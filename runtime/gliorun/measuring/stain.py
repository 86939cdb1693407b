"""The stain of a slide: its glass, seen on the overview, and its ground, seen on some tiles.

The ground is what is not nucleus, so the network says where it is: the sampled tiles are
normalised by all their tissue first, and then by what the network leaves of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from gliorun.measuring import colour
from gliorun.measuring.kernels import OPAQUE
from gliorun.measuring.tile import Pixels
from gliorun.model.outlines import OF_MASKS
from gliorun.model.stainstatistic import StainStatistic, White

Segment = Callable[[Iterable[Pixels]], Iterable[Pixels]]
"""Gives the levels, (H, W) uint8, of each normalised image, in order."""

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
    nucleus_level: int = OF_MASKS.nucleus,
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
    nucleus_level : int
        Level from which a pixel is nucleus; by default `segment` gives masks.
    """

    def measured(levels: Iterable[Pixels | None], glass: White | None) -> StainStatistic | None:
        counts = colour.empty_levels()
        for rgba, of_image in zip(images, levels, strict=True):
            colour.add_levels(rgba, counts, of_image, nucleus_level)
        return colour.measure(counts, glass)

    stain = measured([None] * len(images), white)
    for _ in range(ROUNDS if target is not None else 0):
        if stain is None:
            return None
        table = colour.table_between(stain, target)
        levels = segment(colour.normalise(rgba, table)[0] for rgba in images)
        # tissue that is all nucleus has no ground: what was known of it stays
        stain = measured(levels, white or stain.white) or stain
    return stain


def glass_level(overview: Pixels, tissue: NDArray[np.bool_]) -> White | None:
    """Return the median level of the glass in each channel, or None where there is too little.

    `overview` is (H, W, 4) uint8, `tissue` (h, w) bool, of the same slide and no finer. The
    pixels of `tissue` at the rim of the tissue, and those that the rim of a transparent area cuts,
    may show tissue too: they and their neighbours do not count. What is dark or coloured, such as
    ink or the border of the scan, is no glass: of the rest the brighter half counts.
    """
    rows, columns = (
        np.arange(count) * side // count
        for side, count in zip(overview.shape, tissue.shape, strict=False)
    )
    opaque = (overview[..., 3] >= OPAQUE).astype(np.uint8)
    whole = np.minimum.reduceat(np.minimum.reduceat(opaque, rows, axis=0), columns, axis=1)
    doubtful = Image.fromarray((tissue | (whole == 0)) * np.uint8(255))
    glass = np.asarray(doubtful.filter(ImageFilter.MaxFilter(3))) == 0
    beside = overview[np.ix_(rows, columns)][glass][:, :3]
    if len(beside) < LEAST_GLASS * tissue.size:
        return None
    darkest = beside.min(axis=1)
    red, green, blue = np.median(beside[darkest >= np.median(darkest)], axis=0)
    return int(red), int(green), int(blue)
