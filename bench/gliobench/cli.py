"""gliobench: speed, agreement and accuracy of the networks, measured."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import typer

from gliorun import commandline
from gliorun.errors import GlioError, UsageError
from gliorun.reading.files import check_file

app = typer.Typer(
    add_completion=False, no_args_is_help=True, help=__doc__, epilog=commandline.EXIT_CODES
)

Data = Annotated[Path, typer.Argument(metavar="DATA", help="Labelled tiles with an index.csv.")]
Sets = Annotated[
    list[str] | None, typer.Option("--set", help="Use only this set. May be repeated.")
]
Split = Annotated[str, typer.Option(help="Split to use: val, train or all.")]
Model = Annotated[Path | None, typer.Option(help="IR (.xml) or its folder; by default what ships.")]
Json = Annotated[Path | None, typer.Option("--json", help="Write all figures.")]
Charts = Annotated[Path | None, typer.Option(help="Folder for the charts.")]


@app.callback()
def main() -> None:
    """Speed, agreement and accuracy of the networks, measured."""


@app.command()
def compare(
    model: Annotated[
        Path | None,
        typer.Argument(metavar="KERAS", help="A .keras file; by default the reference that ships."),
    ] = None,
    converted: Annotated[
        Path | None,
        typer.Option(
            help="Folder that 'glioexport convert' wrote for it; by default it is converted anew."
        ),
    ] = None,
    further: Annotated[
        list[Path] | None,
        typer.Option("--model", help="A further IR (.xml) or its folder. May be repeated."),
    ] = None,
    tiles: Annotated[
        Path | None, typer.Option(help="Folder of real tiles; by default synthetic tissue.")
    ] = None,
    count: Annotated[int, typer.Option(help="Tiles a round.", min=1)] = 32,
    rounds: Annotated[int, typer.Option(help="Rounds in turns.", min=1)] = 5,
    json_path: Json = None,
    pictures: Charts = None,
) -> None:
    """Put Keras, ONNX Runtime, OpenVINO FP32, BF16, INT8 and further models side by side.

    Each runs in a process of its own, all on the same tiles, in turns. What gives other masks than
    Keras is marked, and its speed is not ranked.
    """
    _check_folders(json_path, pictures)

    from gliobench.report import compare_markdown
    from gliobench.suite import compare_models
    from gliorun.model import shipped

    irs = [shipped.model_path(path) for path in further or ()]
    figures = compare_models(model, converted, irs, tiles, count, rounds, _say)
    _finish("compare", figures, compare_markdown(figures), json_path, pictures)


@app.command()
def untrained(
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
    """Measure how fast students would be before they are trained, beside the reference."""
    from gliobench import backends, machine
    from gliobench.untrained import SHAPES, measure, table
    from gliorun.demo import demo_density, draw_tissue
    from gliorun.reading.windows import windows

    tissue = draw_tissue(demo_density(3 * 480, 4 * 480), seed=0).pixels
    tiles = (list(windows(tissue, 480)) * -(-count // 12))[:count]
    networks = backends.open_untrained(shapes or SHAPES, tiles[:4], _say)
    speeds = measure(networks, tiles, rounds, _say)
    typer.echo(f"{machine.describe()}; {count} tiles, {rounds} rounds in turns\n")
    typer.echo(table(speeds))


@app.command()
def truth(
    density: Annotated[Path, typer.Argument(help="density.csv that gliorun wrote.")],
    nuclei: Annotated[
        Path,
        typer.Argument(
            metavar="TRUTH",
            help="Nucleus mask of the slide at level 0, or the truth.csv of 'gliobench giant'.",
        ),
    ],
    within: Annotated[
        tuple[int, int, int, int] | None,
        typer.Option(help="LEFT TOP RIGHT BOTTOM: only cells wholly inside, in level-0 px."),
    ] = None,
    calibration: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Refuse a map that was not measured with this calibration."
        ),
    ] = None,
) -> None:
    """Compare a density map with the true nuclei of its slide."""
    from gliobench import truth as maps
    from gliobench.truth import against_cells, against_truth, read_cells, read_mask
    from gliorun.model import calibration as calibrations

    if calibration is not None:
        maps.check_calibration(density, calibrations.read(calibration))
    calibrated = maps.calibration_of(density)
    cells = read_cells(density, within)
    if nuclei.suffix == ".csv":
        comparison = against_cells(cells, read_cells(nuclei))
    else:
        comparison = against_truth(cells, read_mask(nuclei))
    typer.echo(
        f"{comparison.cells} cells: mean absolute error {comparison.mean_error_points:.2f} points, "
        f"bias {comparison.bias_points:+.2f}, worst {comparison.worst_points:.2f}, "
        f"correlation {comparison.correlation:.3f}, same class {comparison.class_agreement:.1%}"
        + (f"; calibrated to {calibrated}" if calibrated else "")
    )


@app.command()
def giant(
    out: Annotated[Path, typer.Argument(metavar="OUT.svs", help="Slide to write.")],
    gigapixels: Annotated[float, typer.Option(help="Size, 0.01 to 10.")] = 1.0,
    tissue: Annotated[float, typer.Option(help="Share of the slide that is tissue.")] = 0.3,
    seed: Annotated[int, typer.Option(help="Seed of the nuclei that are drawn.", min=0)] = 0,
    copies: Annotated[
        bool,
        typer.Option(
            "--copies",
            help="Write every tile anew, as a scanner does: 0.2 GB a gigapixel instead of a few "
            "MB in all, where equal tiles are stored once.",
        ),
    ] = False,
) -> None:
    """Write a synthetic Aperio-style slide of any size, and its true density tile by tile.

    OUT.truth.csv beside it has the true density of every tile of 480 px (0.25 µm/px):
    'gliorun OUT.svs --out density.csv', then 'gliobench truth density.csv OUT.truth.csv'.
    """
    from gliobench.giant import GiantSpec, truth_path, write_giant

    written = write_giant(out, GiantSpec(gigapixels, tissue, seed, share_bytes=not copies))
    typer.echo(
        f"{out}: {written.width_px} x {written.height_px} px, {written.tissue_tiles:,} of "
        f"{written.density.size:,} tiles are tissue; truth in {truth_path(out)}"
    )


@app.command()
def cluster(
    slides: Annotated[list[Path], typer.Argument(help="Slides to measure in every round.")],
    address: Annotated[
        str | None,
        typer.Option(
            "--cluster",
            metavar="ADDRESS",
            help="Dask scheduler, as tcp://HOST:8786; by default workers are started here, which "
            "share the cores of this machine.",
        ),
    ] = None,
    shared: Annotated[
        Path | None,
        typer.Option(
            help="With --cluster: folder that every worker sees, for maps; emptied after."
        ),
    ] = None,
    workers: Annotated[
        int, typer.Option(help="Without --cluster: workers to start here.", min=1)
    ] = 4,
) -> None:
    """Measure how many slides an hour one worker of a cluster measures, two, and so on."""
    if (address is None) != (shared is None):
        raise UsageError("--cluster and --shared go together: workers write to a folder of all")
    slides = [slide.absolute() for slide in slides]
    for slide in slides:
        check_file(slide, "slide", "check its name")
    try:
        from gliobench import cluster as clusters
    except ImportError as error:
        raise GlioError(f"needs Dask: pip install 'gliorun[cluster]' ({error})") from error
    with ExitStack() as held:
        if address is None:
            address = held.enter_context(clusters.local(workers))
        workers = clusters.workers_at(address)
        folder = shared or Path(held.enter_context(TemporaryDirectory()))
        paces = clusters.measure(slides, address, workers, folder.absolute(), _say)
    typer.echo(clusters.report(paces))


@app.command()
def speed(
    slide: Annotated[
        Path | None,
        typer.Argument(help="Any slide; by default a synthetic one of 0.1 gigapixel."),
    ] = None,
    model: Model = None,
    keras_file: Annotated[
        Path | None,
        typer.Option(
            "--keras",
            help="The .keras file that it was converted from; by default the one that ships.",
        ),
    ] = None,
    mpp: Annotated[float | None, typer.Option(help="Overrides the slide's scale (µm/px).")] = None,
    budget: Annotated[
        float,
        typer.Option(
            help="Seconds for everything, at least 30; decides how many tiles are measured."
        ),
    ] = 180,
    rounds: Annotated[int, typer.Option(help="Rounds in turns.", min=1)] = 3,
    tune: Annotated[
        bool,
        typer.Option(
            "--tune", help="Search for options of gliorun that are faster on this machine instead."
        ),
    ] = False,
    json_path: Json = None,
    pictures: Charts = None,
) -> None:
    """Measure a whole job beside the network alone and a Keras script, and where its time goes.

    The same tiles go through all of them in turns, and their densities are compared. Then each
    stage alone, and the job over threads, requests and slides of 0.1 to 10 gigapixels. With
    --tune, reader threads, streams, threads of the network and kinds of cores are tried instead,
    and the options of gliorun are told that are faster than the defaults.
    """
    _check_folders(json_path, pictures)
    if tune and (keras_file is not None or pictures is not None):
        raise UsageError("--tune compares gliorun with itself, without --keras or --pictures")

    from gliobench.report import speed_markdown
    from gliobench.suite import speed_of, tune_of
    from gliobench.tune import tune_markdown
    from gliorun.model import shipped

    ir = shipped.model_path(model)
    if tune:
        trials = tune_of(slide, ir, mpp, rounds, budget, _say)
        _finish("tune", trials, tune_markdown(trials), json_path, None)
        return
    figures = speed_of(slide, ir, mpp, keras_file, rounds, budget, _say)
    _finish("speed", figures, speed_markdown(figures), json_path, pictures)


@app.command()
def doctor(
    model: Model = None,
    json_path: Annotated[Path | None, typer.Option("--json", help="Write all findings.")] = None,
) -> None:
    """Tell whether this workstation is fit to run gliorun: exit code 0 if it is, 1 if not.

    Versions, processor, memory, disk, caches; then whether golden tissue has the masks of the
    model's certificate, whatever instructions this processor has for them, and a drawn slide its
    known densities. Needs no TensorFlow and no network.
    """
    _check_folders(json_path)

    from gliobench.doctor import doctor_markdown, examine
    from gliorun.model import shipped

    figures = examine(shipped.model_path(model), _say)
    _finish("doctor", figures, doctor_markdown(figures), json_path, None)
    if not figures.fit:
        raise typer.Exit(1)


@app.command()
def accuracy(
    folder: Data,
    models: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="MODEL",
            help=".keras with its card beside it, .onnx, .xml, student, reference, or otsu, the "
            "haematoxylin threshold. By default what ships. Differences are to the last one.",
            show_default=False,
        ),
    ] = None,
    sets: Sets = None,
    split: Split = "val",
    colour: Annotated[
        str,
        typer.Option(
            help="Normalisation of a network's input: card (as gliorun does), ratio (as in the "
            "paper), macenko, reinhard or none."
        ),
    ] = "card",
    calibration: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="File of 'glioexport calibrate': also judge its model with this calibration.",
        ),
    ] = None,
    stress: Annotated[
        bool,
        typer.Option("--stress", help="Measure also under stain shifts, JPEG, blur and at 20x."),
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
    from gliorun.model import calibration as calibrations

    # whatever can be wrong, before the models, which take long
    of_models.check_colour(colour)
    of_models.choose(folder, sets or (), split)
    _check_folders(json_path, pictures)
    to_laboratory = None if calibration is None else calibrations.read(calibration)
    opened = backends.open_segmenters(models or backends.shipped_models())
    if to_laboratory is not None:
        opened = backends.calibrated(opened, to_laboratory)
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


@app.command()
def linearity(
    folder: Data,
    models: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="MODEL",
            help="student, reference or an IR (.xml); by default what ships.",
            show_default=False,
        ),
    ] = None,
    sets: Sets = None,
    split: Split = "val",
    count: Annotated[
        int,
        typer.Option(
            "--tiles-a-set",
            help="Largest number of tiles of a set; they are spread over it.",
            min=1,
        ),
    ] = 12,
    json_path: Annotated[
        Path | None, typer.Option("--json", help="Write every tile's response.")
    ] = None,
    pictures: Annotated[
        Path | None, typer.Option(help="Folder for measured against true densities.")
    ] = None,
) -> None:
    """Take nuclei out of labelled tiles step by step: is the density measured still the true one?

    No nuclei must measure 0, half of them half as much, and a tile the same whatever is beside it.
    Each step is measured as a slide of its own, by all that gliorun does with a slide.
    """
    _check_folders(json_path, pictures)

    from dataclasses import asdict

    from gliobench import document
    from gliobench import linearity as response
    from gliobench.accuracy import choose
    from gliorun.model.engine import open_model
    from gliorun.model.shipped import model_path
    from gliorun.model.shipped import models as shipped

    entries = response.choose_evenly(choose(folder, sets or (), split), count)
    summaries, figures = [], {}
    for path in models or list(shipped().values()):
        engine = open_model(model_path(path))
        meter = response.runtime_meter(engine)
        tile_um = engine.card.tile_px * engine.card.mpp
        tried = []
        for number, entry in enumerate(entries, 1):
            _say(f"{path.stem}: {entry.set}/{entry.id}, {number} of {len(entries)}")
            tried.append((entry.set, response.respond(entry, meter, tile_um)))
        for name in dict.fromkeys(name for name, _ in tried):
            of_set = [tile for set_name, tile in tried if set_name == name]
            summaries.append(response.summarise(path.stem, name, of_set))
        figures[path.stem] = [tile for _, tile in tried if tile is not None]
    typer.echo(response.markdown(summaries))
    if json_path is not None:
        envelope = asdict(document.seal("linearity"))
        document.write(json_path, {**envelope, "figures": response.as_values(summaries, figures)})
    if pictures is not None:
        from gliobench.plots import write_figures

        drawn = {
            f"linearity-{name}.png": response.draw(tiles, name) for name, tiles in figures.items()
        }
        for path in write_figures(pictures, drawn):
            _say(str(path))


@app.command()
def calibration(
    folder: Annotated[
        Path, typer.Argument(metavar="DATA", help="Labelled tiles with an index.csv.")
    ],
    models: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="MODEL",
            help="student, reference or an IR (.xml); by default what gliorun uses.",
            show_default=False,
        ),
    ] = None,
    sets: Annotated[
        list[str] | None, typer.Option("--set", help="Use only this set. May be repeated.")
    ] = None,
    split: Annotated[str, typer.Option(help="Split to use: val, train or all.")] = "val",
    fields: Annotated[
        list[int] | None,
        typer.Option(
            help="Number of fields to calibrate on. May be repeated; by default 3, 5 and 10.", min=3
        ),
    ] = None,
    draws: Annotated[int, typer.Option(help="How often fields are drawn.", min=1)] = 50,
    json_path: Annotated[Path | None, typer.Option("--json", help="Write all figures.")] = None,
    pictures: Annotated[
        Path | None, typer.Option(help="Folder for the errors before and after.")
    ] = None,
) -> None:
    """Calibrate on a few tiles of each set, judge on its other tiles: what is it worth?

    Errors and biases are in points, in the median over the draws, with the middle 95 %. Where
    'glioexport calibrate' would refuse, the model's own level is used.
    """
    _check_folders(json_path, pictures)

    from dataclasses import asdict

    from gliobench import calibration as worth
    from gliobench import document
    from gliobench.accuracy import choose
    from gliorun.model.engine import EXACT, open_model
    from gliorun.model.shipped import DEFAULT_MODEL, model_path

    entries = choose(folder, sets or (), split)
    counts = sorted(set(fields or (3, 5, 10)))
    sources = []
    for path in models or [DEFAULT_MODEL]:
        engine = open_model(model_path(path), EXACT)
        sources.append((path.stem, worth.judge(path.stem, entries, engine, counts, draws, _say)))
    typer.echo(worth.markdown(source for _, of_model in sources for source in of_model))
    if json_path is not None:
        figures = worth.as_values(source for _, of_model in sources for source in of_model)
        envelope = asdict(document.seal("calibration"))
        document.write(json_path, {**envelope, "figures": figures})
    if pictures is not None:
        from gliobench.plots import write_figures

        drawn = {f"calibration-{name}.png": worth.draw(of_model) for name, of_model in sources}
        for path in write_figures(pictures, drawn):
            _say(str(path))


@app.command()
def count(
    folder: Annotated[
        Path, typer.Argument(metavar="DATA", help="Labelled tiles with an index.csv.")
    ],
    models: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="MODEL",
            help="As for accuracy; by default the student.",
            show_default=False,
        ),
    ] = None,
    sets: Annotated[
        list[str] | None, typer.Option("--set", help="Use only this set. May be repeated.")
    ] = None,
    split: Annotated[str, typer.Option(help="Split to use: val, train or all.")] = "val",
    tiles: Annotated[
        int,
        typer.Option(
            "--tiles-a-set",
            help="Largest number of tiles of a set; they are spread over it.",
            min=1,
        ),
    ] = 12,
    json_path: Annotated[Path | None, typer.Option("--json", help="Write every tile.")] = None,
) -> None:
    """Count nuclei as gliorun does, against those that people labelled one by one.

    "Shapes" are those of the masks, in which nuclei that touch are one; "nuclei" are what gliorun
    splits them into. Errors are in percent of a tile's labelled nuclei.
    """
    _check_folders(json_path)

    from dataclasses import asdict

    from gliobench import backends, document
    from gliobench import count as counting
    from gliobench.accuracy import choose, normaliser
    from gliobench.linearity import choose_evenly

    entries = choose_evenly(choose(folder, sets or (), split), tiles)
    errors, counts = [], []
    for model in backends.open_segmenters(models or ["student"]):
        of_model = counting.count_tiles(model, normaliser("card", model, folder), entries, _say)
        errors += counting.summarise(model.name, of_model)
        counts += of_model
    typer.echo(counting.markdown(errors))
    if json_path is not None:
        envelope = asdict(document.seal("count"))
        document.write(json_path, {**envelope, "figures": counting.as_values(errors, counts)})


@app.command()
def report(
    files: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="JSON…", help="What --json of doctor, compare, speed and accuracy wrote."
        ),
    ] = None,
    pictures: Charts = None,
    schema: Annotated[
        bool, typer.Option("--schema", help="Print the JSON Schema of such files instead.")
    ] = False,
) -> None:
    """Put what several machines measured side by side, as Markdown."""
    import json

    from gliobench import sidebyside

    if schema:
        typer.echo(json.dumps(sidebyside.schema(), indent=1, ensure_ascii=False))
        return
    _check_folders(pictures)
    measured = sidebyside.read_all(files or [])
    _echo(sidebyside.report_markdown(measured))
    if pictures is not None:
        from gliobench.plots import write_charts

        for path in write_charts(pictures, measured):
            _say(str(path))


@app.command("all")
def all_(
    out: Annotated[
        Path,
        typer.Argument(
            metavar="FOLDER", help="Folder for the figures (JSON), the charts and report.md."
        ),
    ],
    tiles: Annotated[
        Path | None,
        typer.Option(
            help="Labelled tiles with an index.csv; without them accuracy is not measured."
        ),
    ] = None,
    slide: Annotated[
        Path | None, typer.Option(help="Slide for the speed; by default a synthetic one.")
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Under 10 minutes on 2 cores; coarser figures.")
    ] = False,
) -> None:
    """Measure everything that the README states: doctor, compare, speed, accuracy."""
    _check_folders(out)

    from gliobench import suite

    _echo(suite.measure_all(out, tiles, slide, suite.QUICK if quick else suite.FULL, _say))


def _check_folders(*outputs: Path | None) -> None:
    """Raise before a long measurement, not after it, where its figures cannot be written."""
    for out in outputs:
        if out is not None and not out.parent.is_dir():
            raise GlioError(f"{out.parent}: no such folder to write into; make it first")


def _finish(
    kind: str, figures: Any, markdown: str, json_path: Path | None, pictures: Path | None
) -> None:
    """Print what was measured, and write it."""
    from gliobench import document, machine

    envelope = document.seal(kind)
    disturbed = machine.noise(envelope.machine)
    if disturbed:
        _say(disturbed)
    _echo(f"{machine.describe(envelope.machine)}\n\n{markdown}")
    if json_path is not None:
        document.write(json_path, document.as_values(envelope, figures))
    if pictures is not None:
        from gliobench.plots import write_charts
        from gliobench.sidebyside import Measured

        for path in write_charts(pictures, [Measured("A", envelope, figures)]):
            _say(str(path))


def _echo(markdown: str) -> None:
    """Print Markdown, in red what did not give the reference's results."""
    from gliobench.document import DISAGREES

    for line in markdown.splitlines():
        typer.secho(line, fg="red" if DISAGREES in line else None)


def _say(line: str) -> None:
    typer.echo(line, err=True)


def run() -> None:
    """Run gliobench."""
    commandline.run(app, "gliobench")
