"""OME-TIFF: the density map and the nucleus mask for any image viewer, with sizes in µm.

Both are tiled and pyramidal; the smaller levels are SubIFDs of the first, as OME-TIFF has it.
"""

from __future__ import annotations

import hashlib
import math
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from gliorun import __version__
from gliorun.findings.nuclei import px_l0_of
from gliorun.measuring import kernels
from gliorun.measuring.density import NO_CLASS, DensityMap, classify
from gliorun.measuring.masks import Mask, MaskStore
from gliorun.writers.result import Result

MAP_TILE_PX = 256
MAP_STEP = 2
"""Each level of the map's pyramid has half the side of the last one."""
CHANNELS = ("Nucleus density", "Nucleus density class")

MASK_TILE_PX = 480
"""A tile of the network, and a multiple of 16 as TIFF wants it."""
MASK_STEP = kernels.BLOCK
"""Each level of the mask's pyramid has a quarter of the side of the last one."""
NUCLEUS_LEVEL = 255
"""White on black in any viewer; and a mean of 255 and 0 is a share in steps of 0.4 %."""

CLASSIC_BYTES = 2**32 - 2**25
"""A classic TIFF holds 4 GiB; an image that may need more, uncompressed, is a BigTIFF."""
BUFFER_BYTES = 2**23
"""Tiles of about this size are compressed at a time."""


def write_density(path: Path, result: Result) -> None:
    """Write the map as one image of two channels, density and class, with one px a cell: float32.

    Each level halves the last one; its cells sum the pixels of those they cover. The image begins
    in the upper left corner of the slide and has its cells' size in µm, so that viewers can lay it
    over the slide.
    """
    density, scale = result.density, result.scale
    px_um = (density.cell_l0[0] * scale.x_mpp, density.cell_l0[1] * scale.y_mpp)
    levels = [
        np.stack([level.astype(np.float32), _class_levels(level)])
        for level in _density_levels(density)
    ]
    description = (
        f"Nucleus density: nucleus area / {'tissue' if density.per_tissue else 'valid'} area, 0 to "
        "1. Nucleus density class: 0 to 5, for "
        "0-2, 2-4, 4-8, 8-16, 16-20, 20-100 %. NaN = no value."
    )
    metadata = _metadata(result, "Nucleus density", description, px_um) | {
        "axes": "CYX",
        "Channel": {"Name": list(CHANNELS)},
        "Plane": {
            "PositionX": [0.0] * len(CHANNELS),
            "PositionXUnit": ["µm"] * len(CHANNELS),
            "PositionY": [0.0] * len(CHANNELS),
            "PositionYUnit": ["µm"] * len(CHANNELS),
        },
    }
    with tifffile.TiffWriter(path, ome=True, bigtiff=False) as tiff:
        for number, level in enumerate(levels):
            tiff.write(
                level,
                photometric="minisblack",
                tile=(MAP_TILE_PX, MAP_TILE_PX),
                compression="zlib",
                subifds=0 if number else len(levels) - 1,
                subfiletype=1 if number else 0,
                resolution=_px_per_cm(px_um, MAP_STEP**number),
                resolutionunit="CENTIMETER",
                metadata=None if number else metadata,
                software=False,
            )


def write_mask(path: Path, result: Result) -> None:
    """Write the nucleus mask of the slide at model resolution: uint8, 255 on a nucleus, else 0.

    A px of a smaller level is 255 × the share of nucleus in it, so that every level keeps the
    area. Each level is made anew from the masks on disk; memory holds a few rows of tiles.

    Raises
    ------
    ValueError
        The run kept no masks.
    """
    masks, scale = result.masks, result.scale
    if masks is None:
        raise ValueError(f"{path}: needs the masks of the run")
    px_l0 = px_l0_of(masks)
    px_um = (px_l0[0] * scale.x_mpp, px_l0[1] * scale.y_mpp)
    width_l0, height_l0 = masks.grid.size_l0
    shapes = _mask_shapes((math.ceil(height_l0 / px_l0[1]), math.ceil(width_l0 / px_l0[0])))
    description = (
        "255 on a nucleus, else 0, also where nothing was measured; "
        "in smaller levels 255 x the share of nucleus."
    )
    big = sum(map(math.prod, shapes)) > CLASSIC_BYTES
    with tifffile.TiffWriter(path, ome=True, bigtiff=big) as tiff:
        for number, shape in enumerate(shapes):
            strips = _cut(_strips(masks, shapes[0]))
            for _ in range(number):
                strips = _cut(_coarser(strips))
            tiff.write(
                _tiles(strips),
                shape=shape,
                dtype=np.uint8,
                photometric="minisblack",
                tile=(MASK_TILE_PX, MASK_TILE_PX),
                compression="zlib",
                buffersize=BUFFER_BYTES,
                subifds=0 if number else len(shapes) - 1,
                subfiletype=1 if number else 0,
                resolution=_px_per_cm(px_um, MASK_STEP**number),
                resolutionunit="CENTIMETER",
                metadata=(
                    None if number else _metadata(result, "Nucleus mask", description, px_um)
                ),
                software=False,
            )


