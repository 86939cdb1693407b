"""What differs between the networks that are trained: how one is built, compared and used."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray
from skimage.measure import label as connected

from glioexport.hovernet import (
    build_hovernet,
    compile_hovernet,
    nucleus_model,
    targets,
)
from glioexport.loss import EntropyAndDice
from glioexport.network import build_unet
from glioexport.recipe import Shape, TrainSettings
from glioexport.shape import HoverShape, UnetShape
from gliorun.errors import UsageError


@dataclass(frozen=True, slots=True)
class Trainee:
    """How one kind of network is trained.

    `build` takes shape, precision and seed. `compile` takes the model and its optimiser. `targets`
    makes of labels, (N, H, W), what the model compares itself with. `density_part` is the part
    that gives nuclear pixels, which is validated and saved; it shares the weights.
    """

    build: Callable[[Shape, str, int], keras.Model]
    compile: Callable[[keras.Model, keras.optimizers.Optimizer], None]
    targets: Callable[[NDArray[Any]], Any]
    density_part: Callable[[keras.Model], keras.Model]


def trainee_of(settings: TrainSettings) -> Trainee:
    """Return how the network of some settings is trained."""
    if isinstance(settings.shape, HoverShape):
        return Trainee(_build_hovernet, compile_hovernet, _distances, nucleus_model)
    loss = EntropyAndDice(settings.recipe.dice_share)

    def compile_unet(model: keras.Model, optimizer: keras.optimizers.Optimizer) -> None:
        # of TensorFlow, XLA's convolutions are slower on a CPU: 3.3 s a step, not 1.9
        model.compile(optimizer, loss, jit_compile=keras.backend.backend() == "jax")

    return Trainee(_build_unet, compile_unet, lambda labels: labels, lambda model: model)


def _build_unet(shape: Shape, precision: str, seed: int) -> keras.Model:
    assert isinstance(shape, UnetShape)
    return build_unet(shape, precision=precision, seed=seed)


def _build_hovernet(shape: Shape, precision: str, seed: int) -> keras.Model:
    assert isinstance(shape, HoverShape)
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy(precision)
    try:
        return build_hovernet(shape, seed=seed)
    finally:
        keras.config.set_dtype_policy(policy)


def _distances(labels: NDArray[Any]) -> dict[str, NDArray[Any]]:
    """Return the targets of HoVer-Net; the parts of a nucleus that a crop has cut count apart."""
    if not np.issubdtype(labels.dtype, np.integer):
        raise UsageError("HoVer-Net needs labels that tell nuclei apart, not a teacher's answers")
    return targets(np.stack([connected(label, connectivity=2) for label in labels]))
