"""Find the tiles of a folder that are fit to train on, and the faults of the others."""

from __future__ import annotations

import csv
import math
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from glioexport.dataset import IMAGE_SUFFIXES, MPP, Entry, read_index, read_rgba, read_table
from gliorun.atomic import cannot_write, replacing
from gliorun.errors import GlioError, UsageError
from gliorun.measuring import colour, quality
from gliorun.measuring.quality import Quality, Scores
from gliorun.measuring.tile import Status
from gliorun.qualitylimits import QualityLimits

INDEX, TABLE = "index.csv", "clean.csv"
UNREADABLE = Quality(Status.UNREADABLE, Scores(*[math.nan] * len(fields(Scores))))


@dataclass(frozen=True, slots=True)
class Judged:
    """An image and its quality."""

    entry: Entry
    quality: Quality

    @property
    def kept(self) -> bool:
        """Whether the image is fit to train on."""
        return self.quality.reason is None


def clean(data: Path, out: Path, limits: QualityLimits, *, mpp: float = MPP) -> list[Judged]:
    """Judge every image of a folder as the runtime judges a tile, and write the results.

    `out`/clean.csv has a line for each image with its scores and why it is discarded; where
    `data` has an index.csv, `out`/index.csv has those of its lines whose image is kept. Images
    stay where they are. Images of one patient share the stain that folds are told by; without an
    index each image has its own, and folds are hardly found.

    Parameters
    ----------
    data : Path
        Folder of images, or of an index.csv that names them.
    out : Path
        Another folder; made if need be.
    limits : QualityLimits
    mpp : float
        Micrometres per px of the images; an index says it itself.

    Raises
    ------
    GlioError
        There is no image, the index cannot be read, or `out` cannot be written or holds an
        index.csv of another origin.
    """
    entries, lines = _listed(data, mpp)
    _check_out(data, out)
    judged = judge_all(entries, limits)
    _write_table(out / TABLE, data, judged)
    if lines:
        _write_index(out / INDEX, lines, judged)
    return judged


def judge_all(entries: Sequence[Entry], limits: QualityLimits) -> list[Judged]:
    """Judge images; one that cannot be read is discarded as unreadable."""
    levels: dict[str, colour.Levels] = {}
    unreadable = set()
    for entry in entries:
        try:
            rgba = read_rgba(entry.image)
        except GlioError:
            unreadable.add(entry.image)
            continue
        colour.add_levels(rgba, levels.setdefault(entry.stain_group, colour.empty_levels()))
    stains = {group: colour.measure(counts) for group, counts in levels.items()}
    judged = []
    for entry in entries:
        tile_quality = UNREADABLE
        if entry.image not in unreadable:
            shrink = quality.shrink_of(entry.mpp, entry.mpp)
            stain = stains[entry.stain_group]
            tile_quality = quality.judge(read_rgba(entry.image), shrink, stain, limits)
        judged.append(Judged(entry, tile_quality))
    return judged


def summary(judged: Iterable[Judged]) -> str:
    """Return one line with the number of kept images and of discarded ones by reason."""
    reasons = Counter(_word(image.quality) for image in judged)
    total, kept = reasons.total(), reasons.pop("", 0)
    why = ", ".join(f"{reasons[reason]} {reason}" for reason in sorted(reasons))
    return f"{kept} of {total} images kept" + (f" ({why})" if why else "")


def _word(tile_quality: Quality) -> str:
    return "" if tile_quality.reason is None else tile_quality.reason.name.lower()


def _listed(data: Path, mpp: float) -> tuple[list[Entry], list[dict[str, str]]]:
    """Return an entry for every image, and the lines of the index if there is one."""
    if (data / INDEX).is_file():
        entries = read_index(data)
        if not entries:
            raise GlioError(f"{data / INDEX}: names no image; list some, or move it away")
        return entries, read_table(data / INDEX)[1]
    if not data.is_dir():
        raise GlioError(f"{data}: no such folder of images; check its name")
    if not (math.isfinite(mpp) and mpp > 0):
        raise UsageError(f"mpp is {mpp}; it must be above 0")
    files = sorted(file for file in data.iterdir() if file.suffix.lower() in IMAGE_SUFFIXES)
    if not files:
        raise GlioError(
            f"{data}: holds no image ({', '.join(IMAGE_SUFFIXES)}); name a folder that does"
        )
    return [Entry("", file.name, "", "", "", file, file, mpp) for file in files], []


def _check_out(data: Path, out: Path) -> None:
    """Create the folder, but refuse to overwrite a foreign index.csv."""
    if out.resolve() == data.resolve():
        raise UsageError(f"{out}: is the folder of the images; pass another one as --out")
    if (out / INDEX).exists() and not (out / TABLE).exists():
        raise GlioError(f"{out}: holds an index.csv that is not of a cleaning; pass another folder")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write(out, error) from error


def _write_table(path: Path, data: Path, judged: Iterable[Judged]) -> None:
    names = [field.name for field in fields(Scores)]
    with replacing(path) as partial, partial.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["image", "decision", "reason", *names])
        for judgement in judged:
            image = _path_from(data, judgement.entry.image)
            decision = "kept" if judgement.kept else "discarded"
            scores = asdict(judgement.quality.scores).values()
            shown = ["" if math.isnan(score) else f"{score:.4f}" for score in scores]
            writer.writerow([image, decision, _word(judgement.quality), *shown])


def _write_index(path: Path, lines: list[dict[str, str]], judged: list[Judged]) -> None:
    """Write the lines of kept images, with paths relative to the new index."""
    folder = path.parent.resolve()
    with replacing(path) as partial, partial.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, lines[0].keys(), lineterminator="\n", extrasaction="ignore")
        writer.writeheader()
        for line, judgement in zip(lines, judged, strict=True):
            if judgement.kept:
                image = _path_from(folder, judgement.entry.image.resolve())
                label = _path_from(folder, judgement.entry.label.resolve())
                writer.writerow({**line, "image": image, "label": label})


def _path_from(folder: Path, file: Path) -> str:
    """Return the relative path from a folder to a file, so that both can be moved together."""
    try:
        return Path(os.path.relpath(file, folder)).as_posix()
    except ValueError:  # on another drive
        return file.as_posix()
