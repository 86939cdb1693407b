"""Write and run ONNX models; the only module that does so."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Generator, Iterable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import onnx
from numpy.typing import NDArray

from glioexport.saved_model import op_kinds
from glioexport.scores import levels
from glioexport.strip import check_no_dropping
from gliorun.atomic import replacing
from gliorun.errors import GlioError
from gliorun.model.card import EVEN_LEVEL, ModelCard
from gliorun.model.engine import CARD_KEY

OPSET = 18
END = "end"
"""What stands for the layer in the names of operations that belong to none."""

Pixels = NDArray[np.uint8]


def write_onnx(model: keras.Model, output: str, path: Path) -> None:
    """Write a stripped network as ONNX: uint8 (1, H, W, 3) in, uint8 levels (1, H, W) out.

    Conversion, scaling and the levels (`glioexport.scores.levels`) lie inside the graph. The same
    network gives the same bytes.

    Parameters
    ----------
    model : keras.Model
    output : str
        What it gives (`glioexport.scores`).
    path : Path

    Raises
    ------
    GlioError
        The graph still holds a random operation, or one that ONNX does not have.
    """
    import tensorflow as tf
    import tf2onnx

    _, height, width, _ = model.input_shape
    for layer in model._flatten_layers():
        if isinstance(layer, keras.layers.Normalization):  # arrays become constants of the graph
            layer.mean, layer.variance = np.asarray(layer.mean), np.asarray(layer.variance)

    @tf.function(input_signature=[tf.TensorSpec((1, height, width, 3), tf.uint8, name="image")])
    def levels_of(image: Any) -> Any:
        return levels(model(tf.cast(image, tf.float32), training=False), output)

    traced = levels_of.get_concrete_function()
    check_no_dropping(op_kinds(traced.graph))
    tensors = [t.name for t in traced.inputs[1:] if t.dtype != tf.resource]
    if tensors:  # otherwise tf2onnx makes them inputs of the network
        raise GlioError(
            f"cannot be written as ONNX: layer {_layer_of(*tensors)!r} computes with a tensor that "
            "is none of its weights; make it one with add_weight, or a NumPy array"
        )
    try:
        written, _ = tf2onnx.convert.from_function(
            levels_of, input_signature=levels_of.input_signature, opset=OPSET
        )
        onnx.checker.check_model(written, full_check=True)
    except (ValueError, NotImplementedError, onnx.checker.ValidationError) as error:
        raise GlioError(
            f"cannot be written as ONNX: {str(error).splitlines()[0]}; "
            "build the network of layers that tf2onnx knows"
        ) from error
    check_no_dropping(node.op_type for node in written.graph.node)
    _name_by_place(written.graph)
    onnx.checker.check_model(written, full_check=True)
    onnx.save(written, os.fspath(path))


def op_types(path: Path) -> set[str]:
    """Return the kinds of operation in an ONNX file."""
    return {node.op_type for node in onnx.load(os.fspath(path)).graph.node}


def _name_by_place(graph: Any) -> None:
    """Order and name nodes and constants by layer and place.

    tf2onnx names them with a running number and orders them by name, so that a second
    conversion would give other bytes.
    """
    constants = {constant.name: constant for constant in graph.initializer}
    names = {name: name for name in ("", *(end.name for end in (*graph.input, *graph.output)))}
    nodes = _from_input_to_output(graph)
    used: list[Any] = []
    for place, node in enumerate(nodes):
        weights = node.input[1:2] if node.op_type.startswith("Conv") else []
        node.name = f"{_layer_of(*weights, node.name)}/{node.op_type}_{place}"
        for name in node.input:
            if name in constants and name not in names:
                names[name] = f"constant_{len(used)}"
                used.append(constants[name])
        for number, name in enumerate(node.output):
            names.setdefault(name, f"{node.name}:{number}")
        node.input[:] = [names[name] for name in node.input]
        node.output[:] = [names[name] for name in node.output]
    for constant in used:
        constant.name = names[constant.name]
    graph.CopyFrom(onnx.helper.make_graph(nodes, "network", graph.input, graph.output, used))


def _from_input_to_output(graph: Any) -> list[Any]:
    """Return the nodes in topological order, independent of their names."""
    maker = {name: node for node in graph.node for name in node.output}
    ordered: list[Any] = []
    placed: set[str] = set()
    waiting = [maker[graph.output[0].name]]
    while waiting:
        node = waiting[-1]
        before = [maker[name] for name in node.input if name in maker and name not in placed]
        if before:
            waiting.append(before[0])
            continue
        waiting.pop()
        if node.output[0] not in placed:
            placed.update(node.output)
            ordered.append(node)
    return ordered


def _layer_of(*names: str) -> str:
    """Return the Keras layer in the first name that has one: "network_1/LAYER_1/operation".

    tf2onnx names a fused convolution without its layer, but its weights keep the name.
    """
    for name in names:
        parts = name.split("/")
        if len(parts) > 2:
            return re.sub(r"_\d+$", "", parts[1])
    return END


def add_card(path: Path, card: ModelCard) -> None:
    """Put the card into the metadata of an ONNX file.

    Call it after the IR was made from the file, as OpenVINO would copy the metadata.
    """
    graph = onnx.load(os.fspath(path))
    graph.metadata_props.append(onnx.StringStringEntryProto(key=CARD_KEY, value=card.to_json()))
    with replacing(
        path
    ) as partial:  # a model that was read from the file may still use its weights
        onnx.save(graph, os.fspath(partial))


def onnx_predictor(
    path: Path, threads: int = 0, nucleus_level: int = EVEN_LEVEL
) -> Callable[[Iterable[Pixels]], Generator[Pixels]]:
    """Return a function that runs ONNX Runtime on windows, (H, W, 3) uint8, one at a time.

    It yields their masks, (H, W) uint8, 1 from `nucleus_level` on.

    `threads` of 0 leaves the number to ONNX Runtime.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(
        os.fspath(path), options, providers=["CPUExecutionProvider"]
    )
    name = session.get_inputs()[0].name

    def predict(windows: Iterable[Pixels]) -> Generator[Pixels]:
        for window in windows:
            (levels,) = session.run(None, {name: np.ascontiguousarray(window)[None]})
            yield (levels[0] >= nucleus_level).view(np.uint8)

    return predict
