"""A contact sheet: tiles with the outlines of their nuclei, side by side on one picture."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from gliorun.atomic import replacing

MOST = 60
"""Largest number of tiles on a sheet; of more, the first are shown."""
COLUMNS = 5
PANEL_IN, PANEL_PX = 2.2, 360
QUALITY = 85
"""Of the JPEG; a PNG would be five times as large."""
OUTLINE = (255, 230, 0)
"""Distinct from tissue, also with common colour blindness."""


@dataclass(frozen=True, slots=True, eq=False)
class Panel:
    """One tile on the sheet: its title, and a small picture, (H, W, 3) uint8."""

    title: str
    picture: NDArray[np.uint8]

    @classmethod
    def of(cls, title: str, rgba: NDArray[np.uint8], labels: NDArray[np.int32]) -> Panel:
        """Draw the outlines of `labels`, (H, W), 0 for the ground, into a tile, (H, W, 4) uint8."""
        picture = Image.fromarray(rgba).convert("RGB")
        picture.paste(OUTLINE, mask=Image.fromarray(rims(labels) * np.uint8(255)))
        picture.thumbnail((PANEL_PX, PANEL_PX), Image.Resampling.BOX)
        return cls(title, np.asarray(picture))


def rims(labels: NDArray[np.int32]) -> NDArray[np.uint8]:
    """Return the pixels of nuclei that lie beside another label, (H, W) uint8 of 0 and 1."""
    padded = np.pad(labels, 1, mode="edge")
    beside = (padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:])
    differs = np.any([neighbour != labels for neighbour in beside], axis=0)
    return np.asarray((labels > 0) & differs, dtype=np.uint8)


def write(path: Path, panels: Sequence[Panel], *, of: int) -> None:
    """Write a sheet of panels, out of so many tiles, as `path` (.jpg).

    Raises
    ------
    GlioError
        The file cannot be written.
    """
    columns = min(COLUMNS, math.ceil(math.sqrt(len(panels))))
    rows = math.ceil(len(panels) / columns)
    figure = Figure(figsize=(columns * PANEL_IN, rows * (PANEL_IN + 0.35)), dpi=150,
                    layout="constrained")  # fmt: skip
    FigureCanvasAgg(figure)
    every = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in every:
        axes.set_axis_off()
    for axes, panel in zip(every, panels, strict=False):
        axes.imshow(panel.picture)
        axes.set_title(panel.title, fontsize=6, parse_math=False)
    if of > len(panels):
        figure.suptitle(f"the first {len(panels)} of {of} tiles", fontsize=8)
    with replacing(path) as partial:
        figure.savefig(partial, format="jpeg", pil_kwargs={"quality": QUALITY})
