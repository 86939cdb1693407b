"""Recognise the OME-TIFF and DICOM files that gliorun has written, which are not slides."""

from __future__ import annotations

from pathlib import Path

import tifffile

SUFFIXES, MARK = (".tif", ".tiff"), 'Creator="gliorun '
"""Endings that the maps of gliorun may have, renamed or not, and the mark in their OME-XML."""
DICOM = ".dcm"
IMPLEMENTATION_UID = "2.25.251867452637849031176523640977812345609"
"""Names in the head of a DICOM file what wrote it; made once for gliorun (PS3.5, B.2)."""
HEAD_BYTES = 1024


def is_own_map(path: Path) -> bool:
    """Tell whether a file is an OME-TIFF or DICOM that gliorun has written."""
    suffix = path.suffix.lower()
    if suffix == DICOM:
        return _is_own_dicom(path)
    if suffix not in SUFFIXES:
        return False
    try:
        with tifffile.TiffFile(path) as tiff:
            return MARK in tiff.pages.first.description
    except Exception:  # a parser may fail in any way on an odd file, which its own run reports
        return False


def _is_own_dicom(path: Path) -> bool:
    try:
        with path.open("rb") as stream:
            return IMPLEMENTATION_UID.encode() in stream.read(HEAD_BYTES)
    except OSError:  # its own run reports it
        return False
