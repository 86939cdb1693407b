"""Find nuclei by thresholds on the haematoxylin channel, as a baseline and as candidates."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt
from skimage.color import rgb2hed
from skimage.feature import peak_local_max
from skimage.filters import gaussian, threshold_otsu
from skimage.measure import label
from skimage.morphology import disk, opening
from skimage.segmentation import relabel_sequential, watershed

from gliorun.findings.nuclei import MIN_NUCLEUS_UM2

SIGMA_PX = 1.5
OPENING_PX = 3

SIGMA_UM = 0.375
OPENING_UM = 0.75
SURROUNDINGS_UM = 7.5
"""Sigma of the Gaussian background of a faint nucleus; about the width of one nucleus."""
FAINT_SHARE = 0.75
FAINT_MARGIN = 0.12
"""A faint nucleus reaches `FAINT_SHARE` of Otsu's threshold, and stands out from its
surroundings by `FAINT_MARGIN` of it."""
LEAST_HAEMATOXYLIN = 0.04
"""Least threshold: on an empty tile Otsu's threshold would split the noise."""
HOLE_UM2 = 12.0
"""Smaller holes are pale chromatin inside a nucleus and are filled."""
APART_UM = 2.5
"""Least distance of the centres of touching nuclei."""


def haematoxylin_otsu(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the nucleus mask, (H, W) uint8, of `pixels`, (H, W, 3) uint8 RGB.

    Colour deconvolution (Ruifrok, Johnston 2001), a Gaussian blur, the threshold (Otsu 1979)
    and an opening. The pixels are taken as they are, with no colour normalisation.
    """
    haematoxylin = gaussian(rgb2hed(pixels)[..., 0], SIGMA_PX)
    nuclei = haematoxylin > threshold_otsu(haematoxylin)
    return np.asarray(opening(nuclei, disk(OPENING_PX)), dtype=np.uint8)


def candidate_nuclei(pixels: NDArray[np.uint8], mpp: float) -> NDArray[np.int32]:
    """Return nuclei numbered 1, 2, …, (H, W) int32, of colour-normalised `pixels`, (H, W, 3) uint8.

    Otsu's threshold finds the dark nuclei, a local threshold the faint ones; nuclei that touch
    are split by a watershed from the peaks of the distance to the background (Vincent, Soille
    1991). All sizes are in µm, so that tiles of any `mpp` give the same nuclei. It finds
    too many rather than too few, as deleting an object is less work than drawing one.
    """
    haematoxylin = gaussian(rgb2hed(pixels)[..., 0], SIGMA_UM / mpp)
    threshold = max(float(threshold_otsu(haematoxylin)), LEAST_HAEMATOXYLIN)
    above_surroundings = haematoxylin - gaussian(haematoxylin, SURROUNDINGS_UM / mpp)
    faint = haematoxylin > FAINT_SHARE * threshold
    faint &= above_surroundings > FAINT_MARGIN * threshold
    solid = ~_larger_than(~((haematoxylin > threshold) | faint), HOLE_UM2 / mpp**2)
    nuclei = np.asarray(opening(solid, disk(max(1, round(OPENING_UM / mpp)))), dtype=np.bool_)
    return numbered(nuclei, mpp)


def numbered(nuclei: NDArray[np.bool_], mpp: float) -> NDArray[np.int32]:
    """Number the nuclei of a mask, (H, W) int32, those that touch one by one; specks go."""
    return _split(_larger_than(nuclei, MIN_NUCLEUS_UM2 / mpp**2), mpp)


def _larger_than(mask: NDArray[np.bool_], area_px: float) -> NDArray[np.bool_]:
    """Return the 4-connected parts of a mask that have at least `area_px` pixels."""
    parts = label(mask, connectivity=1)
    return np.asarray(mask & (np.bincount(parts.ravel())[parts] >= area_px))


def _split(nuclei: NDArray[np.bool_], mpp: float) -> NDArray[np.int32]:
    """Number the nuclei of a mask, (H, W) int32, those that touch one by one."""
    # a little blur, so that a ragged outline has one peak
    depth = gaussian(distance_transform_edt(nuclei), SIGMA_UM / mpp)
    peaks = peak_local_max(
        depth,
        min_distance=max(1, round(APART_UM / mpp)),
        labels=label(nuclei, connectivity=1),
        exclude_border=False,
    )
    seeds = np.zeros(nuclei.shape, dtype=np.int32)
    seeds[tuple(peaks.T)] = np.arange(1, len(peaks) + 1)
    split = watershed(-depth, seeds, mask=nuclei)
    split[np.bincount(split.ravel())[split] < MIN_NUCLEUS_UM2 / mpp**2] = 0
    return np.asarray(relabel_sequential(split)[0], dtype=np.int32)
