"""Turn any fault of one slide into a failure, so that the other slides are still measured."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from gliorun.batch.ledger import RECORDS
from gliorun.errors import DiskFullError, GlioError, StalledError

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Failure:
    """The reason why a slide could not be measured; `trace` is the traceback if it was a bug."""

    reason: str
    trace: str = ""
    vanished: bool = False
    stalled: bool = False
    disk_full: bool = False


def of_error(error: GlioError) -> Failure:
    """Return the failure that an error of one slide is."""
    return Failure(
        str(error),
        stalled=isinstance(error, StalledError),
        disk_full=isinstance(error, DiskFullError),
    )


def of_one_slide(path: Path, action: Callable[[], T]) -> T | Failure:
    """Return the result of an action on one slide, or the reason why it failed.

    In a batch every access to a slide goes through here, so that one faulty slide cannot end the
    run.
    """
    try:
        return action()
    except GlioError as error:
        return of_error(error)
    except Exception as error:  # a bug: the record keeps its traceback
        error_line = " ".join(f"{type(error).__name__}: {error}".split())
        reason = f"{path}: {error_line}; this is a bug, and its traceback is in {RECORDS}"
        return Failure(reason, traceback.format_exc())
