"""OpenVINO IR from ONNX, on disk with its card."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import openvino as ov

from gliorun.model.card import ModelCard, sha256_of
from gliorun.model.engine import CARD_KEY


def read_onnx(path: Path) -> Any:
    """Convert an ONNX file to an OpenVINO model.

    `read_model` does it inside OpenVINO's own library, without the Python converter.
    """
    return ov.Core().read_model(path)


def write_ir(model: Any, card: ModelCard, path: Path) -> ModelCard:
    """Write `model` as `path` (.xml) and its .bin, with `card` in `rt_info`.

    Weights are halved to FP16 if the card's precision says so. The same model and card give the
    same bytes. Returns the card as written: it names the SHA-256 of the weights.

    Raises
    ------
    OSError
        The disk is full, or the folder cannot be written; OpenVINO does not say which.
    """
    _name_by_place(model)
    halved = card.precision == "FP16"
    try:
        ov.save_model(model, path, compress_to_fp16=halved)
        written = replace(card, weights_sha256=sha256_of(path.with_suffix(".bin")))
        compact = json.dumps(json.loads(written.to_json()), separators=(",", ":"))
        model.set_rt_info(compact, [CARD_KEY])
        ov.save_model(model, path, compress_to_fp16=halved)
    except RuntimeError as error:
        raise OSError(f"OpenVINO cannot write {path.name}; is the disk full?") from error
    if sha256_of(path.with_suffix(".bin")) != written.weights_sha256:
        raise RuntimeError(f"{path}: OpenVINO wrote other weights the second time")
    return written


def _name_by_place(model: Any) -> None:
    """Name by place what OpenVINO named with a running number, such as "Constant_7860"."""
    for place, op in enumerate(model.get_ordered_ops()):
        if re.fullmatch(rf"{op.get_type_name()}_\d+", op.get_friendly_name()):
            op.set_friendly_name(f"{op.get_type_name()}_{place}")


def op_kinds(model: Any) -> set[str]:
    """Return the kinds of operation in an OpenVINO model."""
    return {op.get_type_name() for op in model.get_ops()}
