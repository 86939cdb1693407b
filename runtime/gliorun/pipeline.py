"""Measure a slide tile by tile: read, judge, normalise and segment; or leave out, with the reason.

The stages are generators. What becomes of the tiles is told to accumulators, in order.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from gliorun.errors import DamagedSlideError
from gliorun.measuring import colour
from gliorun.measuring.density import DensityMap
from gliorun.measuring.streams import map_ahead
from gliorun.measuring.survey import Scene, Survey, sample_tiles, tile_reader
from gliorun.measuring.tile import LeftOut, Levels, Measured, Status, Tile
from gliorun.model.stainstatistic import StainStatistic
from gliorun.reading.slide import Rgba
from gliorun.reading.tiles import TileSpec

T = TypeVar("T")
Predict = Callable[[Iterable[Tile]], Generator[tuple[Tile, Levels]]]
"""The network: yields each tile with its levels, in order."""

BURST = 8
"""Most tiles left out that wait for the network's next answer before they are told."""


class Accumulator(Protocol):
    """What is fed with every tile of a slide."""

    def feed(self, tile: Measured | LeftOut) -> None:
        """Take what became of one more tile."""


@dataclass(slots=True)
class Waits:
    """Seconds that a run has waited so far for tiles to be read and for the network.

    `levels_s` is the time spent waiting for the network's next answer, reading included.
    """

    reading_s: float = 0.0
    levels_s: float = 0.0

    @property
    def network_s(self) -> float:
        """Seconds waited for the network alone."""
        return self.levels_s - self.reading_s

    def add_reading(self, seconds: float) -> None:
        """Add the seconds of a wait for a tile."""
        self.reading_s += seconds

    def add_levels(self, seconds: float) -> None:
        """Add the seconds of a wait for the network's answer."""
        self.levels_s += seconds

    @property
    def bottleneck(self) -> str:
        """The stage that the run waits for most: "reading" or "network"."""
        return "reading" if self.reading_s > self.network_s else "network"


def measure(
    surveyed: Survey,
    predict: Predict,
    todo: Sequence[TileSpec],
    accumulators: Sequence[Accumulator],
    waits: Waits | None = None,
    scene: Scene | None = None,
) -> Scene:
    """Measure some tiles of a slide, feed the accumulators with each, and return the sample.

    An accumulator may rely on those before it to know a tile already. `scene` is the sample, where
    `scene_of` has already given it.

    Raises
    ------
    DamagedSlideError
        Too many tiles cannot be read.
    """
    scene = scene_of(surveyed, predict) if scene is None else scene
    with closing(measured_tiles(surveyed, scene.stain, predict, todo, waits or Waits())) as tiles:
        for tile in tiles:
            for accumulator in accumulators:
                accumulator.feed(tile)
    return scene


def scene_of(surveyed: Survey, predict: Predict) -> Scene:
    """Return what some tiles of a slide show; nothing, if nothing needs it."""
    card = surveyed.card
    if card.colour_target is None and surveyed.settings.quality is None:
        return Scene()
    inside = np.ones((card.tile_px, card.tile_px), dtype=np.uint8)

    def segment(
        places: Iterable[TileSpec], images: Iterable[NDArray[np.uint8]]
    ) -> Generator[Levels]:
        sampled = (Tile(spec, pixels, inside) for spec, pixels in zip(places, images, strict=True))
        with closing(predict(sampled)) as predictions:
            for _, levels in predictions:
                yield levels

    return sample_tiles(surveyed, segment)


def measured_tiles(
    surveyed: Survey,
    stain: StainStatistic | None,
    predict: Predict,
    todo: Sequence[TileSpec],
    waits: Waits,
) -> Generator[Measured | LeftOut]:
    """Yield what becomes of each tile: measured ones in order, those left out soon after.

    Raises
    ------
    DamagedSlideError
        Too many tiles cannot be read.
    """
    loaded = load_tiles(surveyed, stain, todo)
    most = surveyed.settings.max_bad_tiles * len(surveyed.chosen)
    unreadable = 0
    with closing(loaded):
        segmented = _segment(_timed(loaded, waits.add_reading), predict)
        with closing(_timed(segmented, waits.add_levels)) as tiles, closing(segmented):
            for tile in tiles:
                if isinstance(tile, LeftOut) and tile.reason == Status.UNREADABLE:
                    unreadable += 1
                    _check_bad_tiles(surveyed, unreadable, most)
                yield tile


