"""One slide, on one page: slide -> grid -> tissue -> tiles -> masks -> density map."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Generator, Iterable
from contextlib import closing
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from gliorun import colour
from gliorun.card import ModelCard
from gliorun.density import DensityMap, Status
from gliorun.errors import GlioError, TileReadError
from gliorun.reading.quality import QualityLimits, judge, shrink_of
from gliorun.reading.slide import Rgba, Scale, Slide
from gliorun.reading.tiles import TileGrid, TileSpec
from gliorun.reading.tissue import MIN_SHARE, Tissue, find_tissue
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
    quality : QualityLimits, optional
        Which tiles are not measured as they are blurred or show artefacts; None measures all.
    """

    mpp: float | None = None
    cell_px: int | None = None
    threads: int | None = None
    max_bad_tiles: float = 0.05
    quality: QualityLimits | None = field(default_factory=QualityLimits)

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


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A tile that is not measured, and why."""

    spec: TileSpec
    reason: Status


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
KeepMask = Callable[[TileSpec, NDArray[np.uint8], NDArray[np.uint8]], None]
"""Called with a tile's place, mask and valid pixels, both (tile_px, tile_px) uint8, not 0 = yes."""


def tile_grid(slide: Slide, card: ModelCard, settings: Settings) -> TileGrid:
    """Return the tiles of a slide at the model's scale."""
    scale = slide.scale(settings.mpp)
    return TileGrid.over(slide.size_l0, (scale.x_mpp, scale.y_mpp), card.tile_px, card.mpp)


def measure(
    slide: Slide,
    card: ModelCard,
    predict: Predict,
    settings: Settings,
    progress: Progress = lambda done, total: None,
    keep: KeepMask | None = None,
) -> SlideDensity:
    """Measure the nucleus density of a slide; `keep` gets every tile's mask and valid pixels.

    Raises
    ------
    GlioError
        The slide has no usable scale, no tissue, too many tiles that cannot be read, or none
        that is fit to be measured.
    """
    scale = slide.scale(settings.mpp)
    warnings = list(_check_scale(slide, scale, card))
    grid = tile_grid(slide, card, settings)
    overview = slide.overview(OVERVIEW_PX)
    tissue = find_tissue(overview, slide.size_l0)
    chosen = [spec for spec in grid if tissue.touches(spec)]
    if not chosen:
        raise GlioError(f"{slide.path}: no tissue found")
    cell_px = card.tile_px if settings.cell_px is None else settings.cell_px
    density = DensityMap(grid, card.tile_px, cell_px)
    if density.cells_a_tile > 1:
        density.tissue = tissue.shares(*density.cell_edges_l0) >= MIN_SHARE
    read = tile_reader(slide, card, scale, settings.quality)
    stain = None
    if card.colour_target is not None or settings.quality is not None:
        stain = slide_stain(read, chosen, settings.readers)
    table = colour.table_between(stain, card.colour_target)
    left_out: Counter[Status] = Counter()

    def load(spec: TileSpec) -> Tile | LeftOut:
        found = read(spec, stain)
        if isinstance(found, Status):
            return LeftOut(spec, found)
        return Tile(spec, *colour.normalise(found, table))

    def fit(loaded: Iterable[Tile | LeftOut]) -> Generator[Tile]:
        for tile in loaded:
            if isinstance(tile, Tile):
                yield tile
                continue
            density.leave_out(tile.spec, tile.reason)
            left_out[tile.reason] += 1
            unreadable = left_out[Status.UNREADABLE]
            if unreadable > settings.max_bad_tiles * len(chosen):
                raise GlioError(
                    f"{slide.path}: {unreadable} of {len(chosen)} tiles cannot be read, more than "
                    f"--max-bad-tiles {settings.max_bad_tiles:g} allows; the file is damaged"
                )

    ahead = 2 * settings.readers + 2
    loaded = map_ahead(load, chosen, threads=settings.readers, ahead=ahead)
    with closing(loaded), closing(predict(fit(loaded))) as predictions:
        for done, (tile, mask) in enumerate(predictions, 1):
            density.add(tile.spec, mask, tile.valid)
            if keep is not None:
                keep(tile.spec, mask, tile.valid)
            progress(done + left_out.total(), len(chosen))
    if left_out.total() == len(chosen):
        raise GlioError(
            f"{slide.path}: none of {len(chosen)} tiles can be measured "
            f"({_counted(left_out)}); --any-quality measures what can be read"
        )
    warnings += _without_value(left_out, len(chosen))
    return SlideDensity(density, scale, tissue, overview, tuple(warnings))


ReadTile = Callable[[TileSpec, colour.StainStatistic | None], Rgba | Status]


def tile_reader(
    slide: Slide, card: ModelCard, scale: Scale, limits: QualityLimits | None
) -> ReadTile:
    """Return a function that reads a tile as scanned, or tells why it cannot be measured.

    Its second argument is the stain of the slide, without which folds are not found.
    """
    shrink = shrink_of(card.mpp, max(scale.x_mpp, scale.y_mpp))

    def read(spec: TileSpec, stain: colour.StainStatistic | None) -> Rgba | Status:
        try:
            rgba = slide.read(spec, card.tile_px)
        except TileReadError:
            return Status.UNREADABLE
        if limits is None:
            return rgba
        reason = judge(rgba, shrink, stain, limits).reason
        return rgba if reason is None else reason

    return read


def slide_stain(
    read: ReadTile, chosen: list[TileSpec], threads: int
) -> colour.StainStatistic | None:
    """Return the stain of a slide, from tiles spread evenly over its tissue."""

    def levels(spec: TileSpec) -> colour.Levels:
        counts = colour.empty_levels()
        rgba = read(spec, None)
        if not isinstance(rgba, Status):  # else it is counted when the tile's turn comes
            colour.add_levels(rgba, counts)
        return counts

    counts = colour.empty_levels()
    some = chosen[:: max(1, len(chosen) // STAIN_SAMPLES)]
    with closing(map_ahead(levels, some, threads=threads, ahead=2 * threads)) as parts:
        for part in parts:
            counts += part
    return colour.measure(counts)


def _without_value(left_out: Counter[Status], tiles: int) -> Generator[str]:
    unreadable = left_out[Status.UNREADABLE]
    unfit = left_out.total() - unreadable
    if unreadable:
        yield f"{unreadable} of {tiles} tiles could not be read: no value there"
    if unfit:
        reasons = _counted(Counter({r: n for r, n in left_out.items() if r != Status.UNREADABLE}))
        yield f"{unfit} of {tiles} tiles are not fit to be measured ({reasons}): no value there"


def _counted(left_out: Counter[Status]) -> str:
    return ", ".join(f"{left_out[reason]} {reason.name.lower()}" for reason in sorted(left_out))


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
