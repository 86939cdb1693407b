"""Recognise the OME-TIFFs that gliorun has written, which are not slides."""

from __future__ import annotations

from pathlib import Path

import tifffile

SUFFIXES, MARK = (".tif", ".tiff"), 'Creator="gliorun '
"""Endings that the maps of gliorun may have, renamed or not, and the mark in their OME-XML."""


def is_own_map(path: Path) -> bool:
    """Tell whether a file is an OME-TIFF that gliorun has written."""
    if path.suffix.lower() not in SUFFIXES:
        return False
    try:
        with tifffile.TiffFile(path) as tiff:
            return MARK in tiff.pages.first.description
    except Exception:  # a parser may fail in any way on an odd file, which its own run reports
        return False
