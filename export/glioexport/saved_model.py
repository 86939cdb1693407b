"""Read a TensorFlow SavedModel, the folder that `model.export()` writes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import keras
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from glioexport.strip import check_no_dropping
from gliorun.errors import GlioError
from gliorun.model.card import sha256_of

SIGNATURE = "serving_default"
PROGRAM_OPS = ("Assign", "ReadFile", "WriteFile", "MatchingFiles", "PyFunc", "EagerPyFunc")
"""Prefixes of operations that do more than compute an output; "Assign" is from training mode."""


class SavedLayer(keras.layers.Layer):
    """A SavedModel's signature with one input and one output, as a layer."""

    def __init__(
        self, loaded: Any, signature: Any, input_name: str, name: str = "saved_model"
    ) -> None:
        super().__init__(name=name)
        self.loaded = loaded  # keeps the variables of the SavedModel alive
        self.signature = signature
        self.input_name = input_name

    def call(self, inputs: Any) -> Any:
        (values,) = self.signature(**{self.input_name: inputs}).values()
        return values

    def get_config(self) -> dict[str, Any]:
        """Return the configuration for a copy; it shares the graph, and cannot be saved."""
        return {
            "loaded": self.loaded,
            "signature": self.signature,
            "input_name": self.input_name,
            "name": self.name,
        }


def load_saved_model(folder: Path, side_px: int | None) -> keras.Model:
    """Load a SavedModel as a Keras model with one opaque layer.

    Parameters
    ----------
    folder : Path
    side_px : int or None
        Side of the input where the SavedModel leaves it open.

    Raises
    ------
    GlioError
        The folder is damaged, has no fitting signature, or its graph is not one for inference.
    """
    import tensorflow as tf

    try:
        loaded = tf.saved_model.load(str(folder))
    except (OSError, ValueError, LookupError, DecodeError, tf.errors.OpError) as error:
        raise GlioError(
            f"{folder}: not a SavedModel, or damaged ({_first_line(error)}); "
            "write it again with model.export()"
        ) from error
    signature = loaded.signatures.get(SIGNATURE)
    if signature is None:
        raise GlioError(f"{folder}: has no signature {SIGNATURE!r}; write it with model.export()")
    try:
        check_no_dropping(op_kinds(signature.graph))
    except GlioError as error:
        raise GlioError(f"{folder}: {error}; export the model for inference") from error
    more = sorted(
        op_type for op_type in op_kinds(signature.graph) if op_type.startswith(PROGRAM_OPS)
    )
    if more:
        raise GlioError(
            f"{folder}: does more than compute an output ({', '.join(more)}); "
            "write the network alone"
        )
    inputs, outputs = signature.structured_input_signature[1], signature.structured_outputs
    if len(inputs) != 1 or len(outputs) != 1:
        raise GlioError(
            f"{folder}: takes {len(inputs)} inputs and gives {len(outputs)} outputs; "
            "it must be one and one"
        )
    ((name, spec),) = inputs.items()
    shape = tuple(spec.shape) if spec.shape.rank is not None else ()
    if len(shape) == 4 and side_px is not None:
        shape = (None, shape[1] or side_px, shape[2] or side_px, shape[3])
    image = keras.Input(batch_shape=(None, *shape[1:]), dtype=spec.dtype.name)
    return keras.Model(image, SavedLayer(loaded, signature, name)(image), name="saved_model")


def op_kinds(graph: Any) -> set[str]:
    """Return the kinds of operation in a TensorFlow graph and the functions it calls."""
    definition = graph.as_graph_def()
    nodes: list[Iterable[Any]] = [definition.node]
    nodes += [function.node_def for function in definition.library.function]
    return {node.op for some in nodes for node in some}


def sha256_of_folder(folder: Path) -> str:
    """Return one SHA-256, in hexadecimal, of the names and bytes of all files in a folder."""
    digest = hashlib.sha256()
    for file in sorted(file for file in folder.rglob("*") if file.is_file()):
        digest.update(f"{file.relative_to(folder).as_posix()} {sha256_of(file)}\n".encode())
    return digest.hexdigest()


def _first_line(error: Exception) -> str:
    return (str(error).strip() or repr(error)).splitlines()[0]
