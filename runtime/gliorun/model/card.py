"""The model card: the input of a model, its origin, and how well it was converted."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import msgspec

from gliorun.errors import GlioError
from gliorun.model.outlines import Outlines
from gliorun.model.stainstatistic import StainStatistic
from gliorun.reading.scale import MPP_RANGE

FORMAT = 3
"""In format 3 colour is matched by the ground alone, and an IR gives levels."""
LEVELS_A_LOGIT = 16
"""Number of levels per unit of the logit of the nucleus probability."""
EVEN_LEVEL = 128
"""The level of a pixel with a nucleus probability of one half."""


@dataclass(frozen=True, slots=True)
class ModelCard:
    """The metadata of a model, stored in the `rt_info` of its IR or beside a `.keras` file.

    Parameters
    ----------
    name : str
    tile_px : int
        Side of the square input.
    mpp : float
        Micrometres per pixel of the input.
    colour_target : StainStatistic or None
        The colour that the input is normalised to; None if the model was trained without.
    classes : tuple of str
        Meaning of mask values 0, 1, …
    training : dict
        Recipe, data, licences and validation figures, as plain values.
    source_sha256 : str
        SHA-256 of the Keras file that the model was converted from.
    weights_sha256 : str
        SHA-256 of the IR's `.bin`; empty beside a `.keras` file.
    nucleus_level : int
        Level, 0 to 255, from which a pixel counts as nucleus.
    inner_level, outer_level : int or None
        Levels whose outlines lie about one pixel inside and outside that of `nucleus_level`; None
        until the model is converted, which measures them.
    precision : str
        "FP32" or "INT8" in an IR, empty beside a `.keras` file.
    parity : dict
        Agreement with the Keras model on the same tiles, as plain values.
    golden_mask : str
        The mask of the golden tissue, by which a machine is certified, as `gliorun.model.golden`
        packs it; empty beside a `.keras` file and in models of earlier versions.
    """

    name: str
    tile_px: int
    mpp: float
    colour_target: StainStatistic | None
    classes: tuple[str, ...] = ("background", "nucleus")
    training: dict[str, Any] = field(default_factory=dict)
    source_sha256: str = ""
    weights_sha256: str = ""
    nucleus_level: int = EVEN_LEVEL
    inner_level: int | None = None
    outer_level: int | None = None
    precision: str = ""
    parity: dict[str, Any] = field(default_factory=dict)
    golden_mask: str = ""
    intended_use: str = "Research use only; not a medical device."

    def __post_init__(self) -> None:
        if self.tile_px < 16:
            raise GlioError(f"model card: tile_px is {self.tile_px}; it must be at least 16")
        if not 1 <= self.nucleus_level <= 255:
            raise GlioError(
                f"model card: nucleus_level is {self.nucleus_level}; it must lie from 1 to 255"
            )
        if self.has_band:
            _ = self.outlines  # checks their order
        low, high = MPP_RANGE
        if not low <= self.mpp <= high:
            raise GlioError(f"model card: mpp is {self.mpp}; it must lie from {low} to {high}")

    @property
    def has_band(self) -> bool:
        """Whether the levels of the inner and the outer outline were measured."""
        return self.inner_level is not None and self.outer_level is not None

    @property
    def outlines(self) -> Outlines:
        """The levels of the outlines of nuclei.

        Raises
        ------
        GlioError
            They were not measured. They depend on how steeply the levels of a network rise, so
            none can stand for them.
        """
        if self.inner_level is None or self.outer_level is None:
            raise GlioError(
                f"model card of {self.name!r}: no inner_level and outer_level, as an earlier "
                "version made it; convert the model again with 'glioexport convert'"
            )
        return Outlines(self.inner_level, self.nucleus_level, self.outer_level)

    def to_json(self) -> str:
        """Return the card as JSON text, keys in a fixed order."""
        return json.dumps({"format": FORMAT, **asdict(self)}, indent=2, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str | bytes) -> ModelCard:
        """Read a card.

        Raises
        ------
        GlioError
            The text is not a card of this format.
        """
        try:
            values = json.loads(text)
            if values.pop("format") != FORMAT:
                raise GlioError(f"model card: not of format {FORMAT}; convert the model again")
            unknown = set(values) - {f.name for f in fields(cls)}
            if unknown:
                names = ", ".join(sorted(unknown))
                raise GlioError(f"model card: unknown entries {names}; convert the model again")
            return msgspec.convert(values, cls)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise GlioError(
                f"model card: cannot be read ({type(error).__name__}: {error}); "
                "convert the model again"
            ) from error


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a model file (megabytes, not gigabytes), in hexadecimal."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
