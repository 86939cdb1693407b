"""Read and check the directories of a TIFF, which OpenSlide does not verify."""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Generator, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from gliorun.errors import GlioError

LAYOUTS = {b"II*\0": ("<", False), b"MM\0*": (">", False), b"II+\0": ("<", True),
           b"MM\0+": (">", True)}  # fmt: skip
"""Byte order, and whether offsets are of 64 bits, by the first bytes of a TIFF."""
INTEGERS = {1: "B", 3: "H", 4: "I", 16: "Q"}
"""Types of values that are whole numbers."""
MOST_ENTRIES = 200_000
"""Most directory entries that are read: 4 MB, some 10,000 images."""

LARGEST_FILE = 2**62
"""No file is larger; beyond this offset seek() fails instead of reading nothing."""
MOST_VALUES = 2**26
"""Most tag values of an image that is passed to a reader which loads all of them."""

SUBFILE, WIDTH, LENGTH, BITS, COMPRESSION, ORIENTATION = 254, 256, 257, 258, 259, 274
STRIP_OFFSETS, SAMPLES, STRIP_ROWS, STRIP_COUNTS, PLANAR = 273, 277, 278, 279, 284
TILE_WIDTH, TILE_LENGTH, TILE_OFFSETS, TILE_COUNTS, DEPTH = 322, 323, 324, 325, 32997
JPEG, APERIO_JPEG_2000 = 7, (33003, 33005)
UPRIGHT, SEPARATE_PLANES, REDUCED = 1, 2, 1
MOST_BITS = 16
"""Most bits per colour that libtiff draws."""


@dataclass(frozen=True, slots=True)
class Directory:
    """One image of a TIFF: the number of values of each tag, and the value if there is only one.

    For the bits, which are listed colour by colour, it is the first value.
    """

    counts: Mapping[int, int]
    values: Mapping[int, int]

    @property
    def is_tiled(self) -> bool:
        """Whether its pixels lie in tiles."""
        return TILE_WIDTH in self.counts and TILE_LENGTH in self.counts

    @property
    def compression(self) -> int:
        """How its pixels are compressed."""
        return self.values.get(COMPRESSION, 1)

    @property
    def is_turned(self) -> bool:
        """Whether its first pixel is not the top left corner."""
        return 1 < self.values.get(ORIENTATION, UPRIGHT) <= 8

    @property
    def is_bounded(self) -> bool:
        """Whether a reader that loads all values of all tags stays within memory."""
        return sum(self.counts.values()) <= MOST_VALUES

    def parts_needed(self) -> int:
        """Return how many tiles or strips cover its size; 0 if the size is unknown."""
        width, length = self.values.get(WIDTH, 0), self.values.get(LENGTH, 0)
        if self.is_tiled:
            sides = self.values.get(TILE_WIDTH, 0), self.values.get(TILE_LENGTH, 0)
        else:
            sides = width, min(self.values.get(STRIP_ROWS, length), length)
        if not all(sides):
            return 0
        planes = 1
        if self.values.get(PLANAR) == SEPARATE_PLANES:
            planes = self.values.get(SAMPLES, 1)
        depth = self.values.get(DEPTH, 1)
        return math.ceil(width / sides[0]) * math.ceil(length / sides[1]) * depth * planes


