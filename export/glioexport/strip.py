"""DropBlock out: the same network without the layers that do nothing in inference."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import keras
from keras import layers

from glioexport.dropblock import DropBlock2D
from gliorun.errors import GlioError

DROPPING_OPS = ("Random", "Dropout", "Bernoulli", "Multinomial", "If", "Loop")
"""How operations begin, in ONNX and OpenVINO, that an inference graph must not hold."""
DROPPING = (DropBlock2D, layers.Dropout, layers.SpatialDropout2D)


def check_no_dropping(kinds: Iterable[str]) -> None:
    """Raise GlioError if a graph's kinds of operation hold a random one, a dropout or a branch."""
    left = sorted(kind for kind in set(kinds) if kind.startswith(DROPPING_OPS))
    if left:
        raise GlioError(f"the graph still holds {', '.join(left)}")


def strip_dropping(model: keras.Model) -> tuple[keras.Model, list[str]]:
    """Return a clone of `model` without its dropping layers, and their names.

    The clone computes what `model(x, training=False)` computes and shares no variable with it.

    Raises
    ------
    GlioError
        A DropBlock does not rescale (`normalize=False`): inference would need a factor that is
        not in the model.
    """
    removed = [layer for layer in model.layers if isinstance(layer, DROPPING)]
    for layer in removed:
        if isinstance(layer, DropBlock2D) and not layer.normalize:
            raise GlioError(
                f"layer {layer.name!r} is DropBlock without rescaling; only normalize=True "
                "can be converted"
            )

    def call(layer: keras.Layer, *inputs: Any, **settings: Any) -> Any:
        return inputs[0] if isinstance(layer, DROPPING) else layer(*inputs, **settings)

    stripped = keras.models.clone_model(model, call_function=call)
    for layer in model.layers:
        if layer.weights:
            stripped.get_layer(layer.name).set_weights(layer.get_weights())
    return stripped, [layer.name for layer in removed]
