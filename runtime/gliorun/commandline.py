"""What the three commands share: a fault is one line and an exit code; tables are Markdown."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from io import TextIOWrapper

import typer

from gliorun.errors import GlioError, StalledError, UsageError

FAULT, WRONG_USAGE = 1, 2
"""Exit codes; typer exits with the second one as well."""
EXIT_CODES = (
    f"Exit code 0: done. {FAULT}: a file, a model or this machine cannot be used. "
    f"{WRONG_USAGE}: wrong usage."
)
NUMBA_THREADS = "NUMBA_NUM_THREADS"
EXPORT = ("keras", "tensorflow", "tf2onnx", "onnx", "onnxruntime", "nncf", "skimage", "scipy")
"""Packages that the extra `export` installs."""


def run(app: typer.Typer, name: str) -> None:
    """Run a command; a GlioError prints one line and exits with 1, a UsageError with 2."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(
            stream, TextIOWrapper
        ):  # a file name may hold characters that the terminal cannot show
            stream.reconfigure(errors="backslashreplace")
    try:
        _check_environment()
        app()
    except ModuleNotFoundError as error:
        if error.name not in EXPORT:
            raise
        typer.echo(f"{name}: {error.name} is missing; pip install 'gliorun[export]'", err=True)
        raise SystemExit(FAULT) from error
    except PermissionError as error:
        if error.filename is None:
            raise
        way_out = "check your rights to it and to its folder"
        typer.echo(f"{name}: {error.filename}: {error.strerror}; {way_out}", err=True)
        raise SystemExit(FAULT) from error
    except GlioError as error:
        typer.echo(f"{name}: {error}", err=True)
        if isinstance(error, StalledError):
            os._exit(FAULT)  # the hanging thread would keep the interpreter alive
        raise SystemExit(WRONG_USAGE if isinstance(error, UsageError) else FAULT) from error


def table(head: Sequence[object], rows: Iterable[Sequence[object]]) -> str:
    """Return a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def _check_environment() -> None:
    """Refuse a NUMBA_NUM_THREADS with which importing numba fails.

    Our kernels are serial, so its value has no other effect.
    """
    threads = os.environ.get(NUMBA_THREADS, "1")
    if not threads.strip().isdecimal() or int(threads) < 1:
        raise UsageError(f"{NUMBA_THREADS} is {threads!r}; set it to 1 or more, or not at all")
