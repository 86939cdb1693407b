"""The converted models beside Keras, on the same tiles."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gliorun.agreement import Agreement, agreement
from gliorun.errors import GlioError

Pixels = NDArray[np.uint8]
Predictor = Callable[[Iterable[Pixels]], Iterable[Pixels]]


@dataclass(frozen=True, slots=True)
class Tolerance:
    """How far a converted model may stray from Keras."""

    density_points: float = 0.3
    class_agreement: float = 0.97


def compare(
    reference: Predictor, converted: Mapping[str, Predictor], windows: list[Pixels]
) -> dict[str, Agreement]:
    """Run every model on the same (H, W, 3) uint8 windows and compare its masks with Keras'."""
    expected = list(reference(windows))
    return {
        name: agreement(zip(predict(windows), expected, strict=True))
        for name, predict in converted.items()
    }


def check(figures: Mapping[str, Agreement], tolerance: Tolerance) -> None:
    """Raise GlioError, naming the figure, if a model strays too far."""
    for name, found in figures.items():
        if found.density_error_points > tolerance.density_points:
            raise GlioError(
                f"{name}: mean density difference to Keras is {found.density_error_points:.3f} "
                f"points, more than {tolerance.density_points:g}"
            )
        if found.class_agreement < tolerance.class_agreement:
            raise GlioError(
                f"{name}: {found.class_agreement:.1%} of the tiles keep their density class, "
                f"fewer than {tolerance.class_agreement:.0%}"
            )


def table(figures: Mapping[str, Agreement]) -> str:
    """Return the figures as a Markdown table."""
    lines = [
        "| model | tiles | Dice to Keras | density difference: mean | worst | same class |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {name} | {f.images} | {f.dice:.4f} | {f.density_error_points:.3f} points "
        f"| {f.density_worst_points:.3f} | {f.class_agreement:.1%} |"
        for name, f in figures.items()
    ]
    return "\n".join(lines)


def values(figures: Mapping[str, Agreement]) -> dict[str, Any]:
    """Return the figures as plain values."""
    return {name: asdict(f) for name, f in figures.items()}
