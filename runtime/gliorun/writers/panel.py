"""One panel of a figure: a slide or its map dot for dot, named squares, marks, scale bar."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from gliorun.findings.hotspots import HotSpot
from gliorun.findings.squares import Squares, row_name
from gliorun.measuring.density import DensityMap
from gliorun.measuring.tissue import Tissue
from gliorun.reading.scale import Scale
from gliorun.writers import hatching, palette
from gliorun.writers.legend import length
from gliorun.writers.page import INK, Box, Page, Pixels, printable, text_width

if TYPE_CHECKING:
    from gliorun.reading.regions import Region

CAPTION_PT, LABEL_PT = 9.5, 8.0
HEAD_PT, LETTERS_PT, BAR_PT = 29.0, 13.0, 30.0
"""Room for the caption and the numbers above a panel, the letters beside, the bar below."""
TAG_INSIDE = 1.4
"""A field so many times as wide and high as its number has the number inside."""
GRID, GRID_PT = "#00000055", 0.5
HALO = "#ffffffdd"
PALE, SEEN_THROUGH = 0.3, 0.6
"""Contrast that the grey slide keeps around a map, and under one that is not opaque."""


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """How a slide lies in a panel: every cell takes `cell_dots` x `cell_dots` dots.

    Cells are square in µm up to `reading.scale.SAME_SCALE`, so one scale serves both axes.
    """

    density: DensityMap
    scale: Scale
    cell_dots: int

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in dots."""
        width, height = self.dots_from_l0(*self.density.grid.size_l0)
        return max(1, round(width)), max(1, round(height))

    @property
    def tile_dots(self) -> int:
        """Side of a tile in dots."""
        return self.cell_dots * self.density.cells_a_tile

    @property
    def squares(self) -> Squares:
        """Named squares of the slide."""
        return Squares(self.density.grid)

    def dots_from_l0(self, x_l0: float, y_l0: float) -> tuple[float, float]:
        """Return a place of the slide in dots."""
        width, height = self.density.cell_l0
        return x_l0 / width * self.cell_dots, y_l0 / height * self.cell_dots

    def dots_from_mm(self, x_mm: float, y_mm: float) -> tuple[float, float]:
        """Return a place of the slide, in mm, in dots."""
        return self.dots_from_l0(1000 * x_mm / self.scale.x_mpp, 1000 * y_mm / self.scale.y_mpp)


