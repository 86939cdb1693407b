"""What a calibration is worth: on a few fields of a source, judged on its other tiles.

Fields are drawn again and again, so that luck shows. A calibration that `glioexport calibrate`
would refuse leaves the model's own level, as it would for a user.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from itertools import combinations
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from glioexport.calibrate import measure_fields
from glioexport.dataset import Entry, check_scale
from glioexport.unbiased import Field, check, errors_of, fit, unbiased_level
from gliorun.commandline import table
from gliorun.errors import GlioError
from gliorun.model.engine import Engine

SEED = 0
WORSE_POINTS = 0.3
"""A calibration that raises the error by more has done harm."""

Spread = tuple[float, float, float]
"""Median, and the ends of the middle 95 %."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """Calibrations on `fields` fields of a source, judged on the others; figures in points.

    `accepted` is the share that is not refused, `worse` the share whose error is higher than
    before by more than `WORSE_POINTS`.
    """

    fields: int
    draws: int
    accepted: float
    worse: float
    error_before: Spread
    error_after: Spread
    bias_before: Spread
    bias_after: Spread
    levels: Spread


@dataclass(frozen=True, slots=True)
class Source:
    """One model on one source: with its own level, with the best one, and after calibrations.

    `scatter` is the standard deviation of the errors of its tiles: what no level can mend.
    """

    model: str
    name: str
    tiles: int
    error: float
    bias: float
    scatter: float
    best_level: int
    best_error: float
    drawn: list[Drawn] = field(default_factory=list)


def judge(
    name: str,
    entries: Sequence[Entry],
    engine: Engine,
    counts: Sequence[int],
    draws: int,
    say: Callable[[str], None],
) -> list[Source]:
    """Calibrate a model, called `name`, on each set of the entries, with each of `counts` fields.

    Raises
    ------
    GlioError
        The tiles are unusable, or the model takes another scale.
    """
    check_scale(engine.card)
    own_level = engine.card.nucleus_level
    by_set: dict[str, list[Field]] = {}
    for entry, measured in zip(entries, measure_fields(entries, engine, say), strict=True):
        by_set.setdefault(entry.set, []).append(measured)
    return [
        _judge_set(name, of_set, fields, own_level, counts, draws)
        for of_set, fields in by_set.items()
    ]


def _judge_set(
    model: str,
    name: str,
    fields: Sequence[Field],
    own_level: int,
    counts: Sequence[int],
    draws: int,
) -> Source:
    errors = errors_of(fields)
    own = errors[:, own_level]
    best = unbiased_level(errors, own_level)
    return Source(
        model,
        name,
        len(fields),
        float(np.abs(own).mean()),
        float(own.mean()),
        float(own.std(ddof=1)) if len(fields) > 1 else math.nan,
        best,
        float(np.abs(errors[:, best]).mean()),
        [_draw(fields, errors, own_level, count, draws) for count in counts if count < len(fields)],
    )


def _draw(
    fields: Sequence[Field], errors: NDArray[np.float64], own_level: int, count: int, draws: int
) -> Drawn:
    """Calibrate on `count` of the fields, `draws` times, and judge each time on the others."""
    rows, levels, accepted = [], [], 0
    chosen_fields = list(_choices(len(fields), count, draws))
    for chosen in chosen_fields:
        others = np.setdiff1d(np.arange(len(fields)), chosen)
        level = calibrated_level([fields[n] for n in chosen], own_level)
        accepted += level is not None
        levels.append(own_level if level is None else level)
        before, after = errors[others, own_level], errors[others, levels[-1]]
        rows.append(
            (np.abs(before).mean(), np.abs(after).mean(), abs(before.mean()), abs(after.mean()))
        )
    error_before, error_after, bias_before, bias_after = np.array(rows).T
    return Drawn(
        count,
        len(rows),
        accepted / len(rows),
        float((error_after - error_before > WORSE_POINTS).mean()),
        _spread(error_before),
        _spread(error_after),
        _spread(bias_before),
        _spread(bias_after),
        _spread(np.array(levels, float)),
    )


def calibrated_level(fields: Sequence[Field], own_level: int) -> int | None:
    """Return the level that `glioexport calibrate` finds, or None where it refuses."""
    result = fit(fields, own_level)
    try:
        check(fields, result, own_level)
    except GlioError:
        return None
    return result.level


def _choices(of: int, count: int, draws: int) -> Iterable[NDArray[np.int64]]:
    """Yield `draws` choices of `count` out of `of` tiles; all there are, where they are fewer."""
    if math.comb(of, count) <= draws:
        yield from (np.array(chosen) for chosen in combinations(range(of), count))
        return
    random = np.random.default_rng(SEED)
    for _ in range(draws):
        yield np.sort(random.choice(of, count, replace=False))


def _spread(values: NDArray[np.float64]) -> Spread:
    low, median, high = np.quantile(values, [0.025, 0.5, 0.975])
    return float(median), float(low), float(high)


def markdown(sources: Iterable[Source]) -> str:
    """Return the table: a line for each source and number of fields."""
    head = (
        "model", "tiles of", "tiles", "scatter", "best level: error", "fields", "accepted",
        "error before", "error after", "bias before", "bias after", "worse by 0.3",
    )  # fmt: skip
    rows = []
    for source in sources:
        of_source = (
            source.model, source.name, source.tiles, _points(source.scatter),
            f"{source.best_level}: {source.best_error:.2f}",
        )  # fmt: skip
        if not source.drawn:
            rows.append((*of_source, "–", "–", _points(source.error), "–",
                         _points(abs(source.bias)), "–", "–"))  # fmt: skip
        rows += [
            (
                *of_source, str(drawn.fields), f"{drawn.accepted:.0%}", _text(drawn.error_before),
                _text(drawn.error_after), _text(drawn.bias_before), _text(drawn.bias_after),
                f"{drawn.worse:.0%}",
            )
            for drawn in source.drawn
        ]  # fmt: skip
    return table(head, rows)


def _text(spread: Spread) -> str:
    median, low, high = spread
    return f"{median:.2f} [{low:.2f}, {high:.2f}]"


def _points(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.2f}"


def as_values(sources: Iterable[Source]) -> dict[str, Any]:
    """Return the sources as plain JSON values, null for what is NaN."""
    values = [asdict(source) for source in sources]
    for source in values:
        source["scatter"] = None if math.isnan(source["scatter"]) else source["scatter"]
    return {"sources": values}


def draw(sources: Sequence[Source]) -> Figure:
    """Draw the error on tiles that had no say, before and after, by source and number of fields."""
    from gliobench.plots import new_figure

    some = [source for source in sources if source.drawn]
    figure = new_figure(
        max(6.0, 2.4 * len(some)), 4.2,
        "Density error on the other tiles of a source: median and 95 % of the draws; dotted: with "
        "the best level of the source",
    )  # fmt: skip
    panels = figure.subplots(1, max(1, len(some)), sharey=True, squeeze=False)[0]
    for axes, source in zip(panels, some, strict=False):
        for shift, colour, what, spreads in (
            (-0.15, "#e6550d", "before", [drawn.error_before for drawn in source.drawn]),
            (0.15, "#08519c", "after", [drawn.error_after for drawn in source.drawn]),
        ):
            median, low, high = np.array(spreads).T
            places = np.arange(len(median)) + shift
            reach = np.array([median - low, high - median])
            axes.errorbar(places, median, reach, fmt="o", color=colour, ms=5, lw=1.5, label=what)
        axes.axhline(source.best_error, color="black", ls=":", lw=1)
        axes.set_xticks(range(len(source.drawn)), [str(drawn.fields) for drawn in source.drawn])
        axes.set_title(f"{source.name} ({source.tiles})", fontsize=8)
        axes.set(xlabel="fields", xlim=(-0.6, len(source.drawn) - 0.4))
        axes.grid(axis="y", color="#dddddd", lw=0.6)
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylim(bottom=0)
    panels[0].set_ylabel("mean absolute density error, points")
    panels[0].legend(frameon=False, fontsize=8)
    return figure
