"""Load a trained network from any supported file, as a Keras model of a known shape."""

from __future__ import annotations

import json
import re
import zipfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import h5py  # type: ignore[import-untyped]
import keras
import numpy as np
from keras import layers
from keras.src.models.functional import Functional  # Keras exports no name for it

from glioexport import dropblock  # noqa: F401  registers DropBlock2D for loading
from glioexport.custom import find_custom
from glioexport.description import (
    H5_SUFFIXES,
    PIXEL_RANGES,
    SAVED_MODEL_INSTEAD,
    WEIGHTS_SUFFIX,
    Description,
    check_described,
    unet_shape,
)
from glioexport.network import build_unet
from glioexport.saved_model import load_saved_model, sha256_of_folder
from glioexport.scores import ARGMAX, output_of
from gliorun.errors import GlioError, UsageError
from gliorun.model.card import sha256_of


@dataclass(frozen=True, slots=True, eq=False)
class Network:
    """A trained network as it was loaded.

    Parameters
    ----------
    model : keras.Model
        Takes (N, side_px, side_px, 3), RGB from 0 to 255; gives (N, side_px, side_px, 1 or 2).
    side_px : int
    output : str
        What it gives, one of `OUTPUTS`, or `ARGMAX` where two channels say nothing more.
    file_format : str
        Of its file: "keras", "h5", "weights" or "SavedModel".
    sha256 : str
    stand_ins : tuple of str
        Classes of unavailable dropping layers, which are skipped in inference.
    reduced : tuple of str
        Precisions, such as "bfloat16", that some layers were set to; all now work in float32.
    """

    model: keras.Model
    side_px: int
    output: str
    file_format: str
    sha256: str
    stand_ins: tuple[str, ...]
    reduced: tuple[str, ...]


def load_network(path: Path, description: Description | None = None) -> Network:
    """Load a trained network.

    Takes a `.keras` file in Keras' safe mode, the folder of a SavedModel, a `.weights.h5` with
    the settings of our own U-net, or, if trusted, a whole model in `.h5`.

    Raises
    ------
    GlioError
        The file is missing, damaged or unsafe, or the network is not one that turns a square RGB
        image into one or two channels of the same size.
    """
    description = description or Description()
    format_name = check_described(path, description)
    stand_ins: tuple[str, ...] = ()
    if format_name == "SavedModel":
        model = load_saved_model(path, description.tile_px)
    elif format_name == "weights":
        model = _load_weights(path, description)
    else:
        model, stand_ins = _load_whole(path, description)
    reduced = _to_float32(model)
    model = _fit(model, path, description)
    output = _output(model, path, description.output)
    sha256 = sha256_of_folder(path) if path.is_dir() else sha256_of(path)
    return Network(model, model.input_shape[1], output, format_name, sha256, stand_ins, reduced)


def load_model(path: Path, custom: Path | None = None) -> keras.Model:
    """Load a `.keras` file in Keras' safe mode, as it is.

    Raises
    ------
    GlioError
        The file is missing, not a `.keras` file, or holds what safe mode refuses.
    """
    if not path.is_file():
        raise GlioError(f"{path}: no such file; check its name")
    if path.suffix != ".keras":
        raise GlioError(f"{path}: not a .keras file; save the model with model.save('name.keras')")
    model, _ = _load_whole(path, Description(custom=custom))
    return model


def _load_whole(path: Path, description: Description) -> tuple[keras.Model, tuple[str, ...]]:
    """Load a `.keras` or `.h5` file; return the model and the stand-ins in it."""
    try:
        custom = find_custom(_configuration(path), path, description.custom)
        model = keras.models.load_model(path, custom_objects=custom.objects, compile=False)
    except (
        ValueError, TypeError, OSError, KeyError, AttributeError, RecursionError,
        zipfile.BadZipFile,
    ) as error:  # fmt: skip
        raise GlioError(
            f"{path}: Keras cannot load it: {_reason(error)}{_way_out_of_keras_2(path)}"
        ) from error
    return model, custom.stand_ins


def _way_out_of_keras_2(path: Path) -> str:
    """Return what to do with a file of Keras 2, some of whose layers Keras 3 does not take."""
    try:
        if path.suffix in H5_SUFFIXES:
            with h5py.File(path) as file:
                version = str(file.attrs["keras_version"])
        else:
            with zipfile.ZipFile(path) as archive:
                version = str(json.loads(archive.read("metadata.json"))["keras_version"])
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile):
        return ""  # the file does not state it
    if not version.startswith("2."):
        return ""
    return f"; it is of Keras {version}: load it there, {SAVED_MODEL_INSTEAD}"


def _configuration(path: Path) -> Any:
    """Return the JSON configuration of the network in a `.keras` or `.h5` file."""
    if path.suffix in H5_SUFFIXES:
        with h5py.File(path) as file:
            if "model_config" not in file.attrs:
                raise GlioError(
                    f"{path}: holds weights alone; call them NAME{WEIGHTS_SUFFIX} and pass --unet"
                )
            return json.loads(file.attrs["model_config"])
    with zipfile.ZipFile(path) as archive:
        return json.loads(archive.read("config.json"))


def _load_weights(path: Path, description: Description) -> keras.Model:
    """Build our U-net as described and load its weights."""
    shape = unet_shape(description.unet, description.tile_px)
    model = build_unet(shape)
    try:
        # Keras itself would load a part that fits
        fits = _stored_shapes(path) == sorted(tuple(weight.shape) for weight in model.weights)
        if fits:
            model.load_weights(path)
    except (OSError, ValueError, KeyError) as error:
        raise GlioError(f"{path}: cannot be read as weights: {_reason(error)}") from error
    if not fits:
        settings = ", ".join(f"{name}={value}" for name, value in asdict(shape).items())
        raise GlioError(
            f"{path}: its weights are not those of a U-net of {settings}; "
            "pass --unet NAME=VALUE as it was trained"
        )
    return model


