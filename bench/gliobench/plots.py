"""Charts of what was measured: tiles/s with spread, where the time goes, scaling, trade-off."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from gliobench.compare import CompareFigures
from gliobench.document import Envelope
from gliobench.speed import Point, SpeedFigures
from gliorun.atomic import replacing
from gliorun.errors import GlioError

DPI = 120
PLAIN, WRONG = "#08519c", "#cb181d"
"""What disagrees with the reference is red."""
STAGE_COLOURS = ("#9ecae1", "#c7e9c0", "#fdd0a2", "#08519c", "#bcbddc", "#d9d9d9")
Measured = tuple[Envelope, Any]


def write_charts(folder: Path, measured: Sequence[Measured]) -> list[Path]:
    """Draw what there is to draw into a folder, and return the files.

    Raises
    ------
    GlioError
        The folder cannot be written.
    """
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise GlioError(f"{folder}: cannot be made ({error.strerror})") from error
    figures = {}
    for number, (envelope, found) in enumerate(measured, 1):
        suffix = f"-{number}" if len(measured) > 1 else ""
        if isinstance(found, SpeedFigures):
            figures[f"speed{suffix}.png"] = draw_speed(envelope, found)
        elif isinstance(found, CompareFigures):
            figures[f"compare{suffix}.png"] = draw_compare(envelope, found)
    for name, figure in figures.items():
        with replacing(folder / name) as partial:
            figure.savefig(partial, format="png", dpi=DPI, metadata={"Software": "gliobench"})
    return [folder / name for name in figures]


def new_figure(width_in: float, height_in: float, title: str) -> Figure:
    """Return an empty figure."""
    figure = Figure(figsize=(width_in, height_in), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title, fontsize=9)
    return figure


def bars(
    axes: Axes, names: Sequence[str], rounds: Sequence[Sequence[float]], wrong: Sequence[bool]
) -> None:
    """Draw the median of each one's rounds as a bar, every round as a dot."""
    medians = [float(np.median(values)) for values in rounds]
    places = range(len(names))
    axes.barh(places, medians, color=[WRONG if one else PLAIN for one in wrong], height=0.6)
    for place, values in zip(places, rounds, strict=True):
        axes.plot(values, [place] * len(values), "o", ms=4, mfc="white", mec="black", mew=0.8)
        text = f"{medians[place]:.1f}" + (" (disagrees)" if wrong[place] else "")
        axes.annotate(
            text, (max(values), place), xytext=(7, 0), textcoords="offset points", va="center",
            fontsize=8,
        )  # fmt: skip
    axes.set_yticks(places, names, fontsize=8)
    axes.invert_yaxis()
    axes.set_xlim(0, 1.18 * max(max(values) for values in rounds))
    axes.set_xlabel("tiles/s (bar: median; dots: every round)", fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)


def draw_compare(envelope: Envelope, found: CompareFigures) -> Figure:
    """Draw tiles/s of every backend, and its difference to the reference against its speed."""
    title = (
        f"{found.tiles} tiles of {found.source}, {envelope.machine.processor}, "
        f"{envelope.machine.cores} cores"
    )
    figure = new_figure(11, 1.6 + 0.45 * len(found.rows), title)
    left, right = figure.subplots(1, 2)
    wrong = [not row.agrees for row in found.rows]
    names = [row.name for row in found.rows]
    bars(left, names, [row.tiles_s for row in found.rows], wrong)
    trade_off(
        right,
        names,
        [float(np.median(row.tiles_s)) for row in found.rows],
        [row.agreement.density_error_points for row in found.rows],
        wrong,
        f"mean density difference to {names[0]}, points",
    )
    return figure


def trade_off(
    axes: Axes,
    names: Sequence[str],
    tiles_s: Sequence[float],
    errors: Sequence[float],
    wrong: Sequence[bool],
    label: str,
) -> None:
    """Draw error against speed: the lower right corner is best. Numbers are those of the bars."""
    for number, (x, y, bad) in enumerate(zip(tiles_s, errors, wrong, strict=True), 1):
        axes.plot([x], [y], "o", color=WRONG if bad else PLAIN)
        axes.annotate(str(number), (x, y), xytext=(4, 4), textcoords="offset points", fontsize=8)
    axes.set_xlim(0, 1.12 * max(tiles_s))
    axes.set_ylim(0, max(0.05, 1.2 * max(errors)))
    axes.set_xlabel("tiles/s", fontsize=8)
    axes.set_ylabel(label, fontsize=8)
    listed = "\n".join(f"{number} {name}" for number, name in enumerate(names, 1))
    axes.text(1.02, 1, listed, transform=axes.transAxes, va="top", fontsize=7, color="#444444")
    axes.spines[["top", "right"]].set_visible(False)


def draw_speed(envelope: Envelope, found: SpeedFigures) -> Figure:
    """Draw the ways, the stages and the scaling curves of a job."""
    curves = [
        (name, points)
        for name, points in (
            ("reader threads", found.threads),
            ("requests", found.requests),
            ("gigapixels", found.sizes),
        )
        if points
    ]
    figure = new_figure(
        10, 6.5 if curves else 3.8, f"{found.slide}, {envelope.machine.processor}, "
        f"{envelope.machine.cores} cores"
    )  # fmt: skip
    rows = figure.subfigures(
        2 if curves else 1, 1, squeeze=False, height_ratios=[1.15, 1][: 1 + bool(curves)]
    )
    left, right = rows[0, 0].subplots(1, 2)
    bars(
        left,
        [way.name for way in found.ways],
        [way.tiles_s for way in found.ways],
        [not way.agrees for way in found.ways],
    )
    _stages(right, found.stages)
    if curves:
        panels = rows[1, 0].subplots(1, len(curves), squeeze=False)[0]
        for axes, (name, points) in zip(panels, curves, strict=True):
            _curve(axes, name, points)
    return figure


def _stages(axes: Axes, stages: dict[str, float]) -> None:
    names = list(stages)
    values = [1000 * max(0.0, stages[name]) for name in names]
    colours = [STAGE_COLOURS[n % len(STAGE_COLOURS)] for n in range(len(names))]
    axes.barh(range(len(names)), values, color=colours, height=0.6)
    for place, value in enumerate(values):
        axes.annotate(
            f"{value:.1f}", (value, place), xytext=(4, 0), textcoords="offset points",
            va="center", fontsize=8,
        )  # fmt: skip
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.invert_yaxis()
    axes.set_xlim(0, 1.15 * max(values))
    axes.set_xlabel("CPU time, ms a tile", fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)


def _curve(axes: Axes, name: str, points: Sequence[Point]) -> None:
    settings = [point.setting for point in points]
    axes.plot(settings, [np.median(point.tiles_s) for point in points], "-", color=PLAIN)
    for point in points:
        axes.plot(
            [point.setting] * len(point.tiles_s), point.tiles_s, "o", ms=4, mfc="white", mec=PLAIN
        )
    axes.set_xscale("log", base=10 if name == "gigapixels" else 2)
    axes.set_xticks(settings, [f"{setting:g}" for setting in settings])
    axes.minorticks_off()
    axes.set_ylim(0, 1.15 * max(max(point.tiles_s) for point in points))
    axes.set_xlabel(name, fontsize=8)
    axes.set_ylabel("tiles/s", fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)
