"""Write `MODEL_FACTS.md`, the label of the default model, from the card inside the model itself.

`python runtime/model_facts.py` after another model has taken its place; a test compares the two.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from gliorun import __version__
from gliorun.model import engine, shipped
from gliorun.model.card import ModelCard

HERE = Path(__file__).resolve().parent
LABEL = HERE / "MODEL_FACTS.md"
MODEL_CARD = HERE.parent / "export" / "glioexport" / "weights" / "MODEL_CARD.md"
FAILS = "When they fail"
"""Title of the section of the model card that the label repeats word for word."""


def label(card: ModelCard, name: str, model_card: str) -> str:
    """Return the label as Markdown.

    Parameters
    ----------
    card : ModelCard
        Of the model, with the figures of its validation.
    name : str
        By which `--model` takes it.
    model_card : str
        Text of MODEL_CARD.md.
    """
    licences = sorted({str(part.get("licence", "unknown")) for part in card.training["data"]})
    sets = ", ".join(str(part["set"]) for part in card.training["data"])
    lines = [
        "# Model facts",
        "",
        "*Written by `python runtime/model_facts.py` from the card inside the model: do not edit.*",
        "",
        "| | |",
        "|---|---|",
        f"| model | `{name}`: {card.name}, {card.precision} |",
        f"| comes with | gliorun {__version__} |",
        f"| SHA-256 of its weights | `{card.weights_sha256}` |",
        f"| status | **{card.intended_use}** |",
        "| what it measures | share of the area of H&E-stained tissue that is nucleus, by tiles "
        f"of {card.tile_px * card.mpp:g} µm at {card.mpp:g} µm/px |",
        "| for | research on glioma, whole-slide images in bright field |",
        "| not for | diagnosis or grade by itself, counts of tumour cells, other stains, "
        "fluorescence |",
        f"| trained on | {sets} |",
        f"| licences of that data | {'; '.join(licences)} |",
        "| people in that data | age, sex and origin are not stated by the sources |",
        "| questions and faults | the [issue tracker](../README.md#contributing); what concerns "
        "security: [how to report it](../.github/SECURITY.md) |",
        "",
        "## How good it is",
        "",
        "Against outlines that people drew, on images that taught it nothing; 95 % intervals in "
        "brackets, in points, hundredths\nof a tile's area.",
        "",
        "| validation set | images | Dice | density error | bias | worst tile | same class |",
        "|---|---|---|---|---|---|---|",
        *(_row(name, figures) for name, figures in card.training["validation"].items()),
        "",
        "What the sets are, and other models beside it:\n"
        "[the model card](../export/glioexport/weights/MODEL_CARD.md#how-good-they-are).",
        "",
        "## When it fails",
        "",
        _section(model_card, FAILS),
        "",
    ]
    return "\n".join(lines)


def _row(name: str, figures: dict[str, Any]) -> str:
    bounds = figures.get("intervals") or {}
    cells = [
        f"`{name}`",
        str(figures["images"]),
        _with_interval(figures["dice"], bounds.get("dice"), ".3f"),
        _with_interval(figures["density_error_points"], bounds.get("density_error_points"), ".1f"),
        _with_interval(figures["density_bias_points"], bounds.get("density_bias_points"), "+.1f"),
        f"{figures['density_worst_points']:.1f}",
        f"{figures['class_agreement']:.0%}",
    ]
    return f"| {' | '.join(cells)} |"


def _with_interval(value: float, bounds: list[float] | None, form: str) -> str:
    if bounds is None:
        return f"{value:{form}}"
    low, high = bounds
    return f"{value:{form}} [{low:{form}}, {high:{form}}]"


def _section(text: str, title: str) -> str:
    """Return what stands under a title of Markdown; its links lead from here."""
    section = text.partition(f"## {title}\n")[2]
    body = re.split(r"^## ", section, maxsplit=1, flags=re.M)[0].strip()
    return re.sub(r"\]\((?!https|#)", "](../export/glioexport/weights/", body)


def facts() -> str:
    """Return the label of the model that ships as the default."""
    card = engine.open_model(shipped.DEFAULT_MODEL).card
    return label(card, shipped.DEFAULT_MODEL.stem, MODEL_CARD.read_text(encoding="utf-8"))


if __name__ == "__main__":
    LABEL.write_text(facts(), encoding="utf-8", newline="\n")
    print(LABEL)
