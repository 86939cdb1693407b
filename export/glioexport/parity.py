"""Compare the converted models with Keras on the same tiles."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gliorun import commandline
from gliorun.errors import GlioError, UsageError
from gliorun.findings.agreement import Agreement, agreement
from gliorun.measuring.density import CLASS_EDGES

Pixels = NDArray[np.uint8]
Values = NDArray[np.float32]

NUCLEUS_SHARE = (0.001, 0.99)
"""Bounds of the total nucleus share between which a comparison is meaningful."""
ENOUGH_TILES = 36
"""With so many, of which none changed, at most a tenth may change: as `convert` takes at most."""
WAY_OUT = "pass tiles that are like your slides, or a wider limit"


@dataclass(frozen=True, slots=True)
class Tolerance:
    """How far a converted model may stray from Keras.

    `probability` is the largest difference that taking layers out may make to any pixel.
    """

    density_points: float = 0.3
    class_agreement: float = 0.97
    probability: float = 1e-3

    def __post_init__(self) -> None:
        if not self.density_points >= 0:  # also refuses NaN
            raise UsageError(
                f"largest density difference is {self.density_points:g} points; "
                "it must be 0 or more"
            )
        if not 0 <= self.class_agreement <= 1:
            raise UsageError(
                f"smallest class agreement is {self.class_agreement:g}; it must lie from 0 to 1"
            )


@dataclass(frozen=True, slots=True)
class Parity:
    """The agreement of one converted model with Keras.

    `tiles_near_edge` counts the tiles whose density by Keras lies within this model's worst
    density difference of an edge of the six classes: only they can change their class.
    """

    agreement: Agreement
    tiles_near_edge: int


def parity_of(masks: Iterable[Pixels], expected: list[Pixels]) -> Parity:
    """Compare masks with those of Keras."""
    agreed = agreement(zip(masks, expected, strict=True))
    density = np.array([np.count_nonzero(mask) / mask.size for mask in expected])
    inner = np.array(CLASS_EDGES[1:-1])
    distance_points = 100 * np.abs(density[:, None] - inner).min(axis=1)
    near = distance_points <= agreed.density_worst_points + 1e-9  # 0.10 - 0.08 is not quite 0.02
    return Parity(agreed, int(near.sum()))


def largest_difference(values: Iterable[Values], others: Iterable[Values]) -> float:
    """Return the largest difference between any two of the same pixels."""
    pairs = zip(values, others, strict=True)
    return max(float(np.abs(ours - theirs).max()) for ours, theirs in pairs)


def check_reference(expected: list[Pixels]) -> None:
    """Raise GlioError if Keras finds almost no nuclei, or nuclei almost everywhere."""
    share = float(np.mean([np.count_nonzero(mask) / mask.size for mask in expected]))
    low, high = NUCLEUS_SHARE
    if not low <= share <= high:
        raise GlioError(
            f"the network calls {share:.2%} of the tiles' area nucleus, so that a comparison says "
            "nothing; are --pixel-range and --output right, and do --tiles hold nuclei?"
        )


def excess(agreed: Agreement, tolerance: Tolerance) -> float:
    """Return the deviation of a model in tolerances; above 1 it fails."""
    missed = 1 - agreed.class_agreement
    return max(
        agreed.density_error_points / max(tolerance.density_points, 1e-9),
        missed / max(1 - tolerance.class_agreement, 1e-9),
    )


def check(figures: Mapping[str, Parity], tolerance: Tolerance) -> None:
    """Raise GlioError, naming the figure, if a model strays too far."""
    for name, parity in figures.items():
        agreed = parity.agreement
        if agreed.density_error_points > tolerance.density_points:
            raise GlioError(
                f"{name}: mean density difference to Keras is {agreed.density_error_points:.3f} "
                f"points, more than {tolerance.density_points:g}; {WAY_OUT}"
            )
        if agreed.class_agreement < tolerance.class_agreement:
            raise GlioError(
                f"{name}: {agreed.class_agreement:.1%} of the tiles keep their density class, "
                f"fewer than {tolerance.class_agreement:.0%}; {WAY_OUT}"
            )


def caution(figures: Mapping[str, Parity]) -> str | None:
    """Return what a certificate of few tiles does not rule out, or None if it has enough.

    The interval is that of Clopper and Pearson (1934) for the share of tiles that change their
    class; of all models, the one that changed most decides.
    """
    from scipy.stats import binomtest  # takes a second, which a wrong option need not wait for

    worst = min((parity.agreement for parity in figures.values()), key=lambda a: a.class_agreement)
    if worst.images >= ENOUGH_TILES:
        return None
    changed = round((1 - worst.class_agreement) * worst.images)
    interval = binomtest(changed, worst.images).proportion_ci(confidence_level=0.95)
    tiles = f"{worst.images} tile{'' if worst.images == 1 else 's'}"
    return (
        f"caution: only {tiles} compared, {changed} of them in another class: of such tiles, "
        f"between {interval.low:.0%} and {interval.high:.0%} may change their class (95 % "
        f"interval); {ENOUGH_TILES} tiles and more say enough"
    )


def table(figures: Mapping[str, Parity]) -> str:
    """Return the figures as a Markdown table."""
    head = (
        "model", "tiles", "Dice to Keras", "density difference: mean", "worst", "same class",
        "tiles that near an edge",
    )  # fmt: skip
    return commandline.table(head, (_row(name, parity) for name, parity in figures.items()))


def _row(name: str, parity: Parity) -> tuple[object, ...]:
    f = parity.agreement
    return (
        name, f.images, f"{f.dice:.4f}", f"{f.density_error_points:.3f} points",
        f"{f.density_worst_points:.3f}", f"{f.class_agreement:.1%}", parity.tiles_near_edge,
    )  # fmt: skip


def values(figures: Mapping[str, Parity]) -> dict[str, Any]:
    """Return the figures as plain values."""
    return {
        name: {**asdict(parity.agreement), "tiles_near_class_edge": parity.tiles_near_edge}
        for name, parity in figures.items()
    }
