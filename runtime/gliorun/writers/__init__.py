"""Write the outputs of a run; the suffix of `--out` selects the writer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

from gliorun.atomic import cannot_write, replacing, replacing_all
from gliorun.errors import GlioError, UsageError
from gliorun.reading.files import is_folder, sha256_of_file
from gliorun.words import plain
from gliorun.writers import areas, csv, geojson, nuclei, ometiff, record
from gliorun.writers.palette import Appearance
from gliorun.writers.result import Result

__all__ = [
    "COUNTING_SUFFIXES",
    "MASK_SUFFIXES",
    "NUCLEI",
    "REGIONS",
    "THUMBNAIL",
    "WRITERS",
    "Appearance",
    "Result",
    "check_outputs",
    "write",
]


# Drawing libraries take a second to import, so they are imported only when an output needs them.


def _write_heatmap(path: Path, result: Result, appearance: Appearance) -> None:
    from gliorun.writers import png

    png.write_heatmap(path, result, appearance)


def _write_evidence(path: Path, result: Result, appearance: Appearance) -> None:
    from gliorun.writers import evidence

    evidence.write_evidence(path, result)


def _write_quality(path: Path, result: Result, appearance: Appearance) -> None:
    from gliorun.writers import qc

    qc.write_quality(path, result)


def _write_regions(path: Path, result: Result, appearance: Appearance) -> None:
    from gliorun.writers import regions

    regions.write_regions(path, result)


def _write_thumbnail(path: Path, result: Result, appearance: Appearance) -> None:
    from gliorun.writers import thumbnail

    thumbnail.write_thumbnail(path, result, appearance.palette)


def _write_report(path: Path, result: Result, appearance: Appearance) -> None:
    from gliorun.writers import html

    html.write_report(path, result, appearance.palette)


def _write_cell_table(path: Path, result: Result, appearance: Appearance) -> None:
    from gliorun.writers import parquet

    parquet.write_cells(path, result)


def _write_nucleus_table(path: Path, result: Result, appearance: Appearance) -> None:
    from gliorun.writers import parquet

    parquet.write_nuclei(path, result)


def _write_parametric_map(path: Path, result: Result, appearance: Appearance) -> None:
    from gliorun.writers import parametricmap

    parametricmap.write_density(path, result)


def _write_annotations(path: Path, result: Result, appearance: Appearance) -> None:
    from gliorun.writers import bulkannotations

    bulkannotations.write_nuclei(path, result)


RECORD = ".json"
NUCLEI = ".nuclei.geojson"
REGIONS = ".regions.csv"
THUMBNAIL = ".thumb.jpg"
WRITERS: dict[str, Callable[[Path, Result, Appearance], None]] = {
    ".png": _write_heatmap,
    ".qc.png": _write_quality,
    ".html": _write_report,
    ".csv": lambda path, result, appearance: csv.write_density(path, result),
    REGIONS: _write_regions,
    ".geojson": lambda path, result, appearance: geojson.write_tiles(
        path, result, appearance.palette
    ),
    ".tissue.geojson": lambda path, result, appearance: areas.write_areas(path, result),
    NUCLEI: lambda path, result, appearance: nuclei.write_nuclei(path, result),
    ".ome.tif": lambda path, result, appearance: ometiff.write_density(path, result),
    ".mask.ome.tif": lambda path, result, appearance: ometiff.write_mask(path, result),
    ".evidence.png": _write_evidence,
    RECORD: lambda path, result, appearance: record.write_record(path, result, appearance),
    ".parquet": _write_cell_table,
    ".nuclei.parquet": _write_nucleus_table,
    ".dcm": _write_parametric_map,
    ".nuclei.dcm": _write_annotations,
    THUMBNAIL: _write_thumbnail,
}
EVIDENCE_SUFFIXES = (".html", ".evidence.png")
"""Outputs that show tiles with what was counted."""
COUNTING_SUFFIXES = (NUCLEI, ".nuclei.parquet", ".nuclei.dcm")
"""Outputs for which nuclei are counted."""
MASK_SUFFIXES = (*COUNTING_SUFFIXES, ".mask.ome.tif")
"""Outputs that need the masks of the whole slide."""
EXTRAS = {".parquet": ("pyarrow", "tables"), ".dcm": ("pydicom", "dicom")}
"""Last part of a suffix, the library that it needs, and the extra of gliorun that installs it."""


def suffix_of(path: Path) -> str:
    """Return the longest known suffix that the file's name ends with, or is but for a dot.

    Raises
    ------
    UsageError
        The file has no known suffix.
    """
    name = path.name.lower()
    if "." in name:  # evidence.png is a .evidence.png
        name = f".{name}"
    suffixes = [suffix for suffix in WRITERS if name.endswith(suffix)]
    if not suffixes:
        raise UsageError(f"{path}: unknown suffix; known: {', '.join(WRITERS)}")
    return max(suffixes, key=len)


def check_outputs(paths: list[Path]) -> None:
    """Fail before the work starts if an output has no writer or cannot be written.

    Raises
    ------
    UsageError
        A suffix is unknown, or a path is repeated.
    GlioError
        A path is a folder, the folder around it cannot be written, or a library is missing.
    """
    for path in paths:
        suffix_of(path)
        _check_library(path)
        if paths.count(path) > 1:
            raise UsageError(f"{path}: named twice; name it once")
        if is_folder(path):
            raise GlioError(f"{path}: is a folder; name a file")
        with replacing(path, keep=False) as partial:
            partial.touch()


def _check_library(path: Path) -> None:
    library, extra = EXTRAS.get(path.suffix.lower(), ("gliorun", ""))
    if find_spec(library) is None:
        raise GlioError(f"{path}: needs {library}; pip install 'gliorun[{extra}]'")


def write(paths: list[Path], result: Result, appearance: Appearance) -> None:
    """Write all outputs to temporary files, then move all in place; an error keeps earlier ones.

    The run record comes last, with the hashes of the others.
    """
    hashes: dict[str, str] = {}
    with replacing_all(paths) as partials:
        pairs = zip(paths, partials, strict=True)
        for path, partial in sorted(pairs, key=lambda pair: suffix_of(pair[0]) == RECORD):
            suffix = suffix_of(path)
            if suffix == RECORD:
                result = replace(result, run=result.run | {"outputs": hashes})
            try:
                WRITERS[suffix](partial, result, appearance)
                if suffix != RECORD and RECORD in map(suffix_of, paths):
                    hashes[plain(path.name)] = sha256_of_file(partial)
            except OSError as error:
                raise cannot_write(path, error) from error
