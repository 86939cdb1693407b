"""Draw charts of measurements: tiles/s with spread, time by stage, scaling, trade-off."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from gliobench.compare import CompareFigures
from gliobench.document import Envelope
from gliobench.sidebyside import Measured, TradeOff, trade_offs
from gliobench.speed import Point, SpeedFigures
from gliorun.atomic import cannot_write, replacing

DPI = 120
PLAIN, WRONG = "#08519c", "#cb181d"
"""Colour of results that disagree with the reference."""
STAGE_COLOURS = ("#9ecae1", "#c7e9c0", "#fdd0a2", "#08519c", "#bcbddc", "#d9d9d9")


def write_charts(folder: Path, measured: Sequence[Measured]) -> list[Path]:
    """Draw all possible charts into a folder, and return the files.

    Raises
    ------
    GlioError
        The folder cannot be written.
    """
    figures: dict[str, Figure] = {}
    for measurement in measured:
        if isinstance(measurement.figures, SpeedFigures):
            figures[_free(f"speed-{measurement.letter}", figures)] = draw_speed(
                measurement.envelope, measurement.figures
            )
        elif isinstance(measurement.figures, CompareFigures):
            figures[_free(f"compare-{measurement.letter}", figures)] = draw_compare(
                measurement.envelope, measurement.figures
            )
    some = [
        measurement for measurement in measured if isinstance(measurement.figures, CompareFigures)
    ]
    if len(some) > 1:
        figures["machines.png"] = draw_machines(some)
    against = trade_offs(measured)
    if against:
        figures["accuracy-speed.png"] = draw_trade_offs(against)
    return write_figures(folder, figures)


def write_figures(folder: Path, figures: Mapping[str, Figure]) -> list[Path]:
    """Write figures by file name into a folder, which is created if needed; return the files.

    Raises
    ------
    GlioError
        The folder cannot be written.
    """
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise cannot_write(folder, error) from error
    for name, figure in figures.items():
        with replacing(folder / name) as partial:
            figure.savefig(partial, format="png", dpi=DPI, metadata={"Software": "gliobench"})
    return [folder / name for name in figures]


def _free(stem: str, taken: Container[str]) -> str:
    """Return an unused file name."""
    names = (f"{stem}{number}.png" for number in ("", *range(2, 1000)))
    return next(name for name in names if name not in taken)


def new_figure(width_in: float, height_in: float, title: str) -> Figure:
    """Return an empty figure."""
    figure = Figure(figsize=(width_in, height_in), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title, fontsize=9)
    return figure


def bars(
    axes: Axes, names: Sequence[str], rounds: Sequence[Sequence[float]], wrong: Sequence[bool]
) -> None:
    """Draw the median of each entry's rounds as a bar, and every round as a dot."""
    medians = [float(np.median(values)) for values in rounds]
    places = range(len(names))
    axes.barh(
        places, medians, color=[WRONG if is_wrong else PLAIN for is_wrong in wrong], height=0.6
    )
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


def draw_compare(envelope: Envelope, figures: CompareFigures) -> Figure:
    """Draw tiles/s of every backend, and its difference to the reference against its speed."""
    title = (
        f"{figures.tiles} tiles of {figures.source}, {envelope.machine.processor}, "
        f"{envelope.machine.cores} cores"
    )
    figure = new_figure(11, 1.6 + 0.45 * len(figures.rows), title)
    left, right = figure.subplots(1, 2)
    wrong = [not row.agrees for row in figures.rows]
    names = [f"{number} {row.name}" for number, row in enumerate(figures.rows, 1)]
    bars(left, names, [row.tiles_s for row in figures.rows], wrong)
    trade_off(
        right,
        [str(number) for number in range(1, len(names) + 1)],
        [float(np.median(row.tiles_s)) for row in figures.rows],
        [row.agreement.density_error_points for row in figures.rows],
        wrong,
        f"mean density difference to {figures.rows[0].name}, points",
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
    """Draw error against speed: the lower right corner is best."""
    for number, (name, x, y, bad) in enumerate(zip(names, tiles_s, errors, wrong, strict=True)):
        axes.plot([x], [y], "o", color=WRONG if bad else PLAIN)
        above = 4 + 9 * (number % 3)  # so that the names of equal points do not cover each other
        axes.annotate(name, (x, y), xytext=(4, above), textcoords="offset points", fontsize=8)
    axes.set_xlim(0, 1.12 * max(tiles_s))
    axes.set_ylim(0, max(0.05, 1.2 * max(errors)))
    axes.set_xlabel("tiles/s", fontsize=8)
    axes.set_ylabel(label, fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)


def draw_machines(measured: Sequence[Measured]) -> Figure:
    """Draw tiles/s of every backend, a panel a machine, on one scale."""
    longest = max(len(measurement.figures.rows) for measurement in measured)
    figure = new_figure(5.5 * len(measured), 1.6 + 0.45 * longest, "The same backends elsewhere")
    panels = figure.subplots(1, len(measured), sharex=True)
    for axes, measurement in zip(panels, measured, strict=True):
        rows = measurement.figures.rows
        bars(
            axes,
            [row.name for row in rows],
            [row.tiles_s for row in rows],
            [not row.agrees for row in rows],
        )
        machine = measurement.envelope.machine
        axes.set_title(
            f"{measurement.letter}: {machine.processor}, {machine.cores} cores", fontsize=8
        )
    panels[0].set_xlim(
        0,
        1.18
        * max(max(row.tiles_s) for measurement in measured for row in measurement.figures.rows),
    )
    return figure


def draw_trade_offs(trade_offs: dict[str, list[TradeOff]]) -> Figure:
    """Draw the density error on labelled tiles against speed, a panel a set."""
    figure = new_figure(4.2 * len(trade_offs), 3.6, "Error on labelled tiles against speed")
    panels = figure.subplots(1, len(trade_offs), squeeze=False)[0]
    for axes, (name, points) in zip(panels, trade_offs.items(), strict=True):
        trade_off(
            axes,
            [point.name for point in points],
            [float(np.median(point.tiles_s)) for point in points],
            [point.error_points for point in points],
            [not point.agrees for point in points],
            "density error, points (line: 95 % interval)",
        )
        for point in points:
            if point.interval is not None:
                axes.plot([np.median(point.tiles_s)] * 2, point.interval, "-", color=PLAIN, lw=1)
                axes.set_ylim(0, max(axes.get_ylim()[1], 1.1 * point.interval[1]))
        axes.set_title(name, fontsize=8)
    return figure


def draw_speed(envelope: Envelope, figures: SpeedFigures) -> Figure:
    """Draw the ways, the stages and the scaling curves of a job."""
    curves = [
        (name, points)
        for name, points in (
            ("reader threads", figures.threads),
            ("requests", figures.requests),
            ("gigapixels", figures.sizes),
        )
        if points
    ]
    figure = new_figure(
        10, 6.5 if curves else 3.8, f"{figures.slide}, {envelope.machine.processor}, "
        f"{envelope.machine.cores} cores"
    )  # fmt: skip
    rows = figure.subfigures(
        2 if curves else 1, 1, squeeze=False, height_ratios=[1.15, 1][: 1 + bool(curves)]
    )
    left, right = rows[0, 0].subplots(1, 2)
    bars(
        left,
        [way.name for way in figures.ways],
        [way.tiles_s for way in figures.ways],
        [not way.agrees for way in figures.ways],
    )
    _stages(right, figures.stages)
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
