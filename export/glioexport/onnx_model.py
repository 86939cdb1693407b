"""The only module that writes or runs ONNX."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import onnx
from keras import layers
from numpy.typing import NDArray

from glioexport.strip import check_no_dropping
from gliorun.card import ModelCard
from gliorun.engine import CARD_KEY
from gliorun.errors import GlioError

OPSET = 18

Pixels = NDArray[np.uint8]


def write_onnx(model: keras.Model, path: Path) -> None:
    """Write a stripped network as ONNX: uint8 (1, H, W, 3) in, uint8 mask (1, H, W) out.

    Conversion, scaling and the comparison of the two logits lie inside the graph.

    Raises
    ------
    GlioError
        The network does not give two channels, or the graph still holds a random operation.
    """
    import tensorflow as tf
    import tf2onnx

    _, height, width, channels = model.output_shape
    if channels != 2:
        raise GlioError(f"the network gives {channels} channels; it must give 2")
    last = model.layers[-1]
    scores = last.input if isinstance(last, layers.Softmax) else model.output
    to_scores = keras.Model(model.inputs, scores)

    @tf.function(input_signature=[tf.TensorSpec((1, height, width, 3), tf.uint8, name="image")])
    def mask_of(image: Any) -> Any:
        scores = to_scores(tf.cast(image, tf.float32), training=False)
        return tf.cast(scores[..., 1] > scores[..., 0], tf.uint8)

    graph, _ = tf2onnx.convert.from_function(
        mask_of, input_signature=mask_of.input_signature, opset=OPSET
    )
    check_no_dropping(node.op_type for node in graph.graph.node)
    onnx.checker.check_model(graph, full_check=True)
    onnx.save(graph, os.fspath(path))


def add_card(path: Path, card: ModelCard) -> None:
    """Put the card into the metadata of an ONNX file.

    Comes after the IR is made of it: OpenVINO would copy the metadata into the IR.
    """
    graph = onnx.load(os.fspath(path))
    graph.metadata_props.append(onnx.StringStringEntryProto(key=CARD_KEY, value=card.to_json()))
    onnx.save(graph, os.fspath(path))


def onnx_predictor(path: Path, threads: int = 0) -> Callable[[Iterable[Pixels]], Generator[Pixels]]:
    """Return a function that runs ONNX Runtime on windows, (H, W, 3) uint8, one at a time.

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
            (mask,) = session.run(None, {name: np.ascontiguousarray(window)[None]})
            yield mask[0]

    return predict
