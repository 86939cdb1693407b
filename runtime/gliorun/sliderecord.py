"""What is known of one slide of an output folder: its state, its outputs, and why it failed."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import msgspec

from gliorun.errors import GlioError
from gliorun.hashname import is_hidden
from gliorun.reading.files import Stamp

FORMAT = 1
State = Literal["started", "done", "failed"]


@dataclass(frozen=True, slots=True)
class Record:
    """The state of one slide, and what is known of its last run.

    Parameters
    ----------
    name : str
        Stem of the names of its outputs.
    slide : str
        Its path, or where names are hidden what stands for it (`hashname.token_of`).
    stamp : Stamp, optional
        Size and time of its files when it was measured; None if they could not be reached.
    fingerprint : str
        Hash of samples of its files; empty if they could not be read.
    made_with : dict
        Model, settings and version, as plain values.
    state : {"started", "done", "failed"}
        A slide that remains "started" was interrupted by a kill.
    tries : int
        Number of unsuccessful runs in turn, including the present one.
    changed_at : str
        When the state was reached, ISO 8601, UTC.
    outputs : tuple of str
        Names of its files in the output folder.
    reason, trace : str
        One line that says why it failed; and the traceback, if that was a bug.
    same_as : str
        Name of another slide with identical content.
    figures : dict
        The part of the run record that the tables show, and a hint to the user, if any.
    pace : dict
        Tiles per second, and the stage that the run waited for most.
    """

    name: str
    slide: str
    stamp: Stamp | None
    fingerprint: str
    made_with: dict[str, Any]
    state: State
    tries: int
    changed_at: str
    outputs: tuple[str, ...] = ()
    reason: str = ""
    trace: str = ""
    same_as: str = ""
    warnings: tuple[str, ...] = ()
    figures: dict[str, Any] = field(default_factory=dict)
    pace: dict[str, Any] = field(default_factory=dict)

    @property
    def path(self) -> Path | None:
        """Where the slide is; None where that is hidden."""
        return None if is_hidden(self.slide) else Path(self.slide)

    @property
    def calibration(self) -> str:
        """Name and level of its calibration, as they stand in the other outputs; empty for none."""
        try:
            values = self.made_with["settings"]["calibration"]
            return f"{values['name']}, level {values['outlines']['nucleus']}"
        except (KeyError, TypeError):  # none, or written by another version
            return ""

    def to_json(self) -> str:
        """Return the record as JSON; ASCII, because a file name need not be valid text."""
        return json.dumps({"format": FORMAT, **asdict(self)}, indent=1)

    @classmethod
    def from_json(cls, text: str | bytes) -> Record:
        """Read a record.

        Raises
        ------
        GlioError
            It is not a record of this format.
        """
        try:
            values = json.loads(text)
            if values.pop("format") != FORMAT or set(values) != {f.name for f in fields(cls)}:
                raise ValueError("another format")
            record = msgspec.convert(values, cls)
            record._check()
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise GlioError(f"not a record of a slide ({type(error).__name__}: {error})") from error
        return record

    def _check(self) -> None:
        """Refuse what `start` never writes: a record must not point into another folder."""
        if self.tries < 1 or not self.name:
            raise ValueError(f"tries {self.tries}, name {self.name!r}")
        for output in self.outputs:
            if Path(output).name != output or not output.startswith(f"{self.name}."):
                raise ValueError(f"output {output!r}")
        if datetime.fromisoformat(self.changed_at).tzinfo is None:
            raise ValueError(f"time {self.changed_at!r}")
