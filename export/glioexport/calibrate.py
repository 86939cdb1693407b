"""Calibrate a model to a laboratory: the level at which its labelled fields are unbiased."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

from glioexport.calibration_picture import draw
from glioexport.dataset import Entry, check_scale, choose_entries, in_runtime_colour, load_tiles
from glioexport.unbiased import Field, Fit, check, check_count, check_nuclei, fit
from gliorun.atomic import cannot_write, replacing_all
from gliorun.commandline import table
from gliorun.errors import GlioError, UsageError
from gliorun.model.calibration import Calibration
from gliorun.model.card import ModelCard
from gliorun.model.engine import EXACT, Engine, open_model
from gliorun.model.outlines import Outlines
from gliorun.model.shipped import name_of
from gliorun.reading.windows import segment

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True, eq=False)
class Calibrated:
    """A calibration with the fields it was made of, and what they say of it."""

    calibration: Calibration
    own_level: int
    fields: Sequence[Field]
    fit: Fit


def calibrate(
    data: Path,
    out: Path,
    *,
    model: Path,
    sets: Sequence[str] = (),
    split: str = "all",
    name: str | None = None,
    by: str = "",
    say: Say,
) -> Calibrated:
    """Calibrate the IR `model` on labelled fields; write `out` (.json) and its picture (.png).

    Parameters
    ----------
    data : Path
        Folder of the fields with an `index.csv`, as `glioexport masks` makes it.
    sets, split
        Which of them: sets by name, all if none is named; train, val or all.
    name : str, optional
        Of the laboratory; the name of `out` without its suffix by default.
    by : str
        Who calibrates.

    Raises
    ------
    GlioError
        The fields are unusable, too few, or do not support another level than the model's own.
    """
    if out.suffix != ".json":
        raise UsageError(f"{out}: a calibration is a file that ends in .json")
    if not out.parent.is_dir():
        raise GlioError(f"{out.parent}: no such folder to write into; make it first")
    entries = choose_entries(data, sets, split)
    check_count(len(entries))
    engine = open_model(model, EXACT)
    card = engine.card
    # whatever is wrong with the name is said before the fields are measured
    calibration = Calibration(
        out.stem if name is None else name,
        name_of(card),
        card.weights_sha256,
        card.outlines,
        date.today().isoformat(),
        by,
    )
    check_scale(card)
    for line in doubts(entries, card):
        say(line)
    fields = measure_fields(entries, engine, say)
    check_nuclei(fields)
    result = fit(fields, card.nucleus_level)
    calibrated = Calibrated(
        _with_level(calibration, result.level, card), card.nucleus_level, fields, result
    )
    say(report(calibrated))
    check(fields, result, card.nucleus_level)
    _write(calibrated, out)
    return calibrated


def doubts(entries: Iterable[Entry], card: ModelCard) -> Iterable[str]:
    """Yield why a calibration may look better than it is."""
    taught = {str(source["set"]) for source in card.training.get("data", []) if "set" in source}
    seen = sorted({entry.set for entry in entries if entry.split == "train"} & taught)
    if seen:
        yield (
            f"warning: {name_of(card)} was trained on tiles of {', '.join(seen)}: its outlines are "
            "nearer to theirs than to those of new slides; pass --split val"
        )


def measure_fields(entries: Sequence[Entry], engine: Engine, say: Say) -> list[Field]:
    """Count the levels of each field, in the colour that the runtime shows it to the network in.

    Colour is matched with the model's own level, as in a run with a calibration.
    """
    say(f"{name_of(engine.card)}: measures {len(entries)} fields")
    side = engine.card.tile_px
    tiles = load_tiles(entries, {}, None)
    shown = in_runtime_colour(
        tiles, engine.card.colour_target, lambda image: segment(image, engine.masks, side)
    )
    return [
        Field.of(tile.entry.id, segment(tile.pixels, engine.levels, side), tile.nuclei)
        for tile in shown
    ]


def _with_level(calibration: Calibration, level: int, card: ModelCard) -> Calibration:
    """Return the calibration with a level, and the band of the card as far from it as there."""
    own = card.outlines
    inner = min(255, level + own.inner - own.nucleus)
    outer = max(1, level + own.outer - own.nucleus)
    return replace(calibration, outlines=Outlines(inner, level, outer))


def report(calibrated: Calibrated) -> str:
    """Return field by field, and in the mean, how well they are measured before and after."""
    own, result = calibrated.own_level, calibrated.fit
    errors = ("before_points", "after_points", "left_out_points")
    by_field_table = table(
        ("field", "true density", "error before", "error after", "left out"),
        [
            (row["field"], f"{row['true_density']:.1%}", *(f"{row[name]:+.2f}" for name in errors))
            for row in by_field(calibrated)
        ],
    )
    in_the_mean = table(
        (f"{len(calibrated.fields)} fields, in points", "density error", "bias", "Dice"),
        [
            (
                what,
                f"{judged.density_error_points:.2f}",
                f"{judged.density_bias_points:+.2f}",
                f"{judged.dice:.3f}",
            )
            for what, judged in (
                (f"the model's own level {own}", result.before),
                (f"level {result.level}", result.after),
                ("each field with the level of the others", result.left_out),
            )
        ],
    )
    low, high = result.bias_interval
    left = f"The bias that is left lies from {low:+.2f} to {high:+.2f} points (95 %)."
    return f"{by_field_table}\n\n{in_the_mean}\n\n{left}"


def by_field(calibrated: Calibrated) -> list[dict[str, Any]]:
    """Return each field's name, true density (0 to 1) and errors in points, as plain values."""
    result = calibrated.fit
    rows = []
    for field, left_out in zip(calibrated.fields, result.left_out_errors, strict=True):
        points = 100 * (field.densities() - field.true_density)
        rows.append(
            {
                "field": field.name,
                "true_density": field.true_density,
                "before_points": float(points[calibrated.own_level]),
                "after_points": float(points[result.level]),
                "left_out_points": float(left_out),
            }
        )
    return rows


def to_json(calibrated: Calibrated) -> str:
    """Return a calibration with its figures and fields as JSON text."""
    result = calibrated.fit
    further = {
        "figures": {
            "own_level": calibrated.own_level,
            "before": asdict(result.before),
            "after": asdict(result.after),
            "left_out": asdict(result.left_out),
            "bias_interval_points": result.bias_interval,
        },
        "fields": by_field(calibrated),
    }
    return calibrated.calibration.to_json(further)


def _write(calibrated: Calibrated, out: Path) -> None:
    """Write a calibration (.json) and its picture (.png): both, or none."""
    content = to_json(calibrated)
    figure = draw(calibrated.calibration, calibrated.own_level, calibrated.fields, calibrated.fit)
    try:
        with replacing_all([out, out.with_suffix(".png")]) as (text, picture):
            text.write_text(content, encoding="utf-8", newline="\n")
            figure.savefig(picture, format="png", metadata={"Software": "glioexport"})
    except OSError as error:
        raise cannot_write(out, error) from error
