"""The dose-response of the density meter, as instruments are tested: linear, and local.

Real labelled tiles lose their nuclei step by step (`glioexport.erase`), so that the true density
is known from full to none. Each step is a slide of its own, with its own colour statistic, and is
measured by the runtime's own path. For locality, the same tile lies on slides with 1, 5 and 20
times as much tissue of its stain that holds no nucleus: its value should stay what it was.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from matplotlib.figure import Figure
from numpy.typing import NDArray

from glioexport.dataset import Entry, read_label, read_rgba
from glioexport.erase import Step, erase, instances
from gliorun import pipeline
from gliorun.errors import GlioError
from gliorun.measuring.survey import survey
from gliorun.model.engine import Engine
from gliorun.reading.slide import Slide
from gliorun.settings import Settings

Pixels = NDArray[np.uint8]
Meter = Callable[[Pixels, float], float | None]
"""Gives the density, 0 to 1, of the upper left tile of a slide, (H, W, 3) uint8 at so many µm/px,
or None where it gives no value."""

SHARES = (1.0, 0.5, 0.25, 0.1, 0.0)
"""Of the nuclei that are kept, step by step."""
NEIGHBOURS = (1, 5, 20)
"""How much tissue without nuclei lies beside a tile, in tiles."""
SPARSE = (0.01, 0.03)
"""True densities of which the error is told apart: the paper's lowest classes."""


@dataclass(frozen=True, slots=True)
class Response:
    """What was measured of one tile; densities in percent of its area.

    `true` and `measured` go step by step (`SHARES`), `beside` with more and more tissue without
    nuclei beside the tile with all of its own (`NEIGHBOURS`); empty where the tile is smaller
    than the model's. NaN is a step without a value.
    """

    set: str
    id: str
    true: list[float]
    measured: list[float]
    beside: list[float] = field(default_factory=list)

    @property
    def at_zero(self) -> float:
        """Measured where there is no nucleus."""
        return self.measured[-1]

    @property
    def drift(self) -> float:
        """Largest change by what lies beside the tile, in points; NaN where it was not tried."""
        changes = [abs(value - self.measured[0]) for value in self.beside]
        return max(changes, default=math.nan)


@dataclass(frozen=True, slots=True)
class Linearity:
    """One model on one set; densities and errors in points, NaN where nothing tells.

    `slopes` are what a step gives for each true point, after what was measured at zero is taken
    off, as a multiple of the same at full density: 1 at each step is a straight line.
    """

    model: str
    set: str
    tiles: int
    left_out: int
    without_value: int
    zero_mean: float
    zero_worst: float
    slopes: list[float]
    sparse_error: float
    sparse_worst: float
    drift_mean: float
    drift_worst: float


def runtime_meter(engine: Engine) -> Meter:
    """Return what measures a slide as gliorun does, with its default settings but the scale."""

    def measure(pixels: Pixels, mpp: float) -> float | None:
        with tempfile.TemporaryDirectory(prefix="gliobench-") as folder:
            path = Path(folder) / "slide.tif"
            tifffile.imwrite(
                path, pixels, tile=(256, 256), photometric="rgb", compression="deflate"
            )
            with Slide(path) as slide:
                try:
                    surveyed = survey(slide, engine.card, Settings(mpp=mpp, density="tile"))
                    cells = surveyed.empty_map()
                    pipeline.measure(surveyed, engine.predict, surveyed.chosen, [cells])
                except GlioError:  # no tissue, or none that is fit to be measured
                    return None
        density = float(cells.density[0, 0])
        return None if math.isnan(density) else density

    return measure


def respond(entry: Entry, meter: Meter, tile_um: float) -> Response | None:
    """Measure one labelled tile; None where its nuclei cannot be taken out cleanly.

    `tile_um` is the side of the model's tile: no more than that of the image is used.
    """
    side = round(tile_um / entry.mpp)
    pixels = read_rgba(entry.image)[:side, :side, :3]
    nuclei = instances(read_label(entry.label)[:side, :side])
    if not nuclei.any():
        return None
    steps = erase(pixels, nuclei, SHARES)
    if steps is None:
        return None
    full, bare = steps[0], steps[-1]
    beside = []
    if full.nuclei.shape == (side, side):
        beside = [_percent(meter(_with_tissue(full, bare, n), entry.mpp)) for n in NEIGHBOURS]
    return Response(
        entry.set,
        entry.id,
        [100 * float(step.nuclei.mean()) for step in steps],
        [_percent(meter(step.pixels, entry.mpp)) for step in steps],
        beside,
    )


def _percent(density: float | None) -> float:
    return math.nan if density is None else 100 * density


def _with_tissue(full: Step, bare: Step, count: int) -> Pixels:
    """Return a square slide: the tile upper left, then `count` pieces without nuclei, then white.

    The pieces are the tile's own, mirrored in turns, so that the stain stays the same.
    """
    columns = math.ceil(math.sqrt(count + 1))
    rows = math.ceil((count + 1) / columns)
    side = full.pixels.shape[0]
    slide = np.full((rows * side, columns * side, 3), 255, dtype=np.uint8)
    for number in range(count + 1):
        panel = full.pixels if number == 0 else bare.pixels[:: (-1) ** number]
        row, column = divmod(number, columns)
        slide[row * side : (row + 1) * side, column * side : (column + 1) * side] = panel
    return slide


