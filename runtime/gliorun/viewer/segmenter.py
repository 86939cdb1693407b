"""Segment the tiles that pages show, on a thread of its own, and keep the last of them."""

from __future__ import annotations

import json
import struct
import threading
from collections import OrderedDict
from collections.abc import Callable, Generator, Hashable, Iterable
from contextlib import closing
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gliorun import pipeline
from gliorun.errors import GlioError
from gliorun.measuring.density import DensityMap
from gliorun.measuring.survey import Survey
from gliorun.measuring.tile import LeftOut, Measured, Status
from gliorun.model.engine import Engine
from gliorun.model.stainstatistic import StainStatistic
from gliorun.reading.tiles import TileGrid, TileSpec

CACHE_BYTES = 40 << 20
"""Most bytes of segmented tiles that are kept."""
Place = tuple[int, int]
"""Column and row of a tile."""
Deliver = Callable[[bytes], None]


class Closed(Exception):  # noqa: N818 - no fault
    """The work was ended from outside."""


def message(header: dict[str, object], *planes: NDArray[Any]) -> bytes:
    """Return a message to a page: the length of its header, the header as JSON, and arrays.

    The header is filled with blanks to a multiple of four bytes, so that floats lie aligned.
    """
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 4)
    return b"".join([struct.pack("<I", len(text)), text, *(plane.tobytes() for plane in planes)])


