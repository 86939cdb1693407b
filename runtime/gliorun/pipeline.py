"""Measure one slide: slide -> grid -> tissue -> tiles -> masks -> density map."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Generator, Iterable
from contextlib import closing
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from gliorun.errors import DamagedSlideError
from gliorun.measuring import colour
from gliorun.measuring.density import DensityMap, Status
from gliorun.measuring.streams import map_ahead
from gliorun.measuring.survey import ReadTile, Survey, slide_stain, survey, tile_reader
from gliorun.measuring.tissue import MIN_SHARE, Tissue
from gliorun.model.card import ModelCard
from gliorun.reading.scale import Scale
from gliorun.reading.slide import Slide
from gliorun.reading.tiles import TileSpec
from gliorun.settings import Settings


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
    """A tile that is not measured, and the reason."""

    spec: TileSpec
    reason: Status


@dataclass(frozen=True, slots=True, eq=False)
class SlideDensity:
    """The result of measuring one slide."""

    density: DensityMap
    scale: Scale
    tissue: Tissue
    overview: NDArray[np.uint8]
    stain: colour.StainStatistic | None
    warnings: tuple[str, ...]


T = TypeVar("T")
Predict = Callable[[Iterable[Tile]], Generator[tuple[Tile, NDArray[np.uint8]]]]
Progress = Callable[[int, int], None]
"""Called with tiles done and total tiles: once before the first tile, then after each."""
KeepMask = Callable[[TileSpec, NDArray[np.uint8], NDArray[np.uint8]], None]
"""Called with a tile, its mask and its valid pixels, both (tile_px, tile_px) uint8, not 0 = yes."""


class Journal(Protocol):
    """Keeps the map of an unfinished run, so that a later run can resume it."""

    def restore(self, density: DensityMap) -> None:
        """Fill a map with the tiles that an earlier run has measured, if there was one."""

    def note(self, density: DensityMap) -> None:
        """Called after every tile, measured or left out; may save the map."""

    def save(self, density: DensityMap) -> None:
        """Save the map now."""


@dataclass(slots=True)
class Waits:
    """Seconds that a run has waited so far for tiles to be read and for the network.

    `masks_s` is the time spent waiting for the next mask, reading included.
    """

    reading_s: float = 0.0
    masks_s: float = 0.0

    @property
    def network_s(self) -> float:
        """Seconds waited for the network alone."""
        return self.masks_s - self.reading_s

    def add_reading(self, seconds: float) -> None:
        """Add the seconds of a wait for a tile."""
        self.reading_s += seconds

    def add_masks(self, seconds: float) -> None:
        """Add the seconds of a wait for a mask."""
        self.masks_s += seconds

    @property
    def bottleneck(self) -> str:
        """The stage that the run waits for most: "reading" or "network"."""
        return "reading" if self.reading_s > self.network_s else "network"


def measure(
    slide: Slide,
    card: ModelCard,
    predict: Predict,
    settings: Settings,
    progress: Progress = lambda done, total: None,
    keep: KeepMask | None = None,
    journal: Journal | None = None,
    waits: Waits | None = None,
) -> SlideDensity:
    """Measure the nucleus density of a slide.

    `keep` receives the mask and valid pixels of every tile, `journal` makes the run resumable, and
    `waits` is updated during the run.

    Raises
    ------
    GlioError
        The slide has no usable scale, no tissue, too many tiles that cannot be read, or none
        that is fit to be measured.
    """
    surveyed = survey(slide, card, settings)
    density = _empty_map(surveyed, card, settings)
    if journal is not None:
        journal.restore(density)
    todo = [spec for spec in surveyed.chosen if not density.knows(spec)]
    waits = waits or Waits()
    read = tile_reader(slide, card, surveyed.scale, settings.quality, surveyed.white)
    stain = _stain_of(read, card, predict, surveyed, settings)
    load = _loader(read, stain, card)
    ahead = settings.tiles_ahead(card.tile_px)
    loaded = map_ahead(load, todo, threads=settings.readers, ahead=ahead)
    progress(density.known_tiles(), len(surveyed.chosen))

    def tell() -> None:
        if journal is not None:
            journal.note(density)
        progress(density.known_tiles(), len(surveyed.chosen))

    def fit() -> Generator[Tile]:
        for tile in _timed(loaded, waits.add_reading):
            if isinstance(tile, Tile):
                yield tile
            else:
                density.leave_out(tile.spec, tile.reason)
                _check_bad_tiles(slide, density, len(surveyed.chosen), settings.max_bad_tiles)
                tell()

    try:
        with closing(loaded), closing(predict(fit())) as predictions:
            for tile, mask in _timed(predictions, waits.add_masks):
                if keep is not None:
                    keep(tile.spec, mask, tile.valid)
                density.add(tile.spec, mask, tile.valid)
                tell()
    except DamagedSlideError:
        raise
    except BaseException:
        if journal is not None:
            journal.save(density)
        raise
    left_out = density.left_out()
    if left_out.total() == len(surveyed.chosen):
        raise DamagedSlideError(
            f"{slide.path}: none of {len(surveyed.chosen)} tiles can be measured "
            f"({_counted(left_out)}); --any-quality measures what can be read"
        )
    warnings = (
        *surveyed.warnings,
        *_without_colour(stain, card),
        *_without_value(left_out, len(surveyed.chosen)),
    )
    return SlideDensity(
        density, surveyed.scale, surveyed.tissue, surveyed.overview, stain, warnings
    )


def _empty_map(surveyed: Survey, card: ModelCard, settings: Settings) -> DensityMap:
    cell_px = card.tile_px if settings.cell_px is None else settings.cell_px
    density = DensityMap(surveyed.grid, card.tile_px, cell_px)
    shares = surveyed.tissue.shares(*density.cell_edges_l0)
    if density.cells_a_tile > 1:
        density.tissue = shares >= MIN_SHARE
    if surveyed.stained is not surveyed.tissue:
        # A hand-drawn mask may cover only part of the tissue; do not count the rest as glass.
        shares = np.maximum(shares, surveyed.stained.shares(*density.cell_edges_l0))
    density.tissue_share = shares
    return density


def _stain_of(
    read: ReadTile, card: ModelCard, predict: Predict, surveyed: Survey, settings: Settings
) -> colour.StainStatistic | None:
    """Return the stain of a slide, or None if nothing needs it or too little tissue shows it."""
    if card.colour_target is None and settings.quality is None:
        return None

    def segment(
        places: Iterable[TileSpec], images: Iterable[NDArray[np.uint8]]
    ) -> Generator[NDArray[np.uint8]]:
        inside = np.ones((card.tile_px, card.tile_px), dtype=np.uint8)
        tiles = (Tile(spec, pixels, inside) for spec, pixels in zip(places, images, strict=True))
        with closing(predict(tiles)) as predictions:
            for _, mask in predictions:
                yield mask

    return slide_stain(read, surveyed.chosen, segment, card.colour_target, surveyed.white)


def _loader(
    read: ReadTile, stain: colour.StainStatistic | None, card: ModelCard
) -> Callable[[TileSpec], Tile | LeftOut]:
    """Return the function of the reader threads: read a tile, judge it, normalise its colour."""
    table = colour.table_between(stain, card.colour_target)

    def load(spec: TileSpec) -> Tile | LeftOut:
        scanned = read(spec, stain)
        if isinstance(scanned, Status):
            return LeftOut(spec, scanned)
        return Tile(spec, *colour.normalise(scanned, table))

    return load


def _timed(items: Iterable[T], add: Callable[[float], None]) -> Generator[T]:
    """Yield items, and pass the seconds that each one took to `add`."""
    asked = time.monotonic()
    for item in items:
        add(time.monotonic() - asked)
        yield item
        asked = time.monotonic()


def _check_bad_tiles(slide: Slide, density: DensityMap, tiles: int, most: float) -> None:
    unreadable = density.left_out()[Status.UNREADABLE]
    if unreadable > most * tiles:
        raise DamagedSlideError(
            f"{slide.path}: at least {unreadable} of {tiles} tiles cannot be read, more than "
            f"--max-bad-tiles {most:g} allows; the file is damaged, copy it again"
        )


def _without_colour(stain: colour.StainStatistic | None, card: ModelCard) -> Generator[str]:
    if stain is None and card.colour_target is not None:
        yield (
            "colour not matched to the model's, as too little stained tissue was found to measure "
            "it; most nuclei of a pale slide are missed"
        )


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
