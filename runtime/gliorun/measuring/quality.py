"""Judge which tiles are fit to be measured: without ink, bubble, empty glass, fold or blur.

The paper discards "blurry and artefact patches" without saying how; measures and limits are ours.
A tile is judged in pixels of half a micrometre, or of its slide if those are coarser, so that a
20x slide does not count as more blurred than a 40x one, and in squares of 8 x 8 of them, 4 µm.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gliorun.measuring import kernels
from gliorun.measuring.colour import DENSITY_OF_LEVEL
from gliorun.measuring.tile import Status
from gliorun.model.stainstatistic import StainStatistic, White
from gliorun.qualitylimits import QualityLimits

JUDGED_MPP = 0.5
"""Micrometres per pixel at which the quality of a tile is judged."""
STAINED = 0.03
"""Spread of the optical density over R, G and B from which a square is stained."""
DOUBLE = 1.7
"""Optical density of tissue that lies double, as a multiple of the slide's ground. Not 2: dark
pixels saturate. At 1.4, follicles of spleen, dense with nuclei, were called folds."""
RED = 1.2
"""Optical density of green from which a square may be red ink or blood."""
REDDER = 1.5
"""The same, as a multiple of the slide's ground: muscle and keratin are red all over."""
STRUCTURED = 12
"""Range of levels in a square from which it is not smooth; noise and JPEG on glass reach 10."""
LEAST_SPAN = 8
"""Range of levels in a square from which it counts as an edge."""
LEAST_EDGES = 8
"""Least number of squares with an edge for judging the focus of a tile."""

Squares = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Scores:
    """The scores of a tile, in the units of `QualityLimits`.

    `fold` and `edge_px` are NaN if there is no stain to compare with, or there are no edges.
    """

    pen: float
    red: float
    grey: float
    tissue: float
    fold: float
    edge_px: float


@dataclass(frozen=True, slots=True)
class Quality:
    """The reason why a tile is unfit to be measured, None if it is fit, and its scores."""

    reason: Status | None
    scores: Scores


def shrink_of(tile_mpp: float, slide_mpp: float) -> int:
    """Return how many px of a tile, at `tile_mpp` µm/px, make the side of a judged px.

    `slide_mpp` is the scale that the tile was scanned at; it may have been resampled since.
    """
    return max(1, math.ceil(max(JUDGED_MPP, slide_mpp) / tile_mpp - 0.05))


def judge(
    rgba: NDArray[np.uint8],
    shrink: int,
    stain: StainStatistic | None,
    limits: QualityLimits,
    white: White | None = None,
) -> Quality:
    """Judge a tile as it was scanned, (H, W, 4) uint8 straight RGBA of any size.

    `shrink` is from `shrink_of`. `stain` is that of the whole slide; without it folds cannot be
    detected, and `white` is the level of the glass, 255 in each channel by default: on a scanner
    whose glass is grey, grey is no fault. Of several reasons the first counts, in the order of
    `QualityLimits`.
    """
    scores = _scores(rgba, shrink, stain, white or (255, 255, 255))
    reason = None
    if scores.pen > limits.max_pen or scores.red > limits.max_red:
        reason = Status.PEN
    elif scores.grey > limits.max_grey:
        reason = Status.BUBBLE
    elif scores.tissue < limits.min_tissue:
        reason = Status.BLANK
    elif scores.fold > limits.max_fold:
        reason = Status.FOLD
    elif scores.edge_px > limits.max_edge_px:
        reason = Status.BLURRED
    return Quality(reason, scores)


def _scores(
    rgba: NDArray[np.uint8], shrink: int, stain: StainStatistic | None, white: White
) -> Scores:
    shape = rgba.shape[0] // shrink, rgba.shape[1] // shrink
    rgb, light = np.empty((*shape, 3), dtype=np.uint8), np.empty(shape, dtype=np.float32)
    kernels.shrink(rgba, shrink, rgb, light)
    squares = tuple(max(side - 2, 0) // kernels.SQUARE for side in shape)
    span, slope = np.empty(squares, dtype=np.float32), np.empty(squares, dtype=np.float32)
    mean = np.empty((*squares, 3), dtype=np.uint8)
    kernels.look_at_squares(rgb, light, span, slope, mean)

    inside = span >= 0
    glass = DENSITY_OF_LEVEL[list(white if stain is None else stain.white)][:, None, None]
    density = np.maximum(np.take(DENSITY_OF_LEVEL, np.moveaxis(mean, -1, 0)) - glass, 0)
    least_red = RED if stain is None else max(RED, REDDER * stain.ground[1])
    pen, red, grey = (solid_share(artefact, inside) for artefact in _artefacts(density, least_red))
    tissue = ((np.ptp(density, axis=0) > STAINED) | (span >= STRUCTURED)) & inside
    fold = math.nan
    if stain is not None:
        double = DOUBLE * np.array(stain.ground)[:, None, None]
        fold = solid_share((density > double).all(axis=0), inside)
    return Scores(
        pen=pen,
        red=red,
        grey=grey,
        tissue=float(tissue.sum()) / max(int(inside.sum()), 1),
        fold=fold,
        edge_px=edge_width_px(span, slope),
    )


def _artefacts(density: NDArray[np.float64], least_red: float) -> tuple[Squares, Squares, Squares]:
    """Tell ink, bright red and grey squares by their optical density, (3, rows, columns).

    `least_red` is the density of green from which a square may be bright red.

    Haematoxylin and eosin both absorb green most. Blue and green ink absorb red more, red ink
    absorbs blue nearly as much but hardly any red, and what is black or grey absorbs all alike.
    """
    red, green, blue = density
    least, most = density.min(axis=0), density.max(axis=0)
    cold = (red > 0.35) & (red > 1.1 * green + 0.05)
    warm = (green > least_red) & (blue > 0.65 * green) & (red < 0.35 * green)
    black = (least > 1.3) & (most - least < 0.3 * most)
    grey = (least > 0.35) & (most - least < 0.2 * most) & ~black
    return cold | black, warm, grey


def solid_share(squares: Squares, inside: Squares) -> float:
    """Return the share of squares inside the slide that are set, as are all their neighbours."""
    solid = np.ones((squares.shape[0] + 2, squares.shape[1] + 2), dtype=np.bool_)
    solid[1:-1, 1:-1] = squares | ~inside
    solid = solid[:-2] & solid[1:-1] & solid[2:]
    solid = solid[:, :-2] & solid[:, 1:-1] & solid[:, 2:]
    return float((solid & inside).sum()) / max(int(inside.sum()), 1)


def edge_width_px(span: NDArray[np.float32], slope: NDArray[np.float32]) -> float:
    """Return the median width, span / slope, of squares with an edge; NaN if they are few.

    As a ratio it depends neither on how strong the stain is nor on how many nuclei there are,
    but on blur; as a median it heeds no speck of sharp dust over tissue that is out of focus.
    """
    edges = span >= LEAST_SPAN
    if edges.sum() < LEAST_EDGES:
        return math.nan
    return float(np.median(span[edges] / slope[edges]))
