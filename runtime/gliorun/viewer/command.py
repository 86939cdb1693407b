"""What `gliorun --view` shows: one slide, the demo, or what was measured in a folder."""

from __future__ import annotations

import os
import sys
import tempfile
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import NoReturn

from gliorun import demo, job
from gliorun.errors import GlioError
from gliorun.plan import Plan, open_engine
from gliorun.reading.files import title
from gliorun.viewer import earlier, fields, folder
from gliorun.viewer.fields import Fields
from gliorun.viewer.server import Page, Shown, serve
from gliorun.viewer.session import Session


def view(slides: list[str] | None, out_dir: Path | None, plan: Plan, page: Page) -> bool:
    """Show a slide, the demo, or a folder of maps until Ctrl-C; tell whether all went well.

    Raises
    ------
    GlioError
        The slide or the folder cannot be used, or the port is taken.
    """
    if out_dir is not None:
        return folder.view(slides[0] if slides else None, out_dir, plan, page)
    if slides:
        return view_slide(Path(slides[0]), plan, page)
    with tempfile.TemporaryDirectory(prefix="gliorun-", ignore_cleanup_errors=True) as made:
        path = Path(made) / "demo.svs"
        demo.write_demo(path)
        small = min(plan.hot_spot_mm2, demo.HOT_SPOT_MM2)
        return view_slide(path, replace(plan, hot_spot_mm2=small), page)


def view_slide(path: Path, plan: Plan, page: Page) -> bool:
    """Show a slide until Ctrl-C, and measure it meanwhile; tell whether that went well.

    Raises
    ------
    GlioError
        The slide cannot be used, or the port is taken.
    KeyboardInterrupt
        Outputs were asked for, and the run was stopped before they were written.
    """
    job.check_outputs(path, plan)
    engine = open_engine(plan)
    beside = plan.outputs[0].parent if plan.outputs else Path()
    find = partial(earlier.beside, plan)
    with Session(path, plan, engine, find, page.complain) as session:
        marked = Fields(beside / f"{title(path)}{fields.SUFFIX}", session.surveyed)
        serve(_Only((session, marked)), page)
        if plan.outputs and not session.is_done and session.fault is None:
            raise KeyboardInterrupt
    return session.fault is None


def leave(code: int) -> NoReturn:
    """End the process at once: all is closed, and taking down the interpreter takes a second."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):  # nobody reads it any more
            stream.flush()
    os._exit(code)


@dataclass(frozen=True, slots=True)
class _Only:
    """A single slide, which is open."""

    shown: Shown

    def opened(self, number: int) -> Shown | None:
        return None if number else self.shown

    def open(self, number: int) -> Shown:
        raise GlioError("there is no such slide")
