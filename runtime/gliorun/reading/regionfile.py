"""Find the file of a slide's regions."""

from __future__ import annotations

from pathlib import Path

from gliorun.errors import GlioError
from gliorun.reading.files import check_file, is_file, is_folder, title

SUFFIXES = (".geojson", ".geojson.gz", ".json", ".xml")
"""Endings of the files in a folder of regions, in the order in which they are tried."""


def regions_file(named: Path, slide: Path) -> Path:
    """Return the file of a slide's regions: the one that was named, or of a folder the slide's.

    In a folder it is called as the slide, with or without the slide's suffix.

    Raises
    ------
    GlioError
        It is not there, or several are.
    """
    if not is_folder(named):
        check_file(named, "file of regions", "check its name, and that its disk is there")
        return named
    names = dict.fromkeys((title(slide), slide.name))
    wanted = [f"{name}{suffix}" for name in names for suffix in SUFFIXES]
    there = [named / name for name in wanted if is_file(named / name)]
    if not there:
        raise GlioError(
            f"{slide}: {named} holds no regions of it; name them {wanted[0]} or {wanted[3]}"
        )
    if len(there) > 1:
        raise GlioError(
            f"{slide}: {named} holds several files of its regions "
            f"({', '.join(file.name for file in there)}); leave one"
        )
    return there[0]
