"""heatmap.png: the six classes over the slide, with legend, named grid and scale bar."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from numpy.typing import NDArray

from gliorun.card import ModelCard
from gliorun.density import CLASS_NAMES, DensityMap, Status, classify
from gliorun.pipeline import SlideDensity

PALETTE = ("#4575b4", "#91bfdb", "#e0f3f8", "#fee090", "#fc8d59", "#d73027")
"""RdYlBu of ColorBrewer, cold to hot; told apart with every common colour blindness."""
NICE_MM = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50)
DPI = 200
MAP_IN = 7.5
MIN_MAP_IN = 2.0
MARGIN_IN = {"left": 0.45, "right": 2.35, "top": 0.75, "bottom": 0.75}
MAX_SQUARES = 12


def write_heatmap(path: Path, name: str, measured: SlideDensity, card: ModelCard) -> None:
    """Draw the density map of a slide.

    Squares of the grid are named by a letter (row) and a number (column) and have a round side
    in mm. Tissue that could not be measured is hatched; where there is no tissue, the pale slide
    shows.
    """
    density = measured.density
    width_mm, height_mm = slide_mm(measured)
    scale = MAP_IN / max(width_mm, height_mm)
    map_width, map_height = (max(side * scale, MIN_MAP_IN) for side in (width_mm, height_mm))
    figure_width = MARGIN_IN["left"] + map_width + MARGIN_IN["right"]
    figure_height = max(MARGIN_IN["bottom"] + map_height + MARGIN_IN["top"], 4.4)
    figure = Figure(figsize=(figure_width, figure_height), dpi=DPI)
    FigureCanvasAgg(figure)
    axes = figure.add_axes(
        (
            MARGIN_IN["left"] / figure_width,
            1 - (MARGIN_IN["top"] + map_height) / figure_height,
            map_width / figure_width,
            map_height / figure_height,
        )
    )
    extent = (0.0, width_mm, height_mm, 0.0)
    axes.imshow(_pale(measured.overview), extent=extent, interpolation="antialiased")
    axes.imshow(_class_colours(density), extent=_map_extent(measured), interpolation="nearest")
    _hatch_unreadable(axes, measured)
    axes.set_xlim(0, width_mm)
    axes.set_ylim(height_mm, 0)
    axes.set_aspect("auto" if MIN_MAP_IN in (map_width, map_height) else "equal")
    _name_squares(axes, width_mm, height_mm)
    left_in = MARGIN_IN["left"] / figure_width
    figure.text(
        left_in,
        1 - 0.28 / figure_height,
        f"Nucleus density – {_shorten(name, int(figure_width * 7))}",
        fontsize=11,
        weight="bold",
        va="center",
    )
    _scale_bar(figure, axes, width_mm, map_width)
    _legend(figure, density, 1 - (MARGIN_IN["right"] - 0.2) / figure_width, figure_height)
    figure.text(left_in, 0.14 / figure_height, card.intended_use, fontsize=6.5, color="#555555")
    figure.savefig(path, format="png", metadata={"Software": "gliorun"})


def slide_mm(measured: SlideDensity) -> tuple[float, float]:
    """Return the width and height of the slide in mm."""
    width, height = measured.density.grid.size_l0
    return width * measured.scale.x_mpp / 1000, height * measured.scale.y_mpp / 1000


def square_mm(width_mm: float, height_mm: float) -> float:
    """Return the side of the named squares: the smallest round one that keeps them few."""
    longest = max(width_mm, height_mm)
    return next((side for side in NICE_MM if longest / side <= MAX_SQUARES), NICE_MM[-1])


def row_name(index: int) -> str:
    """Name rows A … Z, AA, AB … as spreadsheets do."""
    name = ""
    index += 1
    while index:
        index, letter = divmod(index - 1, 26)
        name = chr(ord("A") + letter) + name
    return name


def _map_extent(measured: SlideDensity) -> tuple[float, float, float, float]:
    grid = measured.density.grid
    right = grid.columns * grid.tile_l0[0] * measured.scale.x_mpp / 1000
    bottom = grid.rows * grid.tile_l0[1] * measured.scale.y_mpp / 1000
    return (0.0, right, bottom, 0.0)


def _pale(overview: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the overview in light grey, so that only the map has colour."""
    alpha = overview[..., 3:].astype(np.float64) / 255
    grey = (overview[..., :3] * alpha + 255 * (1 - alpha)).mean(axis=-1)
    light = 255 - (255 - grey) * 0.35
    return np.repeat(light[..., None], 3, axis=-1).astype(np.uint8)


