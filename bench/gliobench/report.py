"""Report measurements as Markdown: of one machine, or of several side by side."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gliobench.compare import CompareFigures, Row
from gliobench.document import DISAGREES
from gliobench.speed import BUSY, Point, SpeedFigures, Way
from gliorun.commandline import table

MB = 1e6
NEAR_PEAK = 0.6
"""Share of the peak from which a network counts as limited by its operations."""
LARGEST_SPREAD = 1.5
"""A ratio whose rounds differ by more than this factor is not stated."""


def spread(values: Sequence[float], digits: int) -> str:
    """Return the median, with minimum and maximum in brackets."""
    if not values:
        return "–"
    median, low, high = float(np.median(values)), min(values), max(values)
    return f"{median:.{digits}f} ({low:.{digits}f}–{high:.{digits}f})"


def ratio(values: Sequence[float]) -> str:
    """Return a ratio as `spread` does, or a note if its rounds differ too much."""
    if values and max(values) > LARGEST_SPREAD * min(values):
        return f"worthless ({min(values):.2f}–{max(values):.2f})"
    return spread(values, 2)


def cpu_ratio(more: Sequence[float], less: Sequence[float]) -> str:
    """Return the ratio of the CPU time of `more` to that of `less`, round by round."""
    return ratio([value / other for value, other in zip(more, less, strict=True)])


def compare_markdown(figures: CompareFigures) -> str:
    """Return the figures of `gliobench compare`: speed, cost, agreement and limits."""
    reference = figures.rows[0]
    peaks = ", ".join(f"{peak:.0f} in {precision}" for precision, peak in figures.peaks.items())
    parts = [
        f"{figures.tiles} tiles of {figures.source}, {figures.rounds} rounds in turns; median, "
        "minimum and maximum in brackets.",
        table(
            (
                "backend", "CPU s a tile", f"{reference.name} takes × the CPU", "tiles/s",
                f"× {reference.name}", "start, s", "peak memory", "GMAC a tile", "of the peak",
            ),
            (_cost_row(row, reference) for row in figures.rows),
        ),
        table(
            (
                f"agreement with {reference.name}", "Dice", "density difference: mean", "worst",
                "same class",
            ),
            (_agreement_row(row) for row in figures.rows),
        ),
        f"Measured peak of one core, 10⁹ operations/s (a MAC is two): {peaks}. "
        f"{limit(figures)}",
    ]  # fmt: skip
    parts += [f"Left out: {why}." for why in figures.left_out]
    return "\n\n".join(parts)


def limit(figures: CompareFigures) -> str:
    """Return what would make the fastest agreeing backend faster."""
    ranked = [row for row in figures.rows if row.agrees and row.peak_share is not None]
    if not ranked:
        return ""
    fastest = max(ranked, key=lambda row: float(np.median(row.tiles_s)))
    share = fastest.peak_share or 0.0
    way_out = (
        "its operations are the limit, so only fewer of them help"
        if share >= NEAR_PEAK
        else "memory or small layers are the limit, not its operations alone"
    )
    return f"{fastest.name} reaches {share:.0%} of it: {way_out}."


def _name(row: Row) -> str:
    batch = f", batch {row.batch}" if row.batch > 1 else ""
    return f"{row.name}{batch}" if row.agrees else f"{row.name}{batch} {DISAGREES}"


def _cost_row(row: Row, reference: Row) -> Sequence[str]:
    less = cpu_ratio(reference.cpu_s_a_tile, row.cpu_s_a_tile)
    return (
        _name(row),
        spread(row.cpu_s_a_tile, 3),
        less if row.agrees else "not ranked",
        spread(row.tiles_s, 1),
        ratio(row.ratios) if row.agrees else "not ranked",
        f"{row.start_s:.1f}",
        memory(row.peak_bytes),
        "–" if row.gmac is None else f"{row.gmac:.1f}",
        "–" if row.peak_share is None else f"{row.peak_share:.0%} of {row.precision}",
    )


def _agreement_row(row: Row) -> Sequence[str]:
    agreement = row.agreement
    return (
        _name(row) if row.same_network else f"{_name(row)} (another network)",
        f"{agreement.dice:.4f}",
        f"{agreement.density_error_points:.3f} points",
        f"{agreement.density_worst_points:.3f}",
        f"{agreement.class_agreement:.1%}",
    )


def speed_markdown(figures: SpeedFigures) -> str:
    """Return the figures of `gliobench speed`: ways, stages, scaling."""
    gigapixels = figures.width_px * figures.height_px / 1e9
    job = figures.ways[0]
    parts = [
        f"{figures.slide}: {gigapixels:.2f} gigapixels, {figures.tissue_tiles:,} tiles with "
        f"tissue; {figures.model}, {figures.precision}. {figures.tiles} tiles from the middle of "
        f"its tissue, {figures.rounds} rounds in turns; median, minimum and maximum in brackets.",
        table(
            (
                "way", "CPU s a tile", "takes × gliorun's CPU", "tiles/s", "gliorun is × as fast",
                "peak memory", "density",
            ),
            (_way_row(way, job) for way in figures.ways),
        ),
        f"{_of_100mm2(figures)}\nBottleneck: {figures.bottleneck}.",
        _stages(figures.stages, float(np.median(job.cpu_s_a_tile))),
    ]  # fmt: skip
    for name, points in (
        ("reader threads", figures.threads),
        ("requests", figures.requests),
        ("gigapixels", figures.sizes),
    ):
        if points:
            parts.append(_scaling(name, points))
    parts += [f"Left out: {why}." for why in figures.left_out]
    return "\n\n".join(parts)


def _of_100mm2(figures: SpeedFigures) -> str:
    """Return the time for 100 mm² of tissue; in CPU seconds if other programs ran."""
    job = figures.ways[0]
    pace = f"from {spread(job.tiles_s, 1)} tiles/s, after a start of {spread(figures.start_s, 2)} s"
    if figures.busy_alone >= BUSY:
        return f"**{figures.seconds_a_100mm2:.0f} s for 100 mm²** of tissue ({pace})."
    tiles = (figures.seconds_a_100mm2 - np.median(figures.start_s)) * np.median(job.tiles_s)
    return (
        f"**{tiles * np.median(job.cpu_s_a_tile):.0f} CPU s for 100 mm²** of tissue. Other "
        f"programs ran, the network alone had {figures.busy_alone:.0%} of the processors: it took "
        f"{figures.seconds_a_100mm2:.0f} s ({pace})."
    )


def _stages(stages: dict[str, float], job_s: float) -> str:
    """Return a table of the CPU seconds of each stage alone, and of the whole job."""
    alone_s = sum(stages.values())
    rows = [
        (name, f"{1000 * seconds:.2f}", f"{seconds / alone_s:.1%}")
        for name, seconds in stages.items()
    ]
    return (
        table(("stage", "CPU ms a tile", "share"), rows)
        + f"\n\nEach stage alone, together {1000 * alone_s:.2f} ms; "
        f"the whole job takes {1000 * job_s:.2f} ms of CPU time a tile."
    )


def _way_row(way: Way, job: Way) -> Sequence[str]:
    difference = way.density_difference_points
    density = "no masks" if difference is None else f"{difference:.3f} points apart"
    return (
        way.name if way.agrees else f"{way.name} {DISAGREES}",
        spread(way.cpu_s_a_tile, 3),
        cpu_ratio(way.cpu_s_a_tile, job.cpu_s_a_tile) if way.agrees else "not ranked",
        spread(way.tiles_s, 1),
        ratio(way.ratios) if way.agrees else "not ranked",
        memory(way.peak_bytes),
        density,
    )


def memory(peak_bytes: int | None) -> str:
    """Return a peak of memory in MB."""
    return "–" if peak_bytes is None else f"{peak_bytes / MB:.0f} MB"


def _scaling(name: str, points: Sequence[Point]) -> str:
    head = [name, "CPU s a tile", "tiles/s", "start, s"]
    own = any(point.peak_bytes is not None for point in points)
    rows = [
        [
            f"{point.setting:g}",
            spread(point.cpu_s_a_tile, 3),
            spread(point.tiles_s, 1),
            spread(point.start_s, 2),
            *([memory(point.peak_bytes)] if own else []),
        ]
        for point in points
    ]
    return table([*head, *(["peak memory"] if own else [])], rows)
