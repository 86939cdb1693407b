"""The only module that opens slides.

OpenSlide defines how a slide looks; `jpegtiles` only gives the same bytes faster.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType

import numpy as np
import openslide
from numpy.typing import NDArray
from PIL import Image

from gliorun.errors import GlioError, TileReadError
from gliorun.reading.field import Field, read_field
from gliorun.reading.files import DICOM, followed
from gliorun.reading.jpegtiles import JpegTiles, Place
from gliorun.reading.refusal import is_dicom, why_not_opened, why_unknown
from gliorun.reading.scale import Scale, scale_of
from gliorun.reading.tiff import check_tiles
from gliorun.reading.tiles import Box, TileSpec

Rgba = NDArray[np.uint8]

BLOCK_PX = 2048
"""Side of the blocks that an overview is read in, so that memory does not grow with the slide."""
SMALLEST_PX = 64
"""Side below which an unreadable block of an overview is no longer divided."""
MOST_FAILURES = 100
"""Failed reads of an overview after which unreadable blocks are no longer divided: each failure
reopens the slide, and a slide that is damaged everywhere would cause thousands."""
UNREAD = 1
"""Alpha of overview pixels that cannot be read."""
DICOM_SERIES = "dicom.SeriesInstanceUID"
"""Property with the same value in all files of a DICOM slide."""
BOUNDS = (
    openslide.PROPERTY_NAME_BOUNDS_X,
    openslide.PROPERTY_NAME_BOUNDS_Y,
    openslide.PROPERTY_NAME_BOUNDS_WIDTH,
    openslide.PROPERTY_NAME_BOUNDS_HEIGHT,
)
PLAIN_VENDORS = ("aperio", "generic-tiff")
"""Vendors, by OpenSlide's names, whose TIFF tiles form a plain grid."""
POINTS_ELSEWHERE = "hamamatsu"
"""Vendor whose TIFFs have a directory of their own and no tiles."""
PROOFS = 12
"""Number of tiles that must be equal from `jpegtiles` and OpenSlide before it is used."""


class FieldImage(openslide.ImageSlide):
    """A field with the interface of an OpenSlide slide: one level, held in memory."""

    def __init__(self, field: Field) -> None:
        """Wrap an image that was read."""
        super().__init__(field.image)
        self._properties = {openslide.PROPERTY_NAME_VENDOR: field.format}
        if field.mpp is not None:
            names = openslide.PROPERTY_NAME_MPP_X, openslide.PROPERTY_NAME_MPP_Y
            self._properties.update(zip(names, map(str, field.mpp), strict=True))

    @property
    def properties(self) -> Mapping[str, str]:
        """The format of the image, and its scale if it states one."""
        return self._properties


