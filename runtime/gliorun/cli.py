"""gliorun: a slide in, a density map out."""

from __future__ import annotations

import signal
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from gliorun import commandline, defaults
from gliorun.errors import UsageError

app = typer.Typer()

STOPPED = 130
"""Exit code after Ctrl-C, as shells have it."""
EXAMPLE = "gliorun slide.svs --out heatmap.png --out report.html --out density.csv"
MANY_SLIDES = "Many slides (all options here need --out-dir)"
LOOK = "Look at slides (in the browser, on this computer alone)"
METHOD = "How it is measured (compare only maps made with the same values)"
MACHINE = "This machine (defaults are chosen for it)"
MANY = "gliorun scans/ --out-dir maps/"
VIEW = "gliorun slide.svs --view"
VIEW_MANY = "gliorun --out-dir maps/ --view"
DEMO = "gliorun --demo --out heatmap.png"
EXAMPLES = f"""\
gliorun maps the nucleus density of slides:
  {EXAMPLE}
  {MANY}
  {DEMO}
'gliorun --help' lists all it can do."""
EXIT_CODES = (
    "Exit code 0: done. 1: a slide or the model cannot be used, or some of many slides failed. "
    f"2: wrong usage. {STOPPED}: stopped."
)
FORMATS = "png,csv,html"
NOT_AGAIN = ("slides", "watch", "settle_s", "json_lines", "quiet", "verbose", "cluster")
"""What a command that tries single slides again does without."""
NAMED = ("model", "calibration")
"""Options that take the name of something, or a file."""
SETTLE_S = 30.0
OUTPUTS = (
    ".png heatmap, .html report, .evidence.png tiles with what was counted, .qc.png tissue and "
    "tiles without a value, .csv density, .regions.csv regions, .geojson tiles for QuPath, "
    ".nuclei.geojson every nucleus, .tissue.geojson tissue and areas without a value, "
    ".ome.tif density, "
    ".mask.ome.tif nucleus mask, .dcm and .nuclei.dcm DICOM, .parquet and .nuclei.parquet "
    "tables, .thumb.jpg both small, .json run record."
)


def _show_version(wanted: bool) -> None:
    if wanted:
        from gliorun.model import shipped

        typer.echo(shipped.versions())
        raise typer.Exit


