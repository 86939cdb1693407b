"""Training tiles with most of their nuclei taken out, so that sparse tissue is learned as well.

Labelled tiles are dense: people label where nuclei are. A network that learned from them alone
takes the darkest of whatever it sees for nuclei, also where there are none.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from glioexport.dataset import Entry, LabelledTile, at_scale, read_label, read_rgba
from glioexport.erase import erase, instances
from gliorun.atomic import replacing
from gliorun.measuring import colour
from gliorun.model.stainstatistic import StainStatistic

KEPT = (0.0, 0.1, 0.3)
"""Shares of the nuclei that are kept, one drawn for each tile."""
SIDE_PX = 512
"""No more of a tile is used: taking out hundreds of nuclei takes long."""
LEFT = 254
"""Alpha of a nucleus that is left; elsewhere it is 255."""
NOT_MADE = (1, 1)
"""Size of the image that stands for a tile whose nuclei cannot be taken out cleanly."""


def sparse_tiles(
    entries: Iterable[Entry],
    statistics: dict[str, StainStatistic],
    target: StainStatistic | None,
    folder: Path,
    say: Callable[[str], None],
) -> list[LabelledTile]:
    """Return tiles with few or no nuclei, in the colour of `target`, as far as they can be made.

    What was made before lies in `folder`, one RGBA image a tile, whose alpha marks the nuclei that
    are left.
    """
    folder.mkdir(exist_ok=True)
    tiles = []
    for number, entry in enumerate(entries, 1):
        path = folder / f"{_digest(entry).hex()[:24]}.png"
        if not path.exists():
            say(f"takes nuclei out of tile {number}")
            with replacing(path) as partial:
                Image.fromarray(_made_sparse(entry)).save(partial, format="PNG")
        image = read_rgba(path)
        if image.shape[:2] == NOT_MADE:
            continue
        table = colour.table_between(statistics.get(entry.stain_group), target)
        nuclei = (image[..., 3] == LEFT).astype(np.uint8)
        tiles.append(at_scale(LabelledTile(entry, colour.normalise(image, table)[0], nuclei)))
    return tiles


def _digest(entry: Entry) -> bytes:
    """Return what names the file of an entry's tile, and seeds what is taken out of it."""
    return hashlib.sha256(f"{entry.set}/{entry.id}".encode()).digest()


def _made_sparse(entry: Entry) -> NDArray[np.uint8]:
    """Return an entry's tile with a share of its nuclei, (H, W, 4) uint8."""
    random = np.random.default_rng(list(_digest(entry)))
    label = read_label(entry.label)
    top, left = (int(random.integers(max(side - SIDE_PX, 0) + 1)) for side in label.shape)
    place = np.s_[top : top + SIDE_PX, left : left + SIDE_PX]
    pixels = read_rgba(entry.image)[place][..., :3]
    kept = float(random.choice(KEPT))
    steps = erase(pixels, instances(label[place]), (kept,), seed=int(random.integers(2**31)))
    if steps is None:
        return np.zeros((*NOT_MADE, 4), dtype=np.uint8)
    (step,) = steps
    alpha = np.where(step.nuclei > 0, LEFT, 255).astype(np.uint8)
    return np.dstack([step.pixels, alpha])
