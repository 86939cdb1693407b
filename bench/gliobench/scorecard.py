"""The results of `gliobench accuracy`, as Markdown and as plain values."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from gliobench.accuracy import SetAccuracy
from gliobench.document import seal
from gliobench.metrics import Figures
from gliorun.commandline import table
from gliorun.findings.bootstrap import Interval


def as_values(results: list[SetAccuracy], colour: str) -> dict[str, Any]:
    """Return results as plain JSON values.

    Beside the entries of `gliobench.document.Envelope` there are `figures`: `colour` is the
    normalisation; `models` has name, SHA-256, card name and precision of each. Each of `results`
    is one model on one set: `model`, `set`, `split`, `seen`; `figures` (fields of
    `gliobench.metrics.Figures`), `to_baseline` (`baseline` and the fields of `Difference`, or
    null), `stress` (figures by change) and `images` (fields of `Score`). What a report takes of
    it is in `gliobench.sidebyside.AccuracyFigures`.
    """
    return {
        **asdict(seal("accuracy")),
        "figures": _as_figures(results, colour),
    }


def _as_figures(results: list[SetAccuracy], colour: str) -> dict[str, Any]:
    baseline = results[-1].model.name
    models = {r.model.name: r.model for r in results}
    return {
        "colour": colour,
        "models": [
            {
                "name": m.name,
                "sha256": m.sha256,
                "card": m.card.name if m.card else "",
                "precision": m.card.precision if m.card else "",
            }
            for m in models.values()
        ],
        "results": [
            {
                "model": r.model.name,
                "set": r.tiles.name,
                "split": r.tiles.split,
                "seen": r.seen,
                "figures": asdict(r.figures),
                "to_baseline": r.to_baseline and {"baseline": baseline, **asdict(r.to_baseline)},
                "stress": {name: asdict(f) for name, f in r.stress.items()},
                "images": [asdict(s) for s in r.scores],
            }
            for r in results
        ],
    }


def markdown(results: list[SetAccuracy]) -> str:
    """Return the figures as Markdown: for each set density, the paper's measures, and stress."""
    baseline = results[-1].model.name
    return "\n\n".join(
        _of_set([r for r in results if r.tiles == of_set], baseline)
        for of_set in dict.fromkeys(r.tiles for r in results)
    )


def _of_set(results: list[SetAccuracy], baseline: str) -> str:
    first = results[0].figures
    share = first.nucleus_share
    lines = [
        f"## {results[0].tiles}",
        "",
        f"{first.images} images, {share:.1%} of the pixels nucleus: an empty mask has "
        f"{1 - share:.1%} accuracy. In brackets 95 % intervals, drawn over {first.resampled}.",
        "",
        table(
            (
                "model",
                "seen in training",
                "Dice",
                f"more than {baseline}",
                "density error, points",
                "bias",
                "95th percentile",
                "same class",
            ),
            (_headline(r) for r in results),
        ),
        "",
        table(
            ("mean over images / pooled pixels", "accuracy", "Dice", "precision", "recall", "F1"),
            (_five(r) for r in results),
        ),
    ]
    if results[0].stress:
        rows = {"none": [_short(r.figures) for r in results]} | {
            change: [_short(r.stress[change]) for r in results] for change in results[0].stress
        }
        lines += [
            "",
            table(
                ("change: Dice, density error (bias)", *(r.model.name for r in results)),
                ((change, *cells) for change, cells in rows.items()),
            ),
        ]
    return "\n".join(lines)


def _headline(result: SetAccuracy) -> tuple[str, ...]:
    f, i, d = result.figures, result.figures.intervals, result.to_baseline
    return (
        result.model.name,
        result.seen,
        _with(f.mean.dice, i.dice if i else None, ".3f"),
        _with(d.dice, d.dice_interval, "+.3f") if d else "–",
        _with(f.density_error_points, i.density_error_points if i else None, ".2f"),
        _with(f.density_bias_points, i.density_bias_points if i else None, "+.2f"),
        f"{f.density_p95_points:.2f}",
        _with(f.class_agreement, i.class_agreement if i else None, ".0%"),
    )


def _five(result: SetAccuracy) -> tuple[str, ...]:
    mean, pooled = asdict(result.figures.mean), asdict(result.figures.pooled)
    return (result.model.name, *(f"{mean[name]:.3f} / {pooled[name]:.3f}" for name in mean))


def _short(figures: Figures) -> str:
    return (
        f"{figures.mean.dice:.3f}, {figures.density_error_points:.1f} "
        f"({figures.density_bias_points:+.1f})"
    )


def _with(value: float, interval: Interval | None, form: str) -> str:
    if interval is None:
        return f"{value:{form}}"
    low, high = interval
    return f"{value:{form}} [{low:{form}}, {high:{form}}]"
