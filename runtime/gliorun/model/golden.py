"""Whether this machine gives the masks of a model's certificate, on golden tissue that ships.

Processors compute INT8 with different instructions, and a fault in one of them, in its library or
in the memory changes masks without a word. So the card of a converted model holds the mask that it
gave on a drawn image, and any machine can be compared with it.
"""

from __future__ import annotations

import base64
import binascii
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gliorun.errors import GlioError
from gliorun.model.engine import Engine
from gliorun.reading.images import open_upright
from gliorun.reading.windows import segment

GOLDEN = Path(__file__).parents[1] / "models" / "golden.png"
"""Two tiles of drawn tissue, at the colour that networks see it in."""
LIMIT_PX = 1000
"""Number of pixels of the golden tissue, 1 in 460, that may differ. None differs between AVX2 with
VNNI, AVX-512 with VNNI and AMX; without VNNI 252 do with the student and 571 with the reference."""
LARGEST_MASK_BYTES = 1 << 20
"""Bytes past which a packed mask is not read."""

Mask = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Comparison:
    """The masks of this machine beside those of the certificate: `different_px` of `of_px`."""

    different_px: int
    of_px: int

    @property
    def agrees(self) -> bool:
        """Whether this machine gives the masks of the certificate."""
        return self.different_px <= LIMIT_PX

    def __str__(self) -> str:
        return f"{self.different_px:,} of {self.of_px:,} px differ (up to {LIMIT_PX:,} may)"


def golden_mask(engine: Engine) -> Mask:
    """Return the mask, (H, W) uint8 of 0 and 1, that a model gives of the golden tissue here."""
    tissue = np.asarray(open_upright(GOLDEN).convert("RGB"))
    return segment(tissue, engine.masks, engine.card.tile_px)


def compare(engine: Engine) -> Comparison | None:
    """Compare this machine with the certificate of a model; None if its card holds no mask.

    Raises
    ------
    GlioError
        The mask in the card is damaged.
    """
    if not engine.card.golden_mask:
        return None
    mask = golden_mask(engine)
    different = int((mask != unpacked(engine.card.golden_mask, mask.shape)).sum())
    return Comparison(different, mask.size)


def packed(mask: Mask) -> str:
    """Return a mask as text for a card: eight pixels a byte, deflated, in base64."""
    return base64.b64encode(zlib.compress(np.packbits(mask != 0).tobytes(), 9)).decode("ascii")


def unpacked(text: str, shape: tuple[int, ...]) -> Mask:
    """Return the mask of `shape` that `packed` made a text of.

    Raises
    ------
    GlioError
        It is not such a text, or of another shape.
    """
    way_out = "convert the model again"
    try:
        inflate = zlib.decompressobj()
        content = inflate.decompress(base64.b64decode(text, validate=True), LARGEST_MASK_BYTES)
    except (zlib.error, binascii.Error, ValueError) as error:
        raise GlioError(f"model card: its golden_mask is damaged ({error}); {way_out}") from error
    pixels = int(np.prod(shape))
    if len(content) != -(-pixels // 8):
        raise GlioError(f"model card: its golden_mask is not of {pixels:,} px; {way_out}")
    bits = np.unpackbits(np.frombuffer(content, np.uint8), count=pixels)
    return bits.reshape(shape)
