"""Interpret the output values of a network, and decide which pixels are nucleus."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import activations, layers, ops
from keras.src.models.functional import Functional  # Keras exports no name for it
from numpy.typing import NDArray

from gliorun.model.card import EVEN_LEVEL, LEVELS_A_LOGIT

ARGMAX = "larger of two channels"
_MEANING = {
    activations.softmax: "softmax",
    activations.sigmoid: "sigmoid",
    activations.linear: "logits",
}


def output_of(model: keras.Model) -> str | None:
    """Return the kind of output of a network, one of `OUTPUTS`; None if it is not stated."""
    last, _ = _last_layer(model)
    if isinstance(last, layers.Softmax):
        return "softmax"
    return _MEANING.get(getattr(last, "activation", None))


def up_to_logits(model: keras.Model, output: str) -> tuple[keras.Model, str]:
    """Return a network without the softmax or sigmoid at its end, and its new kind of output.

    The last layer may be changed in place, so pass a copy, such as that of `glioexport.strip`. A
    network without them is returned unchanged.
    """
    if output_of(model) not in ("softmax", "sigmoid"):
        return model, output
    last, before = _last_layer(model)
    if isinstance(last, (layers.Softmax, layers.Activation)):
        return keras.Model(model.inputs, before, name=model.name), "logits"
    last.activation = activations.linear
    return model, "logits"


def nucleus(values: Any, output: str) -> Any:
    """Return which pixels are nucleus, as bool; values (N, H, W, 1 or 2) of NumPy or TensorFlow.

    Of two channels the second is nucleus, where it is the larger one; a single one is nucleus
    above a probability of 1/2.
    """
    if values.shape[-1] == 2:
        return values[..., 1] > values[..., 0]
    return values[..., 0] > (0.5 if output == "sigmoid" else 0.0)


def probability(values: NDArray[np.float32], output: str) -> NDArray[np.float32]:
    """Return the probability of nucleus, (N, H, W), of values (N, H, W, 1 or 2)."""
    if output != "logits":
        return values[..., -1]
    logit = values[..., -1] - values[..., 0] if values.shape[-1] == 2 else values[..., 0]
    return np.asarray(1 / (1 + np.exp(-logit)), dtype=np.float32)


def levels(values: Any, output: str) -> Any:
    """Return the level of each pixel, (N, H, W) uint8, of values (N, H, W, 1 or 2) of TensorFlow.

    The logit of the probability of nucleus in steps of `1 / LEVELS_A_LOGIT`, cut off at either
    end; a probability of 1/2 has `EVEN_LEVEL`.
    """
    if output in ("softmax", "sigmoid"):
        share = ops.clip(values[..., -1], keras.config.epsilon(), 1 - keras.config.epsilon())
        logit = ops.log(share) - ops.log(1 - share)
    else:
        logit = values[..., 1] - values[..., 0] if values.shape[-1] == 2 else values[..., 0]
    return ops.cast(ops.clip(logit * LEVELS_A_LOGIT + EVEN_LEVEL, 0, 255), "uint8")


def _last_layer(model: keras.Model) -> tuple[keras.Layer, Any]:
    """Return the output layer, also inside nested networks, and its input."""
    while True:
        last, call, _ = model.outputs[0]._keras_history
        if not isinstance(last, (Functional, keras.Sequential)):
            return last, last._inbound_nodes[call].input_tensors[0]
        model = last
