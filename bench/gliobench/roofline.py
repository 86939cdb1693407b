"""Measure the peak of a processor, and count the operations that a network needs."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
from openvino import opset13 as ops

PRECISIONS = ("FP32", "BF16", "INT8")
SECONDS = 1.0
SLICES = 6
LAYERS = 6
CHANNELS, SIDE_PX = 128, 64
MATRIX = 1024


def gmac_of(path: Path) -> float:
    """Return the multiply-accumulates, in 10⁹, that an IR needs for one input."""
    return gmac(ov.Core().read_model(path))


def gmac(model: Any) -> float:
    """Return the multiply-accumulates of all convolutions and matrix products, in 10⁹.

    Each weight of a convolution is used once for every pixel of its output, of a transposed
    convolution once for every pixel of its input. Everything else is small beside them.
    """
    total = 0
    for op in model.get_ops():
        operation = op.get_type_name()
        if operation in ("Convolution", "GroupConvolution", "ConvolutionBackpropData"):
            weights = int(np.prod(list(op.input(1).get_shape())))
            transposed = operation == "ConvolutionBackpropData"
            image = op.input(0).get_shape() if transposed else op.output(0).get_shape()
            total += weights * image[0] * int(np.prod(list(image)[2:]))
        elif operation == "MatMul":
            inner = op.input(0).get_shape()[-2 if op.get_attributes()["transpose_a"] else -1]
            total += inner * int(np.prod(list(op.output(0).get_shape())))
    return total / 1e9


def open_peaks() -> Callable[[str, float], float]:
    """Return a function that measures the peak of a precision: 10⁹ operations per CPU second.

    A multiply-accumulate counts as two operations.

    The better of a chain of 3 × 3 convolutions and of matrix products, by OpenVINO itself, with
    everything in the cache: no network gets there. A second of CPU time is one core's, whatever
    other programs run.
    """
    compiled: dict[str, list[tuple[Any, float]]] = {}

    def peak(precision: str, seconds: float = SECONDS) -> float:
        if precision not in compiled:
            hint = {"INFERENCE_PRECISION_HINT": "bf16" if precision == "BF16" else "f32"}
            compiled[precision] = [
                (
                    ov.Core().compile_model(
                        model, "CPU", {"PERFORMANCE_HINT": "THROUGHPUT", **hint}
                    ),
                    2 * gmac(model),
                )
                for model in (convolutions(precision == "INT8"), products(precision == "INT8"))
            ]
        return max(
            operations * _rate(network, seconds) for network, operations in compiled[precision]
        )

    return peak


def convolutions(quantised: bool) -> Any:
    """Return a chain of 3 × 3 convolutions as a U-net has them."""
    random = np.random.default_rng(0)
    image = ops.parameter([1, CHANNELS, SIDE_PX, SIDE_PX], np.float32)
    values = image
    for _ in range(LAYERS):
        weights = random.normal(0, 0.03, (CHANNELS, CHANNELS, 3, 3)).astype(np.float32)
        if quantised:
            values = ops.fake_quantize(values, *_range(0, 2.55), 256)
        values = ops.relu(
            ops.convolution(values, _constant(weights, quantised), [1, 1], [1, 1], [1, 1], [1, 1])
        )
    return ov.Model([values], [image])


def products(quantised: bool) -> Any:
    """Return a chain of products of square matrices."""
    random = np.random.default_rng(0)
    left = ops.parameter([MATRIX, MATRIX], np.float32)
    values = left
    for _ in range(2):
        right = random.normal(0, 0.03, (MATRIX, MATRIX)).astype(np.float32)
        if quantised:
            values = ops.fake_quantize(values, *_range(0, 2.55), 256)
        values = ops.relu(ops.matmul(values, _constant(right, quantised), False, False))
    return ov.Model([values], [left])


def _constant(weights: Any, quantised: bool) -> Any:
    constant = ops.constant(weights)
    return ops.fake_quantize(constant, *_range(-0.127, 0.127), 255) if quantised else constant


def _range(low: float, high: float) -> tuple[Any, Any, Any, Any]:
    ends = np.float32(low), np.float32(high)
    return tuple(ops.constant(end) for end in (*ends, *ends))


def _rate(compiled: Any, seconds: float) -> float:
    """Return inferences per second of CPU time, all cores at work: the best of several slices."""
    requests = [
        compiled.create_infer_request()
        for _ in range(compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS"))
    ]
    values = np.random.default_rng(1).random(list(compiled.input(0).shape), dtype=np.float32)
    for request in requests:
        request.infer({0: values})
    best, ends = 0.0, time.perf_counter() + seconds
    while time.perf_counter() < ends:
        begun, done, slice_ends = time.process_time(), 0, time.perf_counter() + seconds / SLICES
        while time.perf_counter() < slice_ends:
            for request in requests:
                request.start_async()
            for request in requests:
                request.wait()
            done += len(requests)
        best = max(best, done / (time.process_time() - begun))
    return best