@app.command(
    help=f"Map the nucleus density of slides.\n\nOne: {EXAMPLE}\n\nMany: {MANY} [--watch]",
    epilog=EXIT_CODES,
)
def main(
    context: typer.Context,
    slides: Annotated[
        list[str] | None,
        typer.Argument(
            help="Whole-slide image in any format OpenSlide reads, or a field of one as PNG, JPEG, "
            "BMP or TIFF; with --out-dir also many, folders, patterns such as 'scans/**/*.svs', "
            "and a list (.csv) with the columns slide, name, mpp, tissue_mask, regions, "
            "calibration."
        ),
    ] = None,
    # `readable=False` keeps typer from checking the path; we report a bad one in one line
    out: Annotated[
        list[Path] | None,
        typer.Option(
            readable=False,
            help=f"File to write; its suffix chooses the output. May be repeated. {OUTPUTS}",
        ),
    ] = None,
    demo: Annotated[
        bool, typer.Option("--demo", help="Measure a synthetic slide that is made for this run.")
    ] = False,
    out_dir: Annotated[
        Path | None,
        typer.Option(
            readable=False,
            help="Folder for the outputs of all slides, summary.csv and index.html.",
            rich_help_panel=MANY_SLIDES,
        ),
    ] = None,
    formats: Annotated[
        str | None,
        typer.Option(
            "--format",
            help=f"Outputs of every slide, as suffixes; default {FORMATS}.",
            rich_help_panel=MANY_SLIDES,
        ),
    ] = None,
    watch: Annotated[
        bool,
        typer.Option(
            "--watch",
            help="Keep running and measure new slides as they arrive, until stopped.",
            rich_help_panel=MANY_SLIDES,
        ),
    ] = False,
    settle_s: Annotated[
        float | None,
        typer.Option(
            help="With --watch: seconds without a change after which a file is complete; "
            f"default {SETTLE_S:g}.",
            rich_help_panel=MANY_SLIDES,
        ),
    ] = None,
    cluster: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help="Dask scheduler, as tcp://HOST:8786; its workers must see the same folders.",
            rich_help_panel=MANY_SLIDES,
        ),
    ] = None,
    view: Annotated[
        bool,
        typer.Option(
            "--view",
            help="Open the slide in the browser, with its map and outlines of nuclei; "
            "with an --out-dir alone what was measured there.",
            rich_help_panel=LOOK,
        ),
    ] = False,
    view_port: Annotated[
        int | None,
        typer.Option(
            min=1, max=65535, help="Port of the page; default any free one.", rich_help_panel=LOOK
        ),
    ] = None,
    view_address: Annotated[
        str,
        typer.Option(
            envvar="GLIORUN_VIEW_ADDRESS",
            help="Address to listen at; 0.0.0.0 is for a container, whose port is published to "
            "127.0.0.1 of its host.",
            rich_help_panel=LOOK,
        ),
    ] = defaults.VIEW_ADDRESS,
    mpp: Annotated[float | None, typer.Option(help="Overrides the slide's scale (µm/px).")] = None,
    model: Annotated[
        Path | None,
        typer.Option(
            readable=False,
            metavar="NAME|FOLDER|FILE",
            help="student (the default), reference, or what 'glioexport convert' wrote: its "
            "folder, of which INT8 is taken, or an IR (.xml).",
        ),
    ] = None,
    calibration: Annotated[
        str | None,
        typer.Option(
            envvar="GLIORUN_CALIBRATION",
            metavar="FILE|none",
            help="Calibrate to your laboratory's outlines: the file of 'glioexport calibrate'.",
            rich_help_panel=METHOD,
        ),
    ] = None,
    cell_px: Annotated[
        int | None,
        typer.Option(
            help="Side of a map cell in model pixels; must divide the tile.", rich_help_panel=METHOD
        ),
    ] = None,
    palette: Annotated[
        str, typer.Option(help="Colours of the map: cold-hot, paper-like or continuous.")
    ] = defaults.PALETTE,
    overlay: Annotated[
        bool, typer.Option("--overlay", help="Draw the map over the slide, not beside it.")
    ] = False,
    hot_spots: Annotated[
        int, typer.Option(help="Number of hot spots, the densest fields.", rich_help_panel=METHOD)
    ] = defaults.HOT_SPOTS,
    hot_spot_mm2: Annotated[
        float,
        typer.Option(help="Area of a hot spot in mm².", rich_help_panel=METHOD),
    ] = defaults.HOT_SPOT_MM2,
    density: Annotated[
        str,
        typer.Option(
            metavar="tissue|tile",
            help="What nucleus area is divided by: the tissue in a cell, a field, a slide, or the "
            "whole tile, glass included, as in the paper.",
            rich_help_panel=METHOD,
        ),
    ] = defaults.DENSITY,
    max_bad_tiles: Annotated[
        float,
        typer.Option(
            help="Share of unreadable tiles above which the slide fails.", rich_help_panel=METHOD
        ),
    ] = defaults.MAX_BAD_TILES,
    tissue_mask: Annotated[
        Path | None,
        typer.Option(
            readable=False,
            help="Tissue drawn by hand, which replaces what gliorun finds: annotations of QuPath "
            "(.geojson), or an image above 0 on tissue, in the shape of the slide or of what "
            "QuPath shows of it.",
        ),
    ] = None,
    keep_patient: Annotated[
        bool,
        typer.Option(
            "--keep-patient",
            help="Name the patient and the study of a DICOM slide in DICOM outputs; by default "
            "they are left out.",
        ),
    ] = False,
    names: Annotated[
        str,
        typer.Option(
            metavar="file|hash",
            help="What outputs, records and tables call a slide: its file, or a hash of its "
            "content, which tells nobody who it is.",
        ),
    ] = "file",
    regions: Annotated[
        Path | None,
        typer.Option(
            readable=False,
            metavar="FILE|FOLDER",
            help="Regions drawn in QuPath (GeoJSON), ImageScope or ASAP (XML): only what lies in "
            "one is measured, each by itself. In a folder, the file named after the slide.",
        ),
    ] = None,
    count: Annotated[
        bool,
        typer.Option(
            "--count", help="Also count the nuclei per mm² of tissue, whatever is written."
        ),
    ] = False,
    any_quality: Annotated[
        bool,
        typer.Option(
            "--any-quality",
            help="Also measure blurred, folded and inked tiles.",
            rich_help_panel=METHOD,
        ),
    ] = False,
    device: Annotated[
        str,
        typer.Option(
            help="Device by OpenVINO's name: CPU, GPU, NPU, AUTO …", rich_help_panel=MACHINE
        ),
    ] = defaults.DEVICE,
    threads: Annotated[
        int | None, typer.Option(help="Number of threads that read tiles.", rich_help_panel=MACHINE)
    ] = None,
    requests: Annotated[
        int | None,
        typer.Option(help="Number of inferences submitted at once.", rich_help_panel=MACHINE),
    ] = None,
    streams: Annotated[
        int | None,
        typer.Option(help="Number of inferences computed in parallel.", rich_help_panel=MACHINE),
    ] = None,
    network_threads: Annotated[
        int | None,
        typer.Option(help="Number of processor threads for the network.", rich_help_panel=MACHINE),
    ] = None,
    cores: Annotated[
        str,
        typer.Option(
            help="Cores of a hybrid processor to use: any, performance or efficiency.",
            rich_help_panel=MACHINE,
        ),
    ] = defaults.CORES,
    precision: Annotated[
        str,
        typer.Option(
            help="Precision of the layers that are not INT8: f32, bf16 or auto.",
            rich_help_panel=MACHINE,
        ),
    ] = defaults.PRECISION,
    memory: Annotated[
        float, typer.Option(help="Upper bound on the buffers in MB.", rich_help_panel=MACHINE)
    ] = defaults.MEMORY_MB,
    checkpoint: Annotated[
        float,
        typer.Option(
            help="Seconds between checkpoints, from which a stopped run resumes; 0 for none.",
            rich_help_panel=MACHINE,
        ),
    ] = defaults.CHECKPOINT_S,
    timeout: Annotated[
        float,
        typer.Option(
            help="Seconds after which a hanging inference is given up.",
            rich_help_panel=MACHINE,
        ),
    ] = defaults.TIMEOUT_S,
    quiet: Annotated[
        bool,
        typer.Option(
            "--quiet",
            help="Show warnings but no progress; for many slides also faults and the total.",
        ),
    ] = False,
    json_lines: Annotated[
        bool,
        typer.Option(
            "--json-lines",
            help="Write every event to stdout as one line of JSON.",
            rich_help_panel=MANY_SLIDES,
        ),
    ] = False,
    verbose: Annotated[
        bool,
        typer.Option("--verbose", help="Show the automatic choices for this machine and slide."),
    ] = False,
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            help="Show versions and the model's hash.",
            callback=_show_version,
            is_eager=True,
        ),
    ] = False,
) -> None:
    if not (slides or out or out_dir or demo or view):
        typer.echo(EXAMPLES, err=True)
        raise typer.Exit(2)
    if names not in ("file", "hash"):
        raise UsageError(f"--names {names}: unknown; known: file, hash")
    _check_usage(slides, out, out_dir, demo=demo, view=view)
    many = {
        "--format": formats is not None,
        "--watch": watch,
        "--settle-s": settle_s is not None,
        "--cluster": cluster is not None,
        "--json-lines": json_lines,
    }
    _check_many(out_dir, many, tissue_mask)
    if view and any(many.values()):
        given = next(name for name, was_given in many.items() if was_given)
        raise UsageError(f"{given} is for measuring many slides, --view for looking at them")
    if view_port is not None and not view:
        raise UsageError(f"--view-port goes with --view. Example: {VIEW}")
    if settle_s is not None and not watch:
        raise UsageError(f"--settle-s goes with --watch. Example: {MANY} --watch")

    from gliorun import job
    from gliorun.model import calibration as calibrations
    from gliorun.model import shipped
    from gliorun.model.engine import Compute
    from gliorun.plan import Plan
    from gliorun.qualitylimits import QualityLimits
    from gliorun.settings import Settings
    from gliorun.writers import Appearance

    limits = None if any_quality else QualityLimits()
    settings = Settings(
        mpp,
        cell_px,
        threads,
        max_bad_tiles,
        limits,
        tissue_mask,
        memory,
        calibrations.named(calibration),
        density=density,
    )
    if regions is not None and out_dir is None:
        from gliorun.reading.regionfile import regions_file

        slide = Path(slides[0] if slides else "demo.svs")
        settings = replace(settings, regions=regions_file(regions, slide))
    compute = Compute(
        device=device,
        requests=requests,
        streams=streams,
        threads=network_threads,
        cores=cores,
        precision=precision,
        timeout_s=timeout,
    )
    plan = Plan(
        out or [],
        shipped.model_path(model),
        settings,
        compute,
        Appearance(palette, overlay),
        hot_spots,
        hot_spot_mm2,
        checkpoint,
        keep_patient=keep_patient,
        counts=count,
        hides_names=names == "hash",
    )
    try:
        if view:
            from gliorun.viewer import command as viewing
            from gliorun.viewer.server import Page

            page = Page(view_address, view_port or 0, typer.echo, _complain)
            viewing.leave(0 if viewing.view(slides, out_dir, plan, page) else 1)
        elif out_dir is not None and slides:
            from gliorun.batch import command
            from gliorun.batch.again import Again

            settle_s = SETTLE_S if settle_s is None else settle_s
            request = command.Request(
                slides,
                out_dir,
                formats or FORMATS,
                settle_s,
                cluster,
                regions,
                Again(_typed(context)),
            )
            output_mode = command.OutputMode(quiet, json_lines, verbose)
            if watch:
                command.watch(request, plan, output_mode)
            elif not command.run(request, plan, output_mode):
                raise typer.Exit(1)
        elif slides:
            typer.echo(job.run(Path(slides[0]), plan, quiet, verbose))
        else:
            typer.echo(job.run_demo(plan, quiet, verbose))
    except KeyboardInterrupt:
        typer.echo("gliorun: stopped; the same command goes on from here", err=True)
        raise typer.Exit(STOPPED) from None