def _density_levels(density: DensityMap) -> Iterator[NDArray[np.float64]]:
    """Yield the density, (rows, columns), and ever coarser ones down to one tile of the file."""
    nucleus, area = density.counted_px(1), density.area_px
    while True:
        level = np.full(area.shape, np.nan)
        np.divide(nucleus, area, out=level, where=area > 0)
        yield level
        if max(area.shape) <= MAP_TILE_PX:
            return
        nucleus, area = _summed(nucleus), _summed(area)


def _class_levels(density: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return the class of each density before it is rounded to float32, which moves edges."""
    classes = classify(density)
    return np.where(classes == NO_CLASS, np.nan, classes).astype(np.float32)


def _summed(cells: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the sums of `MAP_STEP` × `MAP_STEP` cells; those at the border may be cut."""
    for axis in (0, 1):
        starts = np.arange(0, cells.shape[axis], MAP_STEP)
        cells = np.add.reduceat(cells, starts, axis=axis)
    return cells


def _mask_shapes(shape: tuple[int, int]) -> list[tuple[int, int]]:
    """Return (rows, columns) of each level of the mask, down to one tile of the file."""
    shapes = [shape]
    while max(shapes[-1]) > MASK_TILE_PX:
        rows, columns = shapes[-1]
        shapes.append((-(-rows // MASK_STEP), -(-columns // MASK_STEP)))
    return shapes


def _strips(masks: MaskStore, shape: tuple[int, int]) -> Iterator[Mask]:
    """Yield the mask of the slide, (rows, columns) px, row of tiles by row of tiles."""
    rows, columns = shape
    for row, whole in enumerate(masks.rows()):
        strip = whole[: rows - row * masks.tile_px, :columns]
        yield np.multiply(strip, NUCLEUS_LEVEL, out=strip)


def _coarser(strips: Iterable[Mask]) -> Iterator[Mask]:
    """Yield the next level of the pyramid, strip by strip."""
    for strip in strips:
        rows, columns = strip.shape
        means = np.empty((-(-rows // MASK_STEP), -(-columns // MASK_STEP)), np.uint8)
        kernels.mean_blocks(strip, means)
        yield means


def _cut(strips: Iterable[Mask]) -> Iterator[Mask]:
    """Yield the same rows in strips as high as the file's tiles, the last one lower."""
    waiting: list[Mask] = []
    for strip in strips:
        if not waiting and len(strip) == MASK_TILE_PX:
            yield strip
            continue
        waiting.append(strip)
        while sum(map(len, waiting)) >= MASK_TILE_PX:
            joined = np.concatenate(waiting)
            yield joined[:MASK_TILE_PX]
            rest = joined[MASK_TILE_PX:].copy()  # a view would keep all that was joined
            waiting = [rest] if len(rest) else []
    if waiting:
        yield np.concatenate(waiting)


def _tiles(strips: Iterable[Mask]) -> Iterator[Mask]:
    """Yield the tiles of the file, row by row; the last ones may be smaller."""
    for strip in strips:
        for left in range(0, strip.shape[1], MASK_TILE_PX):
            yield strip[:, left : left + MASK_TILE_PX]


def _px_per_cm(px_um: tuple[float, float], step: int) -> tuple[float, float]:
    return 1e4 / (px_um[0] * step), 1e4 / (px_um[1] * step)


def _metadata(
    result: Result, name: str, description: str, px_um: tuple[float, float]
) -> dict[str, Any]:
    """Return the entries of an image in OME-XML; the same measurement has the same UUID."""
    counts = hashlib.sha256(result.density.nucleus_px.tobytes()).hexdigest()
    identity = f"{name} {result.slide_name} {result.card.weights_sha256} {counts}"
    return {
        "axes": "YX",
        "UUID": str(uuid.uuid5(uuid.NAMESPACE_OID, identity)),
        "Creator": f"gliorun {__version__}",
        "Name": f"{name} of {result.slide_name}",
        "Description": " ".join((description, *result.notes)),
        "PhysicalSizeX": px_um[0],
        "PhysicalSizeXUnit": "µm",
        "PhysicalSizeY": px_um[1],
        "PhysicalSizeYUnit": "µm",
    }
