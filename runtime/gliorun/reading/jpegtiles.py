"""Decode level 0 of a TIFF of JPEG tiles directly, tile by tile.

OpenSlide defines how a slide looks. But it draws every region pixel by pixel onto a canvas, which
takes three times as long as decoding; here the rows of the tiles are copied, which gives the same
bytes. `Slide` verifies that on every slide, and asks OpenSlide wherever this module returns None.

The decoder is simplejpeg, because it refuses the damaged tiles that OpenSlide refuses. Most other
decoders turn them into grey or striped pixels where libjpeg only warns.
"""

from __future__ import annotations

import logging
import threading
from pathlib import Path
from typing import BinaryIO

import numpy as np
import simplejpeg
import tifffile
from numpy.typing import NDArray

from gliorun.reading.tiff import directories

Rgba = NDArray[np.uint8]
Place = tuple[int, int, int, int]
"""Left, top, width and height of a part of level 0 in px."""

JPEG, CONTIGUOUS = 7, 1
"""Compression and planar configuration of a TIFF."""
COLOUR_SPACES = {2: "RGB", 6: "YCbCr"}
"""Colour space of the JPEG tiles, by the photometric interpretation of the TIFF."""
LARGEST_PX = 2048
"""Largest side of a tile; slides with larger tiles are left to OpenSlide."""
START_OF_IMAGE = b"\xff\xd8"
ADOBE = b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00"
"""A JPEG marker without its last byte, which is 0 for RGB and 1 for YCbCr."""

logging.getLogger("tifffile").addHandler(
    logging.NullHandler()
)  # otherwise it prints the content of slides to stderr


def decoded_rgb(content: bytes) -> NDArray[np.uint8]:
    """Return a JPEG as (H, W, 3) uint8.

    Raises
    ------
    ValueError
        It is damaged, even if other decoders would only leave pixels grey.
    """
    pixels: NDArray[np.uint8] = simplejpeg.decode_jpeg(content, "RGB")
    return pixels


class JpegTiles:
    """The JPEG tiles of level 0; all reader threads share them.

    Tiles that reach beyond the region read are cached for its neighbours; the oldest are dropped.
    """

    def __init__(self, path: Path, cache_mb: float) -> None:
        """Open a TIFF; `cache_mb` bounds the decoded pixels that are kept.

        Raises
        ------
        ValueError
            The first page is not made of JPEG tiles in 8-bit colour, or the file is no TIFF.
        """
        first = next(directories(path), None)
        if first is None or not first.is_bounded:
            raise ValueError("no TIFF, or one with tags of any length")
        with tifffile.TiffFile(path) as tiff:
            page = tiff.pages.first
            shown = page.is_tiled, page.compression, page.planarconfig, page.samplesperpixel
            if shown != (True, JPEG, CONTIGUOUS, 3) or page.bitspersample != 8:
                raise ValueError("not of JPEG tiles in colour")
            self.size_px: tuple[int, int] = page.imagewidth, page.imagelength
            self.tile_px: tuple[int, int] = page.tilewidth, page.tilelength
            self._colour_space = COLOUR_SPACES[page.photometric]
            self._offsets = np.array(page.dataoffsets, dtype=np.uint64)
            self._lengths = np.array(page.databytecounts, dtype=np.uint64)
            tables = page.jpegtables or b""
        self._columns, self._rows = (
            -(-side // of_tile) for side, of_tile in zip(self.size_px, self.tile_px, strict=True)
        )
        if not len(self._offsets) == len(self._lengths) == self._columns * self._rows > 0:
            raise ValueError("a list of tiles that is too short or too long")
        if max(self.tile_px) > LARGEST_PX:
            raise ValueError("enormous tiles")
        transform = bytes([self._colour_space == "YCbCr"])
        self._header = START_OF_IMAGE + tables[2:-2] + ADOBE + transform
        self._tile_bytes = 4 * self.tile_px[0] * self.tile_px[1]
        self._most_kept = int(cache_mb * 2**20) // self._tile_bytes
        self._kept: dict[int, Rgba] = {}
        self._lock = threading.Lock()
        self._path = path
        self._files: list[BinaryIO] = []

    def close(self) -> None:
        """Close the file; no thread may be reading."""
        while self._files:
            self._files.pop().close()

    def samples(self, count: int) -> list[Place]:
        """Return the places of some tiles: the longest, spread over the slide, and the last one."""
        parts = np.array_split(np.arange(len(self._lengths)), min(count, len(self._lengths)))
        chosen = {int(part[self._lengths[part].argmax()]) for part in parts}
        width, height = self.tile_px
        return [
            (index % self._columns * width, index // self._columns * height, width, height)
            for index in sorted(chosen | {len(self._lengths) - 1})
        ]

    def read(self, place: Place) -> Rgba | None:
        """Return a part of level 0, (height, width, 4) uint8 straight RGBA, 0 outside the slide.

        None means that a tile is missing, damaged or unusual in any way.
        """
        left, top, width, height = place
        right, bottom = min(left + width, self.size_px[0]), min(top + height, self.size_px[1])
        of_tile = self.tile_px
        region = np.zeros((height, width, 4), dtype=np.uint8)
        for row in range(max(top, 0) // of_tile[1], -(-bottom // of_tile[1])):
            y = row * of_tile[1]
            low, high = max(top, y), min(bottom, y + of_tile[1])
            for column in range(max(left, 0) // of_tile[0], -(-right // of_tile[0])):
                x = column * of_tile[0]
                start, end = max(left, x), min(right, x + of_tile[0])
                shared = (end - start, high - low) != of_tile
                tile = self._tile(row * self._columns + column, shared)
                if tile is None:
                    return None
                region[low - top : high - top, start - left : end - left] = tile[
                    low - y : high - y, start - x : end - x
                ]
        return region

    def _tile(self, index: int, keep: bool) -> Rgba | None:
        with self._lock:
            tile = self._kept.pop(index, None)
            if tile is not None:
                self._kept[index] = tile  # now the most recent
                return tile
        try:
            tile = self._decoded(self._encoded(index))
        except (OSError, ValueError, OverflowError, RuntimeError):  # of files and simplejpeg
            return None
        if keep:
            with self._lock:
                self._kept[index] = tile
                while len(self._kept) > self._most_kept:
                    del self._kept[next(iter(self._kept))]
        return tile

    def _encoded(self, index: int) -> bytes:
        """Read a tile through a file that no other thread is using."""
        length = int(self._lengths[index])
        if not len(START_OF_IMAGE) < length <= self._tile_bytes:
            raise ValueError("missing, or larger than its pixels")
        try:
            file = self._files.pop()
        except IndexError:
            file = self._path.open("rb")
        try:
            file.seek(int(self._offsets[index]))
            content = file.read(length)
        finally:
            self._files.append(file)
        if len(content) < length or not content.startswith(START_OF_IMAGE):
            raise ValueError("truncated, or no JPEG")
        return content

    def _decoded(self, content: bytes) -> Rgba:
        jpeg = self._header + content[len(START_OF_IMAGE) :]
        height, width, space, _ = simplejpeg.decode_jpeg_header(jpeg)
        if (width, height) != self.tile_px or space != self._colour_space:
            raise ValueError("another size or colour space than its neighbours")
        pixels: Rgba = simplejpeg.decode_jpeg(jpeg, "RGBA")
        return pixels
