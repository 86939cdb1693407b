"""List everything that a result depends on, for checkpoints and for the records of slides.

Settings that change no byte are left out: threads, memory, streams and the kind of cores.
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
    """Return everything besides the slide that its map depends on.

    Parameters
    ----------
    model : Path
        The IR (.xml) with its weights (.bin) beside it; both are hashed.
    compute : Compute
        With the precision in use, as `engine.compute_here` or an `Engine` gives it.
    settings : Settings

    Raises
    ------
    GlioError
        The model, the tissue mask or the file of regions cannot be read.
    """
    chosen = asdict(settings)
    for name in ("threads", "memory_mb"):
        del chosen[name]
    if settings.tissue_mask is not None:
        chosen["tissue_mask"] = _sha256(settings.tissue_mask)
    if settings.regions is not None:
        chosen["regions"] = _sha256(settings.regions)
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
    map_values: Values,
    appearance: Appearance,
    hot_spots: int,
    hot_spot_mm2: float,
    keep_patient: bool = False,
    *,
    counts: bool = False,
    hides_names: bool = False,
) -> Values:
    """Return everything besides the slide that the outputs depend on."""
    shown = {
        "look": asdict(appearance),
        "hot_spots": [hot_spots, hot_spot_mm2],
        "keep_patient": keep_patient,
        "count": counts,
    }
    if hides_names:
        shown["names"] = "hash"
    return map_values | _plain(shown)


def of_slide(path: Path) -> Values:
    """Return values that change with the slide: place, size, time and samples of its files.

    Raises
    ------
    GlioError
        A file of the slide cannot be read.
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
    """Return a hash of everything that a result depends on; equal parts give equal hashes."""
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


def _sha256(file: Path) -> str:
    try:
        return sha256_of(file)
    except OSError as error:
        raise GlioError(
            f"{file}: cannot be read ({error.strerror}); check that you may read it"
        ) from error


def _plain(values: Values) -> Values:
    """Return values as JSON gives them back, so that they can be compared with a record."""
    return dict(json.loads(json.dumps(values)))
