"""Semi-automatic ground truth: write candidate nuclei for people to correct, and read them back.

Candidates are kept apart from ground truth, so that no training can confuse them:

- `candidates.csv`, `candidates/NAME.geojson` to correct in QuPath, `candidates/NAME.png`;
- `index.csv`, which `glioexport train` reads, and `labels/NAME.png`: what people corrected.

The images stay where they are.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from glioexport import contact, fields
from glioexport.dataset import (
    COARSEST_MPP,
    COLUMNS,
    IMAGE_SUFFIXES,
    Entry,
    LabelledTile,
    at_scale,
    check_scale,
    in_runtime_colour,
    read_rgba,
    read_table,
    stain_columns,
    stain_statistics,
)
from glioexport.nuclei_geojson import (
    Labels,
    Outlines,
    area_px,
    counted,
    draw_labels,
    lies_outside,
    read_outlines,
    to_geojson,
)
from glioexport.otsu import candidate_nuclei, numbered
from gliorun.atomic import cannot_write, replacing
from gliorun.errors import GlioError, UsageError
from gliorun.measuring import colour
from gliorun.measuring.survey import survey
from gliorun.model.card import ModelCard
from gliorun.model.engine import Engine
from gliorun.model.stainstatistic import StainStatistic
from gliorun.pipeline import scene_of
from gliorun.reading.files import title
from gliorun.reading.images import NO_IMAGE, open_upright
from gliorun.reading.slide import Slide
from gliorun.reading.windows import segment
from gliorun.settings import Settings

Row = dict[str, str]
Say = Callable[[str], None]
Outline = Callable[[Collection[Entry]], Iterator[tuple[Entry, Labels]]]
"""Yields tiles with their candidate nuclei, numbered 1, 2, …"""

SPLITS = ("train", "val")
GEOJSON_SUFFIXES = (".geojson", ".json")
LONGEST_SIDE_PX = 5000
"""Largest image; a larger one is a slide, or too large for a person to correct."""
MOST_NUCLEI = np.iinfo(np.uint16).max
LARGEST_NUCLEUS_UM2 = 3000.0
"""Largest nucleus. The largest that people outlined in the training tiles has 2059 µm², the next
763. A larger object is a region or the frame of the annotation."""
MOST_OUTSIDE = 0.1
"""Largest share of nuclei outside the image; beyond it they were drawn on another image."""
REFERENCE_CARD = Path(__file__).parent / "weights" / "reference.json"


@dataclass(frozen=True, slots=True)
class Source:
    """The origin of tiles, as it is written to the index.

    Parameters
    ----------
    set : str
        Laboratory or collection; `glioexport train --hold-out` names it.
    patient : str
        Patient of all these tiles, which share one stain statistic; empty if unknown.
    licence : str
    mpp : float
        Micrometres per pixel.
    stain : StainStatistic, optional
        Of the slide that they were cut from.
    """

    set: str
    patient: str
    licence: str
    mpp: float
    stain: StainStatistic | None = None

    def __post_init__(self) -> None:
        if not self.set:
            raise UsageError("the tiles belong to no set; pass --set")
        if not 0 < self.mpp <= COARSEST_MPP:
            raise UsageError(
                f"mpp is {self.mpp:g}; it must be above 0 and at most {COARSEST_MPP:g} µm per pixel"
            )


@dataclass(frozen=True, slots=True)
class Asked:
    """The fields of a slide that are asked for: by its map, by squares, or by drawn regions."""

    density_map: Path | None
    count: int
    squares: tuple[str, ...]
    regions: Path | None


def cut_fields(
    path: Path,
    out: Path,
    engine: Engine,
    asked: Asked,
    source: Source,
    *,
    mpp: float | None,
    overwrite: bool,
) -> tuple[list[Path], Source]:
    """Write the fields of a slide as images to `out`/images; return them, and what they are of.

    That is `source` at the scale of the model, with the slide's name where no patient is named,
    and with the stain of the slide as gliorun measures it. `mpp` overrides the slide's scale.

    Raises
    ------
    GlioError
        The slide or what names the fields is unusable, or a field was annotated before.
    """
    card = engine.card
    check_scale(card)
    with Slide(path) as slide:
        surveyed = survey(slide, card, Settings(mpp=mpp))
        places = fields.Places(slide, surveyed.grid)
        chosen = list(fields.in_squares(places, asked.squares))
        if asked.regions is not None:
            chosen += fields.at_regions(places, asked.regions)
        if asked.density_map is not None:
            chosen += fields.spread(places, asked.density_map, asked.count)
        by_name = {places.name(field): field for field in chosen}
        check_free(out, ((name, name) for name in by_name), overwrite=overwrite)
        stain = scene_of(surveyed, engine.predict).stain
        _make(out / "images")
        fields.write_images(places, by_name.values(), out / "images", card.tile_px)
    of_slide = replace(source, patient=source.patient or title(path), mpp=card.mpp, stain=stain)
    return [out / "images" / f"{name}.png" for name in by_name], of_slide


def annotate(
    images: Iterable[Path],
    out: Path,
    source: Source,
    *,
    outline: Outline | None = None,
    overwrite: bool,
    say: Say,
) -> int:
    """Write candidate nuclei of images, files or folders, to the folder `out`; return their number.

    `outline` finds them; by default by thresholds. A contact sheet, `contact.jpg`, shows them.

    Raises
    ------
    GlioError
        An image cannot be used, shares its name with another one, or was annotated before. Then
        nothing was written.
    """
    tiles = _named(_listed(images, IMAGE_SUFFIXES))
    for path in tiles.values():
        _shape_of(path)
    check_free(out, tiles.items(), overwrite=overwrite)
    entries = [
        Entry(
            source.set,
            name,
            source.patient,
            "",
            source.licence,
            path,
            path,
            source.mpp,
            source.stain,
        )
        for name, path in tiles.items()
    ]
    _make(out / "candidates")
    total = 0
    shown: list[contact.Panel] = []
    for entry, labels in (outline or by_thresholds)(entries):
        _add_candidates(entry, labels, out)
        total += int(labels.max())
        say(f"{entry.id}: {_summary(labels)}")
        if len(shown) < contact.MOST:
            title = f"{entry.id}\n{_summary(labels)}"
            shown.append(contact.Panel.of(title, read_rgba(entry.image), labels))
    contact.write(out / "contact.jpg", shown, of=len(entries))
    return total


def check_free(out: Path, names: Iterable[tuple[str, object]], *, overwrite: bool) -> None:
    """Refuse tiles, with what they come from, whose GeoJSON exists and may have been corrected.

    Raises
    ------
    GlioError
        There is one, and it is not to be overwritten.
    """
    for name, origin in names:
        geojson = out / "candidates" / f"{name}.geojson"
        if geojson.exists() and not overwrite:
            raise GlioError(
                f"{geojson}: exists and may have been corrected; leave {origin} out, choose "
                "another --out, or pass --overwrite"
            )


def _add_candidates(entry: Entry, labels: Labels, out: Path) -> None:
    """Write the candidates of one tile, and its line in the table."""
    _check_count(int(labels.max()), entry.image)
    table, label = out / "candidates.csv", f"candidates/{entry.id}.png"
    _write_labels(out / label, labels)
    row = {
        "set": entry.set,
        "id": entry.id,
        "patient": entry.patient,
        "licence": entry.licence,
        "image": _path_from(out, entry.image),
        "label": label,
        "mpp_nominal": f"{entry.mpp:g}",
        **stain_columns(entry.stain),
        **_figures(labels),
    }
    _write_rows(table, [r for r in _read_rows(table) if r["id"] != entry.id] + [row])
    # last, because an existing GeoJSON is never overwritten
    with replacing(out / "candidates" / f"{entry.id}.geojson") as partial:
        partial.write_text(to_geojson(labels), encoding="ascii", newline="\n")


def take_corrections(
    geojsons: Iterable[Path],
    out: Path,
    *,
    split: str,
    further_classes: Collection[str],
    overwrite: bool,
    say: Say,
) -> int:
    """Turn corrected candidates, GeoJSON files or folders, into ground truth; count their nuclei.

    A file is named after the tile of `annotate` that it corrects. Its labels and its line in the
    index are written to `out`, with `split`. Objects of `further_classes` are nuclei as well.

    Raises
    ------
    GlioError
        There is no such tile, its image is missing, its GeoJSON cannot be read or was drawn on
        another image, an object is too large for a nucleus, or the tile has ground truth. Then
        nothing was written.
    """
    if split not in SPLITS:
        raise UsageError(f"split is {split!r}; known: {', '.join(SPLITS)}")
    candidates = _read_rows(out / "candidates.csv")
    rows = _read_rows(out / "index.csv")
    corrected: dict[str, tuple[Row, Outlines, tuple[int, int]]] = {}
    for path in _listed(geojsons, GEOJSON_SUFFIXES):
        row = _candidate_for(path, candidates, out)
        name, label = row["id"], out / "labels" / f"{row['id']}.png"
        if name in corrected:
            raise GlioError(f"{path}: a second GeoJSON of {name}; pass one of them")
        is_listed = any((r["set"], r["id"]) == (row["set"], name) for r in rows)
        if (is_listed or label.exists()) and not overwrite:
            raise GlioError(f"{label}: is ground truth already; pass --overwrite to replace it")
        shape = _shape_of(out / row["image"])
        outlines = read_outlines(path, further_classes)
        _check(outlines, shape, _mpp(row, out), path)
        corrected[name] = row, outlines, shape
    _make(out / "labels")
    total = 0
    for name, (row, outlines, shape) in corrected.items():
        labels = draw_labels(outlines.nuclei, shape)
        truth = {"split": split, "label": f"labels/{name}.png", **_figures(labels)}
        _write_labels(out / truth["label"], labels)
        rows = [r for r in rows if (r["set"], r["id"]) != (row["set"], name)] + [row | truth]
        _write_rows(out / "index.csv", rows)
        total += int(labels.max())
        lost = len(outlines.nuclei) - int(labels.max())
        ignored = counted(outlines.ignored)
        say(
            f"{name}: {_summary(labels)}"
            + (f"; {lost} hidden or outside" if lost else "")
            + (f"; ignored: {ignored}" if ignored else "")
        )
    return total


def _listed(paths: Iterable[Path], suffixes: Collection[str]) -> list[Path]:
    """Return files; from a folder those with one of `suffixes`, sorted by name."""
    files: list[Path] = []
    for path in paths:
        if not path.exists():
            raise GlioError(f"{path}: no such file or folder; check its name")
        if path.is_file():
            files.append(path)
            continue
        inside = [p for p in path.iterdir() if p.suffix.lower() in suffixes and p.name[0] != "."]
        if not inside:
            raise GlioError(f"{path}: holds no {', '.join(suffixes)}; name a folder that does")
        files += sorted(inside)
    return files


def _named(images: Iterable[Path]) -> dict[str, Path]:
    """Return images by tile name, from which the names of its files follow."""
    tiles: dict[str, Path] = {}
    for path in images:
        twin = next((p for n, p in tiles.items() if n.casefold() == path.stem.casefold()), None)
        if twin is not None:
            raise GlioError(f"{path}: has the name of {twin}; rename it or choose another --out")
        tiles[path.stem] = path
    return tiles


def _shape_of(path: Path) -> tuple[int, int]:
    """Return the height and width of a tile's image, or raise if it cannot be used."""
    try:
        image = open_upright(path)
    except NO_IMAGE as error:
        raise GlioError(f"{path}: cannot be read as an image ({error}); copy it again") from error
    (width, height), mode = image.size, image.mode
    if mode not in ("RGB", "RGBA"):
        raise GlioError(f"{path}: its pixels are {mode}; save it as 8-bit RGB")
    if max(width, height) > LONGEST_SIDE_PX:
        raise GlioError(
            f"{path}: {width} × {height} px; cut tiles of at most {LONGEST_SIDE_PX} px a side"
        )
    return height, width


