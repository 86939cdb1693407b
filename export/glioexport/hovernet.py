"""HoVer-Net: the paper's other baseline.

Graham, Vu, Raza, Azam, Tsang, Kwak, Rajpoot, "Hover-Net: simultaneous segmentation and
classification of nuclei in multi-tissue histology images", Medical Image Analysis 58, 2019,
without its branch of nucleus types: the density needs none.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
from keras import layers, ops
from numpy.typing import NDArray

from glioexport.shape import HOVER_LEARNING_RATE, HoverShape
from gliorun.errors import GlioError


def build_hovernet(shape: HoverShape | None = None, *, seed: int = 0) -> keras.Model:
    """Build HoVer-Net with the branches of nuclear pixels and of distances.

    Input (N, H, W, 3), RGB from 0 to 255. Two outputs float32: `np` (N, H, W, 2), softmax,
    background and nucleus; `hv` (N, H, W, 2), linear, what `hv_maps` makes of labels.

    The encoder is a pre-activated ResNet-50 whose first convolution keeps the full resolution
    and that has no pooling, so that its deepest map is 1/8; a branch has dense units and adds
    the encoder's maps. Ours, not the publication's: 'same' padding in the branches, so that the
    outputs have the size of the image (the publication crops 270 px to 80); input from -1 to 1,
    and biases where Keras' ResNet50V2 has them.

    45.1 million weights, and 922 GMAC for 480 x 480 px: 86 times those of the U-net of 16 filters.

    Parameters
    ----------
    shape : HoverShape, optional
    seed : int
        Of the initial weights. Nothing in the network is random after that.
    """
    shape = shape or HoverShape()
    seeds = itertools.count(seed)
    image = layers.Input((shape.side_px, shape.side_px, 3), name="image")
    *skips, deepest = _encode(image, shape, seeds)
    bottom = _convolve(deepest, shape.filters(1024), 1, "bottom", seeds)
    logits = _decode(skips, bottom, "np", shape, seeds)
    distances = _decode(skips, bottom, "hv", shape, seeds)
    outputs = {
        "np": layers.Softmax(name="np")(logits),
        "hv": layers.Activation("linear", name="hv")(distances),
    }
    return keras.Model(image, outputs, name="hovernet")


def compile_hovernet(
    model: keras.Model, optimizer: keras.optimizers.Optimizer | None = None
) -> None:
    """Compile for `targets`: cross-entropy plus mean squared error, by default Adam at 1e-4.

    That is the glioma paper's Table 2. The publication adds a Dice loss and an error of the
    distances' gradients; the glioma paper names neither, so they are not here.
    """
    optimizer = optimizer or keras.optimizers.Adam(HOVER_LEARNING_RATE)
    optimizer.build(model.trainable_variables)  # in the first step, TensorFlow traces it twice
    model.compile(
        optimizer,
        {
            "np": keras.losses.SparseCategoricalCrossentropy(),
            "hv": keras.losses.MeanSquaredError(),
        },
        jit_compile=False,  # as in train: XLA's convolutions are slower on a CPU
    )


def targets(labels: NDArray[np.integer[Any]]) -> dict[str, NDArray[Any]]:
    """Return what `compile_hovernet` compares with, of label images, (N, H, W) integers.

    Cut, turn and flip the labels first: a flip changes the sign of the distances.
    """
    return {
        "np": (labels > 0).astype(np.uint8),
        "hv": np.stack([hv_maps(image) for image in labels]),
    }


def hv_maps(labels: NDArray[np.integer[Any]]) -> NDArray[np.float32]:
    """Return the horizontal and vertical distances in a label image, (H, W, 2) float32.

    `labels` is (H, W) integers: above 0 the number of a nucleus. In a nucleus, channel 0 is the
    distance of each pixel in x, channel 1 in y, to the nucleus' centre of mass; each side of
    the centre is scaled so that its farthest pixel has -1 (left, top) or 1 (right, bottom).
    Background, and a nucleus one pixel wide along its axis, are 0.

    The authors' code rounds the centre to a pixel; here it is exact.

    Raises
    ------
    GlioError
        `labels` is no label image.
    """
    if labels.ndim != 2 or not np.issubdtype(labels.dtype, np.integer):
        raise GlioError(
            f"a label image is (rows, columns) of integers, not {labels.shape} of {labels.dtype}"
        )
    maps = np.zeros((*labels.shape, 2), dtype=np.float32)
    rows, columns = np.nonzero(labels > 0)
    _, nucleus = np.unique(labels[rows, columns], return_inverse=True)
    area_px = np.bincount(nucleus)
    for channel, place in enumerate((columns, rows)):
        centre = np.bincount(nucleus, place) / area_px
        distance = place - centre[nucleus]
        farthest_left, farthest_right = np.zeros((2, len(area_px)))
        np.maximum.at(farthest_left, nucleus, -distance)
        np.maximum.at(farthest_right, nucleus, distance)
        farthest = np.where(distance < 0, farthest_left[nucleus], farthest_right[nucleus])
        maps[rows, columns, channel] = distance / np.where(distance, farthest, 1)
    return maps


def nucleus_model(model: keras.Model) -> keras.Model:
    """Return the part of a HoVer-Net that gives the nuclear pixels: what a density needs.

    It shares the weights; its output is that of a U-net, (N, H, W, 2) softmax.
    """
    return keras.Model(model.input, model.get_layer("np").output, name="hovernet_np")


def _encode(image: Any, shape: HoverShape, seeds: Iterator[int]) -> list[Any]:
    """Return the maps of 1/1, 1/2, 1/4 and 1/8; layers are named as in Keras' ResNet50V2."""
    maps = layers.Rescaling(1 / 127.5, offset=-1, name="scale")(image)
    maps = _convolve(maps, shape.filters(64), 7, "conv1_conv", seeds, use_bias=True)
    ends = []
    for stage, units in enumerate(shape.encoder_units):
        filters = shape.filters(64 * 2**stage)
        for unit in range(1, units + 1):
            name = f"conv{stage + 2}_block{unit}"
            active = _activate(maps, f"{name}_preact")
            stride = 1
            if unit == 1:  # also ends the stage before it
                ends.append(active)
                stride = 2 if stage else 1
                maps = _convolve(
                    active, 4 * filters, 1, f"{name}_0_conv", seeds, stride=stride, use_bias=True
                )
            change = _bottleneck(active, filters, stride, name, seeds)
            maps = layers.Add(name=f"{name}_out")([maps, change])
    return [*ends[1:], _activate(maps, "post")]