@dataclass(frozen=True, slots=True, eq=False)
class Panel:
    """A panel on a page, by the corner of its pixels."""

    page: Page
    frame: Frame
    left: int
    top: int

    def draw(self, pixels: Pixels, letter: str, caption: str) -> None:
        """Draw pixels under a caption, with the named squares."""
        page, dot = self.page, self.page.dots_a_point
        width, height = self.frame.size
        page.paint(self.left, self.top, pixels)
        base = self.top - 18 * dot
        page.text(self.left, base, letter, CAPTION_PT, bold=True)
        page.text(self.left + (13 * dot if letter else 0), base, caption, CAPTION_PT)
        squares = self.frame.squares
        side = self.frame.dots_from_l0(*squares.side_l0)
        right, bottom = self.left + width, self.top + height
        for column in range(squares.columns):
            x = self.left + column * side[0]
            if column:
                page.line((x, x), (self.top, bottom), GRID_PT, GRID)
            name, end = str(column + 1), min(x + side[0], right)
            if end - x > text_width(name, LABEL_PT, page.dpi) or squares.columns == 1:
                y = self.top - 4 * dot
                page.text((x + end) / 2, y, name, LABEL_PT, align="center")
        for row in range(squares.rows):
            y = self.top + row * side[1]
            if row:
                page.line((self.left, right), (y, y), GRID_PT, GRID)
            end = min(y + side[1], bottom)
            if end - y > LABEL_PT * dot or squares.rows == 1:
                x = self.left - 4 * dot
                base = (y + end) / 2 + 0.36 * LABEL_PT * dot
                page.text(x, base, row_name(row), LABEL_PT, align="right")
        page.box((self.left, self.top, right, bottom), 0.6, INK)

    def scale_bar(self) -> None:
        """Draw a bar of a round length under the panel."""
        dot = self.page.dots_a_point
        width, height = self.frame.size
        dots_a_mm, _ = self.frame.dots_from_mm(1, 1)
        bar_mm = _round_below(max(width / 3, min(width, 60 * dot)) / dots_a_mm)
        right, y = self.left + bar_mm * dots_a_mm, self.top + height + 8 * dot
        self.page.box((self.left, y, right, y + 3 * dot), 0, INK, INK)
        self.page.text(right + 5 * dot, y + 4.5 * dot, length(bar_mm), LABEL_PT)

    def outline(self, regions: Sequence[Region]) -> None:
        """Outline and name the regions; a name that finds no room is left out."""
        dot = self.page.dots_a_point
        rings = [ring for region in regions for rings in region.rings_l0() for ring in rings]
        for points, colour in ((3.0, HALO), (1.2, palette.REGION)):
            for ring in rings:
                x, y = (ring / self.frame.density.cell_l0 * self.frame.cell_dots).T.tolist()
                self.page.line(
                    [self.left + at for at in x], [self.top + at for at in y], points, colour
                )
        width, height = self.frame.size
        taken: list[Box] = []
        for region in regions:
            wide = text_width(printable(region.name), LABEL_PT, self.page.dpi) + 6 * dot
            x, y = self.frame.dots_from_l0(*region.label_l0())
            left = self.left + min(max(x - wide / 2, 0), width - wide)
            top = self.top + min(max(y - 6 * dot, 0), height - 12 * dot)
            tag = left, top, left + wide, top + 12 * dot
            if wide <= width and not any(_overlap(tag, other) for other in taken):
                taken.append(tag)
                self.page.box(tag, 0, HALO, HALO)
                base = tag[3] - 3.4 * dot
                name = printable(region.name)
                self.page.text((tag[0] + tag[2]) / 2, base, name, LABEL_PT, colour=palette.REGION,
                               align="center")  # fmt: skip

    def mark(self, hot_spots: tuple[HotSpot, ...]) -> None:
        """Outline and number the hot spots; a number that finds no room is left out."""
        boxes = [self._box(spot) for spot in hot_spots]
        for points, colour in ((3.0, HALO), (1.4, INK)):
            for box in boxes:
                self.page.box(box, points, colour)
        dot, taken = self.page.dots_a_point, list(boxes)
        for spot, box in zip(hot_spots, boxes, strict=True):
            number = str(spot.rank)
            wide = text_width(number, LABEL_PT, self.page.dpi, bold=True) + 5 * dot
            tag = self._room_for_tag(box, wide, 11 * dot, taken)
            if tag:
                taken.append(tag)
                self.page.box(tag, 0, INK, INK)
                x, y = (tag[0] + tag[2]) / 2, tag[3] - 2.6 * dot
                self.page.text(x, y, number, LABEL_PT, bold=True, colour="white", align="center")

    def _box(self, spot: HotSpot) -> Box:
        left, top = self.frame.dots_from_l0(spot.minx, spot.miny)
        right, bottom = self.frame.dots_from_l0(spot.minx + spot.width, spot.miny + spot.height)
        return self.left + left, self.top + top, self.left + right, self.top + bottom

    def _room_for_tag(self, box: Box, wide: float, high: float, taken: list[Box]) -> Box | None:
        """Return a place inside the corner of a large field, or outside a small one."""
        left, top, right, bottom = box
        if min((right - left) / wide, (bottom - top) / high) > TAG_INSIDE:
            return left, top, left + wide, top + high
        tags = [tag for tag in _around(box, wide, high) if self._holds(tag)]
        others = [other for other in taken if other is not box]
        for apart in (high / 2, 0.0):  # a number between two fields could be of either
            for tag in tags:
                reach = tag[0] - apart, tag[1] - apart, tag[2] + apart, tag[3] + apart
                if not any(_overlap(reach, other) for other in others):
                    return tag
        return None

    def _holds(self, box: Box) -> bool:
        width, height = self.frame.size
        return (
            box[0] >= self.left
            and box[1] >= self.top
            and box[2] <= self.left + width
            and box[3] <= self.top + height
        )