def _class_colours(density: DensityMap) -> NDArray[np.float64]:
    classes = classify(density.density)
    colours = np.array([(*to_rgb(colour), 1.0) for colour in PALETTE] + [(0.0, 0.0, 0.0, 0.0)])
    return colours[classes]  # class -1 takes the last, transparent


def _hatch_unreadable(axes: Axes, measured: SlideDensity) -> None:
    density = measured.density
    tile_mm = [
        side * mpp / 1000
        for side, mpp in zip(
            density.grid.tile_l0, (measured.scale.x_mpp, measured.scale.y_mpp), strict=True
        )
    ]
    for row, column in np.argwhere(density.status == Status.UNREADABLE).tolist():
        axes.add_patch(
            Rectangle(
                (column * tile_mm[0], row * tile_mm[1]),
                *tile_mm,
                facecolor="white",
                edgecolor="#555555",
                hatch="////",
                linewidth=0,
            )
        )


def _name_squares(axes: Axes, width_mm: float, height_mm: float) -> None:
    side = square_mm(width_mm, height_mm)
    columns, rows = math.ceil(width_mm / side), math.ceil(height_mm / side)
    for x in range(1, columns):
        axes.axvline(x * side, color="#333333", linewidth=0.3, alpha=0.6)
    for y in range(1, rows):
        axes.axhline(y * side, color="#333333", linewidth=0.3, alpha=0.6)

    def centres(count: int, limit: float) -> list[float]:
        return [(i * side + min((i + 1) * side, limit)) / 2 for i in range(count)]

    axes.set_xticks(centres(columns, width_mm), [str(i + 1) for i in range(columns)])
    axes.set_yticks(centres(rows, height_mm), [row_name(i) for i in range(rows)])
    axes.tick_params(
        length=0, labelsize=8, top=True, labeltop=True, bottom=False, labelbottom=False
    )
    for edge in axes.spines.values():
        edge.set_linewidth(0.6)


def _scale_bar(figure: Figure, axes: Axes, width_mm: float, map_width_in: float) -> None:
    """Draw the bar under the map, so that it hides nothing."""
    length = max((side for side in NICE_MM if side <= width_mm / 3), default=NICE_MM[0])
    place = axes.get_position()
    figure_width, figure_height = figure.get_size_inches()
    bar = length / width_mm * map_width_in / figure_width
    y = place.y0 - 0.16 / figure_height
    figure.add_artist(
        Rectangle((place.x0, y), bar, 0.05 / figure_height, color="black", linewidth=0)
    )
    label = f"{length:g} mm" if length >= 1 else f"{length * 1000:g} µm"
    figure.text(place.x0 + bar + 0.08 / figure_width, y, label, fontsize=8, va="baseline")


def _legend(figure: Figure, density: DensityMap, left: float, figure_height: float) -> None:
    """List the classes, densest on top as in a colour bar, with their share of the tissue."""
    shares = density.class_shares()
    entries = [
        Patch(
            facecolor=colour,
            edgecolor="#333333",
            linewidth=0.4,
            label=f"{name}  ({100 * share:.1f} %)",
        )
        for colour, name, share in zip(PALETTE, CLASS_NAMES, shares, strict=True)
    ][::-1]
    if (density.status == Status.UNREADABLE).any():
        entries.append(
            Patch(facecolor="white", edgecolor="#555555", hatch="////", label="no value")
        )
    top = 1 - (MARGIN_IN["top"] - 0.1) / figure_height
    legend = figure.legend(
        handles=entries,
        loc="upper left",
        bbox_to_anchor=(left, top),
        frameon=False,
        fontsize=8.5,
        borderaxespad=0,
        borderpad=0,
        title="Nucleus area / tile area\n(share of the tissue)",
        title_fontsize=8.5,
        alignment="left",
        labelspacing=0.6,
    )
    legend.get_title().set_linespacing(1.3)
    mean = density.mean_density()
    figure.text(
        left,
        top - (0.62 + 0.235 * len(entries)) / figure_height,
        f"Mean density {100 * mean:.1f} %\n{density.measured_tiles():,} tiles",
        fontsize=8.5,
        va="top",
        linespacing=1.5,
    )


def _shorten(name: str, limit: int) -> str:
    return name if len(name) <= limit else f"{name[: limit // 2 - 1]}…{name[-limit // 2 :]}"