def by_thresholds(entries: Collection[Entry]) -> Iterator[tuple[Entry, Labels]]:
    """Yield every tile with its candidate nuclei by thresholds on the haematoxylin.

    Colour is normalised to the target of the shipped model, on which the thresholds were chosen. So
    the candidates of a tile do not depend on the other tiles.
    """
    statistics = stain_statistics(entries)
    target = ModelCard.from_json(REFERENCE_CARD.read_bytes()).colour_target
    for entry in entries:
        table = colour.table_between(statistics.get(entry.stain_group), target)
        pixels, _ = colour.normalise(read_rgba(entry.image), table)
        yield entry, candidate_nuclei(pixels, entry.mpp)


def by_network(engine: Engine) -> Outline:
    """Return what outlines the nuclei of tiles as a model finds them in a slide.

    The tiles of one patient share their colour, as those of a slide do. Touching nuclei are parted.

    Raises
    ------
    GlioError
        The model takes another scale than that to which tiles are brought.
    """
    check_scale(engine.card)
    side = engine.card.tile_px

    def outline(entries: Collection[Entry]) -> Iterator[tuple[Entry, Labels]]:
        scanned = []
        for entry in entries:
            pixels, _ = colour.normalise(read_rgba(entry.image), colour.table_between(None, None))
            unlabelled = np.zeros(pixels.shape[:2], np.uint8)
            scanned.append(at_scale(LabelledTile(entry, pixels, unlabelled)))
        shown = in_runtime_colour(
            scanned, engine.card.colour_target, lambda image: segment(image, engine.masks, side)
        )
        for tile in shown:
            height, width = _shape_of(tile.entry.image)
            mask = Image.fromarray(segment(tile.pixels, engine.masks, side))
            nuclei = np.asarray(mask.resize((width, height), Image.Resampling.NEAREST)) != 0
            yield tile.entry, numbered(nuclei, tile.entry.mpp)

    return outline


