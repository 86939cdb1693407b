"""What a run leaves behind; the suffix of `--out` picks the writer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from gliorun.atomic import replacing
from gliorun.card import ModelCard
from gliorun.errors import GlioError
from gliorun.pipeline import SlideDensity
from gliorun.writers import csv, png


@dataclass(frozen=True, slots=True)
class Result:
    """What a writer gets: the slide's name, what was measured, and the model's card."""

    slide_name: str
    measured: SlideDensity
    card: ModelCard


WRITERS: dict[str, Callable[[Path, Result], None]] = {
    ".png": lambda path, r: png.write_heatmap(path, r.slide_name, r.measured, r.card),
    ".csv": lambda path, r: csv.write_density(path, r.measured.density),
}


def check_outputs(paths: list[Path]) -> None:
    """Fail before the work starts if an output has no writer or cannot be written.

    Raises
    ------
    GlioError
        A suffix is unknown, a path stands twice, or its folder cannot be written.
    """
    for path in paths:
        if path.suffix.lower() not in WRITERS:
            raise GlioError(f"{path}: unknown suffix; known: {', '.join(sorted(WRITERS))}")
        if paths.count(path) > 1:
            raise GlioError(f"{path}: named twice")
        if path.is_dir():
            raise GlioError(f"{path}: is a folder; name a file")
        with replacing(path, keep=False) as partial:
            partial.touch()


def write(path: Path, result: Result) -> None:
    """Write one output; on an error the earlier file, if any, stays."""
    with replacing(path) as partial:
        WRITERS[path.suffix.lower()](partial, result)
