"""Choose the tiles of a training and of its validation, and compare masks with labels."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from glioexport.dataset import (
    Entry,
    LabelledTile,
    load_tiles,
    read_index,
    stain_statistics,
)
from glioexport.otsu import haematoxylin_otsu
from glioexport.reference import mask_predictor
from gliorun.errors import GlioError, UsageError
from gliorun.findings.agreement import Agreement, agreement
from gliorun.findings.bootstrap import clusters, intervals_of_means
from gliorun.measuring import colour
from gliorun.model.card import sha256_of
from gliorun.model.stainstatistic import StainStatistic
from gliorun.reading.windows import segment

Mask = NDArray[np.uint8]
SegmentTile = Callable[[LabelledTile], Mask]
"""Gives the mask of a tile, (H, W) uint8, not 0 = nucleus."""

MEANS = ("dice", "density_error_points", "density_bias_points", "class_agreement")
"""Figures of `gliorun.findings.agreement` that are means over tiles."""
WORST = 5
FREE_LICENCES = r"(CC0|CC BY(-SA)?|PDDL|ODC-BY|MIT|Apache)\b(?!-N)"
"""Licences that allow commercial use of a model; an unknown licence does not."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """The index entries for training and for validation, and the colour of their slides."""

    train: list[Entry]
    val: list[Entry]
    statistics: dict[str, StainStatistic]

    def fingerprint(self) -> str:
        """Return a hash of all training and validation data: entries, images and labels."""
        digest = sha256()
        for role, entries in (("train", self.train), ("val", self.val)):
            for entry in sorted(entries, key=lambda e: (e.set, e.id)):
                files = (sha256_of(path) for path in (entry.image, entry.label))
                line = (role, entry.set, entry.id, entry.patient, entry.licence, entry.mpp, *files)
                digest.update(repr(line).encode())
        return digest.hexdigest()

    def mean_colour(self) -> StainStatistic:
        """Return the mean over the slides that are trained on."""
        groups = sorted({entry.stain_group for entry in self.train} & set(self.statistics))
        return colour.mean_statistic(self.statistics[group] for group in groups)


@dataclass(frozen=True, slots=True, eq=False)
class Lessons:
    """Tiles to train on and tiles to validate on, in the colour of `target`.

    `sparse` are tiles to train on whose nuclei were taken out.
    """

    tiles: list[LabelledTile]
    checks: list[LabelledTile]
    target: StainStatistic | None
    sparse: list[LabelledTile] = field(default_factory=list)

    def licences(self) -> list[dict[str, str]]:
        """Return the sets that are trained on with their licences, as plain values."""
        sources = sorted({(tile.entry.set, tile.entry.licence) for tile in self.tiles})
        return [{"set": name, "licence": licence} for name, licence in sources]


def intended_use(sources: Iterable[Any]) -> str:
    """Return the permitted use of a model, which the licences of its training tiles limit.

    `sources` are as a card has them; one without a licence does not allow more than research.
    """
    licences = [str(s.get("licence", "")) if isinstance(s, dict) else "" for s in sources]
    free = all(re.match(FREE_LICENCES, licence) for licence in licences)
    what = "Research use only" if free else "Research and non-commercial use only"
    return f"{what}; not a medical device."


def choose(data: Path, held_out: Iterable[str] = ()) -> Chosen:
    """Take the splits `train` and `val` of `data`; sets in `held_out` are validated on.

    Raises
    ------
    GlioError
        A split is empty or without tissue, or there is no such set to hold out.
    """
    held_out = set(held_out)
    entries = read_index(data)
    names = {e.set for e in entries}
    if not held_out <= names:
        unknown = ", ".join(sorted(held_out - names))
        raise UsageError(
            f"{data}: has no set {unknown} to hold out; it has {', '.join(sorted(names))}"
        )
    train = [e for e in entries if e.split == "train" and e.set not in held_out]
    val = [e for e in entries if e.split == "val" or e.set in held_out]
    if not train or not val:
        raise GlioError(f"{data}: needs tiles of the split train and of the split val")
    statistics = stain_statistics(entries)
    if not any(e.stain_group in statistics for e in train):
        raise GlioError(f"{data}: no tile to train on holds enough tissue; add some")
    return Chosen(train, val, statistics)


def load_lessons(chosen: Chosen, target: StainStatistic | None) -> Lessons:
    """Read the chosen tiles, in the colour of `target`."""
    train, val = (load_tiles(e, chosen.statistics, target) for e in (chosen.train, chosen.val))
    return Lessons(train, val, target)


def otsu_baseline(checks: list[LabelledTile], say: Callable[[str], None]) -> dict[str, Agreement]:
    """Compare the haematoxylin threshold, the simple alternative, with the labels.

    It sees a tile in its own colour, and like its label at the scale that networks see it in.
    """

    def segment_tile(tile: LabelledTile) -> Mask:
        (in_own_colour,) = load_tiles([tile.entry], {}, None)
        return haematoxylin_otsu(in_own_colour.pixels)

    baseline = compare_by_set(checks, segment_tile)
    for name, plain in baseline.items():
        say(f"haematoxylin Otsu on {name}: Dice {plain.dice:.3f}")
    return baseline


def compare_by_set(
    tiles: Iterable[LabelledTile], segment_tile: SegmentTile
) -> dict[str, Agreement]:
    """Compare masks with the labels, set by set."""
    pairs = _pairs_by_set(tiles, segment_tile)
    return {name: agreement(pair for _, pair in of_set) for name, of_set in pairs.items()}


def validate(tiles: Iterable[LabelledTile], segment_tile: SegmentTile) -> dict[str, dict[str, Any]]:
    """Compare masks with the labels for a card, set by set, as plain values.

    With the figures of `compare_by_set` come `intervals`, 95 % bootstrap intervals of the means
    over tiles, drawn by patient (None of a single tile), and `worst`, the tiles of lowest Dice.
    """
    report: dict[str, dict[str, Any]] = {}
    for name, of_set in _pairs_by_set(tiles, segment_tile).items():
        singles = [(entry, agreement([pair])) for entry, pair in of_set]
        values = np.array(
            [[getattr(tile_score, figure) for figure in MEANS] for _, tile_score in singles]
        )
        drawn_with = clusters([(entry.patient, entry.id) for entry, _ in singles])
        intervals = intervals_of_means(values, drawn_with)
        worst = sorted(singles, key=lambda single: single[1].dice)[:WORST]
        report[name] = {
            **asdict(agreement(pair for _, pair in of_set)),
            "intervals": None if intervals is None else dict(zip(MEANS, intervals, strict=True)),
            "worst": [
                {
                    "id": entry.id,
                    "dice": tile_score.dice,
                    "density_bias_points": tile_score.density_bias_points,
                }
                for entry, tile_score in worst
            ],
        }
    return report


def _pairs_by_set(
    tiles: Iterable[LabelledTile], segment_tile: SegmentTile
) -> dict[str, list[tuple[Entry, tuple[Mask, Mask]]]]:
    """Return each tile's line with its mask and label, by set."""
    pairs: dict[str, list[tuple[Entry, tuple[Mask, Mask]]]] = {}
    for tile in tiles:
        pairs.setdefault(tile.entry.set, []).append((tile.entry, (segment_tile(tile), tile.nuclei)))
    return pairs


def mask_of_image(model: keras.Model) -> Callable[[Mask], Mask]:
    """Return a function that segments a colour-normalised image of any size."""
    predict = mask_predictor(model)
    side = model.input_shape[1]
    return lambda image: segment(image, predict, side)


def mask_of_tile(model: keras.Model) -> SegmentTile:
    """Return a function that segments a colour-normalised tile of any size."""
    segment_image = mask_of_image(model)
    return lambda tile: segment_image(tile.pixels)