def _candidate_for(path: Path, candidates: Iterable[Row], out: Path) -> Row:
    """Return the index line of the tile of a GeoJSON: NAME.geojson or NAME.png.geojson."""
    for name in (path.stem, Path(path.stem).stem):
        for row in candidates:
            if row["id"] == name:
                return row
    raise GlioError(
        f"{path}: no tile {path.stem} in {out / 'candidates.csv'}; name the file after its image, "
        "or run glioexport annotate on the image first"
    )


def _mpp(row: Row, out: Path) -> float:
    try:
        mpp = float(row.get("mpp_nominal", ""))
        return Source(row["set"], row["patient"], row["licence"], mpp).mpp
    except (ValueError, GlioError) as error:
        raise GlioError(f"{out / 'candidates.csv'}: {row['id']}: {error}") from error


def _check(outlines: Outlines, shape: tuple[int, int], mpp: float, path: Path) -> None:
    """Raise if the nuclei do not fit the image, of `shape` (H, W)."""
    _check_count(len(outlines.nuclei), path)
    height, width = shape
    outside = sum(lies_outside(nucleus, shape) for nucleus in outlines.nuclei)
    if outside > MOST_OUTSIDE * len(outlines.nuclei):
        raise GlioError(
            f"{path}: {outside} of {len(outlines.nuclei)} nuclei lie outside the image of "
            f"{width} × {height} px; was it drawn on another one?"
        )
    for nucleus in outlines.nuclei:
        area_um2 = area_px(nucleus) * mpp**2
        if area_um2 > LARGEST_NUCLEUS_UM2:
            x, y = nucleus[0][0].min(axis=0)
            raise GlioError(
                f"{path}: the object from ({x:.0f}, {y:.0f}) has {area_um2:.0f} µm², too much for "
                "a nucleus; delete it in QuPath, or give it a class that is not Nucleus"
            )


