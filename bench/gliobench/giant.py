"""Write a slide of any size with known nuclei in seconds, by repeating a few drawn tiles."""

from __future__ import annotations

import csv
import io
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from gliobench.bigtiff import Level, PyramidWriter
from gliorun import demo
from gliorun.atomic import replacing
from gliorun.errors import UsageError
from gliorun.measuring.density import classify

Pixels = NDArray[np.uint8]
Places = NDArray[np.int64]
"""(rows, columns): the index of the distinct tile at each place."""

TILE_PX = 480
"""Side of a tile of the file, and of the shipped model: each has a known density of its own."""
DENSITIES = (0.01, 0.02, 0.03, 0.05, 0.08, 0.12, 0.16, 0.2, 0.25, 0.3)
"""Wanted densities of the distinct tiles of tissue."""
SHRINK = 4
"""Ratio of the sides of one level and the next."""
SMALLEST_LEVEL_PX = 2048
GIGAPIXELS = (0.01, 10.0)
QUALITY = 85
THUMBNAIL_PX = 1024
ABOUT = "Aperio Image Library v12"
COLUMNS = ("minx", "miny", "width", "height", "density_of_tile", "class", "tissue")


@dataclass(frozen=True, slots=True)
class GiantSpec:
    """The size of a synthetic slide, and its share of tissue.

    Parameters
    ----------
    gigapixels : float
    tissue_share : float
        Share of the slide's area, 0 to 1.
    seed : int
        Another seed draws other nuclei.
    share_bytes : bool
        Store a repeated tile once, so that 10 gigapixels take megabytes. Without, every tile
        is written anew, as a scanner would, so that reading also costs what it costs there.
    """

    gigapixels: float
    tissue_share: float = 0.3
    seed: int = 0
    share_bytes: bool = True

    def __post_init__(self) -> None:
        low, high = GIGAPIXELS
        if not low <= self.gigapixels <= high:  # also refuses NaN
            raise UsageError(f"gigapixels is {self.gigapixels:g}; it must lie from {low} to {high}")
        if not 0 < self.tissue_share <= 1:
            raise UsageError(f"tissue is {self.tissue_share:g}; it must lie above 0, up to 1")

    @property
    def places(self) -> tuple[int, int]:
        """Rows and columns of tiles, in a ratio of about 3 : 4."""
        tiles = self.gigapixels * 1e9 / TILE_PX**2
        columns = max(1, round((tiles * 4 / 3) ** 0.5))
        return max(1, round(tiles / columns)), columns


@dataclass(frozen=True, slots=True, eq=False)
class Giant:
    """A written slide: the true density of each tile, (rows, columns), NaN on glass."""

    width_px: int
    height_px: int
    density: NDArray[np.float64]

    @property
    def tissue_tiles(self) -> int:
        """Number of tiles that are tissue."""
        return int(np.isfinite(self.density).sum())


def write_giant(path: Path, spec: GiantSpec) -> Giant:
    """Write an Aperio-style pyramid of JPEG tiles, and `NAME.truth.csv` beside it.

    One rounded piece of tissue lies in the middle, its density rising from left to right with a
    hot spot. Tissue and glass change from tile to tile of 480 px, so that the truth is exact
    for each. The columns of the CSV are called as those of density.csv.

    Raises
    ------
    GlioError
        The folder cannot be written, or the disk is full.
    """
    rows, columns = spec.places
    drawn = [
        demo.draw_tissue(np.full((TILE_PX, TILE_PX), wanted, np.float32), spec.seed + number)
        for number, wanted in enumerate((0.0, *DENSITIES))
    ]
    places = _lay_out(rows, columns, spec.tissue_share)
    true = np.array([np.nan, *(tissue.nuclei.mean() for tissue in drawn[1:])])[places]
    giant = Giant(columns * TILE_PX, rows * TILE_PX, true)
    with replacing(path) as partial, replacing(truth_path(path)) as truth:
        with partial.open("r+b") as stream:
            writer = PyramidWriter(stream, share=spec.share_bytes)
            levels = list(_levels([t.pixels for t in drawn], places))
            for number, level in enumerate(levels):
                tiles = [_jpeg(pixels) for pixels in level.drawn]
                writer.write(level.image, (tiles[n] for n in level.places.ravel().tolist()))
                if number == 0:  # Aperio has it at this place
                    _write_thumbnail(writer, levels)
        _write_truth(truth, giant)
    return giant


def truth_path(slide: Path) -> Path:
    """Return the path of the truth of a slide."""
    return slide.with_suffix(".truth.csv")


