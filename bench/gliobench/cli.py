"""gliobench: throughput and agreement against the reference Keras model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gliorun import commandline

app = typer.Typer(add_completion=False, no_args_is_help=True, help=__doc__)


@app.callback()
def main() -> None:
    """Throughput and agreement against the reference Keras model."""


@app.command()
def compare(
    model: Annotated[
        Path | None, typer.Argument(help="A .keras file; the reference that ships by default.")
    ] = None,
    converted: Annotated[
        Path | None,
        typer.Option(help="What 'glioexport convert' made of it; made anew if left out."),
    ] = None,
    tiles: Annotated[
        Path | None, typer.Option(help="Folder of real tiles; synthetic tissue by default.")
    ] = None,
    count: Annotated[int, typer.Option(help="Tiles a round.", min=1)] = 32,
    rounds: Annotated[int, typer.Option(help="Rounds in turns.", min=1)] = 5,
) -> None:
    """Put Keras, ONNX Runtime, OpenVINO FP32 and INT8 side by side on the same tiles."""
    import tempfile

    from gliobench import backends, machine
    from gliobench.compare import compare as compare_backends
    from gliobench.compare import table

    with tempfile.TemporaryDirectory(prefix="gliobench-") as folder:
        if converted is None:
            if model is not None:
                raise typer.BadParameter("a model of your own needs --converted")
            converted = Path(folder) / "converted"
            backends.convert_reference(converted, tiles, _say)
        opened, card = backends.open_backends(model or backends.reference_model(), converted)
        windows, source = backends.comparison_windows(tiles, card)
        chosen = windows[:: max(1, len(windows) // count)][:count]
        figures = compare_backends(opened, chosen, rounds, _say)
    typer.echo(f"{machine.describe()}; {len(chosen)} tiles of {source}, {rounds} rounds in turns\n")
    typer.echo(table(figures))


@app.command()
def truth(
    density: Annotated[Path, typer.Argument(help="density.csv that gliorun wrote.")],
    mask: Annotated[Path, typer.Argument(help="Nucleus mask of the slide at level 0.")],
    within: Annotated[
        tuple[int, int, int, int] | None,
        typer.Option(help="LEFT TOP RIGHT BOTTOM: only cells wholly inside, in level-0 px."),
    ] = None,
) -> None:
    """Compare a density map with the true nuclei of its slide."""
    from gliobench.truth import against_truth, read_cells, read_mask

    found = against_truth(read_cells(density, within), read_mask(mask))
    typer.echo(
        f"{found.cells} cells: mean absolute error {found.mean_error_points:.2f} points, "
        f"bias {found.bias_points:+.2f}, worst {found.worst_points:.2f}, "
        f"correlation {found.correlation:.3f}, same class {found.class_agreement:.1%}"
    )


def _say(line: str) -> None:
    typer.echo(line, err=True)


def run() -> None:
    """Run gliobench."""
    commandline.run(app, "gliobench")
