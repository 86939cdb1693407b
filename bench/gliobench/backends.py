"""Every way to run the same network; the only module that touches the Keras reference."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gliorun.card import ModelCard, sha256_of
from gliorun.engine import open_model
from gliorun.errors import GlioError

Pixels = NDArray[np.uint8]
Masks = Callable[[Iterable[Pixels]], Iterable[Pixels]]

KERAS = "Keras predict"


@dataclass(frozen=True, slots=True)
class Backend:
    """A name, and what turns (tile_px, tile_px, 3) uint8 windows into masks, in order."""

    name: str
    masks: Masks


def open_backends(model: Path, converted: Path) -> tuple[list[Backend], ModelCard]:
    """Open Keras, ONNX Runtime and OpenVINO FP32 and INT8 on one network.

    Parameters
    ----------
    model : Path
        The `.keras` file.
    converted : Path
        The folder that `glioexport convert` made of it.

    Raises
    ------
    GlioError
        A file is missing, or `converted` was made of another `.keras` file.
    """
    from glioexport.onnx_model import onnx_predictor
    from glioexport.reference import load_model, mask_predictor

    keras_model = load_model(model)
    fp32, int8 = (open_model(converted / f"{name}.xml") for name in ("fp32", "int8"))
    if fp32.card.source_sha256 != sha256_of(model):
        raise GlioError(f"{converted}: was not converted from {model}; run 'glioexport convert'")
    onnx = converted / "model.onnx"
    if not onnx.is_file():
        raise GlioError(f"{onnx}: no such file; run 'glioexport convert'")
    backends = [
        Backend(KERAS, mask_predictor(keras_model, batch=4)),
        Backend("ONNX Runtime", onnx_predictor(onnx)),
        Backend("OpenVINO FP32", fp32.masks),
        Backend("OpenVINO INT8", int8.masks),
    ]
    return backends, int8.card


def reference_model() -> Path:
    """Return the `.keras` file that ships."""
    import glioexport

    return Path(glioexport.__file__).parent / "weights" / "reference.keras"


def convert_reference(out: Path, tiles: Path | None, say: Callable[[str], None]) -> None:
    """Convert the reference that ships into `out`."""
    from glioexport.convert import convert
    from glioexport.parity import Tolerance

    convert(reference_model(), out, tiles=tiles, mpp=None, tolerance=Tolerance(), say=say)


def comparison_windows(tiles: Path | None, card: ModelCard) -> tuple[list[Pixels], str]:
    """Return windows that no training saw, colour-normalised, and where they come from."""
    from glioexport.convert import load_check_tiles

    found = load_check_tiles(tiles, card)
    return found.comparison, found.source
