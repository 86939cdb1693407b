"""OpenVINO IR from ONNX: FP32, and INT8 by NNCF."""

from __future__ import annotations

import json
import sys
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
from numpy.typing import NDArray

from gliorun.card import ModelCard, sha256_of
from gliorun.engine import CARD_KEY
from gliorun.errors import GlioError


def read_onnx(path: Path) -> Any:
    """Convert an ONNX file to an OpenVINO model.

    `read_model` does it inside OpenVINO's own library, without the Python converter.
    """
    return ov.Core().read_model(path)


def quantise(model: Any, windows: list[NDArray[np.uint8]]) -> Any:
    """Return an INT8 version of `model`, calibrated on (H, W, 3) uint8 windows.

    Raises
    ------
    GlioError
        There is no window to calibrate on.
    """
    if not windows:
        raise GlioError("there is no tile to calibrate on; pass --tiles")
    import nncf

    calibration = nncf.Dataset(windows, lambda window: np.ascontiguousarray(window)[None])
    with redirect_stdout(sys.stderr):  # its progress bar is talk, not a result
        return nncf.quantize(
            model.clone(),
            calibration,
            preset=nncf.QuantizationPreset.MIXED,
            subset_size=len(windows),
        )


def write_ir(model: Any, card: ModelCard, path: Path) -> ModelCard:
    """Write `model` as `path` (.xml) and its .bin, with `card` in `rt_info`.

    Returns the card as written: it names the SHA-256 of the weights.
    """
    ov.save_model(model, path, compress_to_fp16=False)
    written = replace(card, weights_sha256=sha256_of(path.with_suffix(".bin")))
    compact = json.dumps(json.loads(written.to_json()), separators=(",", ":"))
    model.set_rt_info(compact, [CARD_KEY])
    ov.save_model(model, path, compress_to_fp16=False)
    if sha256_of(path.with_suffix(".bin")) != written.weights_sha256:
        raise RuntimeError(f"{path}: OpenVINO wrote other weights the second time")
    return written


def op_kinds(model: Any) -> set[str]:
    """Return the kinds of operation in an OpenVINO model."""
    return {op.get_type_name() for op in model.get_ops()}