def load_tiles(
    surveyed: Survey, stain: StainStatistic | None, todo: Iterable[TileSpec]
) -> Generator[Tile | LeftOut]:
    """Read, judge and normalise tiles ahead, in reader threads; yield them in order."""
    card, settings = surveyed.card, surveyed.settings
    read = tile_reader(surveyed)
    table = colour.table_between(stain, card.colour_target)

    def load(spec: TileSpec) -> Tile | LeftOut:
        scanned = read(spec, stain)
        if isinstance(scanned, LeftOut):
            return scanned
        return Tile(spec, *colour.normalise(scanned, table))

    ahead = settings.tiles_ahead(card.tile_px)
    return map_ahead(load, todo, threads=settings.readers, ahead=ahead)


def look_again(
    surveyed: Survey, stain: StainStatistic | None, predict: Predict, specs: Sequence[TileSpec]
) -> Generator[tuple[Rgba, Measured]]:
    """Yield a few tiles as they were scanned, (tile_px, tile_px, 4) uint8, and what is measured.

    A tile that cannot be read any more is left out.
    """
    read = tile_reader(surveyed)
    table = colour.table_between(stain, surveyed.card.colour_target)
    scanned: dict[TileSpec, Rgba] = {}

    def fit() -> Generator[Tile]:
        for spec in specs:
            rgba = read(spec, stain)
            if not isinstance(rgba, LeftOut):
                scanned[spec] = rgba
                yield Tile(spec, *colour.normalise(rgba, table))

    with closing(predict(fit())) as predictions:
        for tile, levels in predictions:
            yield scanned.pop(tile.spec), Measured(tile.spec, levels, tile.valid)


def look_at(
    surveyed: Survey, stain: StainStatistic | None, predict: Predict, specs: Iterable[TileSpec]
) -> Generator[Measured | LeftOut]:
    """Yield what becomes of some tiles, as in the run, however many cannot be read.

    `specs` is asked for the next tile only once there is room for it.
    """
    loaded = load_tiles(surveyed, stain, specs)
    with closing(loaded), closing(_segment(loaded, predict)) as tiles:
        yield from tiles


def _segment(loaded: Iterable[Tile | LeftOut], predict: Predict) -> Generator[Measured | LeftOut]:
    """Pass tiles to the network, and those left out around it.

    The network asks for tiles and answers later, so that what is left out meanwhile has to wait.
    After a burst of such tiles the network is let run out, and asked anew.
    """
    remaining = iter(loaded)
    left_out: deque[LeftOut] = deque()
    asks = True

    def fit() -> Generator[Tile]:
        nonlocal asks
        for tile in remaining:
            if isinstance(tile, Tile):
                yield tile
                continue
            left_out.append(tile)
            if len(left_out) == BURST:
                asks = True
                return

    while asks:
        asks = False
        with closing(predict(fit())) as predictions:
            for tile, levels in predictions:
                while left_out:
                    yield left_out.popleft()
                yield Measured(tile.spec, levels, tile.valid)
        while left_out:
            yield left_out.popleft()


def _timed(items: Iterable[T], add: Callable[[float], None]) -> Generator[T]:
    """Yield items, and pass the seconds that each one took to `add`."""
    asked = time.monotonic()
    for item in items:
        add(time.monotonic() - asked)
        yield item
        asked = time.monotonic()


def _check_bad_tiles(surveyed: Survey, unreadable: int, most: float) -> None:
    if unreadable > most:
        raise DamagedSlideError(
            f"{surveyed.slide.path}: at least {unreadable} of {len(surveyed.chosen)} tiles cannot "
            f"be read, more than --max-bad-tiles {surveyed.settings.max_bad_tiles:g} allows; the "
            "file is damaged, copy it again"
        )


def doubts(surveyed: Survey, density: DensityMap, scene: Scene) -> tuple[str, ...]:
    """Return what is doubtful about the map of a slide whose tiles are all measured or left out.

    Raises
    ------
    DamagedSlideError
        None of them is measured.
    """
    tiles, left_out = len(surveyed.chosen), density.left_out()
    if left_out.total() == tiles:
        raise DamagedSlideError(
            f"{surveyed.slide.path}: none of {tiles} tiles can be measured "
            f"({_counted(left_out)}); --any-quality measures what can be read"
        )
    return (
        *surveyed.warnings,
        *_without_colour(surveyed, scene.stain),
        *scene.warnings,
        *_without_value(left_out, tiles),
    )


def _without_colour(surveyed: Survey, stain: StainStatistic | None) -> Generator[str]:
    if stain is None and surveyed.card.colour_target is not None:
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
        yield f"{unfit} of {tiles} tiles not fit to be measured ({reasons}): no value there"


def _counted(left_out: Counter[Status]) -> str:
    return ", ".join(f"{left_out[reason]} {reason.name.lower()}" for reason in sorted(left_out))
