"""A synthetic glioma-like slide with known nuclei, for first tries and for tests."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[np.uint8]
Field = NDArray[np.float32]

DEMO_SIZE_PX = (4800, 3360)
MPP = 0.25
HOT_SPOT_MM2 = 0.04
"""Area of its hot spots: the slide is too small for several of 1 mm²."""
SPACING_PX = 28
"""Nuclei stand on a jittered lattice of this spacing, so that they seldom overlap."""
REACH_PX = 12
"""How far a nucleus may reach beyond its lattice square."""
HAEMATOXYLIN = np.array([0.65, 0.70, 0.29], dtype=np.float32)
EOSIN = np.array([0.12, 0.95, 0.28], dtype=np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class SyntheticTissue:
    """A drawn section: pixels (H, W, 3) uint8, nuclei (H, W) uint8 of 0 and 1."""

    pixels: Pixels
    nuclei: Pixels


def demo_density(height: int, width: int) -> Field:
    """Return the wanted density of each px, (H, W): rising from left to right, two hot spots.

    It is 0 outside an oval, where the slide is glass.
    """
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    x, y = x / width, y / height
    density = 0.005 + 0.10 * np.clip(x - 0.1, 0, 1) ** 1.5
    for centre_x, centre_y, size, peak in ((0.30, 0.34, 0.10, 0.16), (0.72, 0.62, 0.15, 0.30)):
        distance = ((x - centre_x) ** 2 + ((y - centre_y) * height / width) ** 2) / size**2
        density += peak * np.exp(-distance)
    oval = ((x - 0.5) / 0.46) ** 2 + ((y - 0.5) / 0.44) ** 2
    return np.where(oval < 1, density, 0).astype(np.float32)


def draw_tissue(density: Field, seed: int = 0) -> SyntheticTissue:
    """Draw nuclei at a wanted density, (H, W) from 0 to 0.35; 0 is glass.

    Colours are sums of the optical densities of haematoxylin and eosin.
    """
    random = np.random.default_rng(seed)
    height, width = density.shape
    glass = density <= 0
    fibres = _cloud(random, height, width, 6) + 0.6 * _cloud(random, height, width, 40)
    eosin = np.clip(0.75 + 0.16 * fibres, 0.2, 1.6)
    haematoxylin = np.clip(0.16 + 0.05 * _cloud(random, height, width, 12), 0, 1)
    nuclei = np.zeros((height, width), dtype=np.uint8)
    for row in range(0, height - SPACING_PX, SPACING_PX):
        for column in range(0, width - SPACING_PX, SPACING_PX):
            _maybe_nucleus(random, row, column, density, haematoxylin, nuclei)
    eosin[glass], haematoxylin[glass], nuclei[glass] = 0.02, 0.02, 0
    light = haematoxylin[..., None] * HAEMATOXYLIN + eosin[..., None] * EOSIN
    light += random.normal(0, 0.025, (height, width, 1)).astype(np.float32)
    return SyntheticTissue(
        np.clip(248 * np.exp(-np.maximum(light, 0)), 0, 255).astype(np.uint8), nuclei
    )


def _cloud(random: np.random.Generator, height: int, width: int, grain_px: int) -> Field:
    """Return smooth noise of about unit variance and a grain of `grain_px`, (H, W)."""
    coarse = random.standard_normal(
        (height // grain_px + 2, width // grain_px + 2), dtype=np.float32
    )
    smooth = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
    return np.asarray(smooth, dtype=np.float32)


def _maybe_nucleus(
    random: np.random.Generator,
    row: int,
    column: int,
    density: Field,
    haematoxylin: Field,
    nuclei: Pixels,
) -> None:
    """Draw one nucleus in a lattice square, with the probability that gives the density."""
    long_px, shape = random.normal(12.0, 1.6), random.uniform(0.6, 0.95)
    angle, darkness = random.uniform(0, np.pi), random.uniform(1.2, 2.0)
    jitter_y, jitter_x = random.uniform(-9, 9, 2)
    drawn = random.random()
    half = SPACING_PX // 2
    wanted = float(density[row + half, column + half])
    mean_area = np.pi * 12.0**2 * 0.775
    if drawn >= wanted * SPACING_PX**2 / mean_area:
        return
    top, left = max(row - REACH_PX, 0), max(column - REACH_PX, 0)
    place = np.s_[top : row + SPACING_PX + REACH_PX, left : column + SPACING_PX + REACH_PX]
    rows, columns = nuclei[place].shape
    y = np.arange(rows, dtype=np.float32)[:, None] + (top - row - half - jitter_y)
    x = np.arange(columns, dtype=np.float32)[None] + (left - column - half - jitter_x)
    along = (x * np.cos(angle) + y * np.sin(angle)) / long_px
    across = (y * np.cos(angle) - x * np.sin(angle)) / (long_px * shape)
    radius = np.hypot(along, across)
    edge = 1 / (1 + np.exp((radius - 1) * 9))
    chromatin = 1 + 0.16 * _cloud(random, rows, columns, 3)
    haematoxylin[place] = np.maximum(haematoxylin[place], darkness * edge * chromatin)
    nuclei[place] |= (radius < 1).astype(np.uint8)


def write_slide(
    path: Path, pixels: Pixels, *, mpp: float | None = MPP, levels: int = 3, tile_px: int = 256
) -> None:
    """Write (H, W, 3) uint8 pixels as a pyramidal, Aperio-style JPEG .svs.

    Without `mpp` the slide states no scale. Each level has a quarter of the previous width.
    """
    height, width = pixels.shape[:2]
    scale = f"|AppMag = {10 / mpp:g}|MPP = {mpp:g}" if mpp else ""
    with tifffile.TiffWriter(path, bigtiff=False) as slide:
        for level in range(levels):
            size = (max(1, width >> 2 * level), max(1, height >> 2 * level))
            image = Image.fromarray(pixels).resize(size, Image.Resampling.BOX)
            slide.write(
                np.asarray(image),
                tile=(tile_px, tile_px),
                photometric="rgb",
                compression="jpeg",
                compressionargs={"level": 90},
                subfiletype=1 if level else 0,
                metadata=None,
                software=False,
                description=(
                    f"Aperio Image Library v12\n{width}x{height} "
                    f"[0,0 {width}x{height}] -> {size[0]}x{size[1]} JPEG/RGB Q=90{scale}"
                ),
            )


def write_demo(path: Path) -> SyntheticTissue:
    """Write the demo slide and return what was drawn."""
    width, height = DEMO_SIZE_PX
    tissue = draw_tissue(demo_density(height, width))
    write_slide(path, tissue.pixels)
    return tissue
