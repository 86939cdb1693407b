"""Slides that are damaged in every way we could think of, each a function of a seed."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tifffile

import slides
from gliorun import demo

SIZE_PX = 1500, 1000
"""Width and height: 4 x 3 map tiles, 6 x 4 tiles of the file."""

WIDTH, HEIGHT, BITS, COMPRESSION, SAMPLES = 256, 257, 258, 259, 277
ORIENTATION, RESOLUTION_UNIT = 274, 296
UPRIGHT = ORIENTATION, "H", 1, 1, True
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
class Mutation:
    """What was done to a slide, in words, and the bytes that came of it."""

    what: str
    content: bytes


def sound(folder: Path) -> dict[str, Path]:
    """Write one sound slide of each kind and return them by name."""
    pixels = slides.all_tissue(*SIZE_PX, density=0.12)
    paths = {kind: folder / f"{kind}.{suffix}" for kind, suffix in KINDS.items()}
    demo.write_slide(paths["aperio"], pixels, mpp=0.25, levels=2)
    tifffile.imwrite(
        paths["generic"],
        pixels,
        tile=(256, 256),
        photometric="rgb",
        compression="jpeg",
        resolution=(4e4, 4e4),
        resolutionunit="CENTIMETER",
        metadata=None,
        extratags=[UPRIGHT],
    )
    slides.tiled_tiff(paths["deflate"], pixels, "deflate", extratags=[UPRIGHT])
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


KINDS = {"aperio": "svs", "generic": "tif", "jpeg2000": "svs", "deflate": "tif"}


def mutations(whole: Path, number: int) -> Iterator[Mutation]:
    """Yield `number` ways to damage a sound slide, kind after kind, by the seed of their number."""
    ways = (
        _flip_pixels, _flip_header, _cut, _empty_tile, _move_tile, _lie, _mad_tile, _rescale,
        _loop, _turn, _tiny,
    )  # fmt: skip
    content = whole.read_bytes()
    with tifffile.TiffFile(whole) as slide:
        page = slide.pages[0]
        tags = {tag.code: (tag.valueoffset, tag.dtype, tag.count) for tag in page.tags}
        tiles = list(zip(page.dataoffsets, page.databytecounts, strict=True))
    for seed in range(number):
        way = ways[seed % len(ways)]
        mutated = bytearray(content)
        what = way(mutated, tags, tiles, np.random.default_rng(seed))
        yield Mutation(f"{way.__name__[1:]}: {what}", bytes(mutated))


Tags = dict[int, tuple[int, int, int]]
Tiles = list[tuple[int, int]]
Way = Callable[[bytearray, Tags, Tiles, np.random.Generator], str]


def _flip_pixels(content: bytearray, tags: Tags, tiles: Tiles, random: np.random.Generator) -> str:
    number = int(random.choice([1, 3, 30]))
    for _ in range(number):
        start, length = tiles[random.integers(len(tiles))]
        content[start + random.integers(length)] ^= 1 << random.integers(8)
    return f"{number} bits of pixel data"


def _flip_header(content: bytearray, tags: Tags, tiles: Tiles, random: np.random.Generator) -> str:
    entry = list(tags)[random.integers(len(tags))]
    at = max(0, tags[entry][0] - 12) + int(random.integers(16))
    content[at] ^= 1 << random.integers(8)
    content[random.integers(16)] ^= int(random.integers(2)) << random.integers(8)
    return f"bits near tag {entry}"


def _cut(content: bytearray, tags: Tags, tiles: Tiles, random: np.random.Generator) -> str:
    keep = int(len(content) * random.choice([0.01, 0.3, 0.8, 0.97, 0.999]))
    del content[keep:]
    return f"to {keep} bytes"


def _empty_tile(content: bytearray, tags: Tags, tiles: Tiles, random: np.random.Generator) -> str:
    return _patch_array(content, tags, COUNTS, random, int(random.choice([0, 0, 1, 5])))


def _move_tile(content: bytearray, tags: Tags, tiles: Tiles, random: np.random.Generator) -> str:
    return _patch_array(
        content, tags, OFFSETS, random, int(random.choice([0, 8, len(content), 2**31]))
    )


def _lie(content: bytearray, tags: Tags, tiles: Tiles, random: np.random.Generator) -> str:
    return _patch(content, tags, int(random.choice([WIDTH, HEIGHT])), int(random.choice(MAD_SIDES)))


def _mad_tile(content: bytearray, tags: Tags, tiles: Tiles, random: np.random.Generator) -> str:
    code = int(random.choice([TILE_WIDTH, TILE_HEIGHT, BITS, COMPRESSION, SAMPLES]))
    return _patch(content, tags, code, int(random.choice([0, 1, 5, 16, 240, 33_003, 65_520])))


def _rescale(content: bytearray, tags: Tags, tiles: Tiles, random: np.random.Generator) -> str:
    text = MAD_SCALES[random.integers(len(MAD_SCALES))]
    start = content.find(b"MPP = 0.25")
    if start < 0:
        return _patch(content, tags, 282, 0)  # the resolution of a plain TIFF lies elsewhere
    content[start : start + len(text)] = text
    return text.decode()


def _loop(content: bytearray, tags: Tags, tiles: Tiles, random: np.random.Generator) -> str:
    """Let the last image name one of those before as the next; or itself."""
    places: list[int] = []
    pointer = 4
    while (place := struct.unpack_from("<I", content, pointer)[0]) != 0:
        places.append(place)
        pointer = place + 2 + 12 * struct.unpack_from("<H", content, place)[0]
    number = int(random.integers(len(places)))
    struct.pack_into("<I", content, pointer, places[number])
    return f"of {len(places)} images, back to {number}"


def _turn(content: bytearray, tags: Tags, tiles: Tiles, random: np.random.Generator) -> str:
    orientation = int(random.integers(2, 9))
    at, _, _ = tags.get(ORIENTATION, tags[RESOLUTION_UNIT])  # which the scale does not lie in
    struct.pack_into("<HHIHH", content, at - 8, ORIENTATION, 3, 1, orientation, 0)
    return f"orientation {orientation}"


def _tiny(content: bytearray, tags: Tags, tiles: Tiles, random: np.random.Generator) -> str:
    keep = int(random.integers(1, 9))
    del content[keep:]
    return f"{keep} bytes"


def _patch(content: bytearray, tags: Tags, code: int, value: int) -> str:
    at, kind, _ = tags[code]
    form = "<H" if kind == 3 else "<I"
    struct.pack_into(form, content, at, value % (1 << 8 * struct.calcsize(form)))
    return f"tag {code} is {value}"


def _patch_array(
    content: bytearray, tags: Tags, code: int, random: np.random.Generator, value: int
) -> str:
    at, kind, count = tags[code]
    form = "<H" if kind == 3 else "<I"
    index = int(random.integers(count))
    value %= 1 << 8 * struct.calcsize(form)
    struct.pack_into(form, content, at + index * struct.calcsize(form), value)
    return f"entry {index} of tag {code} is {value}"
