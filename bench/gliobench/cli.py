"""gliobench: speed, agreement and accuracy of the networks, measured."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gliorun import commandline
from gliorun.errors import GlioError

app = typer.Typer(add_completion=False, no_args_is_help=True, help=__doc__)


@app.callback()
def main() -> None:
    """Speed, agreement and accuracy of the networks, measured."""


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
    """Put Keras, ONNX Runtime, OpenVINO FP32 and INT8 side by side on the same tiles.

    Behind the reference that ships comes the student it taught.
    """
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
        if model is None:
            opened.append(backends.open_student())
        windows, source = backends.comparison_windows(tiles, card)
        chosen = windows[:: max(1, len(windows) // count)][:count]
        figures = compare_backends(opened, chosen, rounds, _say)
    typer.echo(f"{machine.describe()}; {len(chosen)} tiles of {source}, {rounds} rounds in turns\n")
    typer.echo(table(figures))


@app.command()
def candidates(
    shapes: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="SHAPE",
            help="An untrained student: 'stem=4 filters=32 levels=3', as for distil --vary.",
            show_default=False,
        ),
    ] = None,
    count: Annotated[int, typer.Option(help="Tiles a round.", min=1)] = 24,
    rounds: Annotated[int, typer.Option(help="Rounds in turns.", min=1)] = 7,
) -> None:
    """Put students that are not trained yet beside the reference: how fast would each be?"""
    from gliobench import backends, machine
    from gliobench import candidates as untrained
    from gliorun.demo import demo_density, draw_tissue
    from gliorun.reading.windows import windows

    tissue = draw_tissue(demo_density(3 * 480, 4 * 480), seed=0).pixels
    tiles = (list(windows(tissue, 480)) * -(-count // 12))[:count]
    opened = backends.open_candidates(shapes or untrained.SHAPES, tiles[:4], _say)
    speeds = untrained.measure(opened, tiles, rounds, _say)
    typer.echo(f"{machine.describe()}; {count} tiles, {rounds} rounds in turns\n")
    typer.echo(untrained.table(speeds))


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


@app.command()
def accuracy(
    folder: Annotated[
        Path, typer.Argument(metavar="DATA", help="Labelled tiles with an index.csv.")
    ],
    models: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="MODEL",
            help=".keras with its card beside it, .onnx, .xml, or otsu, the haematoxylin "
            "threshold. By default what ships, and otsu. Differences are to the last one.",
            show_default=False,
        ),
    ] = None,
    sets: Annotated[
        list[str] | None, typer.Option("--set", help="Only this set; may be repeated.")
    ] = None,
    split: Annotated[str, typer.Option(help="val, train or all.")] = "val",
    colour: Annotated[
        str,
        typer.Option(
            help="Normalisation of a network's input: card (as gliorun), none, macenko, reinhard."
        ),
    ] = "card",
    stress: Annotated[
        bool, typer.Option("--stress", help="Also under stain shifts, JPEG, blur and at 20x.")
    ] = False,
    json_path: Annotated[
        Path | None, typer.Option("--json", help="Write all figures, image by image.")
    ] = None,
    pictures: Annotated[
        Path | None, typer.Option(help="Folder for worst tiles, density and class pictures.")
    ] = None,
) -> None:
    """Compare the masks of models with labelled nuclei, set by set, with 95 % intervals.

    Judge by Dice and density error, never by accuracy alone: most of a tile is background, so
    that a mask with nothing in it is already 80 to 96 % accurate.
    """
    import json

    from gliobench import accuracy as of_models
    from gliobench import backends, scorecard
    from gliorun.atomic import replacing

    # whatever can be wrong, before the models, which take long
    of_models.choose(folder, sets or (), split)
    for out in (json_path and json_path.parent, pictures and pictures.parent):
        if out is not None and not out.is_dir():
            raise GlioError(f"{out}: no such folder to write into")
    opened = backends.open_segmenters(models or backends.shipped_models())
    results = of_models.accuracy(
        folder, opened, sets=sets or (), split=split, colour=colour, stress=stress, say=_say
    )
    typer.echo(scorecard.markdown(results))
    if json_path is not None:
        with replacing(json_path) as partial:
            values = scorecard.as_values(results, colour)
            partial.write_text(json.dumps(values, indent=1, ensure_ascii=False), encoding="utf-8")
    if pictures is not None:
        from gliobench.pictures import write_pictures

        for path in write_pictures(pictures, results):
            _say(str(path))


def _say(line: str) -> None:
    typer.echo(line, err=True)


def run() -> None:
    """Run gliobench."""
    commandline.run(app, "gliobench")
