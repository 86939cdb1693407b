"""Learning curves of a training as a picture."""

from __future__ import annotations

import csv
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

PANELS = (("loss", "training loss"), ("dice ", "Dice"), ("density error ", "density error, points"))
"""Prefixes of the columns of `history.csv`, with the titles of their panels."""


def draw_curves(history: Path, path: Path) -> None:
    """Draw `history.csv` as `path` (.png): loss, validation Dice and density error by epoch."""
    with history.open(newline="", encoding="utf-8") as lines:
        rows = list(csv.DictReader(lines))
    epochs = [int(row["epoch"]) for row in rows]
    figure = Figure(figsize=(10, 3.2), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    for axes, (start, label) in zip(figure.subplots(1, len(PANELS)), PANELS, strict=True):
        for column in (name for name in rows[0] if name.startswith(start)):
            values = [float(row[column]) for row in rows]
            axes.plot(epochs, values, marker=".", label=column.removeprefix(start) or "all")
        axes.set_xlabel("epoch")
        axes.set_title(label, fontsize=10)
        axes.set_xlim(left=0)
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
        if start != "loss":
            axes.set_ylim(bottom=0)
            axes.legend(frameon=False, fontsize=8)
    figure.savefig(path, format="png", metadata={"Software": "glioexport"})
