"""Pictures of accuracy: the worst tiles, density against the truth, density classes."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from gliobench.accuracy import SetAccuracy, Shown, TileSet
from gliobench.plots import write_figures
from gliorun.measuring.density import CLASS_EDGES, CLASS_NAMES

TRUE, FOUND = "#00e5ff", "#ffe600"
"""Colours of outlines, distinct from tissue and from each other under common colour blindness."""
PANEL_IN = 3.2
LONGEST_ID = 32


def write_pictures(folder: Path, results: list[SetAccuracy]) -> list[Path]:
    """Draw `density.png`, `classes.png` and a `worst-MODEL-SET.png` for each model and set.

    Raises
    ------
    GlioError
        The folder cannot be written.
    """
    figures = {"density.png": draw_density(results), "classes.png": draw_classes(results)}
    for result in results:
        name = re.sub(r"[^\w.-]+", "-", f"worst-{result.model.name}-{result.tiles}.png")
        figures[name] = draw_worst(result)
    return write_figures(folder, figures)


def draw_worst(result: SetAccuracy) -> Figure:
    """Draw the tiles of the lowest Dice: as scanned, and with the outlines of both masks."""
    columns = len(result.worst)
    figure = Figure(figsize=(max(columns, 2) * PANEL_IN, 2 * PANEL_IN + 1), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(
        f"{result.model.name} on {result.tiles}: lowest Dice of {result.figures.images} images"
    )
    panels = figure.subplots(2, columns, squeeze=False)
    for (above, below), shown in zip(panels.T, result.worst, strict=True):
        _tile(above, below, shown)
    figure.legend(
        handles=[Line2D([], [], color=TRUE, lw=3), Line2D([], [], color=FOUND, lw=3)],
        labels=["truth", "model"],
        loc="outside lower center",
        ncols=2,
        facecolor="#777777",
        labelcolor="white",
    )
    return figure


def _tile(above: Axes, below: Axes, shown: Shown) -> None:
    s = shown.score
    name = s.id if len(s.id) <= LONGEST_ID else f"{s.id[:16]}…{s.id[-14:]}"
    above.set_title(
        f"{name}\nDice {s.dice:.2f}, density {100 * s.density:.1f} %, "
        f"true {100 * s.true_density:.1f} %",
        fontsize=8,
    )
    for axes in (above, below):
        axes.imshow(shown.tile.pixels)
        axes.set_axis_off()
    for mask, colour in ((shown.tile.nuclei, TRUE), (shown.mask, FOUND)):
        if mask.any() and not mask.all():
            below.contour(mask != 0, levels=[0.5], colors=colour, linewidths=0.9)


def draw_density(results: list[SetAccuracy]) -> Figure:
    """Draw each image's density against the true one: a row a set, a column a model.

    The axes are square roots, so that the narrow classes of low density have room.
    """
    figure, panels = _grid(results, "Density of each image, %; dotted: edges of the six classes")
    highest = max(max(s.density, s.true_density) for r in results for s in r.scores)
    limit = 100 * min(1.0, max(0.3, 1.08 * highest))
    edges = [100 * edge for edge in CLASS_EDGES if 100 * edge < limit]
    for axes, result in panels:
        axes.plot([0, limit], [0, limit], color="#777777", lw=1)
        axes.scatter(
            [100 * s.true_density for s in result.scores],
            [100 * s.density for s in result.scores],
            s=16, color="#08519c", alpha=0.75, linewidths=0, clip_on=False, zorder=3,
        )  # fmt: skip
        for scale, limits, ticks in (
            (axes.set_xscale, axes.set_xlim, axes.set_xticks),
            (axes.set_yscale, axes.set_ylim, axes.set_yticks),
        ):
            scale("function", functions=(_root, np.square))
            limits(0, limit)
            ticks(edges, [f"{edge:g}" for edge in edges])
        axes.grid(color="#bbbbbb", lw=0.6, ls=":")
        axes.set(aspect="equal", xlabel="true", ylabel="model")
        f = result.figures
        text = f"error {f.density_error_points:.2f}, bias {f.density_bias_points:+.2f} points"
        axes.text(
            0.03, 0.97, text,
            transform=axes.transAxes, va="top", fontsize=7,
        )  # fmt: skip
    return figure


def _root(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.sqrt(np.maximum(values, 0))


def draw_classes(results: list[SetAccuracy]) -> Figure:
    """Draw how many images of each true class fell into which: a row a set, a column a model."""
    figure, panels = _grid(results, "Images by density class")
    for axes, result in panels:
        counts = np.array(result.figures.confusion)
        rows = counts.sum(axis=1, keepdims=True)
        axes.imshow(counts / np.maximum(rows, 1), cmap="Blues", vmin=0, vmax=1.3)
        for (row, column), count in np.ndenumerate(counts):
            if count:
                weight = "bold" if row == column else "normal"
                axes.text(column, row, str(count), ha="center", va="center", weight=weight)
        names = [name.removesuffix(" %") for name in CLASS_NAMES]
        axes.set_xticks(range(len(names)), names, rotation=45, fontsize=7)
        axes.set_yticks(range(len(names)), names, fontsize=7)
        axes.set(xlabel="model, %", ylabel="true, %")
        axes.set_title(f"{axes.get_title()}: {result.figures.class_agreement:.0%} same", fontsize=8)
    return figure


def _grid(results: list[SetAccuracy], title: str) -> tuple[Figure, list[tuple[Axes, SetAccuracy]]]:
    """Return a figure with a row for each set and a column for each model."""
    sets: list[TileSet] = list(dict.fromkeys(r.tiles for r in results))
    models = list(dict.fromkeys(r.model.name for r in results))
    figure = Figure(
        figsize=(len(models) * PANEL_IN + 0.4, len(sets) * PANEL_IN + 0.6), layout="constrained"
    )
    FigureCanvasAgg(figure)
    figure.suptitle(title, fontsize=10)
    panels = figure.subplots(len(sets), len(models), squeeze=False)
    placed = []
    for result in results:
        axes = panels[sets.index(result.tiles)][models.index(result.model.name)]
        axes.set_title(f"{result.model.name}, {result.tiles}", fontsize=8)
        placed.append((axes, result))
    return figure, placed
