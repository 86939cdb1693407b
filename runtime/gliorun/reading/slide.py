"""The only module that opens slides.

OpenSlide says what a slide is and how it looks; `jpegtiles` only gets to the same bytes sooner.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import numpy as np
import openslide
from numpy.typing import NDArray
from PIL import Image

from gliorun.errors import GlioError, TileReadError
from gliorun.model.card import MPP_RANGE, check_mpp
from gliorun.reading.jpegtiles import JpegTiles, Place
from gliorun.reading.tiff import check_tiles
from gliorun.reading.tiles import TileSpec

Rgba = NDArray[np.uint8]

BLOCK_PX = 2048
"""Side of the blocks that an overview is read in, so that memory does not grow with the slide."""
SMALLEST_PX = 64
"""Side below which a block of an overview that cannot be read is given up."""
UNREAD = 1
"""Alpha of overview pixels that cannot be read."""
DICOM_SERIES = "dicom.SeriesInstanceUID"
"""Property that all files of a DICOM slide share."""
PLAIN_VENDORS = ("aperio", "generic-tiff")
"""Vendors, as OpenSlide names them, whose TIFF tiles lie side by side as in any TIFF."""
PROOFS = 12
"""Tiles that must come out of `jpegtiles` as out of OpenSlide before it is trusted."""


@dataclass(frozen=True, slots=True)
class Scale:
    """Micrometres per level-0 pixel along x and y, and where they were found."""

    x_mpp: float
    y_mpp: float
    source: str


class Slide:
    """One whole-slide image; all reader threads share it.

    `size_l0` is the width and height of level 0 in px. `jpeg_tiles` are those that need not go
    through OpenSlide, None where all do.

    An OpenSlide handle is dead after its first read error, so such a read re-opens the file and
    tries once more. Associated images (label, macro) are never opened.
    """

    def __init__(self, path: Path, *, cache_mb: float = 32) -> None:
        """Open a slide; `cache_mb` bounds the decoded pixels that are kept for neighbours.

        Of DICOM the path may be the folder, or any file in it.
        """
        self.path = path
        try:
            self._file = _file_of(path)
            check_tiles(self._file)
        except OSError as error:
            raise GlioError(
                f"{path}: cannot be read ({error.strerror}); check that you may read it"
            ) from error
        self._cache = openslide.OpenSlideCache(int(cache_mb * 2**20))
        self._lock = threading.Lock()
        self._handle = self._open()
        # a handle that has met an error answers nothing any more, so these are asked for once
        width, height = self._handle.dimensions
        self.size_l0 = (width, height)
        self._downsamples = self._handle.level_downsamples
        self._properties = dict(self._handle.properties)
        self.jpeg_tiles = self._proven_tiles(cache_mb)
        if self.jpeg_tiles is not None:  # which keeps what was decoded from now on
            self._cache = openslide.OpenSlideCache(0)
            self._handle.set_cache(self._cache)

    def _open(self) -> openslide.OpenSlide:
        try:
            handle = openslide.OpenSlide(self._file)
            handle.set_cache(self._cache)
            return handle
        except openslide.OpenSlideUnsupportedFormatError as error:
            if not self._file.stat().st_size:
                raise GlioError(f"{self.path}: is empty; copy it again") from error
            raise GlioError(
                f"{self.path}: not a slide that OpenSlide can read, or damaged; if it is one, "
                "copy it again"
            ) from error
        except openslide.OpenSlideError as error:
            raise GlioError(
                f"{self.path}: damaged or truncated ({error}); copy it again"
            ) from error

    def __enter__(self) -> Slide:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.jpeg_tiles is not None:
            self.jpeg_tiles.close()
        self._handle.close()

    @property
    def properties(self) -> Mapping[str, str]:
        """What the file says of itself; much of it may name a patient, so pick."""
        return self._properties

    def fingerprint(self) -> str:
        """Return a digest that changes when the file does: its size, time and OpenSlide's hash.

        OpenSlide's covers the metadata and the smallest level, also of slides of many files.
        """
        found = self._file.stat()
        told = (
            found.st_size,
            found.st_mtime_ns,
            self.size_l0,
            self._properties.get(openslide.PROPERTY_NAME_QUICKHASH1),
        )
        return hashlib.sha256(repr(told).encode()).hexdigest()

    @property
    def stated_scale(self) -> Scale | None:
        """What the slide says of its scale, sane or not; None if it says nothing."""
        try:
            return Scale(
                float(self._properties[openslide.PROPERTY_NAME_MPP_X]),
                float(self._properties[openslide.PROPERTY_NAME_MPP_Y]),
                "slide",
            )
        except (KeyError, ValueError):
            return None

    def scale(self, override_mpp: float | None = None) -> Scale:
        """Return the scale of level 0, `override_mpp` before what the slide says.

        Raises
        ------
        UsageError
            `override_mpp` is not sane.
        GlioError
            There is no scale, or not a sane one.
        """
        check_mpp(override_mpp)
        if override_mpp is not None:
            return Scale(override_mpp, override_mpp, "--mpp")
        scale = self.stated_scale
        if scale is None:
            raise GlioError(
                f"{self.path}: no micrometres per pixel; pass --mpp (0.25 for 40x, 0.5 for 20x)"
            )
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
        level, factor = self._best_level(max(downsample, 1.0) * 1.01)
        size = (max(1, round(spec.width_l0 / factor)), max(1, round(spec.height_l0 / factor)))
        pixels = self._pixels((spec.x_l0, spec.y_l0), level, size)
        return resized(pixels, (side_px, side_px), Image.Resampling.BICUBIC)

    def overview(self, max_px: int) -> Rgba:
        """Return the whole slide, at most `max_px` a side: (H, W, 4) uint8 straight RGBA.

        Alpha is `UNREAD` where the slide cannot be read and 0 where it has no pixel.
        """
        width, height = self.size_l0
        shrink = max(1.0, max(width, height) / max_px)
        overview = np.zeros(
            (max(1, round(height / shrink)), max(1, round(width / shrink)), 4), dtype=np.uint8
        )
        _, factor = self._best_level(shrink)
        self._fill(overview, 0, 0, shrink, max(1, int(BLOCK_PX * factor / shrink)))
        return overview

    def _fill(self, part: Rgba, top: int, left: int, shrink: float, block: int) -> None:
        """Fill `part`, which lies at (top, left) px of the overview, block by block.

        A block that cannot be read is tried again at a quarter of its side, down to `SMALLEST_PX`.
        """
        level, factor = self._best_level(shrink)
        for y in range(0, part.shape[0], block):
            for x in range(0, part.shape[1], block):
                piece = part[y : y + block, x : x + block]
                rows, columns, _ = piece.shape
                corner = (round((left + x) * shrink), round((top + y) * shrink))
                size = (
                    max(1, round(columns * shrink / factor)),
                    max(1, round(rows * shrink / factor)),
                )
                try:
                    pixels = self._pixels(corner, level, size)
                except TileReadError:
                    if block * shrink / factor > SMALLEST_PX:
                        self._fill(piece, top + y, left + x, shrink, max(1, block // 4))
                    else:
                        piece[..., 3] = UNREAD
                    continue
                image = Image.fromarray(pixels).resize((columns, rows), Image.Resampling.BOX)
                piece[:] = np.asarray(image)
                piece[piece[..., 3] == UNREAD] = 0

    def _proven_tiles(self, cache_mb: float) -> JpegTiles | None:
        """Return the tiles of level 0 if some of them, all over the slide, are OpenSlide's."""
        if self._properties.get(openslide.PROPERTY_NAME_VENDOR) not in PLAIN_VENDORS:
            return None
        try:
            tiles = JpegTiles(self._file, cache_mb)
        except Exception:  # whatever a parser may make of a file that OpenSlide can read
            return None
        if tiles.size_px == self.size_l0:
            proofs = [self._is_proof(tiles, place) for place in tiles.samples(PROOFS)]
            if any(proofs) and False not in proofs:
                return tiles
        tiles.close()
        return None

    def _is_proof(self, tiles: JpegTiles, place: Place) -> bool | None:
        """Tell whether a tile is OpenSlide's to the byte; None if it is left to OpenSlide."""
        pixels = tiles.read(place)
        if pixels is None:
            return None
        left, top, *size = place
        try:
            drawn = self._read_region((left, top), 0, (size[0], size[1]))
        except TileReadError:
            return False
        return np.array_equal(pixels, np.asarray(drawn))

    def _best_level(self, downsample: float) -> tuple[int, float]:
        """Return the coarsest level that is not coarser than `downsample`, and its factor."""
        fits = [i for i, factor in enumerate(self._downsamples) if factor <= downsample]
        level = max(fits, key=self._downsamples.__getitem__, default=0)
        return level, self._downsamples[level]

    def _pixels(self, corner_l0: tuple[int, int], level: int, size: tuple[int, int]) -> Rgba:
        """Read a part of a level, by way of OpenSlide only where there is no other.

        A part of a coarser level may begin between two pixels, which is OpenSlide's to draw.
        """
        pixels = None
        if level == 0 and self.jpeg_tiles is not None:
            pixels = self.jpeg_tiles.read((*corner_l0, *size))
        if pixels is None:
            pixels = np.asarray(self._read_region(corner_l0, level, size))
        return pixels

    def _read_region(
        self, corner_l0: tuple[int, int], level: int, size: tuple[int, int]
    ) -> Image.Image:
        """Read through the shared handle, and after an error once more through one of our own.

        So a sound tile never fails because another thread broke the handle. A handle that read
        well takes the broken one's place; the broken one is closed when its last reader lets go.
        """
        shared = self._handle
        try:
            return shared.read_region(corner_l0, level, size)
        except openslide.OpenSlideError:
            fresh = self._open()
        try:
            region = fresh.read_region(corner_l0, level, size)
        except openslide.OpenSlideError as error:
            fresh.close()
            raise TileReadError(f"{self.path}: at {corner_l0}: {error}") from error
        with self._lock:
            if self._handle is shared:
                self._handle = fresh
        return region


