"""glioexport: train the reference network and convert it for the workstation."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from gliorun.errors import GlioError

app = typer.Typer(add_completion=False, no_args_is_help=True, help=__doc__)


@app.callback()
def main() -> None:
    """Train the reference network and convert it for the workstation."""


@app.command()
def train(
    data: Annotated[Path, typer.Argument(help="Folder of labelled tiles with an index.csv.")],
    out: Annotated[Path, typer.Option(help="Folder for checkpoints and the model.")],
    recipe: Annotated[str, typer.Option(help="paper (its Table 2) or best.")] = "best",
    filters: Annotated[int, typer.Option(help="Filters of the first level.")] = 16,
    epochs: Annotated[int | None, typer.Option(help="Instead of the recipe's.")] = None,
    precision: Annotated[
        str, typer.Option(help="float32, or mixed_bfloat16 where the CPU has it.")
    ] = "float32",
    seed: Annotated[int, typer.Option(help="Of weights, crops and dropping.")] = 1,
    hold_out: Annotated[
        list[str] | None, typer.Option(help="Set to validate on instead of training on it.")
    ] = None,
) -> None:
    """Train U-net+DropBlock; called again after a kill, it goes on."""
    from dataclasses import replace

    from glioexport.network import UnetShape
    from glioexport.train import RECIPES, TrainSettings
    from glioexport.train import train as train_model

    if recipe not in RECIPES:
        raise typer.BadParameter(f"{recipe!r}; known: {', '.join(RECIPES)}")
    chosen = RECIPES[recipe]
    if epochs is not None:
        chosen = replace(chosen, epochs=epochs)
    settings = TrainSettings(chosen, UnetShape(filters=filters), precision, seed)
    model = train_model(data, out, settings, say=_say, held_out=hold_out or ())
    typer.echo(model)


def _say(line: str) -> None:
    typer.echo(line, err=True)


def run() -> None:
    """Run the command; a fault the user can act on is one line and exit code 1."""
    try:
        app()
    except GlioError as error:
        typer.echo(f"glioexport: {error}", err=True)
        raise SystemExit(1) from error
