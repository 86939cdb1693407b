"""Find the scale of a slide in micrometres per pixel, and check that it is plausible."""

from __future__ import annotations

import math
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from pathlib import Path

from gliorun.errors import GlioError, UsageError

MPP_RANGE = (0.1, 4.0)
"""Least and largest micrometres per pixel; a 100x oil immersion lens gives the least."""
SAME_SCALE = 0.02
"""Up to this relative difference a slide counts as being at the model's scale: one slide pixel
is one model pixel, nothing is resampled, and the tile's physical side is off by as much."""
SAME_MPP = 0.05
"""Relative difference up to which a given scale agrees with that of the slide."""
COARSEST = 2.5
"""A slide may be this many times coarser than the model's pixels; then nuclei are a few px."""
COARSE = 1.3
"""From this ratio on, small nuclei may be missed."""
SQUARE = 1.2
"""Greatest ratio of the sides of a pixel without a warning."""
APERIO_CAMERA_UM, CAMERA_UM = (7.0, 14.0), (4.0, 14.0)
"""µm per pixel × objective power: the width that the camera's pixel would need if nothing stood
between it and the objective. Aperio, and what is written in its format, has 10 (0.25 at 40x, 0.5
at 20x); elsewhere it goes down to 4.4 (Zeiss, 0.22 at 20x) and 4.65 (3DHISTECH, 0.2325 at 20x)."""

MPP_X, MPP_Y = "openslide.mpp-x", "openslide.mpp-y"
OBJECTIVE_POWER, VENDOR = "openslide.objective-power", "openslide.vendor"

Properties = Mapping[str, str]
"""The properties of a slide, by the names of OpenSlide."""


@dataclass(frozen=True, slots=True)
class Scale:
    """Micrometres per level-0 pixel along x and y, and where they were found."""

    x_mpp: float
    y_mpp: float
    source: str


def check_mpp(mpp: float | None) -> None:
    """Raise UsageError if micrometres per pixel were given but are implausible."""
    low, high = MPP_RANGE
    if mpp is not None and not low <= mpp <= high:  # also refuses NaN
        raise UsageError(f"mpp is {mpp:g} µm per pixel; it must lie from {low} to {high}")


def stated_scale(properties: Properties) -> Scale | None:
    """Return the scale that a slide states, plausible or not; None if it states none."""
    try:
        return Scale(float(properties[MPP_X]), float(properties[MPP_Y]), "slide")
    except (KeyError, ValueError):
        return None


def scale_of(path: Path, properties: Properties, typed_mpp: float | None) -> Scale:
    """Return the scale of a slide; `typed_mpp` overrides the one that it states.

    Raises
    ------
    UsageError
        `typed_mpp` is implausible.
    GlioError
        The slide states no scale, or an implausible one.
    """
    check_mpp(typed_mpp)
    if typed_mpp is not None:
        return Scale(typed_mpp, typed_mpp, "--mpp")
    scale = stated_scale(properties)
    if scale is None:
        raise GlioError(f"{path}: no micrometres per pixel; pass --mpp (0.25 for 40x, 0.5 for 20x)")
    low, high = MPP_RANGE
    for mpp in (scale.x_mpp, scale.y_mpp):
        if not low <= mpp <= high:  # also refuses NaN
            raise GlioError(
                f"{path}: {mpp:g} micrometres per pixel is not from {low} to {high}; pass --mpp"
            )
    return scale


def objective_power(properties: Properties) -> float | None:
    """Return the magnification that a slide states; None if it is not a number."""
    try:
        return float(properties[OBJECTIVE_POWER])
    except (KeyError, ValueError):
        return None


def check_scale(
    path: Path, properties: Properties, scale: Scale, model_mpp: float
) -> Generator[str]:
    """Yield a warning for each reason to doubt the scale of a slide.

    Raises
    ------
    GlioError
        Nuclei cannot be seen at that scale.
    """
    coarsest = max(scale.x_mpp, scale.y_mpp)
    if coarsest > COARSEST * model_mpp:
        raise GlioError(
            f"{path}: {coarsest:g} µm/px is too coarse to see nuclei; the model needs "
            f"{COARSEST * model_mpp:g} µm/px or finer (pass --mpp if the slide is wrong)"
        )
    stated = None if scale.source == "slide" else stated_scale(properties)
    if stated is not None and abs(scale.x_mpp - stated.x_mpp) > SAME_MPP * scale.x_mpp:
        yield (
            f"--mpp {scale.x_mpp:g} goes before the slide's own {stated.x_mpp:g} µm/px; "
            "densities are wrong if the slide is right"
        )
    if coarsest > SQUARE * min(scale.x_mpp, scale.y_mpp):
        yield (
            f"{scale.x_mpp:g} µm/px along x and {scale.y_mpp:g} along y: the pixels of a "
            "scanner are nearly square; pass --mpp if the slide is wrong"
        )
    yield from _check_objective(properties, scale)
    if coarsest > COARSE * model_mpp:
        yield (
            f"{coarsest:g} µm/px is coarser than the model's {model_mpp:g}; "
            "small nuclei may be missed"
        )


def _check_objective(properties: Properties, scale: Scale) -> Generator[str]:
    power = objective_power(properties)
    if power is None or not 0 < power < math.inf:
        return
    low, high = APERIO_CAMERA_UM if properties.get(VENDOR) == "aperio" else CAMERA_UM
    mpp = (scale.x_mpp * scale.y_mpp) ** 0.5
    if not low <= mpp * power <= high:
        way_out = "check --mpp" if scale.source == "--mpp" else "pass --mpp if the scale is wrong"
        yield (
            f"{mpp:g} µm/px and an objective of {power:g}x contradict each other "
            f"({10 / power:g} µm/px is usual); {way_out}"
        )