def _stored_shapes(path: Path) -> list[tuple[int, ...]]:
    """Return the shapes of all weights in an HDF5 file, sorted."""
    shapes: list[tuple[int, ...]] = []

    def note(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset) and not name.endswith("/drawn"):  # of DropBlock's seed
            shapes.append(item.shape)

    with h5py.File(path) as file:
        file.visititems(note)
    return sorted(shapes)


def _to_float32(model: keras.Model) -> tuple[str, ...]:
    """Make every layer compute in float32; return the other precisions that were in use."""
    dtypes = set()
    for layer in model._flatten_layers():
        if layer.compute_dtype != "float32" and not isinstance(layer, layers.InputLayer):
            dtypes.add(layer.compute_dtype)
            layer.dtype_policy = "float32"
            if isinstance(layer, layers.Normalization):
                _make_state_anew(layer)
    return tuple(sorted(dtypes))


def _make_state_anew(layer: layers.Normalization) -> None:
    """Let Normalization take its mean and variance again, in the precision that it now has."""
    if layer.input_mean is None:
        layer.finalize_state()
    else:
        layer.build(layer._build_input_shape)


def _fit(model: keras.Model, path: Path, description: Description) -> keras.Model:
    """Return the network for RGB from 0 to 255 and tiles of one size, run once to see it works."""
    side = _side_of(model, path, description.tile_px)
    scale, offset = PIXEL_RANGES[description.pixel_range]
    try:
        if model.input_shape[1:3] != (side, side) or (scale, offset) != (1, 0):
            image = layers.Input((side, side, 3), name="image")
            pixels = image
            if (scale, offset) != (1, 0):
                pixels = layers.Rescaling(scale, offset, name="pixel_range")(image)
            model = keras.Model(image, model(pixels), name=model.name)
        values = model.predict_on_batch(np.zeros((1, side, side, 3), dtype=np.float32))
    except (ValueError, TypeError, RuntimeError) as error:
        raise GlioError(
            f"{path}: a tile of {side} px does not pass through it ({_reason(error)}); "
            "its side must be divisible by 2 for each level"
        ) from error
    if isinstance(values, (list, dict)):
        raise GlioError(f"{path}: gives {len(values)} outputs; it must give one")
    given = np.asarray(values).shape
    if len(given) != 4 or given[1:3] != (side, side):
        raise GlioError(f"{path}: gives {given[1:]} for a tile of {side} px; it must give a mask")
    if given[3] not in (1, 2):
        raise GlioError(f"{path}: gives {given[3]} channels; it must give 1 or 2")
    return model


def _output(model: keras.Model, path: Path, given: str | None) -> str:
    """Return the kind of output of the network, by its last layer or else by the user."""
    actual = output_of(model)
    channels = model.output_shape[-1]
    if "softmax" in (given, actual) and channels == 1:
        raise GlioError(f"{path}: a softmax over one channel is always 1; train with a sigmoid")
    if given is not None:
        if actual in ("softmax", "sigmoid") and actual != given:
            raise UsageError(f"{path}: ends in a {actual}; leave --output {given} out")
        return given
    if actual is None and channels == 1:
        raise GlioError(
            f"{path}: does not say whether its one channel is a probability; "
            "pass --output sigmoid or --output logits"
        )
    return actual or ARGMAX


def _side_of(model: keras.Model, path: Path, tile_px: int | None) -> int:
    """Check the shape of the input, and return its side in px."""
    if not isinstance(model, (Functional, keras.Sequential)):
        raise GlioError(
            f"{path}: is a subclassed model ({type(model).__name__}), whose layers cannot be seen; "
            f"{SAVED_MODEL_INSTEAD}"
        )
    try:
        shapes = [tuple(tensor.shape) for tensor in model.inputs]
    except AttributeError as error:
        raise GlioError(f"{path}: has never been built; call it once and save it again") from error
    if len(shapes) != 1 or len(shapes[0]) != 4:
        raise GlioError(f"{path}: its input is {shapes}; it must be one (None, H, W, 3)")
    _, height, width, channels = shapes[0]
    if channels != 3:
        raise GlioError(
            f"{path}: its input is {shapes[0]}, {channels} channels; it must be (None, H, W, 3)"
        )
    if (height or tile_px) != (width or tile_px):
        raise GlioError(f"{path}: its input is {height} x {width} px; it must be square")
    if height is None and tile_px is None:
        raise GlioError(f"{path}: takes tiles of any size; pass --tile-px, the side in px")
    side = int(height or tile_px or 0)
    if tile_px not in (None, side):
        raise UsageError(f"{path}: takes {side} px; leave --tile-px out")
    if side < 16:
        raise GlioError(f"{path}: takes {side} px; a tile must be at least 16 px")
    return side


def _reason(error: BaseException) -> str:
    """Return the most informative line of an error; Keras puts the cause after a preamble."""
    text = re.sub(r"\x1b\[\d+m", "", str(error)).rpartition("Exception encountered: ")[2]
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    preamble = ("Exception encountered when calling", "A total of")
    messages = [line for line in lines if not line.startswith(preamble)]
    return (messages or lines or [repr(error)])[0].split(". ")[0][:200]
