"""Choose fields of a slide that are worth labelling: one tile each, spread over the densities."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from gliorun.atomic import replacing
from gliorun.errors import GlioError
from gliorun.findings.squares import Squares
from gliorun.reading.files import title
from gliorun.reading.regions import read_regions
from gliorun.reading.slide import Slide
from gliorun.reading.tiles import Box, TileGrid, TileSpec

OPAQUE = 255
WHOLE = 0.99
"""Share of a tile that must be measured and inside the slide for it to be chosen by the map."""
LEAST_TISSUE = 0.5
"""Share of it that must be tissue."""
LEAST_INSIDE = 0.9
"""Share of a field that the user names that must lie inside the slide."""


@dataclass(frozen=True, slots=True)
class SlideField:
    """A field of one tile: its place, and the square of the map that holds its centre, as "B6"."""

    spec: TileSpec
    square: str


@dataclass(frozen=True, slots=True)
class MappedTile:
    """A tile of the grid with its density by the map, 0 to 1."""

    spec: TileSpec
    density: float

    @property
    def centre_l0(self) -> tuple[float, float]:
        """Its centre in level-0 px."""
        return self.spec.x_l0 + self.spec.width_l0 / 2, self.spec.y_l0 + self.spec.height_l0 / 2


@dataclass(frozen=True, slots=True)
class Places:
    """Where a slide's tiles and squares lie: by its scale and the tile of a model."""

    slide: Slide
    grid: TileGrid

    @property
    def squares(self) -> Squares:
        """The named squares of its map."""
        return Squares(self.grid)

    def field(self, spec: TileSpec) -> SlideField:
        """Return a tile as a field."""
        x_l0, y_l0 = spec.x_l0 + spec.width_l0 / 2, spec.y_l0 + spec.height_l0 / 2
        return SlideField(spec, self.squares.name_at(x_l0, y_l0))

    def name(self, field: SlideField) -> str:
        """Return what the image of a field is called: the slide, the square, and its corner."""
        return f"{title(self.slide.path)}-{field.square}-{field.spec.x_l0}-{field.spec.y_l0}"

    def around(self, x_l0: float, y_l0: float, what: str) -> SlideField:
        """Return the field of one tile around a point.

        Raises
        ------
        GlioError
            Too little of it lies inside the slide; `what` says of what.
        """
        width, height = (round(side) for side in self.grid.tile_l0)
        left, top = round(x_l0 - width / 2), round(y_l0 - height / 2)
        inside = _overlap(left, width, self.slide.size_l0[0]) * _overlap(
            top, height, self.slide.size_l0[1]
        )
        if inside < LEAST_INSIDE:
            raise GlioError(
                f"{self.slide.path}: the field around {what} lies over the border of the slide; "
                "name another place"
            )
        return self.field(TileSpec(0, 0, left, top, width, height))


def _overlap(start: int, length: int, slide_px: int) -> float:
    return max(0, min(start + length, slide_px) - max(start, 0)) / length


def spread(places: Places, table: Path, count: int) -> list[SlideField]:
    """Choose `count` fields by the map of a slide: from its sparse tiles to its dense ones.

    The tiles are parted by density into `count` groups of one size. From the densest group on, of
    each the tile is taken that lies farthest from those that are taken.

    Raises
    ------
    GlioError
        The map is not of this slide, or has too few whole tiles of tissue.
    """
    tiles = mapped_tiles(places, table)
    if len(tiles) < count:
        raise GlioError(
            f"{table}: has {len(tiles)} whole tiles of tissue, not {count}; pass a lower --fields"
        )
    tiles = sorted(tiles, key=lambda tile: (tile.density, tile.spec.row, tile.spec.column))
    edges = np.linspace(0, len(tiles), count + 1).round().astype(int)
    taken: list[MappedTile] = []
    for group in reversed(range(count)):
        taken.append(_farthest(tiles[edges[group] : edges[group + 1]], taken))
    return [places.field(tile.spec) for tile in taken]


