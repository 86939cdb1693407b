"""A table of slides, one a row, with what is known of each: its scale, mask, regions and name."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass, replace
from pathlib import Path

from gliorun.errors import GlioError
from gliorun.model.calibration import NONE
from gliorun.reading.files import absolute, check_file, find_slides, is_there
from gliorun.words import plain

SUFFIX = ".csv"
COLUMNS = ("slide", "name", "mpp", "tissue_mask", "regions", "calibration")
MOST_BYTES = 50_000_000


@dataclass(frozen=True, slots=True)
class Row:
    """One slide of a list; what a row leaves empty is None, or "" for the name.

    `calibration` is a file, or "none" for a slide that has none whatever the command says. `fault`
    says in one line why the slide cannot be measured so; empty if it can. Paths are absolute.
    """

    slide: Path
    name: str = ""
    mpp: float | None = None
    tissue_mask: Path | None = None
    regions: Path | None = None
    calibration: str | None = None
    fault: str = ""


@dataclass(frozen=True, slots=True)
class SlideList:
    """The rows of a list by slide, and what is amiss that belongs to no slide."""

    rows: dict[Path, Row]
    complaints: tuple[str, ...]


def is_list(name: str) -> bool:
    """Tell whether a name on the command line is that of a list of slides."""
    return name.lower().endswith(SUFFIX)


def read_list(path: Path) -> SlideList:
    """Read a list: comma or semicolon between the fields, as spreadsheets write them.

    Paths are relative to the list. A row that cannot be used is that slide's fault; the others
    are measured.

    Raises
    ------
    GlioError
        The file is missing, no such table, or names no slide.
    """
    table = _table(path)
    heads = [head.strip().lower().replace(" ", "_") for head in table[0]]
    if "slide" not in heads:
        raise GlioError(
            f"{path}: its first line has no column 'slide'; known: {', '.join(COLUMNS)}"
        )
    for head in heads:
        if head and heads.count(head) > 1:
            raise GlioError(f"{path}: column '{plain(head)}' is there twice; leave one")
    complaints = [
        f"{path}: column '{plain(head)}' is not read; known: {', '.join(COLUMNS)}"
        for head in heads
        if head and head not in COLUMNS
    ]
    rows: dict[Path, Row] = {}
    names: set[str] = set()
    for number, fields in enumerate(table[1:], start=2):
        values = dict(zip(heads, (field.strip() for field in fields), strict=False))
        if not any(values.values()):
            continue
        row = _row(values, path, f"{path}: line {number}")
        if row is None:
            complaints.append(f"{path}: line {number} names no slide; left out")
        elif row.slide in rows:
            complaints.append(
                f"{path}: line {number} names {row.slide} again; the first line counts"
            )
        else:
            if row.name.casefold() in names and not row.fault:
                row = replace(
                    row, fault=f"{path}: line {number}: another slide is called {row.name}"
                )
            names |= {row.name.casefold()} - {""}
            rows[row.slide] = row
    if not rows:
        raise GlioError(f"{path}: names no slide; write one a line, in the column 'slide'")
    return SlideList(rows, tuple(complaints))


def _table(path: Path) -> list[list[str]]:
    """Return the lines of a CSV, at least one, as their fields."""
    check_file(path, "list of slides", "check its name")
    try:
        if path.stat().st_size > MOST_BYTES:
            raise GlioError(
                f"{path}: larger than {MOST_BYTES // 10**6} MB; is it a list of slides?"
            )
        text = path.read_bytes().decode("utf-8-sig")
        first = text.partition("\n")[0]
        delimiter = ";" if first.count(";") > first.count(",") else ","
        table = list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True))
    except OSError as error:
        raise GlioError(
            f"{path}: cannot be read ({error.strerror}); check that you may read it"
        ) from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise GlioError(f"{path}: no CSV in UTF-8 ({error}); save it as such") from error
    if not table:
        raise GlioError(f"{path}: is empty; its first line names the columns, such as 'slide'")
    return table


def _row(values: dict[str, str], path: Path, where: str) -> Row | None:
    """Return one row; None if it names no slide."""
    named = values.get("slide", "")
    if not named:
        return None
    slide = _beside(path, named)
    slides = list(find_slides([str(slide)], path, lambda name, fault: None))
    slide = slides[0] if len(slides) == 1 else slide
    try:
        if len(slides) > 1:
            raise GlioError(f"{where}: {named} holds {len(slides)} slides; name one a line")
        return Row(
            slide,
            values.get("name", ""),
            _mpp(values.get("mpp", ""), where),
            _file(path, values.get("tissue_mask", ""), "tissue mask", where),
            _file(path, values.get("regions", ""), "file of regions", where),
            _calibration(path, values.get("calibration", ""), where),
        )
    except GlioError as error:
        return Row(slide, values.get("name", ""), fault=str(error))


def _beside(path: Path, named: str) -> Path:
    return absolute(str(absolute(str(path)).parent / named))


def _mpp(text: str, where: str) -> float | None:
    if not text:
        return None
    try:
        return float(text.replace(",", "."))
    except ValueError as error:
        raise GlioError(
            f"{where}: mpp is {text!r}; write micrometres per pixel, as 0.25"
        ) from error


def _calibration(path: Path, named: str, where: str) -> str | None:
    file = None if named == NONE else _file(path, named, "calibration", where)
    return named or None if file is None else str(file)


def _file(path: Path, named: str, noun: str, where: str) -> Path | None:
    """Return a file or folder that a row names."""
    if not named:
        return None
    file = _beside(path, named)
    if not is_there(file):
        raise GlioError(f"{where}: {named}: no such {noun}; check its name")
    return file
