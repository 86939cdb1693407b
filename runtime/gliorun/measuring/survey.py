"""Survey a slide before its tiles are measured: scale, tissue, tiles, stain."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterable
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from gliorun.errors import GlioError, TileReadError
from gliorun.measuring.density import MIN_VALID_SHARE, DensityMap
from gliorun.measuring.drawn import fits_both
from gliorun.measuring.quality import judge, shrink_of
from gliorun.measuring.scene import warnings_of_scene
from gliorun.measuring.stain import fit_stain, glass_level
from gliorun.measuring.streams import map_ahead
from gliorun.measuring.tile import LeftOut, Levels, Pixels, Status
from gliorun.measuring.tissue import (
    MIN_SHARE,
    Tissue,
    check_light,
    find_tissue,
    is_outlined,
    overview_px,
    read_outlined,
    read_tissue,
)
from gliorun.model.card import ModelCard
from gliorun.model.outlines import Outlines
from gliorun.model.stainstatistic import StainStatistic, White
from gliorun.processors import processors
from gliorun.reading.scale import Scale, check_scale
from gliorun.reading.slide import Rgba, Slide, resized
from gliorun.reading.tiles import TileGrid, TileSpec, in_strips
from gliorun.settings import Settings

if TYPE_CHECKING:
    from gliorun.reading.regions import Region

FINE_PARTS, MOST_FINE_CELLS = 4, 2_000_000
"""Parts of a tile's side, and number of cells, of the map in which hot spots are searched."""
OVERVIEW_PX = 2048
"""Longest side of the overview that is kept for the outputs."""
STAIN_SAMPLES = 32
"""Most tiles for measuring the stain, as all of them are held in memory."""


