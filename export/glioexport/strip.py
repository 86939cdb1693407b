"""Copy a network without DropBlock and other layers that act only in training."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import keras
from keras import layers
from keras.src.models.functional import Functional  # Keras exports no name for it

from glioexport.dropblock import DropBlock2D
from gliorun.errors import GlioError

DROPPING_OPS = ("Random", "StatelessRandom", "Dropout", "Bernoulli", "Multinomial", "If", "Loop")
"""Prefixes of operations in TensorFlow, ONNX and OpenVINO that inference must not contain."""
DROPPING = (
    DropBlock2D,
    layers.Dropout,
    layers.SpatialDropout2D,
    layers.AlphaDropout,
    layers.GaussianDropout,
    layers.GaussianNoise,
)
DROPPING_NAMES = ("dropblock", "dropout", "droppath", "stochasticdepth")
"""Parts of class names of foreign dropping layers, in lower case and without "_"."""
FACTOR = "_factor"
"""Suffix of the name of a layer that multiplies by the kept share."""
LINEAR = (layers.Conv2D, layers.Conv2DTranspose, layers.DepthwiseConv2D)


@dataclass(frozen=True, slots=True, eq=False)
class Stripped:
    """A network for inference, and the layers removed from it, named with their class.

    Parameters
    ----------
    model : keras.Model
        Contains no nested networks; their layers are part of it.
    removed : tuple of str
        Layers that were removed.
    folded : tuple of str
        Removed layers that became a factor: DropBlock without rescaling.
    inactive : tuple of str
        Dropping layers that remain, because another layer contains them or they have weights.
    """

    model: keras.Model
    removed: tuple[str, ...]
    folded: tuple[str, ...]
    inactive: tuple[str, ...]


def check_no_dropping(kinds: Iterable[str]) -> None:
    """Raise GlioError if a graph contains a random operation, a dropout or a branch."""
    left = sorted(op_type for op_type in set(kinds) if op_type.startswith(DROPPING_OPS))
    if left:
        raise GlioError(
            f"the graph still holds {', '.join(left)}, which would act in inference too; "
            "drop in layers of their own: those are taken out"
        )


def drops_by_name(class_name: str) -> bool:
    """Return whether a class is named like a layer that drops values in training."""
    name = class_name.lower().replace("_", "")
    return any(word in name for word in DROPPING_NAMES)


def is_dropping(layer: keras.Layer) -> bool:
    """Return whether a layer only drops values in training, by its class or class name.

    A layer with weights does more than that.
    """
    if any("seed" not in weight.path for weight in layer.weights):
        return False
    return isinstance(layer, DROPPING) or drops_by_name(type(layer).__name__)


def strip_dropping(model: keras.Model) -> Stripped:
    """Return a clone of `model` without its dropping layers; it shares no variable with it.

    Takes a functional or sequential network; networks nested inside are dissolved. The clone
    computes what `model(x, training=False)` computes. The exception is DropBlock without
    rescaling (`normalize=False`, Algorithm 1 of the paper as printed): training showed the next
    layers activations that were smaller by the share that is kept, so the layer before is
    multiplied by that share.

    Raises
    ------
    GlioError
        DropBlock without rescaling stands inside another layer, where no factor can follow it.
    """
    draft = _Copy()
    drafted = draft.of(model)  # first with a layer per factor, to find which can be folded
    linear = {
        factor.name: before
        for factor in draft.factors
        if (before := _layer_before(factor)) is not None
    }
    copy = _Copy(folded=frozenset(linear)) if linear else draft
    stripped = copy.of(model) if linear else drafted
    copy.take_state()
    for factor in draft.factors:
        if factor.name in linear:
            _multiply(stripped.get_layer(linear[factor.name]), factor.scale)
    folded = tuple(name.rstrip("_").removesuffix(FACTOR) for name in draft.factor_names)
    return Stripped(stripped, tuple(copy.removed), folded, tuple(copy.inactive))


@dataclass(slots=True, eq=False)
class _Copy:
    """A network being copied: a layer that stands in several places is copied once.

    `folded` names the factors that need no layer.
    """

    folded: frozenset[str] = frozenset()
    copies: dict[keras.Layer, keras.Layer] = field(default_factory=dict)
    names: dict[keras.Layer, str] = field(default_factory=dict)
    removed: list[str] = field(default_factory=list)
    inactive: list[str] = field(default_factory=list)
    factors: list[keras.Layer] = field(default_factory=list)
    factor_names: list[str] = field(default_factory=list)

    def of(self, model: keras.Model) -> keras.Model:
        """Return the copy of a whole network."""
        image = model.inputs[0]
        start = keras.Input(batch_shape=image.shape, dtype=image.dtype, name="image")
        return keras.Model(start, self._run(model, start, ""), name="network")

    def take_state(self) -> None:
        """Copy the state of every layer, as Keras does when it loads a file.

        Weights are not enough: Normalization derives further values from them.
        """
        for layer, copy in self.copies.items():
            parts = zip(layer._flatten_layers(), copy._flatten_layers(), strict=True)
            for part, part_of_copy in parts:
                state: dict[str, Any] = {}
                part.save_own_variables(state)
                part_of_copy.load_own_variables(state)

    def _run(self, network: keras.Model, inputs: Any, prefix: str) -> Any:
        """Send `inputs` through the copies of the layers of one network."""
        if isinstance(network, keras.Sequential):
            network = keras.Model(network.inputs[0], network.outputs[0])

        def call(layer: Any, *args: Any, **settings: Any) -> Any:
            settings.pop("training", None)
            if isinstance(layer, (Functional, keras.Sequential)):
                return self._run(layer, args[0], f"{prefix}{layer.name}_")
            if not isinstance(layer, keras.Layer):  # an operation such as keras.ops.add
                return layer(*args, **settings)
            name = self._name(layer, prefix)
            if is_dropping(layer):
                return self._leave_out(layer, name, args[0])
            return self._copy(layer, name)(*args, **settings)

        return network._run_through_graph(inputs, call_fn=call)

    def _name(self, layer: keras.Layer, prefix: str) -> str:
        """Return an unused name for a layer."""
        if layer not in self.names:
            name, others = layer.name, set(self.names.values())
            if name in others:
                name = f"{prefix}{name}"
            while name in others:
                name += "_"
            self.names[layer] = name
        return self.names[layer]

    def _copy(self, layer: keras.Layer, name: str) -> keras.Layer:
        if layer not in self.copies:
            config = {**layer.get_config(), "name": name}
            self.copies[layer] = type(layer).from_config(config)
            self._note_inside(layer, name)
        return self.copies[layer]

    def _note_inside(self, layer: keras.Layer, name: str) -> None:
        """List dropping layers that cannot be removed, because foreign code calls them."""
        if drops_by_name(type(layer).__name__):
            self.inactive.append(f"{name} ({type(layer).__name__})")
        for part in layer._flatten_layers(include_self=False):
            if is_dropping(part):
                self.inactive.append(f"{name}/{part.name} ({type(part).__name__})")
                if isinstance(part, DropBlock2D) and not part.normalize:
                    raise GlioError(
                        f"layer {name!r} ({type(layer).__name__}) holds DropBlock without "
                        "rescaling, whose factor cannot be folded there; "
                        "make DropBlock a layer of its own"
                    )

    def _leave_out(self, layer: keras.Layer, name: str, maps: Any) -> Any:
        described = f"{name} ({type(layer).__name__})"
        if described not in self.removed:
            self.removed.append(described)
        if not isinstance(layer, DropBlock2D) or layer.normalize or not layer.rate:
            return maps
        factor = f"{name}{FACTOR}"
        while factor in self.factor_names:  # the layer is used in several places
            factor += "_"
        self.factor_names.append(factor)
        if factor in self.folded:
            return maps
        share = layer.kept_share(*maps.shape[1:3])
        self.factors.append(layers.Rescaling(share, name=factor))
        return self.factors[-1](maps)


def _layer_before(factor: keras.Layer) -> str | None:
    """Return the layer whose weights can take a factor: linear, and feeding it alone."""
    before = factor.input._keras_history.operation
    if len(before._outbound_nodes) != 1 or len(before._inbound_nodes) != 1:
        return None
    if isinstance(before, layers.BatchNormalization):
        return before.name if before.scale and before.center else None
    linear = isinstance(before, LINEAR) and before.activation is keras.activations.linear
    return before.name if linear else None


def _multiply(layer: keras.Layer, factor: float) -> None:
    """Multiply the output of a linear layer by a factor."""
    if isinstance(layer, layers.BatchNormalization):
        weights = [layer.gamma, layer.beta]
    else:
        weights = [layer.kernel] + ([layer.bias] if layer.use_bias else [])
    for weight in weights:
        weight.assign(weight * factor)