def _farthest(tiles: Sequence[MappedTile], taken: Sequence[MappedTile]) -> MappedTile:
    if not taken:
        return tiles[len(tiles) // 2]
    return max(tiles, key=lambda tile: min(math.dist(tile.centre_l0, t.centre_l0) for t in taken))


def in_squares(places: Places, names: Iterable[str]) -> list[SlideField]:
    """Return the fields in the middle of the squares that are named, as "B6".

    Raises
    ------
    GlioError
        The slide has no such square, or its middle lies off the slide.
    """
    return [
        places.around(*_middle_l0(places, name), f"the middle of square {name}") for name in names
    ]


def _middle_l0(places: Places, name: str) -> tuple[float, float]:
    """Return the middle of what of a square lies on the slide."""
    squares = places.squares
    parts = re.fullmatch(r"([A-Z]{1,2})([0-9]{1,3})", name.strip().upper())
    if parts is not None:
        row = 0
        for letter in parts[1]:
            row = 26 * row + ord(letter) - ord("A") + 1
        row, column = row - 1, int(parts[2]) - 1
        if row < squares.rows and 0 <= column < squares.columns:
            x_l0, y_l0 = (
                (place * side + min((place + 1) * side, slide_px)) / 2
                for place, side, slide_px in zip(
                    (column, row), squares.side_l0, places.slide.size_l0, strict=True
                )
            )
            return x_l0, y_l0
    last = squares.name_at(*places.slide.size_l0)
    raise GlioError(f"square {name!r}: the map of this slide has squares from A1 to {last}")


def at_regions(places: Places, drawn: Path) -> list[SlideField]:
    """Return the fields in the middle of regions that were drawn on the slide.

    Raises
    ------
    GlioError
        The file cannot be read, or the middle of a region lies at the border of the slide.
    """
    slide = places.slide
    fields = []
    for region in read_regions(drawn, slide.size_l0, slide.bounds_l0).regions:
        minx, miny, maxx, maxy = region.outline.bounds
        what = f"the middle of region '{region.name}'"
        fields.append(places.around((minx + maxx) / 2, (miny + maxy) / 2, what))
    return fields


def mapped_tiles(places: Places, table: Path) -> list[MappedTile]:
    """Return the whole tiles of tissue of a density.csv of the slide, whatever its cells.

    Raises
    ------
    GlioError
        It is no density.csv, or not of this slide.
    """
    width, height = places.grid.tile_l0
    sums: dict[tuple[int, int], list[float]] = {}
    for (left, top, right, bottom), density, tissue in _measured_cells(table):
        if right > places.slide.size_l0[0] or bottom > places.slide.size_l0[1]:
            raise GlioError(
                f"{table}: has a cell at {left}, {top} px, off {places.slide.path}; "
                "pass the map of this slide"
            )
        if right - left > 1.01 * width or bottom - top > 1.01 * height:
            raise GlioError(
                f"{table}: its cells are larger than a tile of the model; measure the slide anew"
            )
        place = int((top + bottom) / 2 / height), int((left + right) / 2 / width)
        area = float((right - left) * (bottom - top))
        of_tile = sums.setdefault(place, [0.0, 0.0, 0.0])
        for n, value in enumerate((area, area * density, area * tissue)):
            of_tile[n] += value
    tiles = []
    for (row, column), (measured, nuclei, tissue) in sums.items():
        spec = places.grid.tile(column, row)
        whole = spec.width_l0 * spec.height_l0
        if measured >= WHOLE * whole and tissue >= LEAST_TISSUE * whole:
            tiles.append(MappedTile(spec, nuclei / measured))
    return tiles


def _measured_cells(table: Path) -> Iterable[tuple[Box, float, float]]:
    """Yield place, density and share of tissue of each cell that has a value and is all there."""
    try:
        with table.open(newline="", encoding="utf-8") as lines:
            for row in csv.DictReader(lines):
                left, top = int(row["minx"]), int(row["miny"])
                box = left, top, left + int(row["width"]), top + int(row["height"])
                if row["density"] and float(row["valid_fraction"]) >= WHOLE:
                    density, tissue = float(row["density"]), float(row["tissue_fraction"])
                    if not (0 <= density <= 1 and 0 <= tissue <= 1):
                        raise ValueError(f"density {density}, tissue_fraction {tissue}")
                    yield box, density, tissue
    except OSError as error:
        raise GlioError(f"{table}: cannot be read ({error.strerror}); check its name") from error
    except (KeyError, ValueError, TypeError, csv.Error) as error:
        raise GlioError(
            f"{table}: not a density.csv of gliorun ({type(error).__name__}: {error}); "
            "pass what it wrote"
        ) from error


def write_images(places: Places, fields: Iterable[SlideField], out: Path, tile_px: int) -> None:
    """Write each field as an image of `tile_px` px a side to the folder `out`, as scanned.

    Raises
    ------
    GlioError
        A field cannot be read, or the folder cannot be written.
    """
    for field in fields:
        rgba = places.slide.read(field.spec, tile_px)
        image = Image.fromarray(rgba)
        if rgba[..., 3].min() == OPAQUE:
            image = image.convert("RGB")
        with replacing(out / f"{places.name(field)}.png") as partial:
            image.save(partial, format="PNG")
