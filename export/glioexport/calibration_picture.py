"""A calibration as a picture: the bias at every level, and each field before and after."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from glioexport.unbiased import Field, Fit, errors_of, searched
from gliorun.model.calibration import Calibration

BEFORE, AFTER, PALE = "#e6550d", "#08519c", "#bdbdbd"


def draw(calibration: Calibration, own_level: int, fields: Sequence[Field], result: Fit) -> Figure:
    """Draw bias against level, and measured against true densities."""
    figure = Figure(figsize=(10, 4.6), dpi=130, layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(
        f"{calibration.name}: {calibration.model} at level {result.level} instead of "
        f"{own_level}, by {len(fields)} fields, "
        f"{calibration.date}",
        fontsize=11,
    )
    by_level, by_field = figure.subplots(1, 2)
    _draw_levels(by_level, own_level, fields, result)
    _draw_fields(by_field, own_level, fields, result)
    for axes in (by_level, by_field):
        axes.grid(color="#dddddd", lw=0.6)
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def _draw_levels(axes: Axes, own_level: int, fields: Sequence[Field], result: Fit) -> None:
    lowest, highest = searched(own_level)
    levels = np.arange(lowest, highest + 1)
    errors = errors_of(fields)[:, levels]
    for number, of_field in enumerate(errors):
        axes.plot(levels, of_field, color=PALE, lw=0.8, label="each field" if number == 0 else "")
    axes.plot(levels, errors.mean(axis=0), color="black", lw=2, label="their mean, the bias")
    axes.axhline(0, color="black", lw=0.8)
    for level, colour, what in (
        (own_level, BEFORE, "the model's own"),
        (result.level, AFTER, "calibrated"),
    ):
        axes.axvline(level, color=colour, lw=1.5, label=f"level {level}, {what}")
    axes.legend(frameon=False, fontsize=8, loc="lower left")
    reach = 1.3 * float(np.abs(errors[:, own_level - lowest]).max()) + 2
    axes.set(
        xlabel="level from which a pixel is nucleus",
        ylabel="measured less true density, points",
        xlim=(lowest, highest),
        ylim=(-reach, reach),
    )


def _draw_fields(axes: Axes, own_level: int, fields: Sequence[Field], result: Fit) -> None:
    true = np.array([100 * field.true_density for field in fields])
    at_level = np.array([100 * field.densities() for field in fields])
    before, after = at_level[:, own_level], at_level[:, result.level]
    left_out = true + result.left_out_errors
    top = 1.08 * float(max(true.max(), before.max(), after.max(), left_out.max()))
    axes.plot([0, top], [0, top], color="black", lw=0.8)
    for values, colour, marker, what, judged in (
        (before, BEFORE, "x", "before", result.before),
        (left_out, PALE, "s", "with the level of the others", result.left_out),
        (after, AFTER, "o", "after", result.after),
    ):
        axes.scatter(
            true, values, color=colour, marker=marker, s=28, zorder=3,
            label=f"{what}: error {judged.density_error_points:.1f}, "
            f"bias {round(judged.density_bias_points, 1) + 0:+.1f} points",
        )  # fmt: skip
    axes.set(
        xlabel="true density, %", ylabel="measured density, %", xlim=(0, top), ylim=(0, top),
        aspect="equal",
    )  # fmt: skip
    axes.legend(frameon=False, fontsize=8, loc="lower right")