def _bottleneck(maps: Any, filters: int, stride: int, name: str, seeds: Iterator[int]) -> Any:
    maps = _convolve(maps, filters, 1, f"{name}_1_conv", seeds)
    maps = _activate(maps, f"{name}_1")
    maps = _convolve(maps, filters, 3, f"{name}_2_conv", seeds, stride=stride)
    maps = _activate(maps, f"{name}_2")
    return _convolve(maps, 4 * filters, 1, f"{name}_3_conv", seeds, use_bias=True)


def _decode(
    skips: list[Any], bottom: Any, name: str, shape: HoverShape, seeds: Iterator[int]
) -> Any:
    """Return the two channels of a branch, before its last activation."""
    maps = bottom
    wide, narrow = shape.dense_units
    for skip, filters, units in ((skips[2], 256, wide), (skips[1], 128, narrow)):
        level = f"{name}_{filters}"
        maps = _upsample_and_add(maps, skip, level)
        maps = _convolve(maps, shape.filters(filters), 5, f"{level}_in", seeds)
        maps = _dense(maps, units, level, shape, seeds)
        maps = _convolve(maps, shape.filters(2 * filters), 1, f"{level}_out", seeds)
    maps = _upsample_and_add(maps, skips[0], f"{name}_64")
    maps = _convolve(maps, shape.filters(64), 5, f"{name}_64_in", seeds)
    maps = _activate(maps, f"{name}_64")
    return _convolve(maps, 2, 1, f"{name}_logits", seeds, use_bias=True)


def _upsample_and_add(maps: Any, skip: Any, name: str) -> Any:
    larger = layers.UpSampling2D(2, name=f"{name}_upsample")(maps)
    return layers.Add(name=f"{name}_skip")([larger, skip])


def _dense(maps: Any, units: int, name: str, shape: HoverShape, seeds: Iterator[int]) -> Any:
    """Return the maps with 32 more from each unit, as in a DenseNet, with 5 x 5 in four groups."""
    for unit in range(1, units + 1):
        inner = _activate(maps, f"{name}_dense{unit}_1")
        inner = _convolve(inner, shape.filters(128), 1, f"{name}_dense{unit}_1_conv", seeds)
        inner = _activate(inner, f"{name}_dense{unit}_2")
        new = [  # one grouped layer, but TensorFlow has none on a CPU: Keras compiles each with XLA
            _convolve(share, shape.filters(8), 5, f"{name}_dense{unit}_2_conv{group}", seeds)
            for group, share in enumerate(ops.split(inner, 4, axis=-1), 1)
        ]
        maps = layers.Concatenate(name=f"{name}_dense{unit}_out")([maps, *new])
    return _activate(maps, f"{name}_dense")


def _activate(maps: Any, name: str) -> Any:
    maps = layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name=f"{name}_bn")(maps)
    return layers.ReLU(name=f"{name}_relu")(maps)


def _convolve(
    maps: Any,
    filters: int,
    kernel_px: int,
    name: str,
    seeds: Iterator[int],
    *,
    stride: int = 1,
    use_bias: bool = False,
) -> Any:
    return layers.Conv2D(
        filters,
        kernel_px,
        strides=stride,
        padding="same",
        use_bias=use_bias,
        kernel_initializer=keras.initializers.HeNormal(next(seeds)),
        name=name,
    )(maps)
