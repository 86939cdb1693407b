"""Survey a slide before its tiles are measured: scale, tissue, tiles, stain."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gliorun.errors import GlioError, TileReadError
from gliorun.measuring import colour
from gliorun.measuring.colour import White
from gliorun.measuring.density import MIN_VALID_SHARE, Status
from gliorun.measuring.drawn import fits_both
from gliorun.measuring.quality import QualityLimits, judge, shrink_of
from gliorun.measuring.stain import fit_stain, glass_level
from gliorun.measuring.streams import map_ahead
from gliorun.measuring.tissue import Tissue, check_light, find_tissue, overview_px, read_tissue
from gliorun.model.card import ModelCard
from gliorun.processors import processors
from gliorun.reading.scale import Scale, check_scale
from gliorun.reading.slide import Rgba, Slide, resized
from gliorun.reading.tiles import TileGrid, TileSpec, in_strips
from gliorun.settings import Settings

Pixels = NDArray[np.uint8]
Mask = NDArray[np.uint8]

OVERVIEW_PX = 2048
"""Longest side of the overview that is kept for the outputs."""
STAIN_SAMPLES = 32
"""Most tiles for measuring the stain, as all of them are held in memory."""


@dataclass(frozen=True, slots=True, eq=False)
class Survey:
    """The tile grid of a slide, and `chosen`, the tiles with tissue in reading order.

    `tissue` is measured, `stained` was found on the overview; they differ if a mask was
    given. `white` is the level of the glass, None where the overview shows none.
    """

    scale: Scale
    grid: TileGrid
    overview: Rgba
    tissue: Tissue
    stained: Tissue
    white: White | None
    chosen: list[TileSpec]
    warnings: tuple[str, ...]


def survey(slide: Slide, card: ModelCard, settings: Settings) -> Survey:
    """Find tissue on the overview of a slide and choose the tiles to measure.

    Raises
    ------
    GlioError
        The slide has no usable scale, is no bright-field image in colour, or has no tissue.
    """
    scale = slide.scale(settings.mpp)
    warnings = tuple(check_scale(slide.path, slide.properties, scale, card.mpp))
    grid = tile_grid(slide, card, settings)
    _check_size(slide, grid)
    overview = slide.overview(max(OVERVIEW_PX, overview_px(slide.size_l0, scale)))
    try:
        check_light(overview)
    except GlioError as error:
        raise GlioError(f"{slide.path}: {error}") from error
    tissue = stained = find_tissue(overview, slide.size_l0, scale)
    white = glass_level(overview, stained.mask)
    overview = _shown(overview)
    if settings.tissue_mask is not None:
        tissue = read_tissue(settings.tissue_mask, slide.size_l0, slide.bounds_l0).on(stained)
        if fits_both(slide.size_l0, slide.bounds_l0):
            warnings += (
                "the tissue mask may be of the whole scan area or of the part that QuPath shows, "
                "which have the same shape; see in x.qc.png that it lies where it should",
            )
    chosen = in_strips(spec for spec in grid if tissue.touches(spec))
    if not chosen:
        raise GlioError(f"{slide.path}: no tissue found; --tissue-mask takes one of your own")
    return Survey(scale, grid, overview, tissue, stained, white, chosen, warnings)


def _check_size(slide: Slide, grid: TileGrid) -> None:
    """Refuse an image that fills too little of one tile to have a value."""
    sides = list(zip(slide.size_l0, grid.tile_l0, strict=True))
    inside = math.prod(min(side / of_tile, 1.0) for side, of_tile in sides)
    if inside < MIN_VALID_SHARE:
        width, height = slide.size_l0
        raise GlioError(
            f"{slide.path}: {width} x {height} px are too small; export a field of at least "
            f"{' x '.join(str(math.ceil(of_tile / 2)) for _, of_tile in sides)} px"
        )


def _shown(overview: Rgba) -> Rgba:
    """Return the overview at the size of the outputs, at most `OVERVIEW_PX` a side."""
    height, width, _ = overview.shape
    shrink = max(1.0, max(height, width) / OVERVIEW_PX)
    return resized(overview, (max(1, round(width / shrink)), max(1, round(height / shrink))))


def tile_grid(slide: Slide, card: ModelCard, settings: Settings) -> TileGrid:
    """Return the tile grid of a slide at the scale of the model."""
    scale = slide.scale(settings.mpp)
    return TileGrid.over(slide.size_l0, (scale.x_mpp, scale.y_mpp), card.tile_px, card.mpp)


ReadTile = Callable[[TileSpec, colour.StainStatistic | None], Rgba | Status]
SegmentTiles = Callable[[Iterable[TileSpec], Iterable[Pixels]], Iterable[Mask]]
"""Yields the mask of each tile, (H, W) uint8, not 0 on a nucleus, in order."""


def tile_reader(
    slide: Slide, card: ModelCard, scale: Scale, limits: QualityLimits | None, white: White | None
) -> ReadTile:
    """Return a function that reads a tile as scanned, or returns why it cannot be measured.

    Its second argument is the stain of the slide, without which folds are not detected. `white`
    is the level of the glass, against which a tile is judged.
    """
    shrink = shrink_of(card.mpp, max(scale.x_mpp, scale.y_mpp))

    def read(spec: TileSpec, stain: colour.StainStatistic | None) -> Rgba | Status:
        try:
            rgba = slide.read(spec, card.tile_px)
        except TileReadError:
            return Status.UNREADABLE
        if limits is None:
            return rgba
        reason = judge(rgba, shrink, stain, limits, white).reason
        return rgba if reason is None else reason

    return read


def slide_stain(
    read: ReadTile,
    chosen: list[TileSpec],
    segment: SegmentTiles,
    target: colour.StainStatistic | None,
    white: White | None,
) -> colour.StainStatistic | None:
    """Return the stain of a slide, from tiles spread evenly over its tissue.

    Unfit tiles are skipped here and counted when they are measured. `segment` is
    the network, on the places of tiles and their normalised pixels. While it waits for them,
    every processor reads.
    """
    threads = processors()

    def sample(spec: TileSpec) -> tuple[TileSpec, Rgba | Status]:
        return spec, read(spec, None)

    count = min(STAIN_SAMPLES, len(chosen))
    some = [chosen[place] for place in np.linspace(0, len(chosen) - 1, count).round().astype(int)]
    with closing(map_ahead(sample, some, threads=threads, ahead=2 * threads)) as samples:
        fit = [(spec, rgba) for spec, rgba in samples if not isinstance(rgba, Status)]
    places = [spec for spec, _ in fit]
    return fit_stain(
        [rgba for _, rgba in fit], lambda images: segment(places, images), target, white
    )
