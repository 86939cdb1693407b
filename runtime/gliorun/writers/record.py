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
from typing import Any, cast

from gliorun import __version__
from gliorun.findings.hotspots import HotSpot
from gliorun.findings.nuclei import CountComparison
from gliorun.measuring.density import CLASS_NAMES, NO_CLASS, Status, classify
from gliorun.model.card import ModelCard
from gliorun.model.shipped import LIBRARIES
from gliorun.pipeline import SlideDensity
from gliorun.reading.scale import VENDOR, objective_power
from gliorun.settings import Settings
from gliorun.writers.result import Result

FORMAT = 1


def run_record(
    *,
    slide_name: str,
    properties: Mapping[str, str],
    measured: SlideDensity,
    card: ModelCard,
    compute: Mapping[str, str],
    settings: Settings,
    hot_spots: tuple[HotSpot, ...],
    started_at: datetime,
    resumed_tiles: int,
    seconds: Mapping[str, float],
    counts: CountComparison | None = None,
) -> dict[str, Any]:
    """Return the record of a run as plain JSON values, in this order:

    format : int, of this record
    started_at, started_at_local : str, ISO 8601, to the second; UTC, and by this computer's clock
    slide : name (of the file, without its folder), width_px, height_px (level 0), vendor and
        objective_power (or null)
    scale : x_mpp, y_mpp (µm per level-0 px), source ("slide" or "--mpp")
    model : name, precision, tile_px, mpp, source_sha256, weights_sha256, parity, intended_use
    compute : what the model ran on and how
    settings : every setting of the pipeline
    tiles : number of tiles by status
    cells : side_px (model px) and number of cells by class; "no value" is tissue without one
    density : mean (of the tissue, 0 to 1, or null) and class_shares (of the tissue, by class)
    hot_spots : list of rank, minx, miny, width, height (level-0 px), square, density, tissue_share
    nuclei : nuclei, crossing_share, nuclei_per_mm2, displaced_share, other_class_share,
        rank_correlation; or null
    warnings : list of str
    resumed_tiles : number of tiles taken over from a run that was stopped
    seconds : by stage, as given; without what a run that was stopped took
    versions : by library
    machine : system and processors

    Parameters
    ----------
    slide_name : str
    properties : mapping of str to str
        The slide's; only the vendor and the objective power are taken, as others may name a
        patient.
    measured : SlideDensity
    card : ModelCard
    compute : mapping of str to str
        Device and options in use, as `Engine.choices` returns them.
    settings : Settings
    hot_spots : tuple of HotSpot
    started_at : datetime
        With a time zone.
    resumed_tiles : int
    seconds : mapping of str to float
        Duration of each stage.
    counts : CountComparison, optional
        If nuclei were counted.
    """
    density, scale = measured.density, measured.scale
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
            "name": Path(slide_name).name,
            "width_px": width_px,
            "height_px": height_px,
            "vendor": properties.get(VENDOR),
            "objective_power": objective_power(properties),
        },
        "scale": asdict(scale),
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
        "density": {
            "mean": density.mean_density(),
            "class_shares": dict(zip(CLASS_NAMES, shares, strict=True)),
        },
        "hot_spots": [asdict(spot) for spot in hot_spots],
        "nuclei": None if counts is None else asdict(counts),
        "warnings": list(measured.warnings),
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


def write_record(path: Path, result: Result) -> None:
    """Write the run record as strict JSON in UTF-8."""
    text = json.dumps(result.run, indent=2, ensure_ascii=False, allow_nan=False)
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
