"""Tell the progress of a run as lines of JSON, for another program."""

from __future__ import annotations

import json
import time
from collections.abc import Collection
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from rich.console import Console

from gliorun.reporting.progress import RunProgress
from gliorun.reporting.reporter import ERROR, IDLE_S, INFO, WARNING
from gliorun.sliderecord import Record

EVENT_S = 2.0
"""Least seconds between two progress events of the same slide."""


class JsonLines:
    """Writes every event as one line of JSON to stdout, for another program.

    `event` is "watching", "waiting", "idle", "back", "started", "choice", "tiles", "slide" (done or
    failed), "skipped", "warning" or "total"; `time` is ISO 8601 in UTC, `level` "INFO",
    "WARNING" or "ERROR".
    """

    def __init__(self, progress: RunProgress) -> None:
        self._progress = progress
        self._out = Console(soft_wrap=True, highlight=False, markup=False, emoji=False)
        self._reported_s: dict[Path, float] = {}
        self._told_s = time.monotonic()

    def _tell(self, event: str, *, level: str = INFO, **values: Any) -> None:
        self._told_s = time.monotonic()
        now = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
        self._out.out(
            json.dumps({"event": event, "time": now, "level": level, **values}), highlight=False
        )

    def _where(self) -> dict[str, Any]:
        progress = self._progress
        return {
            "ended": progress.ended,
            "slides": progress.slides or None,
            "left_s": _rounded(progress.left_s),
        }

    def started(self, path: Path) -> None:
        self._progress.start(path)
        self._tell("started", slide=str(path))

    def tiles(self, path: Path, done: int, total: int, bottleneck: str, worker: str = "") -> None:
        slide = self._progress.of(path)
        slide.step(done, total)
        now_s = time.monotonic()
        if now_s - self._reported_s.get(path, float("-inf")) >= EVENT_S:
            self._reported_s[path] = now_s
            self._tell(
                "tiles",
                slide=str(path),
                done=done,
                of=total,
                resumed=slide.resumed_tiles,
                tiles_per_s=round(slide.tiles_per_s, 2),
                slide_left_s=_rounded(slide.left_s),
                bottleneck=bottleneck,
                worker=worker or None,
                **self._where(),
            )

    def ended(self, record: Record, summary: str) -> None:
        self._progress.end(record)
        self._reported_s.pop(Path(record.slide), None)
        self._tell(
            "slide",
            level=_level_of(record),
            slide=record.slide,
            name=record.name,
            state=record.state,
            reason=record.reason or None,
            outputs=list(record.outputs),
            warnings=list(record.warnings),
            calibration=record.calibration or None,
            tiles=record.pace.get("tiles"),
            tiles_per_s=record.pace.get("tiles_per_s"),
            bottleneck=record.pace.get("bottleneck"),
            **self._where(),
        )

    def skipped(self, path: Path, record: Record) -> None:
        self._progress.skip(path)
        self._tell(
            "skipped", slide=str(path), name=record.name, state=record.state, **self._where()
        )

    def complain(self, line: str) -> None:
        self._tell("warning", level=WARNING, text=line)

    def watching(self, line: str) -> None:
        self._tell("watching", text=line)

    def waiting(self, reasons: dict[Path, str]) -> None:
        slides = [{"slide": str(path), "reason": reason} for path, reason in reasons.items()]
        self._tell("waiting", slides=slides)

    def back(self, line: str) -> None:
        self._tell("back", text=line)

    def idle(
        self, done: int, failed: int, last_done_at: str | None, faults: Collection[str]
    ) -> None:
        if time.monotonic() - self._told_s >= IDLE_S:
            self._tell(
                "idle",
                level=WARNING if faults else INFO,
                done=done,
                failed=failed,
                last_done_at=last_done_at,
                faults=list(faults),
            )

    def say(self, line: str) -> None:
        self._tell("choice", text=line)

    def total(self, done: int, failed: int, skipped: int, index: Path) -> None:
        progress = self._progress
        self._tell(
            "total",
            done=done,
            with_warnings=progress.with_warnings,
            failed=failed,
            skipped=skipped,
            tiles=progress.measured_tiles,
            tiles_per_s=round(progress.tiles_per_s, 2),
            bottleneck=progress.bottleneck or None,
            seconds=round(progress.elapsed_s, 1),
            index=str(index),
        )


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 1)


def _level_of(record: Record) -> str:
    """Return the level of a slide that has ended."""
    if record.state == "failed":
        return ERROR
    return WARNING if record.warnings else INFO
