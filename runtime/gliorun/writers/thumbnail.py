"""thumb.jpg: a slide and its map, small, for a table of many slides."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from gliorun.writers import hatching, palette
from gliorun.writers.page import Pixels
from gliorun.writers.panel import pale
from gliorun.writers.result import Result

SIDE_PX = 160
"""Longest side of the slide; the map beside it has the same size."""
GAP_PX = 6


def write_thumbnail(path: Path, result: Result, palette_name: str) -> None:
    """Draw the slide and, at its right, its map on the pale slide.

    It is too small to read in; calibration and warnings are the file's comment.
    """
    slide = _slide_pixels(result)
    gap = np.full((len(slide), GAP_PX, 3), 255, dtype=np.uint8)
    picture = np.hstack([slide, gap, _map_over(pale(slide), result, palette_name)])
    Image.fromarray(picture).save(
        path, format="JPEG", quality=88, comment="; ".join((*result.calibrated, *result.warnings))
    )


def _slide_pixels(result: Result) -> Pixels:
    """Return the slide on white, (H, W, 3) uint8, true to its shape in µm."""
    scale, (width_l0, height_l0) = result.scale, result.density.grid.size_l0
    width_um, height_um = width_l0 * scale.x_mpp, height_l0 * scale.y_mpp
    shrink = SIDE_PX / max(width_um, height_um)
    size = max(1, round(width_um * shrink)), max(1, round(height_um * shrink))
    slide = Image.fromarray(result.overview)
    on_white = Image.alpha_composite(Image.new("RGBA", slide.size, "white"), slide)
    return np.asarray(on_white.convert("RGB").resize(size, Image.Resampling.LANCZOS))


def _map_over(ground: Pixels, result: Result, palette_name: str) -> Pixels:
    """Return the ground under the cells of the map, (H, W, 3) uint8; a dot shows one cell."""
    density = result.density
    width_l0, height_l0 = density.grid.size_l0
    cell_width_l0, cell_height_l0 = density.cell_l0
    height, width = ground.shape[:2]
    rows = ((np.arange(height) + 0.5) / height * height_l0 / cell_height_l0).astype(np.intp)
    columns = ((np.arange(width) + 0.5) / width * width_l0 / cell_width_l0).astype(np.intp)
    shown = np.ix_(rows, columns)
    dots = palette.cell_colours(palette_name, density.density[shown])
    (no_value,) = palette.rgb((palette.NO_VALUE,))
    dots[np.isin(density.cell_status[shown], hatching.REASONS)] = (*no_value, 255)
    return np.where(dots[..., 3:] > 0, dots[..., :3], ground)
