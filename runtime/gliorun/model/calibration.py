"""The calibration of a model to a laboratory: levels in place of those of the model's card."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from datetime import date as day
from pathlib import Path
from typing import Any

import msgspec

from gliorun.errors import GlioError
from gliorun.model.card import ModelCard
from gliorun.model.outlines import Outlines
from gliorun.reading.files import check_file
from gliorun.words import plain

FORMAT = 1
LONGEST_NAME = 60
LARGEST_BYTES = 10 << 20
NONE = "none"
"""In place of a file, where a calibration that is the default is not wanted."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """The levels at which the densities of a laboratory's labelled fields are unbiased.

    Parameters
    ----------
    name : str
        Of the laboratory; it stands in every output.
    model : str
        Name of the model that was calibrated.
    weights_sha256 : str
        SHA-256 of its weights: another model has other levels.
    outlines : Outlines
    date : str
        Day it was made, ISO 8601.
    by : str
        Who made it; may be empty.
    """

    name: str
    model: str
    weights_sha256: str
    outlines: Outlines
    date: str
    by: str = ""

    def __post_init__(self) -> None:
        if not 0 < len(self.name) <= LONGEST_NAME or self.name != plain(self.name).strip():
            raise GlioError(
                f"calibration: its name is {self.name[: 2 * LONGEST_NAME]!r}; it must have 1 to "
                f"{LONGEST_NAME} printable characters"
            )
        if self.name == NONE:
            raise GlioError(f"calibration: {NONE!r} is no name, it means that there is none")
        if not re.fullmatch("[0-9a-f]{64}", self.weights_sha256):
            raise GlioError("calibration: weights_sha256 is no SHA-256; calibrate again")
        try:
            day.fromisoformat(self.date)
        except ValueError as error:
            raise GlioError(f"calibration: {error}; calibrate again") from error

    def __str__(self) -> str:
        """Return what stands in outputs: name and level."""
        return f"{self.name}, level {self.outlines.nucleus}"

    def fits(self, card: ModelCard) -> bool:
        """Whether it is of this model."""
        return card.weights_sha256 == self.weights_sha256

    def check(self, card: ModelCard) -> None:
        """Refuse another model than the one that was calibrated.

        Raises
        ------
        GlioError
            Its weights are others.
        """
        if not self.fits(card):
            raise GlioError(
                f"calibration {self.name} is of the model {plain(self.model)} "
                f"({self.weights_sha256[:12]}), not of {card.name} "
                f"({card.weights_sha256[:12] or 'no IR'}); calibrate this one with 'glioexport "
                f"calibrate', or go without (gliorun: --calibration {NONE})"
            )

    def to_json(self, further: dict[str, Any]) -> str:
        """Return the calibration as JSON text, with further entries that `read` passes over."""
        values = {"format": FORMAT, **asdict(self), **further}
        return json.dumps(values, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def read(path: Path) -> Calibration:
    """Read a calibration, `path` (.json).

    Raises
    ------
    GlioError
        It is missing, damaged, or no calibration of this format.
    """
    way_out = "pass what 'glioexport calibrate' made"
    check_file(path, "calibration", way_out)
    if path.stat().st_size > LARGEST_BYTES:
        raise GlioError(f"{path}: too large for a calibration; {way_out}")
    try:
        values = json.loads(path.read_bytes())
        if values["format"] != FORMAT:
            raise GlioError(f"calibration: not of format {FORMAT}; calibrate again")
        return msgspec.convert(values, Calibration)
    except GlioError as error:
        raise GlioError(f"{path}: {error}") from error
    except (msgspec.MsgspecError, ValueError, KeyError, TypeError, RecursionError) as error:
        line = f"{type(error).__name__}: {error}"  # the repr of some holds the whole file
        raise GlioError(f"{path}: not a calibration ({line}); {way_out}") from error


def named(name: str | None) -> Calibration | None:
    """Return the calibration that `--calibration` names: a file, or "none" for no calibration.

    Raises
    ------
    GlioError
        The file is no calibration.
    """
    return None if name in (None, NONE) else read(Path(name))
