"""The same tiles through every backend, in turns: tiles/s, ratio to Keras, agreement with Keras."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gliobench.backends import Backend, Pixels
from gliorun.agreement import Agreement, agreement
from gliorun.errors import GlioError


@dataclass(frozen=True, slots=True)
class Comparison:
    """One backend's figures; `ratios` are to the first backend, round by round."""

    name: str
    tiles_s: tuple[float, ...]
    ratios: tuple[float, ...]
    agreement: Agreement


def compare(
    backends: list[Backend],
    windows: list[Pixels],
    rounds: int,
    say: Callable[[str], None] = lambda line: None,
) -> list[Comparison]:
    """Run every backend on all windows, `rounds` times in turns, after one warm-up.

    The first backend is the reference. Turns put a drift of the machine's speed on all alike.

    Raises
    ------
    GlioError
        There is no window, or fewer than one round.
    """
    if not windows or rounds < 1:
        raise GlioError("compare needs at least one tile and one round")
    masks = {}
    for backend in backends:
        say(f"warm-up and agreement: {backend.name}")
        masks[backend.name] = list(backend.masks(windows))
    seconds: dict[str, list[float]] = {backend.name: [] for backend in backends}
    for turn in range(rounds):
        say(f"round {turn + 1}/{rounds}")
        for backend in backends:
            seconds[backend.name].append(_time(backend, windows))
    reference = backends[0].name
    return [
        Comparison(
            name,
            tuple(len(windows) / s for s in taken),
            tuple(r / s for r, s in zip(seconds[reference], taken, strict=True)),
            agreement(zip(masks[name], masks[reference], strict=True)),
        )
        for name, taken in seconds.items()
    ]


def _time(backend: Backend, windows: Iterable[Pixels]) -> float:
    started = time.perf_counter()
    for _ in backend.masks(windows):
        pass
    return time.perf_counter() - started


def table(comparisons: list[Comparison]) -> str:
    """Return the figures as a Markdown table: median, with minimum and maximum in brackets."""
    reference = comparisons[0].name
    lines = [
        f"| backend | tiles/s | × {reference} | Dice to Keras | density difference: mean | worst "
        "| same class |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {c.name} | {spread(c.tiles_s, 1)} | {spread(c.ratios, 2)} | {c.agreement.dice:.4f} "
        f"| {c.agreement.density_error_points:.3f} points "
        f"| {c.agreement.density_worst_points:.3f} | {c.agreement.class_agreement:.1%} |"
        for c in comparisons
    ]
    return "\n".join(lines)


def spread(values: Sequence[float] | NDArray[np.float64], digits: int) -> str:
    """Return the median, with minimum and maximum in brackets."""
    median, low, high = np.median(values), min(values), max(values)
    return f"{median:.{digits}f} ({low:.{digits}f}–{high:.{digits}f})"
