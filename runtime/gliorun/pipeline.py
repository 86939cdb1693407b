"""One slide, on one page: slide -> grid -> tissue -> tiles -> masks -> density map."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterable
from contextlib import closing
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gliorun import colour
from gliorun.card import ModelCard
from gliorun.density import DensityMap
from gliorun.errors import GlioError, TileReadError
from gliorun.reading.slide import Scale, Slide
from gliorun.reading.tiles import TileGrid, TileSpec
from gliorun.reading.tissue import Tissue, find_tissue
from gliorun.streams import map_ahead

OVERVIEW_PX = 2048
STAIN_SAMPLES = 64
"""Tiles that the stain is measured on: at least so many where there are, fewer than twice."""
COARSEST = 2.5
"""A slide may be this many times coarser than the model's pixels; then nuclei are a few px."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How a slide is measured.

    Parameters
    ----------
    mpp : float, optional
        Micrometres per level-0 pixel, before what the slide says.
    cell_px : int, optional
        Side of a cell of the map in model px; one tile by default.
    threads : int, optional
        Reader threads; half the processors by default, the network needs the rest.
    max_bad_tiles : float
        Share of unreadable tiles past which the slide fails.
    """

    mpp: float | None = None
    cell_px: int | None = None
    threads: int | None = None
    max_bad_tiles: float = 0.05

    def __post_init__(self) -> None:
        if self.threads is not None and self.threads < 1:
            raise GlioError(f"threads is {self.threads}; it must be at least 1")
        if not 0 <= self.max_bad_tiles <= 1:
            raise GlioError(f"max_bad_tiles is {self.max_bad_tiles}; it must lie from 0 to 1")

    @property
    def readers(self) -> int:
        """Number of reader threads."""
        return self.threads or max(1, (os.cpu_count() or 1) // 2)


@dataclass(frozen=True, slots=True, eq=False)
class Tile:
    """A tile ready for the network.

    pixels : (tile_px, tile_px, 3) uint8, colour-normalised; valid : (tile_px, tile_px) uint8
    """

    spec: TileSpec
    pixels: NDArray[np.uint8]
    valid: NDArray[np.uint8]


@dataclass(frozen=True, slots=True, eq=False)
class SlideDensity:
    """What one run of one slide gives."""

    density: DensityMap
    scale: Scale
    tissue: Tissue
    overview: NDArray[np.uint8]
    warnings: tuple[str, ...]


Predict = Callable[[Iterable[Tile]], Generator[tuple[Tile, NDArray[np.uint8]]]]
Progress = Callable[[int, int], None]
"""Called with tiles done and tiles in all."""


def measure(
    slide: Slide,
    card: ModelCard,
    predict: Predict,
    settings: Settings,
    progress: Progress = lambda done, total: None,
) -> SlideDensity:
    """Measure the nucleus density of a slide.

    Raises
    ------
    GlioError
        The slide has no usable scale, no tissue, or too many tiles that cannot be read.
    """
    scale = slide.scale(settings.mpp)
    warnings = list(_check_scale(slide, scale, card))
    grid = TileGrid.over(slide.size_l0, (scale.x_mpp, scale.y_mpp), card.tile_px, card.mpp)
    overview = slide.overview(OVERVIEW_PX)
    tissue = find_tissue(overview, slide.size_l0)
    chosen = [spec for spec in grid if tissue.touches(spec)]
    if not chosen:
        raise GlioError(f"{slide.path}: no tissue found")
    cell_px = card.tile_px if settings.cell_px is None else settings.cell_px
    density = DensityMap(grid, card.tile_px, cell_px)
    table = stain_table(slide, card, chosen, settings.readers)
    unreadable = 0

    def load(spec: TileSpec) -> Tile | TileSpec:
        try:
            return Tile(spec, *colour.normalise(slide.read(spec, card.tile_px), table))
        except TileReadError:
            return spec

    def readable(loaded: Iterable[Tile | TileSpec]) -> Generator[Tile]:
        nonlocal unreadable
        for tile in loaded:
            if isinstance(tile, Tile):
                yield tile
                continue
            density.mark_unreadable(tile)
            unreadable += 1
            if unreadable > settings.max_bad_tiles * len(chosen):
                raise GlioError(
                    f"{slide.path}: {unreadable} of {len(chosen)} tiles cannot be read, more than "
                    f"--max-bad-tiles {settings.max_bad_tiles:g} allows; the file is damaged"
                )

    ahead = 2 * settings.readers + 2
    loaded = map_ahead(load, chosen, threads=settings.readers, ahead=ahead)
    with closing(loaded), closing(predict(readable(loaded))) as predictions:
        for done, (tile, mask) in enumerate(predictions, 1):
            density.add(tile.spec, mask, tile.valid)
            progress(done + unreadable, len(chosen))
    if unreadable:
        warnings.append(f"{unreadable} of {len(chosen)} tiles could not be read: no value there")
    return SlideDensity(density, scale, tissue, overview, tuple(warnings))


def stain_table(
    slide: Slide, card: ModelCard, chosen: list[TileSpec], threads: int
) -> colour.Table:
    """Return the colour table of a slide, from tiles spread evenly over its tissue."""
    if card.colour_target is None:
        return colour.identity_table()
    step = max(1, len(chosen) // STAIN_SAMPLES)

    def levels(spec: TileSpec) -> colour.Levels:
        counts = colour.empty_levels()
        try:
            colour.add_levels(slide.read(spec, card.tile_px), counts)
        except TileReadError:
            pass  # counted when the tile's turn comes
        return counts

    counts = colour.empty_levels()
    with closing(map_ahead(levels, chosen[::step], threads=threads, ahead=2 * threads)) as parts:
        for part in parts:
            counts += part
    return colour.table_between(colour.measure(counts), card.colour_target)


def _check_scale(slide: Slide, scale: Scale, card: ModelCard) -> Generator[str]:
    coarse = max(scale.x_mpp, scale.y_mpp) / card.mpp
    if coarse > COARSEST:
        raise GlioError(
            f"{slide.path}: {coarse * card.mpp:g} µm/px is too coarse to see nuclei; the model "
            f"needs {COARSEST * card.mpp:g} µm/px or finer (pass --mpp if the slide is wrong)"
        )
    if coarse > 1.3:
        yield (
            f"{coarse * card.mpp:g} µm/px is coarser than the model's {card.mpp:g}; "
            "small nuclei may be missed"
        )
