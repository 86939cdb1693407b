"""Why a slide cannot be measured: whatever one file does, the others go on."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from gliorun.batch.ledger import RECORDS
from gliorun.errors import GlioError, StalledError

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a slide could not be measured; `trace` tells where, if that was a bug."""

    reason: str
    trace: str = ""
    vanished: bool = False
    stalled: bool = False


def of_one_slide(path: Path, look: Callable[[], T]) -> T | Failure:
    """Return what a look at a slide gives, or why it gives nothing.

    Every look at a slide of many goes through here, so that no fault of one ends the others.
    """
    try:
        return look()
    except GlioError as error:
        return Failure(str(error), stalled=isinstance(error, StalledError))
    except Exception as error:  # the record keeps the traceback
        error_line = " ".join(f"{type(error).__name__}: {error}".split())
        reason = f"{path}: {error_line}; this is a bug, and its traceback is in {RECORDS}"
        return Failure(reason, traceback.format_exc())
