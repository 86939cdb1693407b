"""Give the encoder of a HoVer-Net the weights in a local file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py  # type: ignore[import-untyped]
import keras
import numpy as np

from glioexport.hovernet import encoder
from glioexport.loading import load_model
from gliorun.errors import GlioError

WEIGHT_SUFFIXES = (".keras", ".h5")


def load_encoder(model: keras.Model, path: Path) -> None:
    """Give the encoder of `model` the weights in a local file, by the name of each layer.

    Taken are a `.keras` file, or the weights alone in an `.h5` file (Keras 3's `.weights.h5`,
    or the older layout), of either
    - `encoder(model)` or a whole HoVer-Net of this module, or
    - `keras.applications.ResNet50V2`, with or without its top. Every layer with weights is
      the same, name for name and shape for shape. The strides are not: they stand one unit
      later in each stage here, as HoVer-Net has them, and the first convolution and the pooling
      have none. So the weights are a start, not the same function.

    Not taken are ResNet-50 version 1 (no pre-activation) and PyTorch or TensorPack files.
    Nothing is loaded unless everything fits.

    Raises
    ------
    GlioError
        The file is missing, of another kind or damaged, or a layer is missing or has other
        shapes.
    """
    if not path.is_file():
        raise GlioError(f"{path}: no such file; nothing is downloaded")
    if path.suffix not in WEIGHT_SUFFIXES:
        raise GlioError(f"{path}: encoder weights are a .keras or an .h5 file")
    if path.suffix == ".keras":
        weights = {layer.name: layer.get_weights() for layer in load_model(path).layers}
        _fill(encoder(model), weights, path)
        return
    try:
        with h5py.File(path) as file:
            _fill(encoder(model), _weights_by_layer(file), path)
    except (OSError, KeyError, AttributeError, TypeError, ValueError) as error:
        raise GlioError(f"{path}: not a readable file of Keras weights ({error})") from error


def _weights_by_layer(file: Any) -> dict[str, list[Any]]:
    """Return the datasets of a Keras weights file by the name of their layer, unread."""
    if "layers" in file:  # Keras 3
        variables = [group["vars"] for group in file["layers"].values() if "vars" in group]
        return {
            str(group.attrs.get("name")): [group[number] for number in sorted(group)]
            for group in variables
        }
    groups = file.get("model_weights", file)
    return {
        name: [group[_text(path)] for path in group.attrs["weight_names"]]
        for name, group in groups.items()
        if "weight_names" in group.attrs
    }


def _text(name: str | bytes) -> str:
    return name.decode() if isinstance(name, bytes) else name


def _fill(model: keras.Model, weights: dict[str, list[Any]], path: Path) -> None:
    """Set the weights of `model` to those found, if there are all of them in the right shapes."""
    wanted = {layer.name: layer for layer in model.layers if layer.weights}
    missing = [name for name in wanted if name not in weights]
    if missing:
        raise GlioError(
            f"{path}: {len(missing)} of {len(wanted)} layers of the encoder are not in it, first "
            f"{missing[0]!r}; pass weights of a HoVer-Net encoder or of Keras' ResNet50V2"
        )
    for name, layer in wanted.items():
        shapes = [tuple(array.shape) for array in weights[name]]
        needed = [tuple(weight.shape) for weight in layer.weights]
        if shapes != needed:
            raise GlioError(
                f"{path}: layer {name!r} holds {shapes}, the encoder needs {needed}; "
                "width must be what it was saved with"
            )
        if any(array.dtype.kind != "f" for array in weights[name]):
            raise GlioError(f"{path}: layer {name!r} does not hold floats; save it in float32")
    arrays = {name: [np.asarray(array) for array in weights[name]] for name in wanted}
    for name, layer in wanted.items():
        layer.set_weights(arrays[name])
