"""The reference network: U-net+DropBlock."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from string import ascii_lowercase
from typing import Any

import keras
from keras import layers

from glioexport.dropblock import DropBlock2D
from glioexport.shape import UnetShape


def build_unet(
    shape: UnetShape | None = None, *, precision: str = "float32", seed: int = 0
) -> keras.Model:
    """Build U-net+DropBlock.

    Input (N, H, W, 3), RGB from 0 to 255; output (N, H, W, classes) float32, softmax. Level `i`
    has `filters * 2**i` filters and two convolutions; DropBlock stands between the second one
    and its ReLU, in all of the four levels down, the bottom, and the four levels up
    (Ronneberger, Fischer, Brox, "U-Net", MICCAI 2015, with 'same' padding).

    Parameters
    ----------
    shape : UnetShape, optional
    precision : str
        Keras dtype policy: "float32", or "mixed_bfloat16" to train faster on a CPU that has it.
    seed : int
        Of the initial weights and of DropBlock.
    """
    shape = shape or UnetShape()
    build = _Layers(shape, precision, itertools.count(seed))
    image = layers.Input((shape.height_px, shape.width_px, 3), name="image")
    maps = layers.Rescaling(1 / 255, dtype=precision, name="scale")(image)
    if shape.stem > 1:
        maps = build.stem(maps)
    skips = []
    for depth in range(shape.levels):
        maps = build.level(maps, shape.filters * 2**depth, f"down{depth + 1}")
        skips.append(maps)
        maps = layers.MaxPooling2D(2, dtype=precision, name=f"pool{depth + 1}")(maps)
    maps = build.level(maps, shape.filters * 2**shape.levels, "bottom")
    for depth in reversed(range(shape.levels)):
        maps = layers.Conv2DTranspose(
            shape.filters * 2**depth,
            2,
            strides=2,
            kernel_initializer=build.start(),
            dtype=precision,
            name=f"upsample{depth + 1}",
        )(maps)
        maps = layers.Concatenate(dtype=precision, name=f"skip{depth + 1}")([skips[depth], maps])
        maps = build.level(maps, shape.filters * 2**depth, f"up{depth + 1}")
    return keras.Model(image, build.probability(maps), name=f"unet_{shape.filters}")


@dataclass(frozen=True, slots=True)
class _Layers:
    """The parts of a U-net; `seeds` gives each random one a seed of its own."""

    shape: UnetShape
    precision: str
    seeds: Iterator[int]

    def start(self) -> keras.Initializer:
        """Return the initial weights of the next layer."""
        return keras.initializers.HeNormal(next(self.seeds))

    def stem(self, maps: Any) -> Any:
        """Convolve in steps of `stem` px, each seeing its neighbours too."""
        step = self.shape.stem
        maps = self._convolve(maps, self.shape.filters, "stem", 2 * step + 1, step)
        return layers.ReLU(dtype=self.precision, name="stem_relu")(maps)

    def level(self, maps: Any, filters: int, name: str) -> Any:
        """Convolve as often as the shape says; DropBlock stands after the last one."""
        parts = [f"{name}{letter}" for letter in ascii_lowercase[: self.shape.convolutions]]
        for part in parts:
            side = 3
            if self.shape.separable:
                side, maps = 1, self._of_each_channel(maps, part)
            maps = self._convolve(maps, filters, part, side)
            if part == parts[-1] and self.shape.drop_rate:
                maps = self._drop(maps, part)
            maps = layers.ReLU(dtype=self.precision, name=f"{part}_relu")(maps)
        return maps

    def probability(self, maps: Any) -> Any:
        """Return the output layers: logits of each pixel, and their activation."""
        shape = self.shape
        logits = layers.Conv2D(
            shape.stem**2 * shape.classes,
            1,
            kernel_initializer=self.start(),
            dtype=self.precision,
            name="logits",
        )(maps)
        if shape.stem > 1:
            logits = _spread(logits, shape.stem, shape.classes)
        last = layers.Softmax if shape.classes > 1 else partial(layers.Activation, "sigmoid")
        return last(dtype="float32", name="probability")(logits)

    def _convolve(self, maps: Any, filters: int, name: str, side: int, step: int = 1) -> Any:
        maps = layers.Conv2D(
            filters,
            side,
            strides=step,
            padding="same",
            use_bias=not self.shape.batch_norm,
            kernel_initializer=self.start(),
            dtype=self.precision,
            name=f"{name}_conv",
        )(maps)
        if not self.shape.batch_norm:
            return maps
        norm = layers.BatchNormalization(momentum=0.98, dtype=self.precision, name=f"{name}_norm")
        return norm(maps)

    def _of_each_channel(self, maps: Any, name: str) -> Any:
        return layers.DepthwiseConv2D(
            3,
            padding="same",
            use_bias=False,
            depthwise_initializer=self.start(),
            dtype=self.precision,
            name=f"{name}_depthwise",
        )(maps)

    def _drop(self, maps: Any, name: str) -> Any:
        return DropBlock2D(
            self.shape.drop_rate,
            self.shape.drop_block,
            gamma=self.shape.drop_gamma,
            normalize=self.shape.drop_normalize,
            seed=next(self.seeds),
            dtype=self.precision,
            name=f"{name}_drop",
        )(maps)


def _spread(maps: Any, side: int, channels: int) -> Any:
    """Make `side` x `side` px of the channels of each place: (N, H, W, side * side * channels).

    Two reshapes and a transpose, as Keras has no layer for it (Shi et al., "Real-Time Single
    Image ... Using an Efficient Sub-Pixel Convolutional Neural Network", CVPR 2016).
    """
    _, height, width, _ = maps.shape
    maps = layers.Reshape((height, width, side, side, channels), name="spread_split")(maps)
    maps = layers.Permute((1, 3, 2, 4, 5), name="spread_turn")(maps)
    return layers.Reshape((height * side, width * side, channels), name="spread_join")(maps)
