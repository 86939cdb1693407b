"""What a result depends on: the one list, for the checkpoint of a run and the record of a slide.

What changes no byte is not on it: threads, memory, streams, and which kind of cores computes.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from gliorun import __version__
from gliorun.errors import GlioError
from gliorun.model.card import sha256_of
from gliorun.model.engine import Compute
from gliorun.reading.files import fingerprint_of, stamp_of
from gliorun.settings import Settings
from gliorun.writers.palette import Appearance

Values = dict[str, Any]
"""Plain JSON values, by name."""


def of_map(model: Path, compute: Compute, settings: Settings) -> Values:
    """Return what the map of a slide depends on besides the slide.

    Parameters
    ----------
    model : Path
        The IR (.xml) with its weights (.bin) beside it; both are hashed.
    compute : Compute
        With the precision that it came to, as `engine.compute_here` or an `Engine` tells.
    settings : Settings

    Raises
    ------
    GlioError
        The model or the tissue mask cannot be read.
    """
    chosen = asdict(settings)
    for name in ("threads", "memory_mb"):
        del chosen[name]
    if settings.tissue_mask is not None:
        chosen["tissue_mask"] = _sha256(settings.tissue_mask)
    weights, graph = _sha256(model.with_suffix(".bin")), _sha256(model)
    return _plain(
        {
            "gliorun": __version__,
            "model": f"{weights}+{graph}",
            "device": f"{compute.device} {compute.precision}",
            "settings": chosen,
        }
    )


def of_outputs(
    map_values: Values, appearance: Appearance, hot_spots: int, hot_spot_mm2: float
) -> Values:
    """Return what the outputs depend on besides the slide: the map, and what is shown of it."""
    shown = {"look": asdict(appearance), "hot_spots": [hot_spots, hot_spot_mm2]}
    return map_values | _plain(shown)


def of_slide(path: Path) -> Values:
    """Return what changes when a slide does: place, size, time and samples of all of its files.

    Raises
    ------
    GlioError
        One of them cannot be read.
    """
    try:
        return {
            "slide": str(path.resolve()),
            "stamp": asdict(stamp_of(path)),
            "fingerprint": fingerprint_of(path),
        }
    except OSError as error:
        raise GlioError(
            f"{error.filename or path}: cannot be read ({error.strerror}); check that you may "
            "read all files of the slide"
        ) from error


def key_of(*parts: Any) -> str:
    """Return a name for all that decides a result: equal parts, equal name."""
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


def _sha256(file: Path) -> str:
    try:
        return sha256_of(file)
    except OSError as error:
        raise GlioError(
            f"{file}: cannot be read ({error.strerror}); check that you may read it"
        ) from error


def _plain(values: Values) -> Values:
    """Return values as they come back from JSON, so that they compare with those of a record."""
    return dict(json.loads(json.dumps(values)))
