"""Slides that are damaged in every way we could think of, each a function of a seed."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tifffile

import slides
from gliorun import demo

SIZE_PX = 1500, 1000
"""Width and height: 4 x 3 map tiles, 6 x 4 tiles of the file."""

WIDTH, HEIGHT, BITS, COMPRESSION, SAMPLES = 256, 257, 258, 259, 277
TILE_WIDTH, TILE_HEIGHT, OFFSETS, COUNTS, DESCRIPTION = 322, 323, 324, 325, 270
MAD_SIDES = 0, 1, 7, 40, 700, 2900, 65_000, 2**31 - 1
MAD_SCALES = (
    b"MPP = 0.00",
    b"MPP = -1.2",
    b"MPP = nanX",
    b"MPP = 1e99",
    b"MPQ = 0.25",
    b"MPP = ????",
)


@dataclass(frozen=True, slots=True)
class Parts:
    """Where the parts of a sound TIFF lie.

    Parameters
    ----------
    tags : dict of int to (int, int, int)
        Of the first directory by code: where its value lies, its type, and the number of values.
    tiles : list of (int, int)
        Offset and length of each tile of the first directory.
    directories : list of int
        Offset of each.
    """

    tags: dict[int, tuple[int, int, int]]
    tiles: list[tuple[int, int]]
    directories: list[int]


@dataclass(frozen=True, slots=True)
class Mutation:
    """What was done to a slide, in words, and the bytes that came of it."""

    what: str
    content: bytes


def sound(folder: Path) -> dict[str, Path]:
    """Write one sound slide of each kind and return them by name."""
    pixels = slides.all_tissue(*SIZE_PX, density=0.12)
    paths = {kind: folder / f"{kind}.{suffix}" for kind, suffix in KINDS.items()}
    demo.write_slide(paths["aperio"], pixels, mpp=0.25, levels=2)
    slides.tiled_tiff(paths["generic"], pixels, "jpeg")
    slides.tiled_tiff(paths["deflate"], pixels, "deflate")
    tifffile.imwrite(
        paths["jpeg2000"],
        pixels,
        tile=(256, 256),
        photometric="rgb",
        compression="aperio_jp2000_rgb",
        compressionargs={"level": 40},
        metadata=None,
        description=f"Aperio Image Library v12\n{SIZE_PX[0]}x{SIZE_PX[1]} J2K|MPP = 0.25",
    )
    return paths


KINDS = {"aperio": "svs", "generic": "tif", "deflate": "tif", "jpeg2000": "svs"}


def parts_of(whole: Path) -> Parts:
    """Return where the parts of a sound slide lie."""
    with tifffile.TiffFile(whole) as slide:
        page = slide.pages[0]
        tags = {tag.code: (tag.valueoffset, tag.dtype, tag.count) for tag in page.tags}
        tiles = list(zip(page.dataoffsets, page.databytecounts, strict=True))
        return Parts(tags, tiles, [page.offset for page in slide.pages])


def mutations(whole: Path, seeds: Iterable[int]) -> Iterator[Mutation]:
    """Yield a way to damage a sound slide for each seed; neighbouring seeds are of other ways."""
    content, parts = whole.read_bytes(), parts_of(whole)
    for seed in seeds:
        way = WAYS[seed % len(WAYS)]
        mutated = bytearray(content)
        what = way(mutated, parts, np.random.default_rng(seed))
        yield Mutation(f"{way.__name__[1:]}: {what}", bytes(mutated))


def _flip_pixels(content: bytearray, parts: Parts, random: np.random.Generator) -> str:
    number = int(random.choice([1, 3, 30]))
    for _ in range(number):
        start, length = parts.tiles[random.integers(len(parts.tiles))]
        content[start + random.integers(length)] ^= 1 << random.integers(8)
    return f"{number} bits of pixel data"


def _flip_header(content: bytearray, parts: Parts, random: np.random.Generator) -> str:
    entry = list(parts.tags)[random.integers(len(parts.tags))]
    at = max(0, parts.tags[entry][0] - 12) + int(random.integers(16))
    content[at] ^= 1 << random.integers(8)
    content[random.integers(16)] ^= int(random.integers(2)) << random.integers(8)
    return f"bits near tag {entry}"


def _cut(content: bytearray, parts: Parts, random: np.random.Generator) -> str:
    keep = int(len(content) * random.choice([0.01, 0.3, 0.8, 0.97, 0.999]))
    del content[keep:]
    return f"to {keep} bytes"


def _empty_tile(content: bytearray, parts: Parts, random: np.random.Generator) -> str:
    return _patch_array(content, parts, COUNTS, random, int(random.choice([0, 0, 1, 5])))


def _move_tile(content: bytearray, parts: Parts, random: np.random.Generator) -> str:
    return _patch_array(
        content, parts, OFFSETS, random, int(random.choice([0, 8, len(content), 2**31]))
    )


def _lie(content: bytearray, parts: Parts, random: np.random.Generator) -> str:
    return _patch(
        content, parts, int(random.choice([WIDTH, HEIGHT])), int(random.choice(MAD_SIDES))
    )


def _mad_tile(content: bytearray, parts: Parts, random: np.random.Generator) -> str:
    code = int(random.choice([TILE_WIDTH, TILE_HEIGHT, BITS, COMPRESSION, SAMPLES]))
    return _patch(content, parts, code, int(random.choice([0, 1, 5, 16, 240, 33_003, 65_520])))


def _rescale(content: bytearray, parts: Parts, random: np.random.Generator) -> str:
    text = MAD_SCALES[random.integers(len(MAD_SCALES))]
    start = content.find(b"MPP = 0.25")
    if start < 0:
        return _patch(content, parts, 282, 0)  # the resolution of a plain TIFF lies elsewhere
    content[start : start + len(text)] = text
    return text.decode()


def _patch(content: bytearray, parts: Parts, code: int, value: int) -> str:
    set_tag(content, parts, code, value)
    return f"tag {code} is {value}"


def _patch_array(
    content: bytearray, parts: Parts, code: int, random: np.random.Generator, value: int
) -> str:
    index = int(random.integers(parts.tags[code][2]))
    set_tag(content, parts, code, value, index)
    return f"entry {index} of tag {code} is {value}"


def set_tag(content: bytearray, parts: Parts, code: int, value: int, index: int = 0) -> None:
    """Set a value of a tag of the first directory, modulo what its type holds."""
    at, kind, _ = parts.tags[code]
    form = "<H" if kind == 3 else "<I"
    side = struct.calcsize(form)
    struct.pack_into(form, content, at + index * side, value % (1 << 8 * side))


def _loop(content: bytearray, parts: Parts, random: np.random.Generator) -> str:
    """Have a directory name one that came before it, or itself, as the next."""
    number = int(random.integers(len(parts.directories)))
    to = int(random.integers(number + 1))
    struct.pack_into("<I", content, next_at(content, parts, number), parts.directories[to])
    return f"directory {number} goes on with {to}"


def _turn(content: bytearray, parts: Parts, random: np.random.Generator) -> str:
    """Say in a new first directory, at the end of the file, that the image lies turned."""
    code, value = 274, int(random.integers(2, 9))
    start, link = parts.directories[0], next_at(content, parts, 0)
    entries = [content[k : k + 12] for k in range(start + 2, link, 12)]
    entries.append(bytearray(struct.pack("<HHIHH", code, 3, 1, value, 0)))
    entries.sort(key=lambda entry: int.from_bytes(entry[:2], "little"))
    turned = struct.pack("<H", len(entries)) + b"".join(entries) + content[link : link + 4]
    content += bytes(len(content) % 2)
    struct.pack_into("<I", content, 4, len(content))
    content += turned
    return f"orientation is {value}"


def _tiny(content: bytearray, parts: Parts, random: np.random.Generator) -> str:
    """Leave what begins as a TIFF and ends at once, sometimes within its first word."""
    start = bytes(random.choice([b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"])).ljust(4, b"\0")
    content[:] = (start + random.bytes(4))[: random.integers(1, 9)]
    return f"{len(content)} bytes"


def next_at(content: bytearray, parts: Parts, number: int) -> int:
    """Return where a directory says which one comes next."""
    start = parts.directories[number]
    (entries,) = struct.unpack_from("<H", content, start)
    return start + 2 + 12 * int(entries)


WAYS: tuple[Callable[[bytearray, Parts, np.random.Generator], str], ...] = (
    _flip_pixels, _flip_header, _cut, _empty_tile, _move_tile, _lie, _mad_tile, _rescale,
    _loop, _turn, _tiny,
)  # fmt: skip
"""Each changes the bytes of a slide and says how."""
