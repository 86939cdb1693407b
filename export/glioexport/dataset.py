"""Labelled tiles on disk: an `index.csv` with images and nucleus labels."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from glioexport.erase import instances
from gliorun.errors import GlioError, UsageError
from gliorun.measuring import colour
from gliorun.measuring.stain import fit_stain
from gliorun.model.card import ModelCard
from gliorun.model.stainstatistic import StainStatistic
from gliorun.reading.files import is_file
from gliorun.reading.images import NO_IMAGE, open_upright, read_labels
from gliorun.reading.scale import SAME_SCALE

Pixels = NDArray[np.uint8]

MPP = 0.25
"""Micrometres per pixel that a network is trained at."""
COARSEST_MPP = 1.0
"""Coarsest scale; coarser tiles do not show nuclei."""
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff")
SPLITS = ("val", "train", "all")
LARGEST_DENSITY = 6.0
"""Past the optical density of a level of 1."""
COLUMNS = ("set", "id", "patient", "split", "licence", "image", "label")


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of `index.csv`; paths are absolute, `mpp` in µm per pixel.

    `stain` is that of the slide it was cut from, if it was measured there.
    """

    set: str
    id: str
    patient: str
    split: str
    licence: str
    image: Path
    label: Path
    mpp: float = MPP
    stain: StainStatistic | None = None

    @property
    def stain_group(self) -> str:
        """Tiles that share one stain statistic, as the tiles of one slide do in the runtime."""
        return f"{self.set}/{self.patient or self.id}"


@dataclass(frozen=True, slots=True, eq=False)
class LabelledTile:
    """A tile in memory: pixels (H, W, 3) uint8 RGB, nuclei (H, W) uint8 of 0 and 1.

    The `nuclei` of a teacher are float32, its probability of nucleus; those for a network that
    tells nuclei apart are int32, a number for each.
    """

    entry: Entry
    pixels: NDArray[np.uint8]
    nuclei: NDArray[Any]


def read_index(folder: Path) -> list[Entry]:
    """Read `folder`/index.csv.

    Raises
    ------
    GlioError
        The index is missing, lacks a column, or names a file that does not exist.
    """
    path = folder / "index.csv"
    if not path.is_file():
        raise GlioError(f"{folder}: no index.csv; pass the folder of the labelled tiles")
    columns, rows = read_table(path)
    missing = [name for name in COLUMNS if name not in columns]
    if missing:
        raise GlioError(f"{path}: no column {', '.join(missing)}; add it")
    if any(row[name] is None for row in rows for name in COLUMNS):
        raise GlioError(f"{path}: a line is cut short; copy it again")
    entries = [
        Entry(
            set=row["set"],
            id=row["id"],
            patient=row["patient"],
            split=row["split"],
            licence=row["licence"],
            image=folder / row["image"],
            label=folder / row["label"],
            mpp=_mpp(row, path),
            stain=_stain(row, path),
        )
        for row in rows
    ]
    for entry in entries:
        for file in (entry.image, entry.label):
            if not is_file(file):
                raise GlioError(
                    f"{path}: names {file}, which does not exist; copy the folder whole"
                )
    return entries


def choose_entries(folder: Path, sets: Sequence[str], split: str) -> list[Entry]:
    """Return the entries of `folder` with this split and in these sets, or in any if none is named.

    Raises
    ------
    GlioError
        The index is unusable, has no such set, or no entry remains.
    """
    if split not in SPLITS:
        raise UsageError(f"split is {split!r}; known: {', '.join(SPLITS)}")
    entries = read_index(folder)
    names = sorted({e.set for e in entries})
    unknown = sorted(set(sets) - set(names))
    if unknown:
        raise UsageError(f"{folder}: no set {', '.join(unknown)}; it has {', '.join(names)}")
    chosen = [e for e in entries if split in ("all", e.split) and (not sets or e.set in sets)]
    if not chosen:
        raise GlioError(
            f"{folder}: no tile of split {split} in {', '.join(sets or names)}; "
            "pass another --split"
        )
    return chosen


