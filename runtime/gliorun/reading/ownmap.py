"""Recognise the OME-TIFFs that gliorun has written, which are not slides."""

from __future__ import annotations

from pathlib import Path

import tifffile

SUFFIX, MARK = ".ome.tif", 'Creator="gliorun '
"""Endings of the maps of gliorun, and the mark in their OME-XML."""


def is_own_map(path: Path) -> bool:
    """Tell whether a file is an OME-TIFF that gliorun has written."""
    if not path.name.lower().endswith(SUFFIX):
        return False
    try:
        with tifffile.TiffFile(path) as tiff:
            return MARK in tiff.pages.first.description
    except Exception:  # a parser may fail in any way on an odd file, which its own run reports
        return False
