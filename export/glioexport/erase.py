"""Nuclei taken out of a labelled tile, one by one, so that its true density is known at each step.

Each nucleus is covered with a piece of the same tile that holds none, moved there whole and
blended in with soft edges, so that texture, noise and compression stay those of the tile.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.measure import label as connected

Pixels = NDArray[np.uint8]
Instances = NDArray[np.int32]
Mask = NDArray[np.bool_]
Window = tuple[slice, slice]

MARGIN_PX = 3
"""How far around its label a nucleus is covered: outlines are blurred, and labels are tight."""
SOFT_PX = 1.5
"""Standard deviation of the soft edge."""
REACH_PX = MARGIN_PX + round(3 * SOFT_PX)
"""How far around its label a nucleus's pixels change."""
APART_PX = 2
"""How far a piece keeps from every other nucleus."""
TRIES = 64
"""Pieces compared for one nucleus; the one whose surroundings are most alike is taken."""


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """A tile with a share `kept` of its nuclei.

    pixels : (H, W, 3) uint8; nuclei : (H, W) uint8 of 0 and 1
    """

    kept: float
    pixels: Pixels
    nuclei: Pixels


def erase(
    pixels: Pixels, label: Instances, shares: Sequence[float], seed: int = 0
) -> list[Step] | None:
    """Return a tile with each of the shares of its nuclei that are to be kept.

    Parameters
    ----------
    pixels : (H, W, 3) uint8
    label : (H, W) int32
        One number a nucleus, 0 elsewhere.
    shares : sequence of float
        Of the number of nuclei, falling, from 0 to 1.
    seed : int
        Of the order in which nuclei go.

    Returns
    -------
    list of Step, or None where the tile has no piece to cover one of its nuclei with.
    """
    random = np.random.default_rng(seed)
    tile = _Tile(pixels.copy(), label.copy(), _near(label > 0))
    boxes = ndimage.find_objects(label)
    numbers = random.permutation([n for n, box in enumerate(boxes, 1) if box is not None])
    steps: list[Step] = []
    gone = 0
    for share in shares:
        until = len(numbers) - round(len(numbers) * share)
        for number in numbers[gone:until]:
            if not tile.cover(int(number), boxes[number - 1], random):
                return None
        gone = until
        steps.append(Step(share, tile.pixels.copy(), (tile.label > 0).astype(np.uint8)))
    return steps


def instances(label: NDArray[np.integer]) -> Instances:
    """Return a label image with one number a nucleus; the parts of a mere mask are numbered."""
    if len(np.unique(label)) <= 2:
        return np.asarray(connected(label > 0), dtype=np.int32)
    return np.asarray(np.unique(label, return_inverse=True)[1].reshape(label.shape), np.int32)


def _near(nuclei: Mask) -> Mask:
    return np.asarray(ndimage.binary_dilation(nuclei, iterations=APART_PX))


@dataclass(frozen=True, slots=True, eq=False)
class _Tile:
    """A tile that loses its nuclei, in place; `near` is where a piece must not be taken."""

    pixels: Pixels
    label: Instances
    near: Mask

    def cover(self, number: int, box: Window, random: np.random.Generator) -> bool:
        """Cover one nucleus; tell whether a piece was found for it."""
        place = self._around(box, REACH_PX)
        own = self.label[place] == number
        others = (self.label[place] > 0) & ~own
        covered = ndimage.binary_dilation(own, iterations=MARGIN_PX)
        weight = ndimage.gaussian_filter(covered.astype(np.float32), SOFT_PX)
        weight[own], weight[others] = 1, 0  # a nucleus beside it keeps its pixels
        changed = weight > 0.01
        source = self._most_alike(place, changed, changed & ~covered, random)
        if source is None:
            return False
        piece, blend = self.pixels[source].astype(np.float32), weight[..., None]
        self.pixels[place] = np.rint(blend * piece + (1 - blend) * self.pixels[place])
        self.label[place][own] = 0
        around, wider = self._around(box, APART_PX), self._around(box, 2 * APART_PX)
        inner = tuple(
            slice(a.start - w.start, a.stop - w.start) for a, w in zip(around, wider, strict=True)
        )
        self.near[around] = _near(self.label[wider] > 0)[inner]
        return True

    def _around(self, box: Window, reach_px: int) -> Window:
        rows, columns = (
            slice(max(side.start - reach_px, 0), min(side.stop + reach_px, size))
            for side, size in zip(box, self.label.shape, strict=True)
        )
        return rows, columns

    def _most_alike(
        self, place: Window, changed: Mask, rim: Mask, random: np.random.Generator
    ) -> Window | None:
        """Return where to take the piece from, so that it matches the colour at the soft rim."""
        wanted = self.pixels[place][rim].astype(np.float32).mean(axis=0) if rim.any() else None

        def unlike(source: Window) -> float:
            if wanted is None:
                return 0.0
            return float(np.abs(self.pixels[source][rim].mean(axis=0) - wanted).sum())

        return min(self._free(changed, random), key=unlike, default=None)

    def _free(self, changed: Mask, random: np.random.Generator) -> Generator[Window]:
        """Yield up to `TRIES` windows that show no nucleus where `changed` is set."""
        height, width = changed.shape
        sums = np.pad(self.near.cumsum(axis=0, dtype=np.int32).cumsum(axis=1), ((1, 0), (1, 0)))
        nuclei_px = (
            sums[height:, width:]
            - sums[:-height, width:]
            - sums[height:, :-width]
            + sums[:-height, :-width]
        )
        places = np.flatnonzero(nuclei_px == 0)
        if not len(places):  # none is wholly free; one may be free where it matters
            places = np.argsort(nuclei_px, axis=None)[: 20 * TRIES]
        yielded = 0
        for place in random.permutation(places)[: 20 * TRIES]:
            top, left = np.unravel_index(place, nuclei_px.shape)
            window = np.s_[top : top + height, left : left + width]
            if not (self.near[window] & changed).any():
                yield window
                yielded += 1
                if yielded == TRIES:
                    return