def read_table(path: Path) -> tuple[list[str], list[dict[str, str]]]:
    """Return the columns of a table of tiles and its lines.

    Raises
    ------
    GlioError
        It is no CSV in UTF-8 with commas, as Excel's plain "CSV" is not.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as lines:
            reader = csv.DictReader(lines, strict=True)
            rows, columns = list(reader), list(reader.fieldnames or ())
    except (OSError, ValueError, csv.Error) as error:
        raise GlioError(
            f"{path}: cannot be read as CSV in UTF-8 ({error}); "
            "save it so (in Excel as 'CSV UTF-8')"
        ) from error
    if len(columns) == 1 and ";" in columns[0]:
        raise GlioError(f"{path}: has semicolons between its columns; save it with commas")
    return columns, rows


def _mpp(row: dict[str, str], path: Path) -> float:
    """Return a line's scale, µm/px, from the optional column `mpp_nominal`."""
    text = row.get("mpp_nominal") or str(MPP)
    try:
        mpp = float(text)
    except ValueError:
        mpp = math.nan
    if not 0 < mpp <= COARSEST_MPP:
        raise GlioError(f"{path}: mpp_nominal of {row['id']} is {text!r}; it must be µm per pixel")
    return mpp


def stain_columns(stain: StainStatistic | None) -> dict[str, str]:
    """Return the optional columns `ground` and `white` of a line; none without a stain."""
    if stain is None:
        return {}
    return {
        "ground": " ".join(f"{density:.6f}" for density in stain.ground),
        "white": " ".join(map(str, stain.white)),
    }


def _stain(row: dict[str, str], path: Path) -> StainStatistic | None:
    """Return the stain in a line's optional columns `ground` and `white`."""
    ground, white = row.get("ground") or "", row.get("white") or ""
    if not ground and not white:
        return None
    try:
        red, green, blue = map(float, ground.split())
        red_of_glass, green_of_glass, blue_of_glass = map(int, white.split())
        stain = StainStatistic((red, green, blue), (red_of_glass, green_of_glass, blue_of_glass))
    except ValueError:
        stain = None
    if (
        stain is None
        or not all(0 < density < LARGEST_DENSITY for density in stain.ground)
        or not all(0 < level <= 255 for level in stain.white)
    ):
        raise GlioError(
            f"{path}: ground and white of {row['id']} are {ground!r} and {white!r}, no stain; "
            "annotate the slide again, or leave both empty"
        )
    return stain


def read_rgba(path: Path) -> NDArray[np.uint8]:
    """Read an image as (H, W, 4) uint8."""
    try:
        return np.asarray(open_upright(path).convert("RGBA"))
    except NO_IMAGE as error:
        raise GlioError(f"{path}: cannot be read as an image ({error}); copy it again") from error


def read_nuclei(path: Path) -> NDArray[np.uint8]:
    """Read a label image, any value above 0 a nucleus, as (H, W) uint8 of 0 and 1."""
    return (read_label(path) > 0).astype(np.uint8)


def read_instances(path: Path) -> NDArray[np.int32]:
    """Read a label image as (H, W) int32, a number for each nucleus and 0 elsewhere."""
    return instances(read_label(path))


def read_label(path: Path) -> NDArray[Any]:
    """Read a label image, (H, W), with the values it has."""
    try:
        return read_labels(path)
    except NO_IMAGE as error:
        raise GlioError(
            f"{path}: cannot be read as a label image ({error}); copy it again"
        ) from error


def stain_statistics(entries: Iterable[Entry]) -> dict[str, StainStatistic]:
    """Measure the ground of every stain group; those with too little tissue are left out.

    Images without a label, whose entry names the image itself, count as all ground.
    """
    levels: dict[str, colour.Levels] = {}
    for entry in entries:
        counts = levels.setdefault(entry.stain_group, colour.empty_levels())
        rgba, nuclei = read_rgba(entry.image), None
        if entry.label != entry.image:
            nuclei = read_nuclei(entry.label)
            _check_sizes(entry, rgba, nuclei)
        colour.add_levels(rgba, counts, nuclei)
    measured = {group: colour.measure(counts) for group, counts in levels.items()}
    return {group: statistic for group, statistic in measured.items() if statistic}