def thumbnail_pixels(frame: Frame, overview: Pixels) -> Pixels:
    """Return the slide on white at the size of the panel, (H, W, 3) uint8."""
    slide = Image.fromarray(overview)
    on_white = Image.alpha_composite(Image.new("RGBA", slide.size, "white"), slide)
    return np.asarray(on_white.convert("RGB").resize(frame.size, Image.Resampling.LANCZOS))


def tissue_pixels(tissue: Tissue, size: tuple[int, int]) -> NDArray[np.bool_]:
    """Return the tissue, (height, width), at a size of (width, height)."""
    mask = Image.fromarray(tissue.mask).convert("L").resize(size, Image.Resampling.NEAREST)
    return np.asarray(mask) > 0


def pale(slide: Pixels, contrast: float = PALE) -> Pixels:
    """Return a slide, (…, 3) uint8 RGB, in light grey, so that only the map has colour."""
    light = 255 - (255 - slide.mean(axis=-1, keepdims=True)) * contrast
    return np.repeat(light, 3, axis=-1).astype(np.uint8)


def map_pixels(
    frame: Frame, around: Pixels, under: Pixels, palette_name: str, opacity: float
) -> Pixels:
    """Return the map, (H, W, 3) uint8: every cell a square of whole dots.

    Pixels of the same shape show `around` its cells and `under` them.
    """
    density = frame.density
    no_value, line = palette.rgb((palette.NO_VALUE, palette.HATCHING))
    cells = palette.cell_colours(palette_name, density.density)
    if density.per_tissue:
        cells[density.sparse, 3] = palette.PALER
    cells[np.isin(density.cell_status, hatching.REASONS)] = (*no_value, 255)
    height, width = around.shape[:2]
    dots = enlarge(cells, frame.cell_dots, height, width)
    coloured = palette.over(dots[..., :3], under, opacity)
    paler = palette.over(dots[..., :3], under, opacity * palette.PALER / 255)
    alpha = dots[..., 3:]
    pixels = np.where(alpha == palette.PALER, paler, np.where(alpha > 0, coloured, around))
    period, status = hatching.period(frame.tile_dots), density.cell_status
    for reason in hatching.REASONS:
        hatched = enlarge(status == reason, frame.cell_dots, height, width)
        pixels[hatched & hatching.lines(reason, height, width, period)] = line
    return pixels


def enlarge(cells: NDArray[Any], side: int, height: int, width: int) -> NDArray[Any]:
    """Return (height, width) dots, of which each cell takes `side` x `side`."""
    return cells[np.arange(height)[:, None] // side, np.arange(width) // side]


def _around(box: Box, wide: float, high: float) -> list[Box]:
    """Return places for a number at the outside of a field, the best first."""
    left, top, right, bottom = box
    beside = [(left, top - high), (left, bottom), (right, top), (left - wide, top)]
    across = [(x, y) for x in (right, left - wide) for y in (top - high, bottom)]
    return [(x, y, x + wide, y + high) for x, y in beside + across]


def _overlap(box: Box, other: Box) -> bool:
    return box[0] < other[2] and other[0] < box[2] and box[1] < other[3] and other[1] < box[3]


def _round_below(length_mm: float) -> float:
    """Return the largest of 1, 2 and 5 times a power of ten that is not longer."""
    power = 10.0 ** math.floor(math.log10(length_mm))
    return max(part * power for part in (1, 2, 5) if part * power <= length_mm)
