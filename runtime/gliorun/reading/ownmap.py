"""Which OME-TIFFs gliorun has written: results, and no slides."""

from __future__ import annotations

from pathlib import Path

import tifffile

SUFFIX, MARK = ".ome.tif", 'Creator="gliorun '
"""How the maps of gliorun end, and what their OME-XML holds."""


def is_own_map(path: Path) -> bool:
    """Tell whether a file is an OME-TIFF that gliorun has written."""
    if not path.name.lower().endswith(SUFFIX):
        return False
    try:
        with tifffile.TiffFile(path) as tiff:
            return MARK in tiff.pages.first.description
    except Exception:  # whatever a parser may make of an odd file: its own run tells
        return False
