"""Draw the tiles on which a converted model strays furthest from Keras."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]

KERAS, CONVERTED = "#00e5ff", "#ffe600"
"""Colours of outlines, distinct from tissue and from each other under common colour blindness."""
MOST = 5
PANEL_IN = 3.2


def draw_worst(
    path: Path, name: str, windows: list[Pixels], expected: list[Pixels], masks: list[Pixels]
) -> None:
    """Draw up to `MOST` windows by their difference of density, with both outlines, as a PNG.

    Parameters
    ----------
    path : Path
    name : str
        Of the converted model.
    windows : list of (H, W, 3) uint8
    expected, masks : list of (H, W) uint8
        Above 0 on nuclei: by Keras, and by the converted model.
    """
    points = [
        100 * (np.count_nonzero(mask) - np.count_nonzero(wanted)) / mask.size
        for mask, wanted in zip(masks, expected, strict=True)
    ]
    furthest = sorted(range(len(points)), key=lambda number: -abs(points[number]))[:MOST]
    columns = len(furthest)
    figure = Figure(figsize=(columns * PANEL_IN, 2 * PANEL_IN + 1), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(f"{name}: furthest from Keras of {len(windows)} tiles", fontsize=10)
    panels = figure.subplots(2, columns, squeeze=False)
    for number, (above, below) in zip(furthest, panels.T, strict=True):
        share = 100 * np.count_nonzero(expected[number]) / expected[number].size
        above.set_title(f"Keras {share:.1f} %, {points[number]:+.2f} points", fontsize=9)
        for axes in (above, below):
            axes.imshow(windows[number])
            axes.set_axis_off()
        for mask, colour in ((expected[number], KERAS), (masks[number], CONVERTED)):
            if mask.any() and not mask.all():
                below.contour(mask != 0, levels=[0.5], colors=colour, linewidths=0.8)
    figure.legend(
        handles=[Line2D([], [], color=KERAS, lw=3), Line2D([], [], color=CONVERTED, lw=3)],
        labels=["Keras", name],
        loc="outside lower center",
        ncols=2,
        facecolor="#777777",
        labelcolor="white",
    )
    figure.savefig(path, format="png", metadata={"Software": "glioexport"})