class Segmenter:
    """Gives pages the levels of tiles, as the run has them.

    Parameters
    ----------
    surveyed : Survey
    engine : Engine
        Others may use it meanwhile.
    fine : DensityMap
        Of the fine cells of the run; only its shares of tissue are used.
    stain : StainStatistic or None
        Of the slide.
    """

    def __init__(
        self, surveyed: Survey, engine: Engine, fine: DensityMap, stain: StainStatistic | None
    ) -> None:
        self._surveyed = surveyed
        self._engine = engine.another(self._check)
        self._fine = fine
        self._cells = surveyed.empty_map()
        self._stain = stain
        self._specs = {(spec.column, spec.row): spec for spec in surveyed.stained_tiles}
        self._wishes: dict[Hashable, tuple[Deliver, dict[Place, None]]] = {}
        self._under_way: set[Place] = set()
        self._kept: OrderedDict[Place, bytes] = OrderedDict()
        self._bytes = 0
        self._changed = threading.Condition()
        self._is_closed = False
        self.fault = ""
        self._thread = threading.Thread(target=self._run, name="segmenter", daemon=True)
        self._thread.start()

    def close(self, timeout_s: float) -> None:
        """End the thread."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
        self._thread.join(timeout_s)

    @property
    def is_busy(self) -> bool:
        """Whether a page waits for a tile."""
        return bool(self._under_way) or any(places for _, places in self._wishes.values())

    def wait_while_busy(self, timeout_s: float) -> None:
        """Wait until no page waits for a tile, or for some time."""
        with self._changed:
            self._changed.wait_for(lambda: self._is_closed or not self.is_busy, timeout_s)

    def ask(self, page: Hashable, places: Iterable[Place], deliver: Deliver) -> None:
        """Give a page these tiles, the first ones first, and no others that it asked for before.

        `deliver` is called with a message for each of them, on any thread.
        """
        ready: list[bytes] = []
        with self._changed:
            wanted: dict[Place, None] = {}
            for place in places:
                if place in self._kept:
                    self._kept.move_to_end(place)
                    ready.append(self._kept[place])
                elif place not in self._specs:
                    ready.append(self._without_levels(place, Status.NO_TISSUE))
                else:
                    wanted[place] = None
            self._wishes[page] = deliver, wanted
            self._changed.notify_all()
        for tile in ready:
            deliver(tile)

    def forget(self, page: Hashable) -> None:
        """Give a page nothing more."""
        with self._changed:
            self._wishes.pop(page, None)
            self._changed.notify_all()

    def _run(self) -> None:
        try:
            while self._waits():
                tiles = pipeline.look_at(
                    self._surveyed, self._stain, self._engine.predict, self._wanted()
                )
                with closing(tiles):
                    for tile in tiles:
                        self._give(tile)
        except Closed:
            pass
        except (GlioError, MemoryError) as error:
            self.fault = str(error) or "out of memory"
        except Exception:
            if not self._is_closed:  # else the process ends, and starts no more threads
                raise
        finally:
            with self._changed:  # nobody may wait for this thread
                self._wishes.clear()
                self._under_way.clear()
                self._is_closed = True
                self._changed.notify_all()

    def _check(self) -> None:
        if self._is_closed:
            raise Closed

    def _waits(self) -> bool:
        """Wait until a page wants a tile; tell whether the thread goes on."""
        with self._changed:
            self._changed.wait_for(lambda: self._is_closed or self.is_busy)
            return not self._is_closed

    def _wanted(self) -> Generator[TileSpec]:
        """Yield the tiles that pages want, page by page in turn, until they want no more."""
        while True:
            with self._changed:
                place = None if self._is_closed else self._next()
                if place is None:
                    return
                self._under_way.add(place)
            yield self._specs[place]

    def _next(self) -> Place | None:
        for page, (_, places) in list(self._wishes.items()):
            for place in places:
                if place not in self._under_way:
                    self._wishes[page] = self._wishes.pop(page)  # next time another page
                    return place
        return None

    def _give(self, tile: Measured | LeftOut) -> None:
        place = tile.spec.column, tile.spec.row
        if isinstance(tile, LeftOut):
            packed = self._without_levels(place, tile.reason)
        else:
            packed = self._with_levels(place, tile)
        receivers = []
        with self._changed:
            self._under_way.discard(place)
            self._kept[place] = packed
            self._bytes += len(packed)
            while self._bytes > CACHE_BYTES:
                self._bytes -= len(self._kept.popitem(last=False)[1])
            for deliver, places in self._wishes.values():
                if place in places:
                    del places[place]
                    receivers.append(deliver)
            self._changed.notify_all()
        for deliver in receivers:
            deliver(packed)

    def _without_levels(self, place: Place, status: Status) -> bytes:
        return message({"kind": "tile", "place": place, "status": status.words, "cells": 0})

    def _with_levels(self, place: Place, tile: Measured) -> bytes:
        """Pack levels, what counts, and the share of each cell's area that the density is of.

        Levels are 0 where a pixel is not valid, so that no outline holds it.
        """
        counts = self._counts(tile)
        cells = self._cells_of(tile, counts)
        share = np.zeros(cells.valid_px.shape, np.float32)
        np.divide(cells.area_px, cells.valid_px, out=share, where=cells.valid_px > 0)
        header = {
            "kind": "tile",
            "place": place,
            "status": Status.MEASURED.words,
            "cells": cells.cells_a_tile,
            "counts": not counts.all(),
        }
        levels = np.where(tile.valid != 0, tile.levels, 0).astype(np.uint8)
        counted = () if counts.all() else (counts,)
        return message(header, share, levels, *counted)

    def _counts(self, tile: Measured) -> NDArray[np.bool_]:
        """Return the pixels of a tile that count: valid ones, where there are regions in one."""
        valid = np.asarray(tile.valid != 0)
        if not self._surveyed.regions:
            return valid
        from gliorun.measuring.regions import tile_within

        within = np.zeros_like(valid)
        for region in self._surveyed.regions:
            if region.touches([tile.spec])[0]:
                within |= tile_within(region, tile.spec, len(valid))
        return np.asarray(valid & within)

    def _cells_of(self, tile: Measured, counts: NDArray[np.bool_]) -> DensityMap:
        """Return the map of a tile alone, in cells of the run's map, as the run has them."""
        fine, coarse = self._fine, self._cells
        spec = replace(tile.spec, column=0, row=0)
        alone = DensityMap(
            TileGrid((spec.width_l0, spec.height_l0), (spec.width_l0, spec.height_l0)),
            fine.tile_px,
            fine.cell_px,
            fine.outlines,
            per_tissue=fine.per_tissue,
        )
        alone.tissue = fine.tissue[_cells_at(fine, tile.spec)]
        alone.tissue_share = fine.tissue_share[_cells_at(fine, tile.spec)]
        alone.feed(Measured(spec, tile.levels, counts.astype(np.uint8)))
        if coarse.cell_px == fine.cell_px:
            return alone
        cells = alone.merged(coarse.cell_px // fine.cell_px)
        cells.tissue = coarse.tissue[_cells_at(coarse, tile.spec)]
        return cells


def _cells_at(density: DensityMap, spec: TileSpec) -> tuple[slice, slice]:
    n = density.cells_a_tile
    return np.s_[spec.row * n : (spec.row + 1) * n, spec.column * n : (spec.column + 1) * n]
