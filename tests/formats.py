"""What `runtime/FORMATS.md` says is written."""

from __future__ import annotations

import re
from collections.abc import Iterator

from guides import ROOT

DOCUMENT = "runtime/FORMATS.md"
Row = list[str]


def tables(title: str) -> list[list[Row]]:
    """Return the tables under a title, each as its lines of cells without the head."""
    text = (ROOT / DOCUMENT).read_text(encoding="utf-8")
    (section,) = re.findall(rf"^#+ `?{re.escape(title)}`?\n(.*?)(?=^#|\Z)", text, re.M | re.S)
    return [
        [[cell.strip() for cell in line[1:-1].split("|")] for line in table.splitlines()[2:]]
        for table in re.findall(r"(?:^\|.*\|\n)+", section, re.M)
    ]


def names(cell: str) -> list[str]:
    """Return the names in a cell: what stands in back quotes."""
    return re.findall(r"`([^`]+)`", cell)


def columns(title: str) -> list[str]:
    """Return the names in the first column of the first table under a title, in order."""
    return [name for row in tables(title)[0] for name in names(row[0])]


def types(table: list[Row]) -> dict[str, str]:
    """Return the type of every key of a table of key, type and what it holds."""
    return dict(_pairs(table))


def _pairs(table: list[Row]) -> Iterator[tuple[str, str]]:
    for keys, type_name, _ in table:
        for key in names(keys):
            yield key, type_name


def is_of(value: object, type_name: str) -> bool:
    """Tell whether a JSON value is of a type as the document names it, as "text or null"."""
    return any(_IS[name](value) for name in type_name.split(" or "))


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


_IS = {
    "text": lambda value: isinstance(value, str),
    "number": lambda value: _is_whole(value) or isinstance(value, float),
    "whole number": _is_whole,
    "object": lambda value: isinstance(value, dict),
    "list": lambda value: isinstance(value, list),
    "list of text": lambda value: isinstance(value, list) and all(type(v) is str for v in value),
    "null": lambda value: value is None,
    "boolean": lambda value: isinstance(value, bool),
}