@dataclass(frozen=True, slots=True, eq=False)
class Survey:
    """What is known of an open slide, for a model and settings, before its first tile is measured.

    `chosen` are the tiles with tissue in reading order. `tissue` is measured, `stained` was found
    on the overview; they differ if a mask was given. If there are `regions`, both are of what lies
    in one, and the tiles touch one; `stained_tiles` are those of the whole slide, of which some
    tell the stain, so that a region has the value that it has on the map of the slide. `white` is
    the level of the glass, None where the overview shows none.
    """

    slide: Slide
    card: ModelCard
    settings: Settings
    scale: Scale
    grid: TileGrid
    overview: Rgba
    tissue: Tissue
    stained: Tissue
    white: White | None
    chosen: list[TileSpec]
    warnings: tuple[str, ...]
    stained_tiles: list[TileSpec]
    regions: tuple[Region, ...] = ()

    @property
    def outlines(self) -> Outlines:
        """The levels of the outlines of nuclei: those of the calibration, or else of the model."""
        return outlines_of(self.card, self.settings)

    def empty_map(self) -> DensityMap:
        """Return a map of the slide in which no tile is measured yet."""
        return self._empty(self.cell_px)

    def fine_map(self) -> DensityMap:
        """Return such a map of cells that are fine enough to search for hot spots.

        They are a quarter of a tile or finer, if there are not too many; `cells_of` sums them.
        """
        for parts in (part for part in range(1, self.cell_px + 1) if not self.cell_px % part):
            cells = len(self.grid) * (self.card.tile_px * parts // self.cell_px) ** 2
            if parts > 1 and cells > MOST_FINE_CELLS:
                return self._empty(self.cell_px)
            if self.cell_px // parts <= self.card.tile_px / FINE_PARTS:
                return self._empty(self.cell_px // parts)
        return self._empty(self.cell_px)

    def cells_of(self, fine: DensityMap) -> DensityMap:
        """Return the map in cells of the settings, summed from finer ones."""
        if fine.cell_px == self.cell_px:
            return fine
        cells = fine.merged(self.cell_px // fine.cell_px)
        of_valid = cells.tissue_share
        self._set_tissue(cells)
        # Where a drawn region takes a part of a cell, its tissue is that of the part.
        cells.tissue_share = np.where(cells.valid_px > 0, of_valid, cells.tissue_share)
        return cells

    @property
    def cell_px(self) -> int:
        """Side of a cell in model px."""
        cell_px = self.settings.cell_px
        return self.card.tile_px if cell_px is None else cell_px

    def _empty(self, cell_px: int) -> DensityMap:
        density = DensityMap(
            self.grid,
            self.card.tile_px,
            cell_px,
            self.outlines,
            per_tissue=self.settings.density == "tissue",
        )
        self._set_tissue(density)
        return density

    def _set_tissue(self, density: DensityMap) -> None:
        shares = self.tissue.shares(*density.cell_edges_l0)
        if density.cells_a_tile > 1:
            density.tissue = shares >= MIN_SHARE
        if self.stained is not self.tissue:
            # A hand-drawn mask may cover only part of the tissue; do not count the rest as glass.
            shares = np.maximum(shares, self.stained.shares(*density.cell_edges_l0))
        density.tissue_share = shares


def outlines_of(card: ModelCard, settings: Settings) -> Outlines:
    """Return the levels of the outlines of nuclei: those of the calibration, or of the model.

    Raises
    ------
    GlioError
        The calibration is of another model, or there is none and the card has no levels.
    """
    if settings.calibration is None:
        return card.outlines
    settings.calibration.check(card)
    return settings.calibration.outlines


def survey(slide: Slide, card: ModelCard, settings: Settings) -> Survey:
    """Find tissue on the overview of a slide and choose the tiles to measure.

    Raises
    ------
    GlioError
        The slide has no usable scale, is no bright-field image in colour, or has no tissue.
    """
    scale = slide.scale(settings.mpp)
    warnings = tuple(check_scale(slide.path, slide.properties, scale, card.mpp))
    grid = TileGrid.over(slide.size_l0, (scale.x_mpp, scale.y_mpp), card.tile_px, card.mpp)
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
        drawn, doubts = _drawn(settings.tissue_mask, slide)
        tissue = drawn.on(stained)
        warnings += doubts
    chosen = in_strips(spec for spec in grid if tissue.touches(spec))
    if not chosen:
        raise GlioError(f"{slide.path}: no tissue found; --tissue-mask takes one of your own")
    surveyed = Survey(
        slide, card, settings, scale, grid, overview, tissue, stained, white, chosen, warnings,
        stained_tiles=chosen,
    )  # fmt: skip
    return surveyed if settings.regions is None else _in_regions(surveyed, settings.regions)


def _in_regions(surveyed: Survey, path: Path) -> Survey:
    """Return a survey of what lies in the regions of a file."""
    # shapely takes a moment to import, and most runs need none
    from gliorun.measuring.regions import within_regions
    from gliorun.reading.regions import read_regions

    slide, chosen = surveyed.slide, surveyed.chosen
    read = read_regions(path, slide.size_l0, slide.bounds_l0)
    touched = np.any([region.touches(chosen) for region in read.regions], axis=0)
    if not touched.any():
        raise GlioError(
            f"{slide.path}: no tissue found in the regions of {path}; are they of this slide?"
        )
    tissue = within_regions(surveyed.tissue, read.regions)
    is_found = surveyed.stained is surveyed.tissue
    return replace(
        surveyed,
        tissue=tissue,
        stained=tissue if is_found else within_regions(surveyed.stained, read.regions),
        chosen=[spec for spec, is_touched in zip(chosen, touched, strict=True) if is_touched],
        warnings=(*surveyed.warnings, *read.warnings),
        regions=read.regions,
    )


def _drawn(path: Path, slide: Slide) -> tuple[Tissue, tuple[str, ...]]:
    """Return tissue that was drawn by hand, and what is doubtful about it."""
    if is_outlined(path):
        return read_outlined(path, slide.size_l0, slide.bounds_l0)
    tissue = read_tissue(path, slide.size_l0, slide.bounds_l0)
    if not fits_both(slide.size_l0, slide.bounds_l0):
        return tissue, ()
    return tissue, (
        "the tissue mask may be of the whole scan area or of the part that QuPath shows, "
        "which have the same shape; see in x.qc.png that it lies where it should",
    )


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


@dataclass(frozen=True, slots=True)
class Scene:
    """What some tiles, spread over the tissue of a slide, show before all are measured.

    `stain` is None where nothing needs it or too little tissue shows it.
    """

    stain: StainStatistic | None = None
    warnings: tuple[str, ...] = ()


ReadTile = Callable[[TileSpec, StainStatistic | None], Rgba | LeftOut]
SegmentTiles = Callable[[Iterable[TileSpec], Iterable[Pixels]], Iterable[Levels]]
"""Yields the levels of each tile, (H, W) uint8, in order."""


def tile_reader(surveyed: Survey) -> ReadTile:
    """Return a function that reads a tile as scanned, or leaves it out with the reason.

    Its second argument is the stain of the slide, without which folds are not detected.
    """
    slide, card, scale = surveyed.slide, surveyed.card, surveyed.scale
    limits, white = surveyed.settings.quality, surveyed.white
    shrink = shrink_of(card.mpp, max(scale.x_mpp, scale.y_mpp))

    def read(spec: TileSpec, stain: StainStatistic | None) -> Rgba | LeftOut:
        try:
            rgba = slide.read(spec, card.tile_px)
        except TileReadError:
            return LeftOut(spec, Status.UNREADABLE)
        if limits is None:
            return rgba
        reason = judge(rgba, shrink, stain, limits, white).reason
        return rgba if reason is None else LeftOut(spec, reason)

    return read


def sample_tiles(surveyed: Survey, segment: SegmentTiles) -> Scene:
    """Measure the stain of a slide on tiles spread evenly over its tissue, and judge the scene.

    `segment` is the network, on the places of tiles and their normalised pixels.
    """
    tiles = _read_sample(surveyed)
    places, images = [spec for spec, _ in tiles], [rgba for _, rgba in tiles]
    nucleus_px: list[int] = []
    # not that of a calibration, which was itself made in the colour of this level
    nucleus_level = surveyed.card.nucleus_level

    def levels_of(normalised: Iterable[Pixels]) -> Generator[Levels]:
        nucleus_px.clear()
        for levels in segment(places, normalised):
            nucleus_px.append(int(np.count_nonzero(levels >= nucleus_level)))
            yield levels

    stain = fit_stain(
        images,
        levels_of,
        surveyed.card.colour_target,
        surveyed.white,
        nucleus_level,
    )
    seen_px = sum(nucleus_px) if nucleus_px else None
    return Scene(stain, tuple(warnings_of_scene(images, stain, seen_px)))


def _read_sample(surveyed: Survey) -> list[tuple[TileSpec, Rgba]]:
    """Read the sampled tiles that are fit; the others are counted when they are measured.

    Nothing else runs meanwhile, so that every processor reads.
    """
    threads, read, chosen = processors(), tile_reader(surveyed), surveyed.stained_tiles

    def sample(spec: TileSpec) -> tuple[TileSpec, Rgba | LeftOut]:
        return spec, read(spec, None)

    count = min(STAIN_SAMPLES, len(chosen))
    some = [chosen[place] for place in np.linspace(0, len(chosen) - 1, count).round().astype(int)]
    with closing(map_ahead(sample, some, threads=threads, ahead=2 * threads)) as samples:
        return [(spec, rgba) for spec, rgba in samples if not isinstance(rgba, LeftOut)]