def _check_count(nuclei: int, path: Path) -> None:
    if nuclei > MOST_NUCLEI:
        raise GlioError(f"{path}: {nuclei} nuclei are too many for 16 bits; cut smaller tiles")


def _summary(labels: Labels) -> str:
    return f"{labels.max()} nuclei, {(labels > 0).mean():.1%} of the area"


def _figures(labels: Labels) -> Row:
    """Return the columns of the index that describe labels."""
    height, width = labels.shape
    return {
        "width": str(width),
        "height": str(height),
        "nuclei": str(labels.max()),
        "nucleus_area_fraction": f"{(labels > 0).mean():.4f}",
    }


def _write_labels(path: Path, labels: Labels) -> None:
    """Write at most `MOST_NUCLEI` labels as a 16-bit PNG."""
    with replacing(path) as partial:
        Image.fromarray(labels.astype(np.uint16)).save(partial, format="PNG")


def _read_rows(table: Path) -> list[Row]:
    """Return the lines of a table, with any further columns it has; none if there is no file."""
    if not table.exists():
        return []
    columns, rows = read_table(table)
    missing = [name for name in COLUMNS if name not in columns and name != "split"]
    if missing:
        raise GlioError(f"{table}: no column {', '.join(missing)}; add it")
    for number, row in enumerate(rows, start=1):
        if None in row or None in row.values():
            raise GlioError(f"{table}: tile {number} has not one value for each column; mend it")
    return rows


def _write_rows(table: Path, rows: list[Row]) -> None:
    columns = dict.fromkeys(name for row in rows for name in row)
    with (
        replacing(table) as partial,
        partial.open("w", newline="", encoding="utf-8") as lines,
    ):
        writer = csv.DictWriter(lines, list(columns), restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def _path_from(out: Path, image: Path) -> str:
    """Return the path of an image: from `out` if it lies in it or beside it, else from the root."""
    image, out = image.resolve(), out.resolve()
    near = image.is_relative_to(out.parent)
    return Path(os.path.relpath(image, out)).as_posix() if near else image.as_posix()


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write(folder, error) from error
