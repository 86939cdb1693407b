"""What the three commands share: how a fault leaves them."""

from __future__ import annotations

import os
import sys
from io import TextIOWrapper

import typer

from gliorun.errors import GlioError, StalledError


def run(app: typer.Typer, name: str) -> None:
    """Run a command; a fault the user can act on is one line and exit code 1."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # a name may hold what the terminal cannot show
            stream.reconfigure(errors="backslashreplace")
    try:
        app()
    except GlioError as error:
        typer.echo(f"{name}: {error}", err=True)
        if isinstance(error, StalledError):
            os._exit(1)  # the thread that hangs would keep the interpreter from ending
        raise SystemExit(1) from error
