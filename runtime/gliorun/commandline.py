"""What the three commands share: how a fault leaves them."""

from __future__ import annotations

import typer

from gliorun.errors import GlioError


def run(app: typer.Typer, name: str) -> None:
    """Run a command; a fault the user can act on is one line and exit code 1."""
    try:
        app()
    except GlioError as error:
        typer.echo(f"{name}: {error}", err=True)
        raise SystemExit(1) from error
