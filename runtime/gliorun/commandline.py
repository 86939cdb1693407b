"""What the three commands share: how a fault leaves them."""

from __future__ import annotations

import os
import sys
from io import TextIOWrapper

import typer

from gliorun.errors import GlioError, StalledError

EXPORT = ("keras", "tensorflow", "tf2onnx", "onnx", "onnxruntime", "nncf", "skimage", "scipy")
"""What the extra `export` installs."""


def run(app: typer.Typer, name: str) -> None:
    """Run a command; a fault the user can act on is one line and exit code 1."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # a name may hold what the terminal cannot show
            stream.reconfigure(errors="backslashreplace")
    try:
        app()
    except ModuleNotFoundError as error:
        if error.name not in EXPORT:
            raise
        typer.echo(f"{name}: {error.name} is missing; pip install 'gliorun[export]'", err=True)
        raise SystemExit(1) from error
    except GlioError as error:
        typer.echo(f"{name}: {error}", err=True)
        if isinstance(error, StalledError):
            os._exit(1)  # the thread that hangs would keep the interpreter from ending
        raise SystemExit(1) from error
