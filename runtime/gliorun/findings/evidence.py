"""Evidence: the few tiles by which a reader can see what was counted as nucleus."""

from __future__ import annotations

from collections.abc import Container, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gliorun.findings.hotspots import HotSpot
from gliorun.findings.squares import Squares
from gliorun.measuring.density import CLASS_NAMES, DensityMap, classify
from gliorun.measuring.tile import Measured, Pixels
from gliorun.model.outlines import Outlines
from gliorun.reading.tiles import TileSpec

MOST_HOT_SPOTS = 6
"""Hot spots of which a tile is shown, so that the report stays small: 12 tiles with six classes."""
MIN_TISSUE_SHARE = 0.75
"""A tile with less tissue is typical of nothing; it is shown only where there is no fuller one."""


@dataclass(frozen=True, slots=True)
class Choice:
    """A tile that is worth seeing, and why; `density` with its band, from 0 to 1."""

    spec: TileSpec
    why: str
    square: str
    density: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, eq=False)
class Exhibit:
    """A chosen tile as it was scanned, and what was found on it.

    pixels : (tile_px, tile_px, 3) uint8 RGB, on white
    within : (3, tile_px, tile_px) bool, pixels within the inner, the deciding and the outer outline
    """

    choice: Choice
    pixels: Pixels
    within: NDArray[np.bool_]


def choose(density: DensityMap, hot_spots: tuple[HotSpot, ...]) -> tuple[Choice, ...]:
    """Return the densest tile of each of the first hot spots, and one typical tile of each class.

    A tile is typical whose density is the median of its class, among those that are mostly tissue.
    No tile is chosen twice.
    """
    tiles = density.merged(density.cells_a_tile) if density.cells_a_tile > 1 else density
    places: dict[tuple[int, int], str] = {}
    for spot in hot_spots[:MOST_HOT_SPOTS]:
        place = _densest_within(tiles, spot)
        if place is not None:
            places.setdefault(place, f"Hot spot {spot.rank}")
    classes = classify(tiles.density)
    for k in reversed(range(len(CLASS_NAMES))):
        place = _typical(tiles, classes == k, places.keys())
        if place is not None:
            places[place] = f"Typical of {CLASS_NAMES[k]}"
    return tuple(_choice(tiles, place, why) for place, why in places.items())


def exhibits(
    choices: tuple[Choice, ...],
    seen_again: Iterator[tuple[Pixels, Measured]],
    outlines: Outlines,
) -> Iterator[Exhibit]:
    """Yield the chosen tiles that could be read again: (H, W, 4) uint8 RGBA, and what it gave."""
    of_place = {(choice.spec.row, choice.spec.column): choice for choice in choices}
    for scanned, tile in seen_again:
        choice = of_place[tile.spec.row, tile.spec.column]
        levels = np.array([outlines.inner, outlines.nucleus, outlines.outer])[:, None, None]
        opaque = scanned[..., 3:] / 255
        pixels = (scanned[..., :3] * opaque + 255 * (1 - opaque)).round().astype(np.uint8)
        yield Exhibit(choice, pixels, (tile.levels >= levels) & (tile.valid != 0))


def _densest_within(tiles: DensityMap, spot: HotSpot) -> tuple[int, int] | None:
    """Return row and column of the densest tile whose middle lies in a field; None without one."""
    width, height = tiles.cell_l0
    rows, columns = (np.arange(n) + 0.5 for n in tiles.valid_px.shape)
    inside = np.outer(
        (rows * height >= spot.miny) & (rows * height < spot.miny + spot.height),
        (columns * width >= spot.minx) & (columns * width < spot.minx + spot.width),
    )
    values = np.where(inside & _full(tiles, inside), np.nan_to_num(tiles.density, nan=-1), -1)
    place = np.unravel_index(int(values.argmax()), values.shape)
    return (int(place[0]), int(place[1])) if values[place] >= 0 else None


def _typical(
    tiles: DensityMap, in_class: NDArray[np.bool_], taken: Container[tuple[int, int]]
) -> tuple[int, int] | None:
    """Return row and column of the tile that is nearest to the median of a class."""
    candidates = in_class & _full(tiles, in_class)
    if not candidates.any():
        return None
    values = tiles.density
    apart = np.where(candidates, np.abs(values - np.median(values[candidates])), np.inf)
    for flat in np.argsort(apart, axis=None, kind="stable")[: candidates.sum()].tolist():
        row, column = divmod(flat, apart.shape[1])
        if (row, column) not in taken:
            return row, column
    return None


def _full(tiles: DensityMap, among: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Tell which tiles are mostly tissue; all of them, where none among some is."""
    share = tiles.tissue_px / tiles.cell_px**2
    full = np.asarray(share >= MIN_TISSUE_SHARE)
    return full if (full & among).any() else np.ones_like(full)


def _choice(tiles: DensityMap, place: tuple[int, int], why: str) -> Choice:
    row, column = place
    spec = tiles.grid.tile(column, row)
    middle_l0 = spec.x_l0 + spec.width_l0 / 2, spec.y_l0 + spec.height_l0 / 2
    values = (float(of[place]) for of in (tiles.density, tiles.density_low, tiles.density_high))
    return Choice(spec, why, Squares(tiles.grid).name_at(*middle_l0), *values)