def _complain(line: str) -> None:
    typer.echo(f"gliorun: {line}", err=True)


def _typed(context: typer.Context) -> tuple[str, ...]:
    """Return the options that were typed and decide on the outputs, with absolute paths."""
    from gliorun.reading.files import is_there

    words: list[str] = []
    for option in context.command.params:
        source = context.get_parameter_source(option.name or "")
        if source is None or source.name != "COMMANDLINE" or option.name in NOT_AGAIN:
            continue
        words.append(option.opts[0])
        value = context.params[option.name or ""]
        if isinstance(value, bool):
            continue
        is_path = is_there(Path(value)) if option.name in NAMED else isinstance(value, Path)
        words.append(str(Path(value).absolute() if is_path else value))
    return tuple(words)


def _check_usage(
    slides: list[str] | None,
    out: list[Path] | None,
    out_dir: Path | None,
    *,
    demo: bool,
    view: bool,
) -> None:
    """Refuse a command without a slide or an output, or with contradicting ones."""
    if view:
        _check_view(slides, out, out_dir, demo=demo)
        return
    if demo == bool(slides):
        raise UsageError(f"name one slide, or --demo. Example: {EXAMPLE}")
    if demo and not out:
        raise UsageError(f"--demo goes with --out. Example: {DEMO}")
    if not out and out_dir is None:
        raise UsageError(f"say where to, with --out or --out-dir. Example: {EXAMPLE}, or {MANY}")
    if out and out_dir is not None:
        raise UsageError("--out names files, --out-dir a folder; give one of them")
    if out and slides and len(slides) > 1:
        raise UsageError(f"--out is for one slide; for many: {MANY}")


def _check_view(
    slides: list[str] | None, out: list[Path] | None, out_dir: Path | None, *, demo: bool
) -> None:
    """Refuse to show anything but one slide, the demo, or a folder of maps."""
    shown = len(slides or ()) + demo
    if shown > 1 or (shown == 0 and out_dir is None):
        raise UsageError(f"--view shows one slide, --demo, or an --out-dir. Example: {VIEW}")
    if out_dir is not None and (out or demo):
        raise UsageError(f"--view with --out-dir writes no other outputs. Example: {VIEW_MANY}")


def _check_many(out_dir: Path | None, given: dict[str, bool], tissue_mask: Path | None) -> None:
    """Refuse options for many slides with one slide, and the reverse."""
    for name, was_given in given.items():
        if was_given and out_dir is None:
            raise UsageError(f"{name} goes with --out-dir. Example: {MANY}")
    if out_dir is not None and tissue_mask is not None:
        raise UsageError("--tissue-mask is of one slide; with --out-dir there are many")


def run() -> None:
    """Run gliorun; a service manager stops it as Ctrl-C does."""
    for name in ("SIGTERM", "SIGBREAK"):  # SIGBREAK exists on Windows only
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.default_int_handler)
    commandline.run(app, "gliorun")
