"""What a person has drawn on a slide, as the file says it: rings of corners with a name."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from reprlib import repr as brief
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gliorun.errors import GlioError

Ring = NDArray[np.float64]
"""(N, 2): corners x, y in px; the last joins the first."""
FARTHEST_PX = 1e7
"""Largest coordinate that is believed; no slide is larger."""
PLACES = 6
"""Decimal places of a coordinate that are kept."""
PART_BYTES = 2**20
MOST_BYTES = 400_000_000
"""A larger file, unpacked, is refused: five million corners take less."""


@dataclass(frozen=True, slots=True, eq=False)
class Drawing:
    """One drawn shape.

    Parameters
    ----------
    name, class_name : str
        Empty where the file has none.
    polygons : tuple of tuple of Ring
        Of each polygon the outer ring, then its holes.
    cut : tuple of Ring
        What is taken out of all polygons.
    """

    name: str
    class_name: str
    polygons: tuple[tuple[Ring, ...], ...]
    cut: tuple[Ring, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Drawings:
    """The content of a file.

    `crops` tells whether its coordinates count from the corner of the slide's bounds instead of
    that of the whole scan area. `passed_over` says in words what in the file is no region.
    """

    drawings: tuple[Drawing, ...]
    crops: bool
    passed_over: dict[str, int] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


def ring_of(corners: Any, where: str) -> Ring:
    """Return a ring from a list of [x, y]; a third coordinate is dropped.

    Raises
    ------
    GlioError
        It is no such list, or a coordinate is no pixel; `where` begins the message.
    """
    try:
        ring = np.asarray(corners)
    except (ValueError, RecursionError) as error:
        raise GlioError(f"{where}: its corners are {brief(corners)}, not a list of x, y") from error
    if ring.dtype.kind not in "iuf" or ring.ndim != 2 or ring.shape[1] < 2:
        raise GlioError(f"{where}: its corners are {brief(corners)}, not a list of x, y")
    ring = ring[:, :2].astype(np.float64)
    wrong = ~(np.abs(ring) <= FARTHEST_PX)
    if wrong.any():
        raise GlioError(f"{where}: a coordinate is {ring[wrong][0]:g}, which is no pixel")
    return np.asarray(ring.round(PLACES) + 0.0)  # no program draws finer, and -0 is 0


def bytes_of(path: Path, read: Any) -> bytes:
    """Return the content of an opened file.

    Raises
    ------
    GlioError
        It is larger than `MOST_BYTES`.
    """
    content = bytearray()  # a read of so many bytes at once would reserve them all
    while part := read(PART_BYTES):
        content += part
        if len(content) > MOST_BYTES:
            raise GlioError(
                f"{path}: larger than {MOST_BYTES // 10**6} MB; export only the regions to measure"
            )
    return bytes(content)
