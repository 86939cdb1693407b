"""What the three commands share: how a fault leaves them."""

from __future__ import annotations

import os
import sys
from io import TextIOWrapper

import typer

from gliorun.errors import GlioError, StalledError, UsageError

FAULT, WRONG_USAGE = 1, 2
"""Exit codes; the second is also that of what typer itself refuses."""
EXIT_CODES = (
    f"Exit code 0: done. {FAULT}: a file, a model or this machine cannot be used. "
    f"{WRONG_USAGE}: wrong usage."
)
EXPORT = ("keras", "tensorflow", "tf2onnx", "onnx", "onnxruntime", "nncf", "skimage", "scipy")
"""What the extra `export` installs."""


def run(app: typer.Typer, name: str) -> None:
    """Run a command; a fault the user can act on is one line and exit code 1, or 2 if typed."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # a name may hold what the terminal cannot show
            stream.reconfigure(errors="backslashreplace")
    try:
        app()
    except ModuleNotFoundError as error:
        if error.name not in EXPORT:
            raise
        typer.echo(f"{name}: {error.name} is missing; pip install 'gliorun[export]'", err=True)
        raise SystemExit(FAULT) from error
    except GlioError as error:
        typer.echo(f"{name}: {error}", err=True)
        if isinstance(error, StalledError):
            os._exit(FAULT)  # the thread that hangs would keep the interpreter from ending
        raise SystemExit(WRONG_USAGE if isinstance(error, UsageError) else FAULT) from error
