"""Find the custom layers of a model file before any of its code runs."""

from __future__ import annotations

import importlib.util
import inspect
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
from keras import constraints, initializers, layers, regularizers

from glioexport.description import SAVED_MODEL_INSTEAD
from glioexport.strip import drops_by_name
from gliorun.errors import GlioError

Objects = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Custom:
    """Custom objects for loading a model: classes by their names in the file.

    `stand_ins` names the dropping layers whose class is not here.
    """

    objects: Objects
    stand_ins: tuple[str, ...]


class StandIn(layers.Layer):
    """Replaces a dropping layer whose class is unavailable, and returns its input unchanged.

    It has no weights, so no layer with weights can be loaded into it.
    """

    @classmethod
    def from_config(cls, config: Objects) -> StandIn:
        return cls(name=config["name"])

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        return inputs

    def load_own_variables(self, store: Any) -> None:
        if len(store):
            raise ValueError(
                f"{self.name!r} is called {type(self).__name__} but has weights; "
                "pass --custom FILE.py that defines it"
            )


def find_custom(config: Any, path: Path, file: Path | None) -> Custom:
    """Find the class of everything in a model's configuration that is not Keras' own.

    Parameters
    ----------
    config : JSON values
        Of a `.keras` or `.h5` file.
    path : Path
        The file, for messages.
    file : Path or None
        Python file that defines classes; it is executed.

    Raises
    ------
    GlioError
        There is a Lambda layer, or an unknown class.
    """
    defined = _defined_in(file) if file else {}
    objects, stand_ins, unknown = dict(defined), [], []
    for node in _nodes(config):
        if node["class_name"] in ("Lambda", "__lambda__"):
            raise GlioError(
                f"{path}: holds a Lambda layer, which is code that loading would run; write it as "
                f"a layer class and pass --custom FILE.py, or {SAVED_MODEL_INSTEAD}"
            )
        name = _foreign_name(node)
        if name is None or keras.saving.get_registered_object(name, objects) is not None:
            continue
        short = name.rpartition(">")[2]
        if short in defined:
            objects[name] = defined[short]
        elif drops_by_name(short) and node["class_name"] != "function":
            objects[name] = type(short, (StandIn,), {})
            stand_ins.append(short)
        else:
            unknown.append(short)
    if unknown:
        raise GlioError(
            f"{path}: Keras does not know {', '.join(sorted(set(unknown)))}; pass --custom FILE.py "
            f"that defines it, or {SAVED_MODEL_INSTEAD}"
        )
    return Custom(objects, tuple(stand_ins))


def _nodes(config: Any) -> Iterator[Objects]:
    """Yield everything in a configuration that names a class, from outside to inside."""
    if isinstance(config, dict):
        if isinstance(config.get("class_name"), str):
            yield config
        config = list(config.values())
    if isinstance(config, list):
        for value in config:
            yield from _nodes(value)


def _foreign_name(node: Objects) -> str | None:
    """Return what a class or function is registered as; None for what is Keras' own."""
    name = node["class_name"]
    if name.startswith("__"):  # a tensor or a number type
        return None
    from_keras = str(node.get("module")).split(".")[0] == "keras"
    if name == "function":
        own = from_keras or hasattr(keras.activations, str(node["config"]))
        return None if own else str(node["config"])
    if "registered_name" in node:
        return None if from_keras else str(node["registered_name"] or name)
    places = (layers, initializers, regularizers, constraints, keras)  # .h5 names no module
    own = name == "Functional" or any(hasattr(place, name) for place in places)
    return None if own else str(name)


def _defined_in(file: Path) -> Objects:
    """Run a Python file and return the layer classes and functions that it defines, by name."""
    name = f"glioexport_custom_{file.stem}"
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None or not file.is_file():
        raise GlioError(f"{file}: no such Python file; check its name")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # the user's code may raise anything
        raise GlioError(f"{file}: fails with {type(error).__name__}: {error}; mend it") from error
    return {
        key: value
        for key, value in vars(module).items()
        if getattr(value, "__module__", None) == name
        and (inspect.isfunction(value) or inspect.isclass(value))
    }
