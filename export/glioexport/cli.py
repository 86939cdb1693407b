"""glioexport: train the reference network and convert it for the workstation."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gliorun import commandline

app = typer.Typer(add_completion=False, no_args_is_help=True, help=__doc__)


@app.callback()
def main() -> None:
    """Train the reference network and convert it for the workstation."""


@app.command()
def train(
    data: Annotated[Path, typer.Argument(help="Folder of labelled tiles with an index.csv.")],
    out: Annotated[Path, typer.Option(help="Folder for checkpoints and the model.")],
    recipe: Annotated[str, typer.Option(help="paper (its Table 2) or best.")] = "best",
    filters: Annotated[int, typer.Option(help="Filters of the first level.", min=1)] = 16,
    epochs: Annotated[int | None, typer.Option(help="Instead of the recipe's.", min=1)] = None,
    precision: Annotated[
        str, typer.Option(help="float32, or mixed_bfloat16 where the CPU has it.")
    ] = "float32",
    no_dropblock: Annotated[bool, typer.Option("--no-dropblock", help="The plain U-net.")] = False,
    seed: Annotated[int, typer.Option(help="Of weights, crops and dropping.", min=0)] = 1,
    hold_out: Annotated[
        list[str] | None, typer.Option(help="Set to validate on instead of training on it.")
    ] = None,
    vary: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="Change one setting of recipe or network."),
    ] = None,
) -> None:
    """Train U-net+DropBlock; called again after a kill, it goes on."""
    from dataclasses import replace

    from glioexport.network import UnetShape
    from glioexport.train import RECIPES, TrainSettings, varied
    from glioexport.train import train as train_model

    if recipe not in RECIPES:
        raise typer.BadParameter(f"{recipe!r}; known: {', '.join(RECIPES)}")
    chosen = RECIPES[recipe]
    if epochs is not None:
        chosen = replace(chosen, epochs=epochs)
    settings = TrainSettings(chosen, UnetShape(filters=filters), precision, seed)
    for change in [*(vary or ()), *(["drop_rate=0"] if no_dropblock else ())]:
        settings = varied(settings, change)
    model = train_model(data, out, settings, say=_say, held_out=hold_out or ())
    typer.echo(model)


@app.command()
def convert(
    model: Annotated[Path, typer.Argument(help="A trained .keras file.")],
    out: Annotated[Path, typer.Option(help="Folder for the converted models.")],
    tiles: Annotated[
        Path | None,
        typer.Option(help="Real tiles to calibrate and compare on: images, or with an index.csv."),
    ] = None,
    mpp: Annotated[
        float | None, typer.Option(help="Micrometres per pixel the model was trained at.")
    ] = None,
    max_density_points: Annotated[
        float, typer.Option(help="Largest mean density difference to Keras, in points.")
    ] = 0.3,
    min_class_agreement: Annotated[
        float, typer.Option(help="Smallest share of tiles that keep their density class.")
    ] = 0.97,
) -> None:
    """Convert to ONNX and OpenVINO IR, FP32 and INT8, and compare each with Keras."""
    from glioexport import parity
    from glioexport.convert import convert as convert_model

    tolerance = parity.Tolerance(max_density_points, min_class_agreement)
    figures = convert_model(model, out, tiles=tiles, mpp=mpp, tolerance=tolerance, say=_say)
    typer.echo(parity.table(figures))


def _say(line: str) -> None:
    typer.echo(line, err=True)


def run() -> None:
    """Run glioexport."""
    commandline.run(app, "glioexport")
