"""gliorun: a slide in, a density map out."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Annotated

import typer

from gliorun import commandline

app = typer.Typer(add_completion=False)

STOPPED = 130
"""Exit code after Ctrl-C, as shells have it."""
EXAMPLE = "gliorun slide.svs --out heatmap.png --out report.html --out density.csv"
MACHINE = "This machine (all of it follows from the machine where you do not say)"
OUTPUTS = (
    ".png heatmap, .qc.png tissue and tiles without a value, .html report, .csv density, "
    ".geojson tiles for QuPath, .nuclei.geojson every nucleus, .ome.tif density, "
    ".mask.ome.tif nucleus mask, .json run record."
)


def _show_version(wanted: bool) -> None:
    if wanted:
        from gliorun import about

        typer.echo(about.versions())
        raise typer.Exit


@app.command(help=f"Map the nucleus density of a slide.\n\nExample: {EXAMPLE}")
def main(
    slide: Annotated[
        Path | None, typer.Argument(help="Whole-slide image in any format OpenSlide reads.")
    ] = None,
    out: Annotated[
        list[Path] | None,
        typer.Option(help=f"File to write; its suffix says what. Repeats. {OUTPUTS}"),
    ] = None,
    mpp: Annotated[
        float | None, typer.Option(help="Micrometres per pixel, before what the slide says.")
    ] = None,
    model: Annotated[
        Path | None, typer.Option(help="IR (.xml) made by 'glioexport convert'.")
    ] = None,
    cell_px: Annotated[
        int | None, typer.Option(help="Side of a map cell in model pixels; divides the tile.")
    ] = None,
    palette: Annotated[
        str, typer.Option(help="Colours: cold-hot, paper-like or continuous.")
    ] = "cold-hot",
    overlay: Annotated[
        bool, typer.Option("--overlay", help="Draw the map over the slide, not beside it.")
    ] = False,
    hot_spots: Annotated[int, typer.Option(help="Densest fields to find.")] = 5,
    hot_spot_mm2: Annotated[float, typer.Option(help="Area of such a field in mm².")] = 1.0,
    max_bad_tiles: Annotated[
        float, typer.Option(help="Share of unreadable tiles past which the slide fails.")
    ] = 0.05,
    tissue_mask: Annotated[
        Path | None,
        typer.Option(help="Image in the slide's shape, above 0 on tissue, to use instead."),
    ] = None,
    any_quality: Annotated[
        bool,
        typer.Option("--any-quality", help="Measure blurred, folded and inked tiles as well."),
    ] = False,
    device: Annotated[
        str,
        typer.Option(help="OpenVINO's name: CPU, GPU, NPU, AUTO …", rich_help_panel=MACHINE),
    ] = "CPU",
    threads: Annotated[
        int | None, typer.Option(help="Reader threads.", rich_help_panel=MACHINE)
    ] = None,
    requests: Annotated[
        int | None, typer.Option(help="Inferences under way at once.", rich_help_panel=MACHINE)
    ] = None,
    streams: Annotated[
        int | None,
        typer.Option(help="Inferences computed side by side.", rich_help_panel=MACHINE),
    ] = None,
    network_threads: Annotated[
        int | None,
        typer.Option(help="Processor threads of the network.", rich_help_panel=MACHINE),
    ] = None,
    cores: Annotated[
        str,
        typer.Option(
            help="Of a hybrid processor: any, performance or efficiency.", rich_help_panel=MACHINE
        ),
    ] = "any",
    memory: Annotated[
        float, typer.Option(help="Bound on the buffers in MB.", rich_help_panel=MACHINE)
    ] = 128,
    checkpoint: Annotated[
        float,
        typer.Option(
            help="Seconds between checkpoints, from which a stopped run goes on; 0 for none.",
            rich_help_panel=MACHINE,
        ),
    ] = 10,
    timeout: Annotated[
        float,
        typer.Option(
            help="Seconds after which an inference that hangs is given up.",
            rich_help_panel=MACHINE,
        ),
    ] = 120,
    demo: Annotated[
        bool, typer.Option("--demo", help="Run on a synthetic slide written for the occasion.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress bar.")] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", help="Say what was chosen for this machine and slide.")
    ] = False,
    version: Annotated[
        bool,
        typer.Option("--version", help="Show versions.", callback=_show_version, is_eager=True),
    ] = False,
) -> None:
    if demo == (slide is not None):
        raise typer.BadParameter(f"name one slide, or --demo. Example: {EXAMPLE}")
    if not out:
        raise typer.BadParameter(f"say where to, with --out. Example: {EXAMPLE}")

    from gliorun import job
    from gliorun.engine import Compute
    from gliorun.reading.quality import QualityLimits
    from gliorun.settings import Settings
    from gliorun.writers import Look

    limits = None if any_quality else QualityLimits()
    settings = Settings(mpp, cell_px, threads, max_bad_tiles, limits, tissue_mask, memory)
    compute = Compute(
        device=device,
        requests=requests,
        streams=streams,
        threads=network_threads,
        cores=cores,
        timeout_s=timeout,
    )
    plan = job.Plan(
        out,
        model or job.DEFAULT_MODEL,
        settings,
        compute,
        Look(palette, overlay),
        hot_spots,
        hot_spot_mm2,
        checkpoint,
    )
    try:
        if slide is None:
            summary = job.run_demo(plan, quiet, verbose)
        else:
            summary = job.run(slide, plan, quiet, verbose)
    except KeyboardInterrupt:
        typer.echo("gliorun: stopped; the same command goes on from here", err=True)
        raise typer.Exit(STOPPED) from None
    typer.echo(summary)


def run() -> None:
    """Run gliorun; a service that is told to end stops as on Ctrl-C."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    commandline.run(app, "gliorun")