class Slide:
    """One whole-slide image, or a field of one; all reader threads share it.

    `size_l0` is the width and height of level 0 in px. `jpeg_tiles` decodes tiles
    without OpenSlide; it is None if that is impossible.

    An OpenSlide handle is dead after its first read error, so such a read re-opens the file and
    tries once more. Associated images (label, macro) are never opened.
    """

    def __init__(self, path: Path, *, cache_mb: float = 32) -> None:
        """Open a slide; `cache_mb` bounds the decoded pixels that are kept for neighbours.

        For DICOM the path may be the folder or any file in it.
        """
        self.path = path
        self._cache = openslide.OpenSlideCache(int(cache_mb * 2**20))
        self._lock = threading.Lock()
        try:
            self._file = _file_of(path)
            self._handle = self._open()
            # after an error a handle answers no queries, so these are read once
            width, height = self._handle.dimensions
            self.size_l0 = (width, height)
            self._downsamples = self._handle.level_downsamples
            self._properties = dict(self._handle.properties)
            if self._properties.get(openslide.PROPERTY_NAME_VENDOR) != POINTS_ELSEWHERE:
                check_tiles(self._file)
        except OSError as error:
            raise GlioError(
                f"{path}: cannot be read ({error.strerror}); check that you may read it"
            ) from error
        self.jpeg_tiles = self._proven_tiles(cache_mb)
        if self.jpeg_tiles is not None:  # from now on decoded tiles are cached
            self._cache = openslide.OpenSlideCache(0)
            self._handle.set_cache(self._cache)

    def _open(self) -> openslide.AbstractSlide:
        """Open the slide with OpenSlide, or as a field if OpenSlide does not know the format."""
        try:
            handle = openslide.OpenSlide(self._file)
        except openslide.OpenSlideUnsupportedFormatError as error:
            field = read_field(self._file)
            if field is None:
                raise GlioError(f"{self._file}: {why_unknown(self._file)}") from error
            return FieldImage(field)
        except openslide.OpenSlideError as error:
            reason = why_not_opened(self._file, str(error))
            raise GlioError(f"{self._file}: {reason}") from error
        handle.set_cache(self._cache)
        return handle

    def __enter__(self) -> Slide:
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.jpeg_tiles is not None:
            self.jpeg_tiles.close()
        self._handle.close()

    @property
    def properties(self) -> Mapping[str, str]:
        """The properties of the file. Many may identify a patient, so use only selected ones."""
        return self._properties

    @property
    def bounds_l0(self) -> Box:
        """The part of the scan area that was scanned, as the file states it; by default all of it.

        QuPath shows only this part and counts from its corner. It takes the bounds from OpenSlide,
        if all four exist.
        """
        width_l0, height_l0 = self.size_l0
        try:
            left, top, width, height = (int(self._properties[name]) for name in BOUNDS)
        except (KeyError, ValueError):
            return 0, 0, width_l0, height_l0
        right, bottom = min(left + width, width_l0), min(top + height, height_l0)
        if not (0 <= left < right and 0 <= top < bottom):
            return 0, 0, width_l0, height_l0
        return left, top, right, bottom

    def scale(self, override_mpp: float | None = None) -> Scale:
        """Return the scale of level 0; `override_mpp` overrides the one that the slide states.

        Raises
        ------
        UsageError
            `override_mpp` is implausible.
        GlioError
            The slide states no scale, or an implausible one.
        """
        return scale_of(self.path, self._properties, override_mpp)

    def read(self, spec: TileSpec, side_px: int) -> Rgba:
        """Return a tile, (side_px, side_px, 4) uint8 straight RGBA; alpha is 0 outside the slide.

        It is resampled from the coarsest level that has enough detail.

        Raises
        ------
        TileReadError
            The tile cannot be read, even with a new handle.
        """
        downsample = min(spec.width_l0, spec.height_l0) / side_px
        level, factor = self._best_level(max(downsample, 1.0) * 1.01)
        size = (max(1, round(spec.width_l0 / factor)), max(1, round(spec.height_l0 / factor)))
        pixels = self._pixels((spec.x_l0, spec.y_l0), level, size)
        return resized(pixels, (side_px, side_px), Image.Resampling.BICUBIC)

    def px_decoded(self, downsample: float) -> float:
        """Return the side, in px of the file, that one px of a read at a downsample is made of."""
        return downsample / self._best_level(downsample * 1.01)[1]

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
        block = max(1, int(BLOCK_PX * factor / shrink))
        self._fill(overview, 0, 0, shrink, block, MOST_FAILURES)
        return overview

    def _fill(
        self, part: Rgba, top: int, left: int, shrink: float, block: int, patience: int
    ) -> int:
        """Fill `part`, which lies at (top, left) px of the overview, block by block.

        A block that cannot be read is tried again at a quarter of its side, down to `SMALLEST_PX`,
        while failures are left; return how many more failures are allowed.
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
                    patience -= 1
                    if patience > 0 and block * shrink / factor > SMALLEST_PX:
                        patience = self._fill(
                            piece, top + y, left + x, shrink, max(1, block // 4), patience
                        )
                    else:
                        piece[..., 3] = UNREAD
                    continue
                image = Image.fromarray(pixels).resize((columns, rows), Image.Resampling.BOX)
                piece[:] = np.asarray(image)
                piece[piece[..., 3] == UNREAD] = 0
        return patience

    def _proven_tiles(self, cache_mb: float) -> JpegTiles | None:
        """Return the direct tile reader if a sample of its tiles equals those of OpenSlide."""
        if self._properties.get(openslide.PROPERTY_NAME_VENDOR) not in PLAIN_VENDORS:
            return None
        try:
            tiles = JpegTiles(self._file, cache_mb)
        except Exception:  # a parser may fail in any way on a file that OpenSlide can read
            return None
        if tiles.size_px == self.size_l0:
            proofs = [self._is_proof(tiles, place) for place in tiles.samples(PROOFS)]
            if any(proofs) and False not in proofs:
                return tiles
        tiles.close()
        return None

    def _is_proof(self, tiles: JpegTiles, place: Place) -> bool | None:
        """Tell whether a tile equals that of OpenSlide; None if it cannot be decoded directly."""
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
        """Read a part of a level, through OpenSlide only if it cannot be decoded directly.

        A part of a coarser level may begin between two pixels; then OpenSlide draws it.
        """
        pixels = None
        if level == 0 and self.jpeg_tiles is not None:
            pixels = self.jpeg_tiles.read((*corner_l0, *size))
        if pixels is None:
            pixels = np.asarray(self._read_region(corner_l0, level, size))
        return pixels

    def _open_again(self) -> openslide.AbstractSlide:
        """Open a file that was open before.

        Raises
        ------
        GlioError
            It has gone meanwhile, or is another one.
        """
        try:
            return self._open()
        except OSError as error:
            raise GlioError(
                f"{self.path}: cannot be read any more ({error.strerror}); check that it is "
                "still there"
            ) from error

    def _read_region(
        self, corner_l0: tuple[int, int], level: int, size: tuple[int, int]
    ) -> Image.Image:
        """Read through the shared handle, and after an error once more through a new handle.

        So an intact tile never fails because another thread broke the handle. A new handle that
        works replaces the broken one, which is closed when its last reader has finished.
        """
        shared = self._handle
        try:
            return shared.read_region(corner_l0, level, size)
        except openslide.OpenSlideError:
            fresh = self._open_again()
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
    """Return pixels, (H, W, 4) uint8, resampled to (width, height) px if they have another size.

    If all are opaque, colours need not be weighted by alpha: the same bytes in two thirds the time.
    """
    before = pixels.shape[1], pixels.shape[0]
    if before == size:
        return pixels
    mode = "RGBX" if pixels[..., 3].min() == 255 else "RGBA"
    image = Image.frombuffer(mode, before, pixels, "raw", mode, 0, 1)
    return np.asarray(image.resize(size, how))


def dicom_in(folder: Path) -> Path | None:
    """Return a file of the DICOM slide in a folder; OpenSlide finds the others.

    If no file is a slide, it is any DICOM file, whose opening reports the fault, or None.

    Raises
    ------
    GlioError
        The folder holds several slides.
    """
    series: dict[str, Path] = {}
    files = sorted(file for file in folder.iterdir() if file.is_file())
    for file in [f for f in files if openslide.OpenSlide.detect_format(f) == "dicom"]:
        with suppress(openslide.OpenSlideError), openslide.OpenSlide(file) as slide:
            series.setdefault(slide.properties[DICOM_SERIES], file)
        if len(series) > 1:
            raise GlioError(f"{folder}: holds several DICOM slides; give each a folder of its own")
    if series:
        return next(iter(series.values()))
    return next((file for file in files if is_dicom(file)), None)


def _file_of(path: Path) -> Path:
    """Return the file that OpenSlide opens for a slide's path.

    Raises
    ------
    GlioError
        There is no such file, or it is a pipe that could block for ever.
    """
    if not path.exists():
        raise GlioError(f"{path}: no such file; check its name, and that its disk is there")
    if path.is_dir() or path.suffix.lower() == DICOM:
        folder = path if path.is_dir() else path.parent
        opened = [path, *folder.iterdir()]  # OpenSlide opens all of them
    else:
        opened = [path]
    for file in opened:
        if file.exists() and not (file.is_file() or file.is_dir()):
            what = "is" if file == path else f"beside it, {file.name} is"
            raise GlioError(f"{path}: {what} a pipe or a device and no file; move it away")
    slide_file = dicom_in(path) if path.is_dir() else followed(path)
    if slide_file is None:
        raise GlioError(
            f"{path}: a folder without a DICOM slide; name a slide, or "
            "--out-dir for a folder of slides"
        )
    return slide_file
