"""run.json: the slide, model, settings and versions of a run, and its results."""

from __future__ import annotations

import json
import math
import os
import platform
from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from gliorun import __version__
from gliorun.measuring.density import CLASS_NAMES, NO_CLASS, classify
from gliorun.measuring.tile import Status
from gliorun.model.shipped import LIBRARIES
from gliorun.reading.scale import VENDOR, objective_power
from gliorun.settings import Settings
from gliorun.writers.palette import Appearance
from gliorun.writers.result import Result

if TYPE_CHECKING:
    from gliorun.findings.regions import RegionResult

FORMAT = 1


def run_record(
    result: Result,
    *,
    properties: Mapping[str, str],
    fingerprint: str | None,
    fields: tuple[int, float],
    compute: Mapping[str, str],
    settings: Settings,
    started_at: datetime,
    resumed_tiles: int,
    seconds: Mapping[str, float],
) -> dict[str, Any]:
    """Return the record of a run as plain JSON values, in this order:

    format : int, of this record
    started_at, started_at_local : str, ISO 8601, to the second; UTC, and by this computer's clock
    slide : name (of the file, without its folder), fingerprint (`reading.files.fingerprint_of`),
        width_px, height_px (level 0), vendor and objective_power (or null)
    scale : x_mpp, y_mpp (µm per level-0 px), source ("slide" or "--mpp")
    model : name, precision, tile_px, mpp, source_sha256, weights_sha256, parity, intended_use
    compute : what the model ran on and how
    settings : every setting of the pipeline
    tiles : number of tiles by status
    cells : side_px (model px) and number of cells by class; "no value" is tissue without one
    outlines : levels of the inner, the deciding and the outer outline of nuclei
    density : mean (of the tissue, 0 to 1, or null), mean_low and mean_high (by the inner and the
        outer outline), straddling_cells (whose class hangs on that), and class_shares (of the
        tissue, by class)
    fields : count and area_mm2 of the hot spots that were asked for
    hot_spots : list of rank, minx, miny, width, height (level-0 px), square, density, density_low,
        density_high, tissue_share, area_mm2, nuclei_per_mm2 (or null)
    regions : list of name, class, area_mm2, tissue_mm2, density, density_low, density_high,
        class_shares, nuclei, nuclei_per_mm2, hot_spot (as in hot_spots, or null)
    region_differences : list of first, second, difference, interval (low and high, or null),
        block_um (or null)
    nuclei : nuclei, crossing_share, nuclei_per_mm2, displaced_share, other_class_share,
        rank_correlation; or null
    warnings : list of str
    resumed_tiles : number of tiles taken over from a run that was stopped
    seconds : by stage, as given; without what a run that was stopped took
    versions : by library
    machine : system and processors

    When the outputs are written, outputs (SHA-256 of each, by name) and appearance are added.

    Parameters
    ----------
    result : Result
        As it is but for the record itself.
    properties : mapping of str to str
        The slide's; only the vendor and the objective power are taken, as others may name a
        patient.
    fingerprint : str or None
        Of the slide's files; None if they could not be read any more.
    fields : (int, float)
        Number of hot spots and area in mm² of each, as asked for.
    compute : mapping of str to str
        Device and options in use, as `Engine.choices` returns them.
    settings : Settings
    started_at : datetime
        With a time zone.
    resumed_tiles : int
    seconds : mapping of str to float
        Duration of each stage.
    """
    density, card, counts = result.density, result.card, result.comparison
    mean_low, mean_high = density.mean_band()
    width_px, height_px = density.grid.size_l0
    status = density.cell_status
    classes = classify(density.density)
    tissue_without_value = (classes == NO_CLASS) & (status != Status.NO_TISSUE)
    shares = density.class_shares().tolist()
    record = {
        "format": FORMAT,
        "started_at": _utc(started_at),
        "started_at_local": started_at.astimezone().isoformat(timespec="seconds"),
        "slide": {
            "name": Path(result.slide_name).name,
            "fingerprint": fingerprint,
            "width_px": width_px,
            "height_px": height_px,
            "vendor": properties.get(VENDOR),
            "objective_power": objective_power(properties),
        },
        "scale": asdict(result.scale),
        "model": {
            "name": card.name,
            "precision": card.precision,
            "tile_px": card.tile_px,
            "mpp": card.mpp,
            "source_sha256": card.source_sha256,
            "weights_sha256": card.weights_sha256,
            "parity": card.parity,
            "intended_use": card.intended_use,
        },
        "compute": dict(compute),
        "settings": asdict(settings),
        "tiles": {status.name.lower(): int((density.status == status).sum()) for status in Status},
        "cells": {
            "side_px": density.cell_px,
            **{name: int((classes == k).sum()) for k, name in enumerate(CLASS_NAMES)},
            "no value": int(tissue_without_value.sum()),
        },
        "outlines": asdict(density.outlines),
        "density": {
            "mean": density.mean_density(),
            "mean_low": mean_low,
            "mean_high": mean_high,
            "straddling_cells": int(density.straddling.sum()),
            "class_shares": dict(zip(CLASS_NAMES, shares, strict=True)),
        },
        "fields": dict(zip(("count", "area_mm2"), fields, strict=True)),
        "hot_spots": [
            {**asdict(spot), "nuclei_per_mm2": result.field_nuclei_per_mm2(spot)}
            for spot in result.hot_spots
        ],
        "regions": [_region(of) for of in result.regions],
        "region_differences": [asdict(pair) for pair in result.differences],
        "nuclei": None if counts is None else asdict(counts),
        "warnings": list(result.warnings),
        "resumed_tiles": resumed_tiles,
        "seconds": {stage: round(duration, 3) for stage, duration in seconds.items()},
        "versions": {
            "gliorun": __version__,
            "python": platform.python_version(),
            **{name: version(name) for name in LIBRARIES},
        },
        "machine": {"system": _system(), "processors": os.cpu_count()},
    }
    return cast(dict[str, Any], _plain(record))


def _region(of: RegionResult) -> dict[str, Any]:
    return {
        "name": of.region.name,
        "class": of.region.class_name,
        "area_mm2": of.area_mm2,
        "tissue_mm2": of.tissue_mm2,
        "density": of.density,
        "density_low": of.density_low,
        "density_high": of.density_high,
        "class_shares": dict(zip(CLASS_NAMES, of.class_shares.tolist(), strict=True)),
        "nuclei": of.nuclei,
        "nuclei_per_mm2": of.nuclei_per_mm2,
        "hot_spot": None if of.hot_spot is None else asdict(of.hot_spot),
    }


def write_record(path: Path, result: Result, appearance: Appearance) -> None:
    """Write the run record as strict JSON in UTF-8, with the appearance of the outputs."""
    record = result.run | {"appearance": asdict(appearance)}
    text = json.dumps(record, indent=2, ensure_ascii=False, allow_nan=False)
    path.write_text(text + "\n", encoding="utf-8", newline="\n")


def _system() -> str:
    """Return system, release and machine; `platform.platform` would start `uname` for it."""
    return f"{platform.system()} {platform.release()} {platform.machine()}"


def _plain(value: Any) -> Any:
    """Return a value as JSON knows it: no NaN, no tuple, no path with its folders."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, Path):
        return value.name
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _utc(moment: datetime) -> str:
    if moment.tzinfo is None:
        raise ValueError(f"{moment}: has no time zone")
    return moment.astimezone(timezone.utc).isoformat(timespec="seconds").replace("+00:00", "Z")
