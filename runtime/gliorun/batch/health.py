"""Tell a monitor, and the index, how a watch is: what it lacks, and when a slide was last done."""

from __future__ import annotations

import json
import shutil
import time
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path

from gliorun.atomic import replacing
from gliorun.errors import DiskFullError, GlioError
from gliorun.sliderecord import Record

HEALTH = "health.json"
RESERVE = ".reserve"
"""A file of some size beside the maps; on a full disk it makes way for the index."""
RESERVE_BYTES = 4_000_000
ROOM_BYTES = 100_000_000
"""Free space from which a watch goes on after the disk was full."""
FORMAT = 1
BEAT_S = 60.0
"""Longest time between two writes of the file while the watch is alive."""
FULL = "the disk is full"


@dataclass(slots=True)
class Health:
    """The state of a watch, as `health.json` beside its maps; it names no slide.

    Parameters
    ----------
    folder : Path
        The output folder, which exists.
    """

    folder: Path
    faults: dict[str, str] = field(default_factory=dict)
    """What is amiss now, and since when (ISO 8601, UTC)."""
    done: int = 0
    failed: int = 0
    last_done_at: str | None = None
    last_failed_at: str | None = None
    _beat_s: float = float("-inf")

    def ended(self, record: Record) -> None:
        """Count a slide that is done or has failed."""
        if record.state == "done":
            self.done, self.last_done_at = self.done + 1, record.changed_at
        else:
            self.failed, self.last_failed_at = self.failed + 1, record.changed_at
        self.write()

    def stand(self, faults: dict[str, str]) -> bool:
        """Take the faults of now, each by the name that has it; return whether they are others."""
        lines = [f"{name}: {fault}" for name, fault in faults.items()]
        before, now = self.faults, _now()
        self.faults = {line: before.get(line, now) for line in lines}
        changed = list(self.faults) != list(before)
        if changed or time.monotonic() - self._beat_s >= BEAT_S:
            self.write()
        return changed

    def write(self, *, state: str = "watching") -> None:
        """Write the file; on a full disk with the space of the reserve, else not."""
        self._beat_s = time.monotonic()
        values = {
            "format": FORMAT,
            "at": _now(),
            "state": state,
            "done": self.done,
            "failed": self.failed,
            "last_done_at": self.last_done_at,
            "last_failed_at": self.last_failed_at,
            "faults": [{"text": text, "since": since} for text, since in self.faults.items()],
        }
        text = json.dumps(values, indent=1) + "\n"
        with suppress(GlioError):  # a monitor notices that the file grows old
            try:
                self._replace(text)
            except DiskFullError:
                self.free()
                self._replace(text)

    def _replace(self, text: str) -> None:
        with replacing(self.folder / HEALTH) as partial:
            partial.write_text(text, encoding="utf-8", newline="\n")

    def reserve(self) -> None:
        """Take the space that a full disk is told with."""
        path = self.folder / RESERVE
        with suppress(OSError):
            if not path.exists() or path.stat().st_size < RESERVE_BYTES:
                path.write_bytes(bytes(RESERVE_BYTES))

    def free(self) -> None:
        """Give that space back."""
        with suppress(OSError):
            (self.folder / RESERVE).unlink(missing_ok=True)

    def has_room(self) -> bool:
        """Tell whether the disk has room for a watch to go on."""
        try:
            return shutil.disk_usage(self.folder).free >= ROOM_BYTES
        except OSError:  # the disk is away
            return False


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
