"""Quantise models to INT8 with NNCF, and keep layers in float where accuracy needs it."""

from __future__ import annotations

import io
import logging
import sys
from collections.abc import Callable, Iterable
from contextlib import redirect_stdout
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glioexport.onnx_model import END
from gliorun.errors import GlioError, UsageError
from gliorun.model.card import EVEN_LEVEL

Pixels = NDArray[np.uint8]
Misses = Callable[[Any], tuple[float, float]]
MissesOfMasks = Callable[[list[Pixels]], float]
MOST_IN_FLOAT = 3
"""Layers that `quantise_within` may leave in float."""

HEADROOM = 0.7
"""Share of the limit that is used on the tiles for the choice, as others must stay within it."""
WEIGHTED = ("Convolution", "ConvolutionBackpropData", "GroupConvolution", "MatMul")


def quantise(model: Any, windows: list[Pixels], in_float: Iterable[str] = ()) -> Any:
    """Return an INT8 version of `model`, calibrated on (H, W, 3) uint8 windows.

    Layers named in `in_float` are left as they are.

    Raises
    ------
    GlioError
        There is no window to calibrate on, or no such layer with weights.
    """
    nncf, calibration = _calibration(windows)
    kept = [*_operations_of(model, set(in_float)), *_level_operations(model)]
    with redirect_stdout(sys.stderr):  # its progress bar is talk, not a result
        return nncf.quantize(
            model.clone(),
            calibration,
            preset=nncf.QuantizationPreset.MIXED,
            subset_size=len(windows),
            ignored_scope=nncf.IgnoredScope(names=kept),
        )


def _level_operations(model: Any) -> list[str]:
    """Return the names of the operations that make levels of logits: they stay in float.

    Scaled to 8 bits by the largest logit of the tiles, a level would be of coarser steps.
    """
    return [
        op.get_friendly_name()
        for op in model.get_ordered_ops()
        if op.get_friendly_name().startswith(f"{END}/")
        and op.get_type_name() in ("Multiply", "Add", "Subtract")
    ]


def _operations_of(model: Any, layers: set[str]) -> list[str]:
    """Return the names of the weighted operations of some layers."""
    layer_of = {
        op.get_friendly_name(): _layer_of(op)
        for op in model.get_ordered_ops()
        if op.get_type_name() in WEIGHTED
    }
    unknown = layers - set(layer_of.values())
    if unknown:
        names = ", ".join(dict.fromkeys(layer_of.values()))
        raise UsageError(f"no layer {', '.join(sorted(unknown))} to leave in float; known: {names}")
    return [name for name, layer in layer_of.items() if layer in layers]


def quantise_within(
    model: Any, windows: list[Pixels], misses: Misses, in_float: Iterable[str] = ()
) -> tuple[Any, tuple[str, ...]]:
    """Return an INT8 version of `model` in which the layers that lose most stay in float.

    Each layer is tried alone in float. Then up to `MOST_IN_FLOAT` go back to float one after
    another, the one that helped most first, until the model stays within the limit.

    Parameters
    ----------
    model : openvino.Model
    windows : list of (H, W, 3) uint8
        To calibrate on.
    misses : callable
        Takes an INT8 model and returns its deviation in tolerances, 1 being the limit, and, as a
        tie-break, its mean density difference.
    in_float : iterable of str
        Layers that stay in float in any case.

    Returns
    -------
    model : openvino.Model
    layers : tuple of str
        Those that stayed in float.
    """
    kept = tuple(in_float)
    best = quantise(model, windows, kept)
    if misses(best)[0] <= HEADROOM:
        return best, kept
    layers = [layer for layer in layers_in_float(model) if layer not in kept]
    helped = sorted(layers, key=lambda layer: misses(quantise(model, windows, (*kept, layer))))
    for layer in helped[:MOST_IN_FLOAT]:
        kept = (*kept, layer)
        best = quantise(model, windows, kept)
        if misses(best)[0] <= HEADROOM:
            break
    return best, kept


def quantise_with_control(model: Any, windows: list[Pixels], misses: MissesOfMasks) -> Any:
    """Return an INT8 version of `model` in which the layers that lose most stay in float.

    Parameters
    ----------
    model : openvino.Model
    windows : list of (H, W, 3) uint8
        To calibrate on, and to judge on.
    misses : callable
        Takes the masks of all `windows` and returns their deviation, 1 being the limit.
    """
    nncf, calibration = _calibration(windows)

    def score(compiled: Any, some: Iterable[Pixels]) -> tuple[float, None]:
        levels = (compiled(np.ascontiguousarray(window)[None])[0][0] for window in some)
        masks = [(of_one >= EVEN_LEVEL).view(np.uint8) for of_one in levels]
        return 1 - misses(masks), None  # NNCF divides by the float model's score

    with redirect_stdout(io.StringIO()):  # hundreds of progress bars
        return nncf.quantize_with_accuracy_control(
            model.clone(),
            calibration,
            calibration,
            score,
            max_drop=HEADROOM,
            drop_type=nncf.DropType.ABSOLUTE,
            preset=nncf.QuantizationPreset.MIXED,
            subset_size=len(windows),
            ignored_scope=nncf.IgnoredScope(names=_level_operations(model)),
        )


def layers_in_float(model: Any) -> list[str]:
    """Return the layers of a model whose weights stayed in float, in order."""
    layers = []
    for op in model.get_ordered_ops():
        if op.get_type_name() in WEIGHTED:
            weights = op.input_value(1).get_node()
            while weights.get_type_name() in ("Reshape", "Convert"):
                weights = weights.input_value(0).get_node()
            if weights.get_type_name() == "Constant" and weights.get_element_type().is_real():
                layers.append(_layer_of(op))
    return layers


def _layer_of(op: Any) -> str:
    """Return the layer that an operation comes from; with a bias, the sum bears its name."""
    name = op.get_friendly_name()
    if "/" not in name:
        (target, *_) = op.output(0).get_target_inputs()
        name = target.get_node().get_friendly_name()
    return str(name).split("/")[0]


def _calibration(windows: list[Pixels]) -> tuple[Any, Any]:
    if not windows:
        raise GlioError("there is no tile to calibrate on; pass --tiles")
    import nncf

    nncf.set_log_level(logging.ERROR)
    return nncf, nncf.Dataset(windows, lambda window: np.ascontiguousarray(window)[None])
