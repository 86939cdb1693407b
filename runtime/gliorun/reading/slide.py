"""The only module that opens slides."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import numpy as np
import openslide
from numpy.typing import NDArray
from PIL import Image

from gliorun.card import MPP_RANGE
from gliorun.errors import GlioError, TileReadError
from gliorun.reading.tiles import TileSpec

Rgba = NDArray[np.uint8]

BLOCK_PX = 2048
"""Side of the blocks that an overview is read in, so that memory does not grow with the slide."""


@dataclass(frozen=True, slots=True)
class Scale:
    """Micrometres per level-0 pixel along x and y, and where they were found."""

    x_mpp: float
    y_mpp: float
    source: str


class Slide:
    """One whole-slide image; all reader threads share it.

    An OpenSlide handle is dead after its first read error, so such a read re-opens the file and
    tries once more. Associated images (label, macro) are never opened.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        if not path.exists():
            raise GlioError(f"{path}: no such file")
        try:
            self._handle = openslide.OpenSlide(path)
        except openslide.OpenSlideUnsupportedFormatError as error:
            raise GlioError(f"{path}: not a slide that OpenSlide can read, or damaged") from error
        except openslide.OpenSlideError as error:
            raise GlioError(f"{path}: damaged or truncated ({error})") from error

    def __enter__(self) -> Slide:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._handle.close()

    @property
    def size_l0(self) -> tuple[int, int]:
        """Width and height of level 0 in px."""
        width, height = self._handle.dimensions
        return width, height

    @property
    def vendor(self) -> str:
        """What OpenSlide calls the format."""
        return self._handle.properties.get(openslide.PROPERTY_NAME_VENDOR, "unknown")

    def scale(self, override_mpp: float | None = None) -> Scale:
        """Return the scale of level 0, `override_mpp` before what the slide says.

        Raises
        ------
        GlioError
            There is no scale, or not a sane one.
        """
        if override_mpp is not None:
            scale = Scale(override_mpp, override_mpp, "--mpp")
        else:
            properties = self._handle.properties
            try:
                scale = Scale(
                    float(properties[openslide.PROPERTY_NAME_MPP_X]),
                    float(properties[openslide.PROPERTY_NAME_MPP_Y]),
                    "slide",
                )
            except (KeyError, ValueError) as error:
                raise GlioError(
                    f"{self.path}: no micrometres per pixel; pass --mpp (0.25 for 40x, 0.5 for 20x)"
                ) from error
        low, high = MPP_RANGE
        for mpp in (scale.x_mpp, scale.y_mpp):
            if not low <= mpp <= high:  # also refuses NaN
                raise GlioError(
                    f"{self.path}: {mpp:g} micrometres per pixel is not from {low} to {high}; "
                    "pass --mpp"
                )
        return scale

    def read(self, spec: TileSpec, side_px: int) -> Rgba:
        """Return a tile, (side_px, side_px, 4) uint8 straight RGBA; alpha is 0 outside the slide.

        The level is the coarsest that still has the detail; the rest is resampling.

        Raises
        ------
        TileReadError
            The tile cannot be read, also not with a fresh handle.
        """
        downsample = min(spec.width_l0, spec.height_l0) / side_px
        level = self._handle.get_best_level_for_downsample(max(downsample, 1.0) * 1.01)
        factor = self._handle.level_downsamples[level]
        size = (max(1, round(spec.width_l0 / factor)), max(1, round(spec.height_l0 / factor)))
        region = self._read_region((spec.x_l0, spec.y_l0), level, size)
        if size != (side_px, side_px):
            region = region.resize((side_px, side_px), Image.Resampling.BICUBIC)
        return np.asarray(region)

    def overview(self, max_px: int) -> Rgba:
        """Return the whole slide, at most `max_px` a side: (H, W, 4) uint8 straight RGBA."""
        width, height = self.size_l0
        shrink = max(width, height) / min(max_px, max(width, height))
        level = self._handle.get_best_level_for_downsample(shrink)
        factor = self._handle.level_downsamples[level]
        shape = (max(1, round(height / shrink)), max(1, round(width / shrink)))
        block = max(1, int(BLOCK_PX * factor / shrink))
        overview = np.zeros((*shape, 4), dtype=np.uint8)
        for top in range(0, shape[0], block):
            for left in range(0, shape[1], block):
                part = overview[top : top + block, left : left + block]
                size = (
                    max(1, round(part.shape[1] * shrink / factor)),
                    max(1, round(part.shape[0] * shrink / factor)),
                )
                try:
                    region = self._read_region(
                        (round(left * shrink), round(top * shrink)), level, size
                    )
                except TileReadError:
                    continue  # stays transparent: no tissue can be seen there
                part[:] = np.asarray(
                    region.resize((part.shape[1], part.shape[0]), Image.Resampling.BOX)
                )
        return overview

    def _read_region(
        self, corner_l0: tuple[int, int], level: int, size: tuple[int, int]
    ) -> Image.Image:
        handle = self._handle
        try:
            return handle.read_region(corner_l0, level, size)
        except openslide.OpenSlideError:
            handle = self._reopened(handle)
        try:
            return handle.read_region(corner_l0, level, size)
        except openslide.OpenSlideError as error:
            self._reopened(handle)
            raise TileReadError(f"{self.path}: at {corner_l0}: {error}") from error

    def _reopened(self, broken: openslide.OpenSlide) -> openslide.OpenSlide:
        """Replace a broken handle once, whichever thread comes first, and return the new one.

        The broken one is closed when the last thread that still reads from it lets go of it.
        """
        with self._lock:
            if self._handle is broken:
                try:
                    self._handle = openslide.OpenSlide(self.path)
                except openslide.OpenSlideError as error:
                    raise GlioError(f"{self.path}: can no longer be opened ({error})") from error
            return self._handle
