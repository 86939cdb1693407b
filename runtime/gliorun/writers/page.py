"""A page to draw on: pixels that stay as they are, with lines and text over them."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from functools import cache
from pathlib import Path
from typing import Literal

import numpy as np
from matplotlib import style
from matplotlib.artist import Artist
from matplotlib.backends.backend_agg import FigureCanvasAgg, RendererAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, fontManager, get_font
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.text import Text
from matplotlib.transforms import Affine2D
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin

Pixels = NDArray[np.uint8]
Box = tuple[float, float, float, float]
"""Left, top, right and bottom in dots."""
Side = Literal["left", "center", "right"]

INK = "#111111"
FONT = "DejaVu Sans"
"""Comes with matplotlib, so that a page looks the same everywhere."""
CJK_FONTS = ("Microsoft YaHei", "SimHei", "PingFang SC", "Noto Sans CJK SC", "WenQuanYi Zen Hei")
"""Tried, where installed, for what `FONT` lacks."""
MISSING = "□"


class Page:
    """A white page of `width` x `height` dots, origin top left, y down; sizes of text and lines
    in points.

    Lines and text are drawn apart and laid over the pixels at the end, so that no pixel is
    resampled.
    """

    def __init__(self, width: int, height: int, dpi: int) -> None:
        self.width, self.height, self.dpi = width, height, dpi
        self._ground = np.full((height, width, 3), 255, dtype=np.uint8)
        # half a dot more, lest rounding lose one
        inches = ((width + 0.5) / dpi, (height + 0.5) / dpi)
        self.figure = Figure(figsize=inches, dpi=dpi, facecolor="none")
        self._down = Affine2D().scale(1, -1).translate(0, height)

    @property
    def dots_a_point(self) -> float:
        """Dots a point of 1/72 inch."""
        return self.dpi / 72

    def paint(self, left: int, top: int, pixels: Pixels) -> None:
        """Lay (H, W, 3) uint8 RGB on the page, dot for dot."""
        rows, columns, _ = pixels.shape
        self._ground[top : top + rows, left : left + columns] = pixels

    def text(
        self,
        x: float,
        y: float,
        text: str,
        points: float,
        *,
        bold: bool = False,
        colour: str = INK,
        align: Side = "left",
    ) -> None:
        """Write one line with its baseline at y."""
        across, up = self._down.transform((x, y))
        self._add(
            Text(
                across,
                up,
                text,
                color=colour,
                fontproperties=_font(points, bold),
                horizontalalignment=align,
                verticalalignment="baseline",
                parse_math=False,
            )
        )

    def line(self, xs: Sequence[float], ys: Sequence[float], points: float, colour: str) -> None:
        """Draw a line through two or more places."""
        places = self._down.transform(np.column_stack([xs, ys]))
        self._add(Line2D(*places.T, color=colour, linewidth=points, solid_capstyle="butt"))

    def box(self, box: Box, points: float, edge: str, fill: str = "none") -> None:
        """Draw a rectangle, its edge along the middle of the line."""
        left, top, right, bottom = box
        corner = self._down.transform((left, bottom))
        self._add(
            Rectangle(
                tuple(corner),
                right - left,
                bottom - top,
                facecolor=fill,
                edgecolor=edge,
                linewidth=points,
                joinstyle="miter",
            )
        )

    def _add(self, artist: Artist) -> None:
        artist.set_transform(Affine2D())
        self.figure.add_artist(artist)

    def save(self, path: Path) -> None:
        """Write the page as a PNG; the same drawing gives the same bytes."""
        canvas = FigureCanvasAgg(self.figure)
        canvas.draw()  # type: ignore[no-untyped-call]
        seen = canvas.buffer_rgba()  # type: ignore[no-untyped-call]
        drawn = Image.fromarray(np.asarray(seen))
        page = Image.fromarray(self._ground)
        page.paste(drawn, mask=drawn)
        about = PngImagePlugin.PngInfo()
        about.add_text("Software", "gliorun")
        page.save(path, format="PNG", dpi=(self.dpi, self.dpi), pnginfo=about)


def plain_style() -> AbstractContextManager[None]:
    """Keep a user's matplotlibrc out of what is drawn and saved under it."""
    return style.context("default")


def text_width(text: str, points: float, dpi: int, *, bold: bool = False) -> float:
    """Return the width of a line of text in dots."""
    ruler = RendererAgg(1, 1, dpi)  # type: ignore[no-untyped-call]
    size = ruler.get_text_width_height_descent(  # type: ignore[no-untyped-call]
        text, _font(points, bold), ismath=False
    )
    return float(size[0])


def wrap(text: str, width: float, points: float, dpi: int) -> list[str]:
    """Break text between words into lines of at most `width` dots, longer words aside."""
    lines: list[str] = []
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and text_width(longer, points, dpi) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


def shorten(text: str, width: float, points: float, dpi: int, *, bold: bool = False) -> str:
    """Take characters out of the middle until the text is at most `width` dots wide."""
    kept, shown = len(text), text
    while kept > 2 and (wide := text_width(shown, points, dpi, bold=bold)) > width:
        kept = max(2, min(kept - 1, int(kept * width / wide)))
        shown = f"{text[: (kept + 1) // 2]}…{text[len(text) - kept // 2 :]}"
    return shown


def printable(text: str) -> str:
    """Put a box for every character that no font at hand can draw."""
    fonts = [get_font(fontManager.findfont(FontProperties(family=name))) for name in _families()]
    return "".join(
        c if any(font.get_char_index(ord(c)) for font in fonts) else MISSING for c in text
    )


@cache
def _families() -> tuple[str, ...]:
    installed = {font.name for font in fontManager.ttflist}
    return (FONT, *(name for name in CJK_FONTS if name in installed))


def _font(points: float, bold: bool) -> FontProperties:
    return FontProperties(
        family=list(_families()), size=points, weight="bold" if bold else "normal"
    )