def _lay_out(rows: int, columns: int, tissue_share: float) -> Places:
    """Return the index of the tile at each place: 0 is glass, then rising densities."""
    y, x = np.mgrid[0:rows, 0:columns]
    x, y = (x + 0.5) / columns - 0.5, (y + 0.5) / rows - 0.5
    angle = np.arctan2(y, x)
    distance = np.hypot(x, y) * (1 + 0.12 * np.sin(3 * angle + 1))
    tissue = np.zeros(rows * columns, dtype=bool)
    tissue[np.argsort(distance, axis=None)[: max(1, round(tissue_share * rows * columns))]] = True
    hot_spot = np.exp(-((x - 0.12) ** 2 + (y - 0.08) ** 2) / 0.12**2)
    level = np.clip(0.1 + 0.5 * (x + 0.5) + 0.5 * hot_spot, 0, 1)
    steps = np.rint(level * (len(DENSITIES) - 1)).astype(np.int64) + 1
    return np.where(tissue.reshape(rows, columns), steps, 0)


@dataclass(frozen=True, slots=True, eq=False)
class _Drawn:
    """One level: its distinct tiles, and the index of the tile at each place."""

    image: Level
    drawn: list[Pixels]
    places: Places


def _levels(drawn: list[Pixels], places: Places) -> Generator[_Drawn]:
    """Yield each level, the largest first; equal tiles are drawn once."""
    width, height = places.shape[1] * TILE_PX, places.shape[0] * TILE_PX
    white = np.full((TILE_PX // SHRINK, TILE_PX // SHRINK, 3), 255, np.uint8)
    factor = 1
    while True:
        size = (max(1, width // factor), max(1, height // factor))
        description = (
            f"{ABOUT}\n{width}x{height} [0,0 {width}x{height}] -> {size[0]}x{size[1]} "
            f"JPEG/YCC Q={QUALITY}|AppMag = 40|MPP = {demo.MPP:g}"
        )
        yield _Drawn(Level(*size, TILE_PX, description), drawn, places)
        if max(size) <= SMALLEST_LEVEL_PX:
            return
        factor *= SHRINK
        small = [_shrunk(pixels) for pixels in drawn]
        places, blocks = _join(places)
        drawn = [_mosaic(block, small, white) for block in blocks]


def _write_thumbnail(writer: PyramidWriter, levels: list[_Drawn]) -> None:
    largest, smallest = levels[0].image, levels[-1]
    whole = _mosaic(smallest.places, smallest.drawn, smallest.drawn[0])
    image = Image.fromarray(whole[: smallest.image.height, : smallest.image.width])
    image.thumbnail((THUMBNAIL_PX, THUMBNAIL_PX))
    description = f"{ABOUT}\n{largest.width}x{largest.height} -> {image.width}x{image.height} - |"
    writer.write_thumbnail(image.width, image.height, _jpeg(np.asarray(image)), description)


def _join(places: Places) -> tuple[Places, list[Places]]:
    """Return the places of the next level, and the block of tiles each distinct one is made of.

    A block is (SHRINK, SHRINK); -1 lies outside the slide.
    """
    rows, columns = (-(-side // SHRINK) for side in places.shape)
    padded = np.full((rows * SHRINK, columns * SHRINK), -1, dtype=np.int64)
    padded[: places.shape[0], : places.shape[1]] = places
    blocks = padded.reshape(rows, SHRINK, columns, SHRINK).swapaxes(1, 2).reshape(-1, SHRINK**2)
    distinct, numbers = np.unique(blocks, axis=0, return_inverse=True)
    return numbers.reshape(rows, columns), list(distinct.reshape(-1, SHRINK, SHRINK))


def _mosaic(block: Places, small: list[Pixels], white: Pixels) -> Pixels:
    return np.vstack(
        [np.hstack([small[n] if n >= 0 else white for n in row]) for row in block.tolist()]
    )


def _shrunk(pixels: Pixels) -> Pixels:
    return np.asarray(Image.fromarray(pixels).reduce(SHRINK))


def _jpeg(pixels: Pixels) -> bytes:
    encoded = io.BytesIO()
    Image.fromarray(pixels).save(encoded, "JPEG", quality=QUALITY, subsampling="4:2:0")
    return encoded.getvalue()


def _write_truth(path: Path, giant: Giant) -> None:
    tissue = np.isfinite(giant.density)
    density = np.where(tissue, giant.density, 0.0)
    classes = classify(density)
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(COLUMNS)
        for row, column in np.ndindex(density.shape):
            writer.writerow(
                (
                    column * TILE_PX,
                    row * TILE_PX,
                    TILE_PX,
                    TILE_PX,
                    f"{density[row, column]:.6f}",
                    int(classes[row, column]),
                    int(tissue[row, column]),
                )
            )
