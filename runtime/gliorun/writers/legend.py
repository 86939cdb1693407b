"""The legend of a map: its classes and their shares, the key figures, the hot spots."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from gliorun.findings.hotspots import HotSpot
from gliorun.findings.squares import Squares
from gliorun.measuring.density import CLASS_NAMES, DensityMap
from gliorun.measuring.tile import Status
from gliorun.writers import hatching, palette
from gliorun.writers.page import INK, Page, Pixels, Side, printable
from gliorun.writers.result import Result

if TYPE_CHECKING:
    from gliorun.findings.regions import RegionDifference, RegionResult

BLOCK_PT = 192.0
"""Width of every block."""
LONGEST_NAME = 18
"""Longest name of a region that is not cut short, as numbers stand beside it."""
TEXT_PT, TICK_PT, ROW_PT = 9.0, 8.0, 14.0
SWATCH_PT = 18.0
RULE = "#888888"


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table: its head, where it stands, and which side of its text stands there."""

    head: str
    at_pt: float
    side: Side = "left"


@dataclass(frozen=True, slots=True, eq=False)
class Swatch:
    """The sample before a row: a colour, (3,) uint8 RGB, and the reason and period in dots of
    its hatching, if any.
    """

    colour: Pixels
    reason: Status | None = None
    period: int = 0

    def draw(self, page: Page, left: int, top: int) -> None:
        """Draw it with its top left corner at a place of the page."""
        width, height = round(SWATCH_PT * page.dots_a_point), round(9 * page.dots_a_point)
        pixels = np.full((height, width, 3), self.colour, dtype=np.uint8)
        if self.reason is not None:
            on_line = hatching.lines(self.reason, height, width, self.period)
            pixels[on_line] = palette.rgb((palette.HATCHING,))[0]
        page.paint(left, top, pixels)
        page.box((left, top, left + width, top + height), 0.4, INK)


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of text under bold heads; a row may begin with a swatch."""

    columns: tuple[Column, ...]
    rows: tuple[tuple[str, ...], ...]
    swatches: tuple[Swatch | None, ...]

    @property
    def height_pt(self) -> float:
        """Height with its head."""
        return ROW_PT * (len(self.rows) + 1) + 3

    def draw(self, page: Page, left: float, top: float) -> None:
        """Draw it with its top left corner at a place of the page."""
        dot = page.dots_a_point
        base = top + 10 * dot
        for column in self.columns:
            x = left + column.at_pt * dot
            page.text(x, base, column.head, TEXT_PT, bold=True, align=column.side)
        rule = base + 4 * dot
        page.line((left, left + BLOCK_PT * dot), (rule, rule), 0.6, RULE)
        for number, (row, swatch) in enumerate(zip(self.rows, self.swatches, strict=True), 1):
            y = base + (3 + ROW_PT * number) * dot
            if swatch:
                swatch.draw(page, round(left), round(y - 8 * dot))
            for column, text in zip(self.columns, row, strict=True):
                page.text(left + column.at_pt * dot, y, text, TEXT_PT, align=column.side)


@dataclass(frozen=True, slots=True, eq=False)
class ColourBar:
    """The continuous scale from 0 to `FULL_SCALE`, as a map of `opacity` shows it over `ground`,
    (3,) uint8 RGB.
    """

    opacity: float
    ground: Pixels
    height_pt: float = 40.0

    def draw(self, page: Page, left: float, top: float) -> None:
        """Draw it with its top left corner at a place of the page."""
        dot = page.dots_a_point
        page.text(left, top + 10 * dot, "Nucleus density", TEXT_PT, bold=True)
        x, y = round(left), round(top + 15 * dot)
        width, height = round(BLOCK_PT * dot), round(9 * dot)
        colours = palette.scale_colours(np.linspace(0, palette.FULL_SCALE, width))
        strip = palette.over(colours, self.ground, self.opacity)
        page.paint(x, y, np.repeat(strip[None], height, axis=0))
        page.box((x, y, x + width, y + height), 0.4, INK)
        sides: tuple[Side, ...] = ("left", "center", "center", "center", "right")
        for tick, side in enumerate(sides):
            share = tick / (len(sides) - 1)
            at = x + width * share
            page.line((at, at), (y + height, y + height + 2.5 * dot), 0.6, INK)
            label = f"{100 * share * palette.FULL_SCALE:.0f} %"
            page.text(
                at,
                y + height + 11 * dot,
                f"≥ {label}" if share == 1 else label,
                TICK_PT,
                align=side,
            )


Block = Table | ColourBar


def class_blocks(
    density: DensityMap, palette_name: str, opacity: float, ground: Pixels, period: int
) -> list[Block]:
    """Return the classes, densest on top as in a colour bar, and why tiles have no value.

    Colours are shown as on a map of `opacity` over `ground`, (3,) uint8 RGB, and hatching of
    `period` dots.
    """
    continuous = palette_name == palette.CONTINUOUS
    colours = palette.over(palette.rgb(palette.class_colours(palette_name)), ground, opacity)
    rows = [
        ("", name, percent(share))
        for name, share in zip(CLASS_NAMES, density.class_shares(), strict=True)
    ]
    swatches = [None if continuous else Swatch(colour) for colour in colours]
    rows.reverse()
    swatches.reverse()
    (no_value,) = palette.over(palette.rgb((palette.NO_VALUE,)), ground, opacity)
    for reason in hatching.REASONS:
        if tiles := int((density.status == reason).sum()):
            count = f"{tiles:,} tile{'s' if tiles > 1 else ''}"
            rows.append(("", f"no value: {reason.words}", count))
            swatches.append(Swatch(no_value, reason, period))
    columns = (
        Column("Class" if continuous else "Nucleus density", 0),
        Column("", SWATCH_PT + 8 if any(swatches) else 0),
        Column("Share of tissue", BLOCK_PT, "right"),
    )
    table = Table(columns, tuple(rows), tuple(swatches))
    return [ColourBar(opacity, ground), table] if continuous else [table]


def key_figures(result: Result, drawn: DensityMap, squares: Squares) -> Table:
    """Return the mean and the sizes of what is seen; `drawn` may be of larger cells."""
    density, scale, hot_spots = result.density, result.scale, result.hot_spots
    rows = [
        ("Mean density", percent(density.mean_density())),
        *_band(density),
        ("Measured tiles", f"{density.measured_tiles():,}"),
        ("Side of a cell", length(drawn.cell_l0[0] * scale.x_mpp / 1000)),
        ("Side of a square", length(squares.side_mm(scale)[0])),
    ]
    if result.comparison is not None:
        rows.append(("Nuclei/mm² of tissue", f"{result.comparison.nuclei_per_mm2:,.0f}"))
    if hot_spots:
        field = hot_spots[0]
        area_mm2 = field.width * scale.x_mpp * field.height * scale.y_mpp / 1e6
        rows.append(("Area of a hot spot", f"{area_mm2:.2g} mm²"))
    columns = (Column("Map", 0), Column("", BLOCK_PT, "right"))
    return Table(columns, tuple(rows), (None,) * len(rows))


def _band(density: DensityMap) -> list[tuple[str, str]]:
    """Return the mean by the inner and outer outlines, where there are such."""
    low, high = density.mean_band()
    if math.isnan(low) or low == high:
        return []
    return [("by outlines, in to out", f"{100 * low:.1f} to {100 * high:.1f} %")]


def hot_spot_table(hot_spots: tuple[HotSpot, ...], room: int) -> Table:
    """Return the hot spots, one a row; the last of `room` rows counts those left out."""
    columns = (
        Column("Hot spot", 0),
        Column("Square", 48),
        Column("Density", 129, "right"),
        Column("", 132),
        Column("Tissue", BLOCK_PT, "right"),
    )
    rows = [
        (
            str(spot.rank),
            spot.square,
            percent(spot.density),
            _spread(spot),
            f"{100 * spot.tissue_share:.0f} %",
        )
        for spot in hot_spots
    ]
    if len(rows) > room:
        rows[room - 1 :] = [(f"and {len(rows) - room + 1} more", "", "", "", "")]
    if not rows:
        rows = [("none found", "", "", "", "")]
    return Table(columns, tuple(rows), (None,) * len(rows))


def region_tables(
    regions: Sequence[RegionResult], differences: Sequence[RegionDifference], room: int
) -> list[Table]:
    """Return the regions and how they differ, in tables of up to `room` rows; none without."""
    if not regions:
        return []
    rows = [
        (
            cut_short(printable(result.region.name)),
            f"{result.tissue_mm2:.3g}",
            percent(result.density),
        )
        for result in regions[:room]
    ]
    columns = (
        Column("Region", 0), Column("Tissue, mm²", 140, "right"),
        Column("Density", BLOCK_PT, "right"),
    )  # fmt: skip
    if len(regions) > room:
        rows.append((f"and {len(regions) - room} more", "", ""))
    tables = [Table(columns, tuple(rows), (None,) * len(rows))]
    if differences:
        lines = [
            row
            for pair in differences[: room // 2]
            for row in (
                (f"{cut_short(printable(pair.first))} − {cut_short(printable(pair.second))}", ""),
                ("", pair.in_points),
            )
        ]
        if len(differences) > room // 2:
            lines.append((f"and {len(differences) - room // 2} more", ""))
        heads = (Column("Difference, points (95 %)", 0), Column("", BLOCK_PT, "right"))
        tables.append(Table(heads, tuple(lines), (None,) * len(lines)))
    return tables


def cut_short(text: str) -> str:
    """Return a name that fits beside two numbers."""
    return text if len(text) <= LONGEST_NAME else f"{text[: LONGEST_NAME - 1]}…"


def _spread(spot: HotSpot) -> str:
    """Return how far the density of a hot spot may be off, by where outlines are drawn."""
    half = (spot.density_high - spot.density_low) / 2
    return f"±{100 * half:.1f}" if half else ""


def percent(share: float) -> str:
    """Return a share from 0 to 1 in per cent; NaN is a dash."""
    if math.isnan(share):
        return "–"
    return "< 0.1 %" if 0 < share < 0.0005 else f"{100 * share:.1f} %"


def length(mm: float) -> str:
    """Return a length in the unit that reads best."""
    return f"{mm:.3g} mm" if mm >= 1 else f"{1000 * mm:.3g} µm"
