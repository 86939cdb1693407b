"""evidence.png: tiles at the model's resolution, as scanned and with what was counted outlined."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from gliorun.findings.evidence import Choice, Exhibit
from gliorun.writers import palette
from gliorun.writers.page import Page, Pixels, plain_style, printable, wrap
from gliorun.writers.result import Result

DECIDES, BAND = "#ffe600", "#00e0ff"
"""Colours of the outline that decides, and of the inner and outer outline of the band."""
JPEG_QUALITY = 85
DPI = 150
GAP_PX, CAPTION_PX, MARGIN_PX = 12, 54, 36
PAIRS_A_ROW = 2
TEXT_PT = 10.0


@dataclass(frozen=True, slots=True)
class Shown:
    """An exhibit for a page: its words, its place, and its pictures as data URIs."""

    why: str
    density: str
    square: str
    place: tuple[int, int]
    tile: str
    outlines: str


def shown(exhibit: Exhibit) -> Shown:
    """Return an exhibit as a page shows it; outlines are a picture of their own, to lay over."""
    choice = exhibit.choice
    overlay = Image.fromarray(_lines(exhibit.within))
    overlay.putpalette([0, 0, 0, *palette.rgb((BAND, DECIDES)).ravel().tolist()])
    return Shown(
        choice.why,
        density_in_words(choice),
        choice.square,
        (choice.spec.row, choice.spec.column),
        _uri(Image.fromarray(exhibit.pixels), "JPEG", quality=JPEG_QUALITY),
        _uri(overlay, "PNG", transparency=0, optimize=True),
    )


def density_in_words(choice: Choice) -> str:
    """Return the density of a tile in per cent, with its band."""
    low, middle, high = (f"{100 * of:.1f}" for of in (choice.low, choice.density, choice.high))
    return f"{middle} %" if low == high else f"{middle} % ({low} to {high})"


def write_evidence(path: Path, result: Result) -> None:
    """Draw each tile twice: as it was scanned, and with its outlines.

    The same result gives the same bytes.
    """
    with plain_style():
        draw(result).save(path)


def draw(result: Result) -> Page:
    """Return the picture, drawn on a page of its size."""
    side = result.card.tile_px
    pairs = min(max(len(result.evidence), 1), PAIRS_A_ROW)
    rows = -(-len(result.evidence) // PAIRS_A_ROW)
    pair_px, row_px = 2 * side + GAP_PX, side + CAPTION_PX
    width = 2 * MARGIN_PX + pairs * pair_px + (pairs - 1) * MARGIN_PX
    dot = DPI / 72
    notes = [
        line
        for note in _notes(result)
        for line in wrap(printable(note), width - 2 * MARGIN_PX, TEXT_PT, DPI)
    ]
    line_px = round(1.4 * TEXT_PT * dot)
    head = MARGIN_PX + (1 + len(notes)) * line_px + GAP_PX
    page = Page(width, head + rows * row_px + MARGIN_PX, DPI)
    name = printable(result.slide_name)
    page.text(MARGIN_PX, MARGIN_PX + 0.8 * line_px, name, TEXT_PT, bold=True)
    for number, note in enumerate(notes, 2):
        page.text(MARGIN_PX, MARGIN_PX + (number - 0.2) * line_px, note, TEXT_PT)
    for number, exhibit in enumerate(result.evidence):
        row, column = divmod(number, PAIRS_A_ROW)
        left, top = MARGIN_PX + column * (pair_px + MARGIN_PX), head + row * row_px
        choice = exhibit.choice
        words = f"{choice.why}, square {choice.square}: {density_in_words(choice)}"
        page.text(left, top + 0.6 * CAPTION_PX, words, TEXT_PT)
        page.paint(left, top + CAPTION_PX - GAP_PX, exhibit.pixels)
        page.paint(left + side + GAP_PX, top + CAPTION_PX - GAP_PX, outlined(exhibit))
    return page


def outlined(exhibit: Exhibit) -> Pixels:
    """Return the tile with its outlines, (tile_px, tile_px, 3) uint8."""
    lines = _lines(exhibit.within)
    colours = palette.rgb(("#000000", BAND, DECIDES))
    return np.where(lines[..., None] > 0, colours[lines], exhibit.pixels)


def _notes(result: Result) -> tuple[str, ...]:
    if not result.evidence:
        return ("No tile was measured that could be shown.",)
    return (
        "What was counted: yellow is the outline that decides, blue are the inner and the outer "
        "one between which outlines are drawn. Left as scanned, at the model's "
        f"{result.card.mpp:g} µm/px.",
        result.card.intended_use,
    )


def _lines(within: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Return the rims of the areas, (tile_px, tile_px): 0 none, 1 of the band, 2 that decides."""
    inner, decides, outer = map(_rim, within)
    return np.where(decides, 2, np.where(inner | outer, 1, 0)).astype(np.uint8)


def _rim(area: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the pixels of an area that touch what is not of it; the border of a tile is none."""
    around = np.pad(area, 1, mode="edge")
    inside = around[:-2, 1:-1] & around[2:, 1:-1] & around[1:-1, :-2] & around[1:-1, 2:]
    return np.asarray(area & ~inside)


def _uri(picture: Image.Image, form: str, **how: object) -> str:
    stream = io.BytesIO()
    picture.save(stream, form, **how)
    text = base64.b64encode(stream.getvalue()).decode("ascii")
    return f"data:image/{form.lower()};base64,{text}"
