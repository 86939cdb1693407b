"""Measure how fast untrained students would be, as INT8 on this machine."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from gliobench.backends import Masks, Network, Pixels
from gliobench.report import spread
from gliorun import commandline
from gliorun.errors import GlioError

SHAPES = (
    "stem=4 filters=32 levels=2",
    "stem=4 filters=32 levels=3",
    "stem=4 filters=32 levels=3 convolutions=1",
    "stem=4 filters=32 levels=3 separable=true",
    "stem=4 filters=16 levels=3",
    "stem=2 filters=16 levels=3",
    "stem=2 filters=16 levels=3 convolutions=1",
    "stem=2 filters=16 levels=4",
)
"""The shapes that are measured by default."""


@dataclass(frozen=True, slots=True)
class Speed:
    """The speed of one network, one value per round: `cpu_ms` per tile, of all cores together."""

    name: str
    weights: int
    tiles_s: tuple[float, ...]
    cpu_ms: tuple[float, ...]


def measure(
    networks: list[Network], windows: list[Pixels], rounds: int, say: Callable[[str], None]
) -> list[Speed]:
    """Run every network on all windows, `rounds` times in turns, after one warm-up.

    CPU time is more reliable than clock time if other programs use the machine.

    Raises
    ------
    GlioError
        There is no window, or fewer than one round.
    """
    if not windows or rounds < 1:
        raise GlioError("untrained: needs at least one tile and one round")
    for network in networks:
        _run(network.masks, windows[:4])
    taken: dict[str, list[tuple[float, float]]] = {network.name: [] for network in networks}
    for turn in range(rounds):
        say(f"round {turn + 1}/{rounds}")
        for network in networks:
            taken[network.name].append(_run(network.masks, windows))
    return [
        Speed(
            network.name,
            network.weights,
            tuple(len(windows) / wall for wall, _ in taken[network.name]),
            tuple(1000 * cpu / len(windows) for _, cpu in taken[network.name]),
        )
        for network in networks
    ]


def _run(masks: Masks, windows: list[Pixels]) -> tuple[float, float]:
    """Return clock seconds, and CPU seconds of all cores."""
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in masks(windows):
        pass
    return time.perf_counter() - wall, time.process_time() - cpu


def table(speeds: list[Speed]) -> str:
    """Return the figures as a Markdown table; the last columns compare with the first line.

    Median, with minimum and maximum in brackets.
    """
    first = speeds[0]
    head = (
        "INT8", "weights", "tiles/s", "ms of a core a tile", f"× {first.name}, by the clock",
        "by the cores",
    )  # fmt: skip
    return commandline.table(head, (_row(speed, first) for speed in speeds))


def _row(speed: Speed, first: Speed) -> tuple[str, ...]:
    clock = (np.array(speed.tiles_s) / first.tiles_s).tolist()
    cores = (np.array(first.cpu_ms) / speed.cpu_ms).tolist()
    return (
        speed.name, f"{speed.weights:,}", spread(speed.tiles_s, 0), spread(speed.cpu_ms, 1),
        spread(clock, 2), spread(cores, 2),
    )  # fmt: skip