def load_tiles(
    entries: Iterable[Entry],
    statistics: dict[str, StainStatistic],
    target: StainStatistic | None,
    read: Callable[[Path], NDArray[Any]] = read_nuclei,
) -> list[LabelledTile]:
    """Read tiles with their labels, bring them to `MPP` and normalise their colour to `target`.

    `read` reads a label image, (H, W): `read_nuclei`, or `read_instances`.

    Raises
    ------
    GlioError
        An image and its label differ in size.
    """
    tiles = []
    for entry in entries:
        table = colour.table_between(statistics.get(entry.stain_group), target)
        pixels, _ = colour.normalise(read_rgba(entry.image), table)
        nuclei = read(entry.label)
        _check_sizes(entry, pixels, nuclei)
        tiles.append(at_scale(LabelledTile(entry, pixels, nuclei)))
    return tiles


def _check_sizes(entry: Entry, image: NDArray[np.uint8], label: NDArray[np.uint8]) -> None:
    if label.shape != image.shape[:2]:
        raise GlioError(
            f"{entry.label}: {label.shape} does not fit the image {image.shape[:2]}; "
            "draw the label at the image's size"
        )


def at_scale(tile: LabelledTile) -> LabelledTile:
    """Resample a tile of another scale to `MPP`, so that magnifications mix."""
    factor = tile.entry.mpp / MPP
    if abs(factor - 1) <= SAME_SCALE:
        return tile
    height, width = (max(1, round(side * factor)) for side in tile.nuclei.shape)
    pixels = Image.fromarray(tile.pixels).resize((width, height), Image.Resampling.BICUBIC)
    nuclei = Image.fromarray(tile.nuclei).resize((width, height), Image.Resampling.NEAREST)
    return LabelledTile(tile.entry, np.asarray(pixels), np.asarray(nuclei))


def by_slide(
    tiles: Sequence[LabelledTile],
    images: Sequence[Pixels],
    normalise: Callable[[list[Pixels]], list[Pixels]],
) -> list[Pixels]:
    """Return images of tiles in their order, normalised with all those of the same slide."""
    slides: dict[str, list[int]] = {}
    for number, tile in enumerate(tiles):
        slides.setdefault(tile.entry.stain_group, []).append(number)
    normalised: dict[int, Pixels] = {}
    for numbers in slides.values():
        shown = normalise([images[number] for number in numbers])
        normalised.update(zip(numbers, shown, strict=True))
    return [normalised[number] for number in range(len(tiles))]


def check_scale(card: ModelCard) -> None:
    """Refuse a model of another scale than `MPP`.

    Raises
    ------
    GlioError
        It is one.
    """
    if abs(card.mpp / MPP - 1) > SAME_SCALE:
        raise GlioError(
            f"{card.name}: takes {card.mpp:g} µm/px, the tiles {MPP:g}; pass a model of that scale"
        )


def as_runtime(
    images: list[Pixels],
    segment: Callable[[Pixels], Pixels],
    target: StainStatistic | None,
) -> list[Pixels]:
    """Normalise the images of one slide to a network's target, as the runtime does.

    `segment` is the network: it gives the mask of an image.
    """
    opaque = [_opaque(image) for image in images]
    stain = fit_stain(opaque, lambda normalised: map(segment, normalised), target)
    table = colour.table_between(stain, target)
    return [colour.normalise(image, table)[0] for image in opaque]


def _opaque(image: Pixels) -> Pixels:
    return np.dstack([image, np.full(image.shape[:2], 255, dtype=np.uint8)])


def in_runtime_colour(
    tiles: list[LabelledTile],
    target: StainStatistic | None,
    segment_image: Callable[[Pixels], Pixels],
) -> list[LabelledTile]:
    """Return tiles as scanned, in the colour that the runtime would show them to the network in.

    In training, the labels say where the ground is; at run time the network does, on the whole
    slide: where that is known, it is taken, and else the tiles of one slide are all there is of it.
    """
    unknown = [tile for tile in tiles if tile.entry.stain is None]
    normalise = partial(as_runtime, segment=segment_image, target=target)
    images = iter(by_slide(unknown, [tile.pixels for tile in unknown], normalise))
    shown = []
    for tile in tiles:
        if tile.entry.stain is None:
            pixels = next(images)
        else:
            table = colour.table_between(tile.entry.stain, target)
            pixels, _ = colour.normalise(_opaque(tile.pixels), table)
        shown.append(replace(tile, pixels=pixels))
    return shown
