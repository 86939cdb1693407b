"""Write encoded JPEG images into one BigTIFF."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from typing import BinaryIO

TiffTag = tuple[int, int, int, bytes]
"""A TIFF tag: number, type, count, value."""

SHORT, LONG, ASCII, LONG8 = 3, 4, 2, 16
HEADER = struct.Struct("<2sHHHQ")
POINTER_AT = 8
"""Offset in the header of the pointer to the first directory."""


@dataclass(frozen=True, slots=True)
class Level:
    """One image of the pyramid: its size and tile size in px, and its description."""

    width: int
    height: int
    tile_px: int
    description: str


class PyramidWriter:
    """Writes the levels of a pyramid one after the other, largest first.

    With `share`, tiles with equal bytes are stored once and referenced from every place. The TIFF
    specification asks for separate copies; libtiff, OpenSlide and tifffile read both alike.
    """

    def __init__(self, stream: BinaryIO, *, share: bool) -> None:
        self._stream = stream
        self._share = share
        self._pointer_at = POINTER_AT
        stream.write(HEADER.pack(b"II", 43, 8, 0, 0))

    def write(self, level: Level, tiles: Iterable[bytes]) -> None:
        """Write a level from its JPEG tiles (YCbCr, colour at half resolution), row by row.

        Raises
        ------
        ValueError
            There are more or fewer tiles than the level has places.
        """
        stored: dict[bytes, int] = {}
        offsets, lengths = [], []
        for tile in tiles:
            at = stored.get(tile) if self._share else None
            if at is None:
                at = stored[tile] = self._append(tile)
            offsets.append(at)
            lengths.append(len(tile))
        places = -(-level.width // level.tile_px) * -(-level.height // level.tile_px)
        if len(offsets) != places:
            raise ValueError(f"{len(offsets)} tiles for {places} places")
        self._append_directory(
            [
                *_image(level.width, level.height, level.description),
                _long(322, level.tile_px),
                _long(323, level.tile_px),
                (324, LONG8, len(offsets), struct.pack(f"<{len(offsets)}Q", *offsets)),
                (325, LONG, len(lengths), struct.pack(f"<{len(lengths)}I", *lengths)),
            ]
        )

    def write_thumbnail(self, width: int, height: int, jpeg: bytes, description: str) -> None:
        """Write an image as a single strip, by which readers distinguish it from a level."""
        self._append_directory(
            [
                *_image(width, height, description),
                (273, LONG8, 1, struct.pack("<Q", self._append(jpeg))),
                _long(278, height),
                _long(279, len(jpeg)),
            ]
        )

    def _append(self, content: bytes) -> int:
        """Append bytes at an even offset, and return that offset."""
        at = self._stream.seek(0, 2)
        if at % 2:
            self._stream.write(b"\0")
            at += 1
        self._stream.write(content)
        return at

    def _append_directory(self, tags: list[TiffTag]) -> None:
        packed = b"".join(self._packed(tag) for tag in sorted(tags))
        at = self._append(struct.pack("<Q", len(tags)) + packed + struct.pack("<Q", 0))
        self._stream.seek(self._pointer_at)
        self._stream.write(struct.pack("<Q", at))
        self._pointer_at = at + 8 + len(packed)

    def _packed(self, tag: TiffTag) -> bytes:
        """Return a tag packed for a directory; a value of more than 8 bytes is stored elsewhere."""
        number, field_type, count, value = tag
        if len(value) > 8:
            value = struct.pack("<Q", self._append(value))
        return struct.pack("<HHQ", number, field_type, count) + value.ljust(8, b"\0")


def _image(width: int, height: int, description: str) -> list[TiffTag]:
    return [
        _long(254, 0),  # Aperio marks only label and macro image as reduced
        _long(256, width),
        _long(257, height),
        _short(258, 8, 8, 8),
        _short(259, 7),  # JPEG
        _short(262, 6),  # YCbCr
        _text(270, description),
        _short(277, 3),
        _short(284, 1),
        _short(530, 2, 2),
    ]


def _short(number: int, *values: int) -> TiffTag:
    return number, SHORT, len(values), struct.pack(f"<{len(values)}H", *values)


def _long(number: int, value: int) -> TiffTag:
    return number, LONG, 1, struct.pack("<I", value)


def _text(number: int, text: str) -> TiffTag:
    value = text.encode("ascii") + b"\0"
    return number, ASCII, len(value), value
