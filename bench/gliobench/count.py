"""How many nuclei are counted, against those that people labelled one by one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from gliobench.accuracy import Normalise
from gliobench.backends import Segmenter
from glioexport.dataset import MPP, Entry, load_tiles, read_label
from glioexport.erase import instances
from gliorun.findings.nuclei import MIN_NUCLEUS_UM2, find_nuclei, find_shapes, shapes_in, split
from gliorun.measuring.masks import MaskStore
from gliorun.measuring.tile import Measured
from gliorun.reading.scale import Scale
from gliorun.reading.tiles import TileGrid

Mask = NDArray[np.uint8]

MOST_CUT = 0.08
"""Share of a tile's labels up to which labels are single nuclei. Where labels hold nuclei apart,
gliorun's split cuts 0 to 5 % of them; where a label is a clump of nuclei that touch, 9 to 44 %."""


@dataclass(frozen=True, slots=True)
class TileCount:
    """The nuclei of one tile, specks left out.

    `labelled` are those of the labels, and `apart` the shapes that are left where labels that
    touch are one: if both are the same everywhere, the labels do not hold nuclei apart. `cut` are
    the labels that gliorun, given the label alone, would split: single nuclei that it cuts, or
    clumps. `shapes` are the shapes of the mask, and `split` the nuclei that gliorun counts.
    """

    set: str
    id: str
    labelled: int
    apart: int
    cut: int
    shapes: int
    split: int

    @property
    def group(self) -> str:
        """Its set; that of the tiles whose labels are clumps, with which no count agrees."""
        clumps = self.cut > MOST_CUT * self.labelled
        return f"{self.set}, labels are clumps" if clumps else self.set


@dataclass(frozen=True, slots=True)
class CountErrors:
    """One model on one set; errors in percent of the labelled nuclei.

    `error` is the mean over tiles of the size of a tile's error, `bias` that of all nuclei of the
    set; of the shapes of the masks, and of the nuclei that they are split into.
    """

    model: str
    set: str
    tiles: int
    labelled: int
    touching: float
    cut: float
    error_of_shapes: float
    bias_of_shapes: float
    error_of_nuclei: float
    bias_of_nuclei: float


def count_nuclei(mask: Mask) -> tuple[int, int]:
    """Return the shapes of a mask, (H, W) at `MPP`, and the nuclei that gliorun counts in it."""
    side = max(mask.shape)
    grid = TileGrid((side, side), (float(side), float(side)))
    square = np.zeros((side, side), np.uint8)
    square[: mask.shape[0], : mask.shape[1]] = mask != 0
    scale = Scale(MPP, MPP, "slide")
    with MaskStore(grid, side) as store:
        store.feed(Measured(grid.tile(0, 0), square, np.ones_like(square)))
        shapes = sum(1 for _ in find_shapes(store, scale))
        return shapes, sum(1 for _ in find_nuclei(store, scale))


def labelled_nuclei(label: NDArray[Any], mpp: float) -> tuple[int, int, int]:
    """Return how many labels there are, how many shapes they make together, and how many labels
    gliorun would split."""
    least_px = MIN_NUCLEUS_UM2 / mpp**2

    def large(names: NDArray[np.int32]) -> int:
        return int((np.bincount(names.ravel())[1:] >= least_px).sum())

    names = instances(label)
    cut = sum(
        _parts((names[box] == number).astype(np.uint8), mpp) > 1
        for number, box in enumerate(ndimage.find_objects(names), start=1)
    )
    return large(names), large(instances((label > 0).astype(np.uint8))), cut


def _parts(nucleus: Mask, mpp: float) -> int:
    """Return how many nuclei gliorun finds in the largest shape of a label; 0 in a speck."""
    largest = max(shapes_in(nucleus), key=lambda runs: (runs[:, 2] - runs[:, 1]).sum())
    area_um2 = float((largest[:, 2] - largest[:, 1]).sum()) * mpp**2
    return len(split(largest, mpp**2)) if area_um2 >= MIN_NUCLEUS_UM2 else 0


def count_tiles(
    model: Segmenter, normalise: Normalise, entries: Sequence[Entry], say: Callable[[str], None]
) -> list[TileCount]:
    """Count the nuclei of labelled tiles; tiles of one slide share one colour statistic."""
    slides: dict[str, list[Entry]] = {}
    for entry in entries:
        slides.setdefault(entry.stain_group, []).append(entry)
    counts = []
    for slide, of_slide in slides.items():
        say(f"{model.name}: {slide}, {len(of_slide)} tiles")
        tiles = load_tiles(of_slide, {}, None)
        images = normalise([tile.pixels for tile in tiles])
        for entry, image in zip(of_slide, images, strict=True):
            labels = labelled_nuclei(read_label(entry.label), entry.mpp)
            counts.append(
                TileCount(entry.set, entry.id, *labels, *count_nuclei(model.segment(image)))
            )
    return counts


def summarise(model: str, counts: Iterable[TileCount]) -> list[CountErrors]:
    """Return the errors set by set; tiles without a labelled nucleus have none."""
    by_set: dict[str, list[TileCount]] = {}
    for tile in counts:
        if tile.labelled:
            by_set.setdefault(tile.group, []).append(tile)
    errors = []
    for name, tiles in by_set.items():
        labelled, apart, cut, shapes, nuclei = np.array(
            [(tile.labelled, tile.apart, tile.cut, tile.shapes, tile.split) for tile in tiles]
        ).T

        def percent(counted: NDArray[Any], labelled: NDArray[Any] = labelled) -> list[float]:
            error = np.abs(counted - labelled) / labelled
            bias = counted.sum() / labelled.sum() - 1
            return [100 * float(error.mean()), 100 * float(bias)]

        touching = 100 * float(1 - apart.sum() / labelled.sum())
        errors.append(
            CountErrors(
                model, name, len(tiles), int(labelled.sum()), touching,
                100 * float(cut.sum() / labelled.sum()), *percent(shapes), *percent(nuclei),
            )
        )  # fmt: skip
    return errors


def markdown(errors: Iterable[CountErrors]) -> str:
    """Return the table of what was found."""
    from gliorun.commandline import table

    head = (
        "model", "set", "tiles", "labelled nuclei", "of which the label touches another",
        "labels cut", "error of shapes", "bias", "error of nuclei", "bias",
    )  # fmt: skip
    rows = [
        (
            e.model, e.set, e.tiles, f"{e.labelled:,}", f"{e.touching:.0f} %",
            f"{e.cut:.1f} %",
            f"{e.error_of_shapes:.1f} %", f"{e.bias_of_shapes:+.1f} %",
            f"{e.error_of_nuclei:.1f} %", f"{e.bias_of_nuclei:+.1f} %",
        )
        for e in errors
    ]  # fmt: skip
    return table(head, rows)


def as_values(errors: Iterable[CountErrors], counts: Iterable[TileCount]) -> dict[str, Any]:
    """Return the fields of `CountErrors` and of `TileCount` as plain JSON values."""
    return {
        "summaries": [asdict(of_set) for of_set in errors],
        "tiles": [asdict(tile) for tile in counts],
    }