def resized(
    pixels: Rgba, size: tuple[int, int], how: Image.Resampling = Image.Resampling.BOX
) -> Rgba:
    """Return pixels, (H, W, 4) uint8, resampled to (width, height) px; as they were at their size.

    Where all is opaque alpha need not weigh the colours: the same bytes in two thirds of the time.
    """
    before = pixels.shape[1], pixels.shape[0]
    if before == size:
        return pixels
    mode = "RGBX" if pixels[..., 3].min() == 255 else "RGBA"
    image = Image.frombuffer(mode, before, pixels, "raw", mode, 0, 1)
    return np.asarray(image.resize(size, how))


def dicom_in(folder: Path) -> Path | None:
    """Return a file of a DICOM slide in a folder, None without one; OpenSlide finds the others.

    Raises
    ------
    GlioError
        The folder holds several slides.
    """
    found: dict[str, Path] = {}
    files = sorted(file for file in folder.iterdir() if file.is_file())
    for file in [f for f in files if openslide.OpenSlide.detect_format(f) == "dicom"]:
        with suppress(openslide.OpenSlideError), openslide.OpenSlide(file) as slide:
            found.setdefault(slide.properties[DICOM_SERIES], file)
        if len(found) > 1:
            raise GlioError(f"{folder}: holds several DICOM slides; give each a folder of its own")
    return next(iter(found.values()), None)


def _file_of(path: Path) -> Path:
    """Return the file that OpenSlide opens for a slide's path."""
    if not path.exists():
        raise GlioError(f"{path}: no such file; check its name, and that its disk is there")
    found = dicom_in(path) if path.is_dir() else path
    if found is None:
        raise GlioError(
            f"{path}: a folder without a DICOM slide; name a slide, or "
            "--out-dir for a folder of slides"
        )
    return found
