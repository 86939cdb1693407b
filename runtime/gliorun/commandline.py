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
NUMBA_THREADS = "NUMBA_NUM_THREADS"
EXPORT = ("keras", "tensorflow", "tf2onnx", "onnx", "onnxruntime", "nncf", "skimage", "scipy")
"""What the extra `export` installs."""


def run(app: typer.Typer, name: str) -> None:
    """Run a command; a fault the user can act on is one line and exit code 1, or 2 if typed."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # a name may hold what the terminal cannot show
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
            os._exit(FAULT)  # the thread that hangs would keep the interpreter from ending
        raise SystemExit(WRONG_USAGE if isinstance(error, UsageError) else FAULT) from error


def _check_environment() -> None:
    """Refuse a number of threads with which numba cannot be imported, or not without a traceback.

    Our kernels have one thread each, so it changes nothing else.
    """
    threads = os.environ.get(NUMBA_THREADS, "1")
    if not threads.strip().isdecimal() or int(threads) < 1:
        raise UsageError(f"{NUMBA_THREADS} is {threads!r}; set it to 1 or more, or not at all")
