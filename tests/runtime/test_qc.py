"""The picture of the tissue found and the tiles without a value."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from figures import GLASS, PINK, SHAPES, assert_readable, made, texts_of
from gliorun.measuring.tile import LeftOut, Status
from gliorun.measuring.tissue import Tissue
from gliorun.writers import hatching, palette, qc
from gliorun.writers.result import Result

REASONS = tuple(status for status in Status if status > Status.MEASURED)


def pixels_of(path: Path, result: Result) -> np.ndarray:
    """Return the pixels of the panel."""
    qc.write_quality(path, result)
    layout = qc.layout_of(result)
    (left, top), (width, height) = layout.corners[0], layout.frame.size
    with Image.open(path) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("RGB"))[top : top + height, left : left + width]


def share(pixels: np.ndarray, colour: np.ndarray) -> float:
    return float((pixels.reshape(-1, 3) == colour).all(axis=1).mean())


def with_reasons() -> Result:
    """Return a slide whose tiles (0, 0), (0, 1) … each lack a value for another reason."""
    result = made((4_800, 3_360), tissue=0.8)
    for column, reason in enumerate(REASONS):
        result.density.feed(LeftOut(result.density.grid.tile(column, 0), reason))
    return result


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
def test_nothing_overlaps_or_leaves_the_page(shape):
    result = made(**shape)
    assert_readable(qc.draw(result), qc.layout_of(result))


def test_every_reason_has_its_own_colour_and_hatching_and_is_counted(tmp_path):
    result = with_reasons()
    pixels, frame = pixels_of(tmp_path / "a.qc.png", result), qc.layout_of(result).frame
    (line,) = palette.rgb((palette.HATCHING,))
    seen, side = set(), frame.tile_dots
    for column, reason in enumerate(REASONS):
        tile = pixels[8 : side - 8, column * side + 8 : (column + 1) * side - 8]
        on_line = hatching.lines(reason, side, side * (column + 1), hatching.period(side))
        on_line = on_line[8 : side - 8, column * side + 8 : (column + 1) * side - 8]
        assert (tile[on_line] == line).all(axis=-1).mean() > 0.8  # the grid lies over some
        colours, counts = np.unique(tile[~on_line], axis=0, return_counts=True)
        seen.add(tuple(colours[counts.argmax()]))
    assert len(seen) == len(REASONS)
    texts = texts_of(qc.draw(result))
    for reason in REASONS:
        assert texts[texts.index(f"no value: {reason.words}") + 1] == "1"
    assert texts[texts.index("measured") + 1] == str(result.density.measured_tiles())


def test_measured_tiles_look_as_scanned_and_background_does_not(tmp_path):
    result = made((4_800, 3_360), tissue=0.5)
    pixels, frame = pixels_of(tmp_path / "a.qc.png", result), qc.layout_of(result).frame
    side = frame.tile_dots
    assert share(pixels[2 * side + 8 : 3 * side, side + 8 : 2 * side], np.array(PINK[:3])) > 0.9
    assert share(pixels[2 * side + 8 : 3 * side, -side:-8], np.array(GLASS[:3])) == 0


def test_the_line_runs_around_the_tissue_that_was_found(tmp_path):
    result = made((4_800, 3_360))
    mask = np.zeros((70, 100), np.bool_)
    mask[20:50, 30:80] = True
    tissue = Tissue(mask, (100 / 4_800, 70 / 3_360))
    result = replace(result, tissue=tissue)
    pixels, frame = pixels_of(tmp_path / "a.qc.png", result), qc.layout_of(result).frame
    left, top = (round(v) for v in frame.dots_from_l0(30 * 48, 20 * 48))
    right, bottom = (round(v) for v in frame.dots_from_l0(80 * 48, 50 * 48))
    dark = pixels.max(axis=-1) < 30
    for rim in (
        dark[top : top + 2, left:right], dark[bottom - 2 : bottom, left:right],
        dark[top:bottom, left : left + 2], dark[top:bottom, right - 2 : right],
    ):  # fmt: skip
        assert rim.mean() > 0.95
    assert not dark[top + 4 : bottom - 4, left + 4 : right - 4].any()
    assert "21.4 %" in texts_of(qc.draw(result))


def test_warnings_are_told():
    result = made((4_800, 3_360))
    warned = replace(result, warnings=("half of it is blurred",))
    assert "half of it is blurred" in texts_of(qc.draw(warned))


def test_the_same_result_gives_the_same_bytes(tmp_path):
    for name in ("a.png", "b.png"):
        qc.write_quality(tmp_path / name, with_reasons())
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
