"""gliorun: a slide in, a density map out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gliorun import commandline

app = typer.Typer(add_completion=False)

EXAMPLE = "gliorun slide.svs --out heatmap.png --out report.html --out density.csv"
OUTPUTS = (
    ".png heatmap, .html report, .csv density, .geojson tiles for QuPath, .nuclei.geojson every "
    "nucleus, .ome.tif density, .mask.ome.tif nucleus mask, .json run record."
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
        Path | None,
        typer.Option(
            metavar="NAME|FILE",
            help="student (the default), reference, or an IR (.xml) of 'glioexport convert'.",
        ),
    ] = None,
    cell_px: Annotated[
        int | None, typer.Option(help="Side of a map cell in model pixels; divides the tile.")
    ] = None,
    threads: Annotated[int | None, typer.Option(help="Reader threads.")] = None,
    requests: Annotated[int | None, typer.Option(help="Inferences under way at once.")] = None,
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
    any_quality: Annotated[
        bool,
        typer.Option("--any-quality", help="Measure blurred, folded and inked tiles as well."),
    ] = False,
    demo: Annotated[
        bool, typer.Option("--demo", help="Run on a synthetic slide written for the occasion.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress bar.")] = False,
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
    from gliorun.pipeline import Settings
    from gliorun.reading.quality import QualityLimits
    from gliorun.writers import Look

    limits = None if any_quality else QualityLimits()
    settings = Settings(mpp, cell_px, threads, max_bad_tiles, limits)
    look = Look(palette, overlay)
    plan = job.Plan(out, job.model_path(model), settings, requests, look, hot_spots, hot_spot_mm2)
    summary = job.run_demo(plan, quiet) if slide is None else job.run(slide, plan, quiet)
    typer.echo(summary)


def run() -> None:
    """Run gliorun."""
    commandline.run(app, "gliorun")