def directories(path: Path) -> Generator[Directory]:
    """Yield the images of a TIFF in file order; nothing for a file of another format.

    In a damaged file the offsets may point anywhere: reading ends at an offset that was seen before
    or lies outside the file, and after `MOST_ENTRIES`.
    """
    with path.open("rb") as file, suppress(struct.error):  # the file ends too early
        size = os.fstat(file.fileno()).st_size
        layout = LAYOUTS.get(file.read(4))
        if layout is None:
            return
        order, big = layout
        number = struct.Struct(order + ("Q" if big else "H"))
        entry = struct.Struct(order + ("HHQ8s" if big else "HHI4s"))
        pointer = struct.Struct(order + ("Q" if big else "I"))
        file.seek(8 if big else 4)
        (place,) = pointer.unpack(file.read(pointer.size))
        been: set[int] = set()
        steps = 0
        while 0 < place < size and place not in been:
            been.add(place)
            file.seek(place)
            (entries,) = number.unpack(file.read(number.size))
            steps += entries + 1
            if steps > MOST_ENTRIES:
                return
            table = file.read(entries * entry.size)
            (place,) = pointer.unpack(file.read(pointer.size))
            yield _directory(file, order, entry.iter_unpack(table))


def _directory(
    file: BinaryIO, order: str, entries: Iterable[tuple[int, int, int, bytes]]
) -> Directory:
    counts, values = {}, {}
    for tag, field_type, count, content in entries:
        counts[tag] = count
        form = struct.Struct(order + INTEGERS.get(field_type, ""))
        if not 0 < form.size <= len(content) or (count > 1 and tag != BITS):
            continue
        if count * form.size > len(content):  # then it is an offset of the values
            (place,) = struct.unpack(order + ("I" if len(content) == 4 else "Q"), content)
            file.seek(min(place, LARGEST_FILE))
            content = file.read(form.size)
        (values[tag],) = form.unpack_from(content)
    return Directory(counts, values)


def check_tiles(path: Path) -> None:
    """Refuse a TIFF that OpenSlide opens and draws wrongly; files of other formats pass.

    OpenSlide trusts the number of tiles: with a wrong width every row of tiles would be shifted
    against the previous one. If an image is stored turned or mirrored, libtiff turns each tile by
    itself, which scrambles the image; only JPEG is unaffected. OpenSlide also opens images of more
    than 16 bits per colour, but draws nothing.

    Raises
    ------
    GlioError
        The size of an image contradicts its tiles, or the image is turned, or its pixel type is
        not drawable.
    """
    for image in directories(path):
        if image.is_tiled:
            _check_number(path, image, TILE_OFFSETS, TILE_COUNTS)
            _check_orientation(path, image)
            if (bits := image.values.get(BITS, 1)) > MOST_BITS:
                raise GlioError(
                    f"{path}: {bits} bits a colour, of which OpenSlide draws nothing; save it "
                    "with 8 bits"
                )


def _check_number(path: Path, image: Directory, *lists: int) -> None:
    needed = image.parts_needed()
    parts = "tiles" if image.is_tiled else "strips"
    for tag in lists:
        listed = image.counts.get(tag, needed)
        if needed and listed != needed:
            raise GlioError(
                f"{path}: damaged: {image.values[WIDTH]} x {image.values[LENGTH]} px need "
                f"{needed} {parts}, the file lists {listed}; copy it again"
            )


def _check_orientation(path: Path, image: Directory) -> None:
    if image.is_turned and image.compression not in (JPEG, *APERIO_JPEG_2000):
        raise GlioError(
            f"{path}: is stored turned or mirrored (TIFF orientation "
            f"{image.values[ORIENTATION]}), of which OpenSlide turns every tile by itself; save it "
            "upright, for example with 'vips autorot IN OUT.tif[tile,pyramid]'"
        )


def has_strips(path: Path) -> bool:
    """Tell whether a file is a TIFF of one image in strips; smaller copies of it may follow.

    Raises
    ------
    GlioError
        The file holds several such images, or strips are missing.
    """
    images = [image for image in directories(path) if not image.values.get(SUBFILE, 0) & REDUCED]
    if not images or images[0].is_tiled or not images[0].is_bounded:
        return False
    if STRIP_OFFSETS not in images[0].counts:
        return False
    if len(images) > 1:
        raise GlioError(f"{path}: holds {len(images)} images; save the one to measure by itself")
    _check_number(path, images[0], STRIP_OFFSETS, STRIP_COUNTS)
    return True