def summarise(model: str, name: str, responses: Iterable[Response | None]) -> Linearity:
    """Sum up the responses of one set; None are tiles that were left out."""
    every = list(responses)
    some = [response for response in every if response is not None]
    true = np.array([r.true for r in some]).reshape(-1, len(SHARES))
    measured = np.array([r.measured for r in some]).reshape(-1, len(SHARES))
    zero = np.array([r.at_zero for r in some])
    drift = np.array([r.drift for r in some])
    low, high = (100 * edge for edge in SPARSE)
    error = np.abs(measured - true)[(true >= low) & (true <= high)]
    return Linearity(
        model,
        name,
        len(some),
        len(every) - len(some),
        int(np.isnan(measured).any(axis=1).sum()),
        _of(np.mean, zero),
        _of(np.max, zero),
        _slopes(true, measured),
        _of(np.mean, error),
        _of(np.max, error),
        _of(np.mean, drift),
        _of(np.max, drift),
    )


def _of(figure: Callable[..., np.floating], values: NDArray[np.float64]) -> float:
    """Return a figure of the values that are there, or NaN of none."""
    there = values[~np.isnan(values)]
    return float(figure(there)) if there.size else math.nan


def _slopes(true: NDArray[np.float64], measured: NDArray[np.float64]) -> list[float]:
    """Return the slope of each step over that at full density, but for the last, which is zero."""
    whole = ~np.isnan(measured).any(axis=1)
    rise = (measured[whole] - measured[whole][:, -1:]).sum(axis=0)[:-1]
    run = true[whole].sum(axis=0)[:-1]
    if not rise.size or not run[0] or not rise[0]:
        return [math.nan] * (len(SHARES) - 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return [float(slope) for slope in rise / run / (rise[0] / run[0])]


def markdown(summaries: Iterable[Linearity]) -> str:
    """Return the table of what was found."""
    from gliorun.commandline import table

    steps = ", ".join(f"{share:.0%}" for share in SHARES[1:-1])
    head = (
        "model", "set", "tiles", "left out", "no value", "at zero: mean", "worst",
        f"slope at {steps}", "true 1–3 %: mean error", "worst", "locality: mean", "worst",
    )  # fmt: skip
    rows = [
        (
            s.model, s.set, s.tiles, s.left_out, s.without_value, _points(s.zero_mean),
            _points(s.zero_worst), ", ".join(_points(slope) for slope in s.slopes[1:]),
            _points(s.sparse_error), _points(s.sparse_worst), _points(s.drift_mean),
            _points(s.drift_worst),
        )
        for s in summaries
    ]  # fmt: skip
    return table(head, rows)


def as_values(
    summaries: Iterable[Linearity], responses: Mapping[str, Iterable[Response]]
) -> dict[str, Any]:
    """Return what was found as plain JSON values, null for what is NaN.

    `summaries` is a list of the fields of `Linearity`; `responses` has, by model, a list of the
    fields of `Response`.
    """
    values = {
        "summaries": [asdict(summary) for summary in summaries],
        "responses": {name: [asdict(r) for r in of_model] for name, of_model in responses.items()},
    }
    return dict(_null_for_nan(values))


def _null_for_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _null_for_nan(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_null_for_nan(inner) for inner in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def choose_evenly(entries: Sequence[Entry], count: int) -> list[Entry]:
    """Return up to `count` entries of each set, spread evenly over it."""
    by_set: dict[str, list[Entry]] = {}
    for entry in entries:
        by_set.setdefault(entry.set, []).append(entry)
    chosen = []
    for of_set in by_set.values():
        places = np.linspace(0, len(of_set) - 1, min(count, len(of_set))).round().astype(int)
        chosen += [of_set[place] for place in places]
    return chosen


def draw(responses: Iterable[Response], model: str) -> Figure:
    """Draw measured against true densities, a line a tile, a colour a set, with the identity."""
    from gliobench.plots import new_figure

    figure = new_figure(7, 6.5, f"Linearity of {model}")
    axes = figure.add_subplot()
    colours: dict[str, str] = {}
    top = 1.0
    for response in responses:
        colour = colours.setdefault(response.set, f"C{len(colours) % 10}")
        axes.plot(response.true, response.measured, "o-", color=colour, alpha=0.4, ms=3, lw=0.8)
        top = max(top, *response.true, *(m for m in response.measured if not math.isnan(m)))
    axes.plot([0, top], [0, top], color="black", lw=1)
    for name, colour in colours.items():
        axes.plot([], [], "o-", color=colour, label=name)
    axes.plot([], [], color="black", lw=1, label="measured = true")
    axes.set(xlabel="true density, %", ylabel="measured density, %")
    axes.legend(fontsize=8)
    return figure


def _points(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.2f}"
