"""DropBlock out: the same network without the layers that only act while training."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import keras
from keras import layers

from glioexport.dropblock import DropBlock2D
from gliorun.errors import GlioError

DROPPING_OPS = ("Random", "Dropout", "Bernoulli", "Multinomial", "If", "Loop")
"""How operations begin, in ONNX and OpenVINO, that an inference graph must not hold."""
DROPPING = (
    DropBlock2D,
    layers.Dropout,
    layers.SpatialDropout2D,
    layers.AlphaDropout,
    layers.GaussianDropout,
    layers.GaussianNoise,
)
DROPPING_NAMES = ("dropblock", "dropout", "droppath", "stochasticdepth")
"""What the class name of somebody else's dropping layer holds, in small letters, without "_"."""
LINEAR = (layers.Conv2D, layers.Conv2DTranspose, layers.DepthwiseConv2D)


@dataclass(frozen=True, slots=True, eq=False)
class Stripped:
    """A network for inference, and what left it.

    `removed` names the layers with their class, `folded` those of them that left a factor behind:
    DropBlock without rescaling.
    """

    model: keras.Model
    removed: tuple[str, ...]
    folded: tuple[str, ...]


def check_no_dropping(kinds: Iterable[str]) -> None:
    """Raise GlioError if a graph's kinds of operation hold a random one, a dropout or a branch."""
    left = sorted(kind for kind in set(kinds) if kind.startswith(DROPPING_OPS))
    if left:
        raise GlioError(f"the graph still holds {', '.join(left)}")


def is_dropping(layer: keras.Layer) -> bool:
    """Tell whether a layer drops values while training, by its class or its class's name."""
    if isinstance(layer, DROPPING):
        return True
    name = type(layer).__name__.lower().replace("_", "")
    return any(word in name for word in DROPPING_NAMES)


def strip_dropping(model: keras.Model) -> Stripped:
    """Return a clone of `model` without its dropping layers; it shares no variable with it.

    The clone computes what `model(x, training=False)` computes. The exception is DropBlock
    without rescaling (`normalize=False`, Algorithm 1 of the paper as printed): training showed
    the next layers activations that were smaller by the share that is kept, so the layer before
    is multiplied by that share.

    Raises
    ------
    GlioError
        A dropping layer has weights, or is no layer of one map: it cannot be taken out.
    """
    removed = [layer for layer in model.layers if is_dropping(layer)]
    for layer in removed:
        if any("seed" not in weight.path for weight in layer.weights):
            raise GlioError(
                f"layer {layer.name!r} ({type(layer).__name__}) drops values but has weights; "
                "only layers that do nothing in inference can be taken out"
            )
    shares = {
        layer.name: layer.kept_share(*layer.input.shape[1:3])
        for layer in removed
        if isinstance(layer, DropBlock2D) and not layer.normalize and layer.rate
    }
    before = {name: _layer_before(model, name) for name in shares}

    def call(layer: keras.Layer, *inputs: Any, **settings: Any) -> Any:
        if not is_dropping(layer):
            return layer(*inputs, **settings)
        if layer.name in shares and before[layer.name] is None:
            return layers.Rescaling(shares[layer.name], name=f"{layer.name}_factor")(inputs[0])
        return inputs[0]

    stripped = keras.models.clone_model(model, call_function=call)
    for layer in model.layers:
        if layer.weights and not is_dropping(layer):
            stripped.get_layer(layer.name).set_weights(layer.get_weights())
    for name, share in shares.items():
        linear = before[name]
        if linear is not None:
            _multiply(stripped.get_layer(linear), share)
    named = tuple(f"{layer.name} ({type(layer).__name__})" for layer in removed)
    return Stripped(stripped, named, tuple(shares))


def _layer_before(model: keras.Model, name: str) -> str | None:
    """Return the layer whose weights can take a factor for `name`: linear, and feeding it alone."""
    before = model.get_layer(name).input._keras_history.operation
    if len(before._outbound_nodes) != 1 or len(before._inbound_nodes) != 1:
        return None
    if isinstance(before, layers.BatchNormalization):
        return before.name if before.scale and before.center else None
    linear = isinstance(before, LINEAR) and before.activation is keras.activations.linear
    return before.name if linear else None


def _multiply(layer: keras.Layer, factor: float) -> None:
    """Multiply what a linear layer gives."""
    if isinstance(layer, layers.BatchNormalization):
        weights = [layer.gamma, layer.beta]
    else:
        weights = [layer.kernel] + ([layer.bias] if layer.use_bias else [])
    for weight in weights:
        weight.assign(weight * factor)
