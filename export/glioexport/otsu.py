"""The plain baseline: Otsu's threshold on the haematoxylin channel."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from skimage.color import rgb2hed
from skimage.filters import gaussian, threshold_otsu
from skimage.morphology import disk, opening

SIGMA_PX = 1.5
OPENING_PX = 3


def haematoxylin_otsu(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the nucleus mask, (H, W) uint8, of `pixels`, (H, W, 3) uint8 RGB.

    Colour deconvolution (Ruifrok, Johnston 2001), a Gaussian blur, the threshold (Otsu 1979)
    and an opening. The pixels are taken as they are, with no colour normalisation.
    """
    haematoxylin = gaussian(rgb2hed(pixels)[..., 0], SIGMA_PX)
    nuclei = haematoxylin > threshold_otsu(haematoxylin)
    return np.asarray(opening(nuclei, disk(OPENING_PX)), dtype=np.uint8)
