"""Whether the sampled tiles look like H&E, the stain that the models know.

Haematoxylin and eosin both absorb green most. So tissue whose colour takes away more blue (brown
and yellow, as of DAB in immunohistochemistry), more red (blue and green, as of a trichrome stain)
or little green (green, and what was inverted) is another stain, and its map means nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from gliorun.measuring.colour import DENSITY_OF_LEVEL
from gliorun.model.stainstatistic import StainStatistic, White

BOX_PX = 4
"""Side of the squares whose mean colour is judged: single pixels hold noise and JPEG's colours."""
LEAST_DENSITY = 0.25
"""Optical density, natural logarithm, of the darkest channel of a square that has a colour."""
MOST_RED = 0.52
MOST_BLUE = 0.42
LEAST_GREEN = 0.26
"""Shares of a channel in the sum of the three optical densities, beyond which none of H&E lies."""
MOST_FOREIGN = 0.2
"""Share of the coloured squares that may lie beyond: the greatest of the 291 labelled slides, of
16 sets, has 0.15."""
LEAST_SQUARES = 500
LEAST_NUCLEI = 0.001
"""Share of the sampled tiles that is nucleus on any tissue; the least of the 291 labelled slides
is 0.005, as the default model sees them."""


def warnings_of_scene(
    images: Sequence[NDArray[np.uint8]],
    stain: StainStatistic | None,
    nucleus_px: int | None,
) -> Iterable[str]:
    """Yield a warning for each reason not to trust the map of a slide.

    Parameters
    ----------
    images : sequence of (H, W, 4) uint8
        The sampled tiles as scanned, straight RGBA.
    stain : StainStatistic or None
        What was measured on them.
    nucleus_px : int or None
        Pixels of nucleus that the network sees in all of them; None if it was not asked.
    """
    if stain is None:
        return
    share = foreign_share(images, stain.white)
    if share > MOST_FOREIGN:
        yield (
            f"{100 * share:.0f} % of the sampled tissue has colours that H&E does not have; if "
            "this is another stain, such as immunohistochemistry, the map means nothing"
        )
    area_px = sum(rgba.shape[0] * rgba.shape[1] for rgba in images)
    if nucleus_px is not None and nucleus_px < LEAST_NUCLEI * area_px:
        yield (
            f"hardly any nucleus found in the sampled tiles ({100 * nucleus_px / area_px:.2f} % of "
            "their area); if the slide shows nuclei, its stain, its focus or its scale is unlike "
            "any that the model knows, and the map means nothing"
        )


def foreign_share(images: Iterable[NDArray[np.uint8]], white: White) -> float:
    """Return the share of the coloured tissue, 0 to 1, whose colour H&E does not have.

    `images` are (H, W, 4) uint8 as scanned, `white` the level of the glass. 0 if hardly any tissue
    has a colour.
    """
    coloured = foreign = 0
    glass = DENSITY_OF_LEVEL[list(white)]
    for rgba in images:
        densities = np.maximum(_densities(rgba) - glass, 0)
        densities = densities[densities.max(axis=1) > LEAST_DENSITY]
        red, green, blue = (densities / densities.sum(axis=1, keepdims=True)).T
        coloured += len(densities)
        beyond = (red > MOST_RED) | (blue > MOST_BLUE) | (green < LEAST_GREEN)
        foreign += int(np.count_nonzero(beyond))
    return foreign / coloured if coloured >= LEAST_SQUARES else 0.0


def _densities(rgba: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return the optical density of R, G and B of every opaque square, (N, 3)."""
    rows, columns = (side // BOX_PX for side in rgba.shape[:2])
    squares = rgba[: rows * BOX_PX, : columns * BOX_PX].reshape(rows, BOX_PX, columns, BOX_PX, 4)
    means = squares.mean(axis=(1, 3), dtype=np.float32)
    return np.asarray(-np.log((means[means[..., 3] == 255][:, :3] + 1) / 256), dtype=np.float64)
