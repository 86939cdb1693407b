"""glioexport: train the reference network and convert it for the workstation."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from glioexport.quiet import load_tensorflow
from gliorun import commandline
from gliorun.errors import UsageError

app = typer.Typer(
    add_completion=False, no_args_is_help=True, help=__doc__, epilog=commandline.EXIT_CODES
)


Tiles = Annotated[Path, typer.Argument(help="Folder of labelled tiles with an index.csv.")]
Precision = Annotated[
    str,
    typer.Option(
        help="Precision of the training: float32, or mixed_bfloat16 where the CPU has it."
    ),
]
Epochs = Annotated[
    int | None, typer.Option(help="Number of epochs, in place of the recipe's.", min=1)
]
HoldOut = Annotated[
    list[str] | None,
    typer.Option(help="Set that is validated on and not trained on. May be repeated."),
]
Changes = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME=VALUE",
        help="Change one setting of recipe, augmentation or network, such as stain_factor=1.7."
        " May be repeated; an unknown name lists them all.",
    ),
]


Weights = Annotated[
    list[str] | None,
    typer.Option(
        metavar="SET=FACTOR",
        help="Draw the tiles of a set more often, such as emory_gbm40=2. May be repeated.",
    ),
]


@app.callback()
def main() -> None:
    """Train the reference network and convert it for the workstation."""


@app.command()
def train(
    data: Tiles,
    out: Annotated[Path, typer.Option(help="Folder for checkpoints and the model.")],
    recipe: Annotated[
        str,
        typer.Option(
            help="Recipe: best, paper (as its Table 2), or hovernet, which trains the paper's "
            "other network."
        ),
    ] = "best",
    filters: Annotated[
        int | None,
        typer.Option(help="Filters of the first level, in place of the recipe's.", min=1),
    ] = None,
    epochs: Epochs = None,
    precision: Precision = "float32",
    no_dropblock: Annotated[
        bool, typer.Option("--no-dropblock", help="Train the plain U-net, without DropBlock.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Seed of weights, crops and dropping.", min=0)] = 1,
    hold_out: HoldOut = None,
    weight: Weights = None,
    vary: Changes = None,
) -> None:
    """Train U-net+DropBlock or HoVer-Net; the same command resumes a training that was killed."""
    from dataclasses import replace

    from glioexport.dataset import read_index
    from glioexport.recipe import RECIPES, TrainSettings, shape_of, varied, weights_of_sets

    if recipe not in RECIPES:
        raise UsageError(f"recipe is {recipe!r}; known: {', '.join(RECIPES)}")
    chosen = RECIPES[recipe]
    if epochs is not None:
        chosen = replace(chosen, epochs=epochs)
    settings = TrainSettings(chosen, shape_of(recipe), precision, seed)
    changes = [] if filters is None else [f"filters={filters}"]
    changes += [*(vary or ()), *(["drop_rate=0"] if no_dropblock else ())]
    settings = varied(settings, changes)
    sets = {entry.set for entry in read_index(data)}  # before TensorFlow loads, which takes seconds
    settings = replace(settings, weights=weights_of_sets(weight or (), sets))

    load_tensorflow()
    from glioexport.train import train as train_model

    model = train_model(data, out, settings, say=_say, held_out=hold_out or ())
    typer.echo(model)


@app.command()
def distil(
    data: Tiles,
    out: Annotated[Path, typer.Option(help="Folder for checkpoints and the student.")],
    teacher: Annotated[
        Path | None,
        typer.Option(help="Trained model with its card beside it; the reference by default."),
    ] = None,
    label_share: Annotated[
        float, typer.Option(help="Share of the true label in a target, from 0 to 1.")
    ] = 0.3,
    turns: Annotated[
        int, typer.Option(help="Quarter turns in which the teacher sees a tile, 1 to 4.")
    ] = 4,
    epochs: Epochs = None,
    precision: Precision = "float32",
    seed: Annotated[int, typer.Option(help="Seed of weights and crops.", min=0)] = 1,
    hold_out: HoldOut = None,
    weight: Weights = None,
    vary: Changes = None,
) -> None:
    """Teach a smaller, faster network to answer as a trained one; the same command resumes it."""
    from dataclasses import replace

    from glioexport.dataset import read_index
    from glioexport.description import Description, check_described
    from glioexport.recipe import weights_of_sets
    from glioexport.student import Teaching, student_settings

    settings = student_settings(vary or (), epochs=epochs, precision=precision, seed=seed)
    teaching = Teaching(label_share, turns)
    sets = {entry.set for entry in read_index(data)}  # before TensorFlow loads, which takes seconds
    settings = replace(settings, weights=weights_of_sets(weight or (), sets))
    if teacher is not None:
        check_described(teacher, Description())

    load_tensorflow()
    from glioexport.distil import distil as teach
    from glioexport.shipped import REFERENCE

    student = teach(
        teacher or REFERENCE, data, out, settings, teaching, say=_say, held_out=hold_out or ()
    )
    typer.echo(student)


@app.command()
def convert(
    model: Annotated[
        Path,
        typer.Argument(help="A .keras file, a SavedModel's folder, NAME.weights.h5, or an .h5."),
    ],
    out: Annotated[Path, typer.Option(help="Folder for the converted models.")],
    tiles: Annotated[
        Path | None,
        typer.Option(
            help="Folder of real tiles to calibrate and compare on, with or without an index.csv."
        ),
    ] = None,
    mpp: Annotated[
        float | None, typer.Option(help="Micrometres per pixel the model was trained at.")
    ] = None,
    tile_px: Annotated[
        int | None,
        typer.Option(help="Side of a tile, for a model that takes tiles of any size.", min=16),
    ] = None,
    pixel_range: Annotated[
        str, typer.Option(help="What the model expects of a pixel: 0..255, 0..1 or -1..1.")
    ] = "0..255",
    output: Annotated[
        str | None,
        typer.Option(
            help="What the model's last layer gives, if the model does not say: softmax, sigmoid "
            "or logits."
        ),
    ] = None,
    custom: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.py",
            help="Python file that defines the model's own layers; it is executed.",
        ),
    ] = None,
    unet: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE",
            help="Setting of the U-net whose weights NAME.weights.h5 holds. May be repeated.",
        ),
    ] = None,
    trust_h5: Annotated[
        bool, typer.Option("--trust-h5", help="Load an .h5, which can run code (CVE-2025-9905).")
    ] = False,
    in_float: Annotated[
        list[str] | None,
        typer.Option(metavar="LAYER", help="Layer that stays in float in INT8. May be repeated."),
    ] = None,
    any_stain: Annotated[
        bool, typer.Option("--any-stain", help="Also take tiles that do not look like H&E.")
    ] = False,
    max_density_points: Annotated[
        float, typer.Option(help="Largest mean density difference to Keras, in points.")
    ] = 0.3,
    min_class_agreement: Annotated[
        float, typer.Option(help="Smallest share of tiles that keep their density class.")
    ] = 0.97,
) -> None:
    """Convert to ONNX and OpenVINO IR (FP32, FP16, INT8), and compare each with Keras."""
    import time

    started = time.monotonic()

    def say(line: str) -> None:
        _say(f"{time.monotonic() - started:4.0f} s  {line}")

    from glioexport import parity
    from glioexport.checktiles import check_folder
    from glioexport.description import Description, check_described
    from gliorun.reading.scale import check_mpp

    description = Description(custom, trust_h5, tuple(unet or ()), tile_px, output, pixel_range)
    tolerance = parity.Tolerance(max_density_points, min_class_agreement)
    check_mpp(mpp)
    check_described(model, description)
    if tiles is not None:
        check_folder(tiles)

    load_tensorflow()
    from glioexport.convert import convert as convert_model

    figures = convert_model(
        model,
        out,
        tiles=tiles,
        mpp=mpp,
        tolerance=tolerance,
        say=say,
        description=description,
        any_stain=any_stain,
        in_float=tuple(in_float or ()),
    )
    typer.echo(parity.table(figures))
    caution = parity.caution(figures)
    if caution is not None:
        _say(caution)


@app.command()
def clean(
    data: Annotated[
        Path, typer.Argument(help="Folder of tile images, with or without an index.csv.")
    ],
    out: Annotated[
        Path, typer.Option(help="Folder for clean.csv and for the index.csv of the tiles to keep.")
    ],
    mpp: Annotated[
        float,
        typer.Option(help="Micrometres per pixel of tiles whose index.csv does not state it."),
    ] = 0.25,
    limit: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE", help="Change one limit, such as max_edge_px=4. May be repeated."
        ),
    ] = None,
) -> None:
    """Say which tiles are blurred, folded, inked or blank; no image is moved or deleted."""
    from glioexport.clean import clean as clean_tiles
    from glioexport.clean import summary
    from gliorun.qualitylimits import QualityLimits

    limits = QualityLimits()
    for change in limit or ():
        limits = limits.varied(change)
    typer.echo(summary(clean_tiles(data, out, limits, mpp=mpp)))


@app.command()
def annotate(
    images: Annotated[
        list[Path],
        typer.Argument(help="Tile images, or folders of them; or one slide, with its --map."),
    ],
    out: Annotated[Path, typer.Option(help="Folder for candidates.csv and candidates/.")],
    mpp: Annotated[
        float | None,
        typer.Option(
            help="Micrometres per pixel; by default 0.25 for tiles, and that of the slide for a "
            "slide."
        ),
    ] = None,
    set_name: Annotated[
        str | None,
        typer.Option(
            "--set", help="Name of the set, such as the laboratory; by default the name of OUT."
        ),
    ] = None,
    patient: Annotated[
        str,
        typer.Option(
            help="Patient of all these tiles, if known; by default the name of the slide."
        ),
    ] = "",
    licence: Annotated[str, typer.Option(help="Licence of these tiles.")] = "unknown",
    density_map: Annotated[
        Path | None,
        typer.Option(
            "--map",
            metavar="density.csv",
            help="Map of the slide, by which fields are chosen from sparse to dense, all over the "
            "section.",
        ),
    ] = None,
    count: Annotated[
        int | None,
        typer.Option("--fields", help="Number of fields to choose by the map; default 8.", min=1),
    ] = None,
    square: Annotated[
        list[str] | None,
        typer.Option(
            metavar="B6",
            help="Take a field in the middle of this square of the map. May be repeated.",
        ),
    ] = None,
    at: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Take a field in the middle of each region that is drawn on the slide (GeoJSON).",
        ),
    ] = None,
    outlines: Annotated[
        str,
        typer.Option(help="What proposes the outlines: network, or otsu, which is a threshold."),
    ] = "network",
    model: Annotated[
        Path | None,
        typer.Option(
            metavar="NAME|FILE", help="The network: student (the default), reference, or an IR."
        ),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace GeoJSON that may have been corrected.")
    ] = False,
) -> None:
    """Outline candidate nuclei of tiles, or of fields of a slide, to be corrected in QuPath."""
    if outlines not in ("network", "otsu"):
        raise UsageError(f"outlines is {outlines!r}; known: network, otsu")
    if count is not None and density_map is None:
        raise UsageError("--fields goes with --map, by which they are chosen")
    if (density_map or square or at) and len(images) != 1:
        raise UsageError("--map, --square and --at are of one slide; name one")

    from glioexport import annotate as candidates
    from gliorun.model.engine import EXACT, open_model
    from gliorun.model.shipped import model_path

    set_name = out.resolve().name if set_name is None else set_name
    engine = open_model(model_path(model), EXACT)
    outline = candidates.by_network(engine) if outlines == "network" else candidates.by_thresholds
    source = candidates.Source(set_name, patient, licence, 0.25 if mpp is None else mpp)
    if density_map or square or at:
        asked = candidates.Asked(density_map, count or 8, tuple(square or ()), at)
        images, source = candidates.cut_fields(
            images[0], out, engine, asked, source, mpp=mpp, overwrite=overwrite
        )
    total = candidates.annotate(images, out, source, outline=outline, overwrite=overwrite, say=_say)
    typer.echo(
        f"{total} candidate nuclei in {out / 'candidates'}; all of them at a glance: "
        f"{out / 'contact.jpg'}"
    )


@app.command()
def masks(
    geojson: Annotated[
        list[Path], typer.Argument(help="Corrected GeoJSON, named after the tiles, or folders.")
    ],
    out: Annotated[Path, typer.Option(help="The folder that `annotate` wrote to.")],
    split: Annotated[str, typer.Option(help="Split that the tiles join: train or val.")] = "train",
    further_class: Annotated[
        list[str] | None,
        typer.Option(
            "--class",
            help="Class that counts as nucleus, besides Nucleus and outlines without a class. May "
            "be repeated.",
        ),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace ground truth that exists already.")
    ] = False,
) -> None:
    """Make corrected GeoJSON the ground truth that `train` reads: labels and index.csv."""
    from glioexport.annotate import take_corrections

    total = take_corrections(
        geojson,
        out,
        split=split,
        further_classes=further_class or (),
        overwrite=overwrite,
        say=_say,
    )
    typer.echo(f"{total} nuclei in {out / 'index.csv'}")


@app.command()
def calibrate(
    data: Annotated[
        Path,
        typer.Argument(help="Folder of labelled fields with an index.csv, as 'masks' writes it."),
    ],
    out: Annotated[Path, typer.Option(help="The calibration to write (.json), and its .png.")],
    model: Annotated[
        Path | None,
        typer.Option(
            metavar="NAME|FILE", help="student (the default), reference, or an IR (.xml)."
        ),
    ] = None,
    sets: Annotated[
        list[str] | None, typer.Option("--set", help="Use only this set. May be repeated.")
    ] = None,
    split: Annotated[str, typer.Option(help="Split to use: val, train or all.")] = "all",
    name: Annotated[
        str | None,
        typer.Option(
            help="Name of the laboratory, which stands in all outputs; by default the name of OUT."
        ),
    ] = None,
    by: Annotated[str, typer.Option(help="Who calibrates, for the record.")] = "",
) -> None:
    """Find the level at which a laboratory's own fields are measured without bias.

    gliorun takes it with --calibration. Needs three labelled fields, better ten, of several slides.
    """
    from glioexport.calibrate import calibrate as calibrate_model
    from gliorun.model.shipped import model_path

    calibrated = calibrate_model(
        data, out, model=model_path(model), sets=sets or (), split=split, name=name, by=by, say=_say
    )
    typer.echo(f"{out}: {calibrated.calibration}; gliorun slide.svs --calibration {out}")


def _say(line: str) -> None:
    typer.echo(line, err=True)


def run() -> None:
    """Run glioexport."""
    commandline.run(app, "glioexport")
