"""The Keras model as the reference that everything else is compared with."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from itertools import islice
from pathlib import Path

import keras
import numpy as np
from numpy.typing import NDArray

from glioexport.description import WEIGHTS_SUFFIX
from glioexport.scores import ARGMAX, nucleus, output_of
from gliorun.errors import GlioError
from gliorun.model.card import ModelCard

Pixels = NDArray[np.uint8]
Values = NDArray[np.float32]


def card_path(model: Path) -> Path:
    """Return where the card of a model lies: NAME.json beside NAME.keras or the folder NAME."""
    if model.name.endswith(WEIGHTS_SUFFIX):
        return model.with_name(f"{model.name.removesuffix(WEIGHTS_SUFFIX)}.json")
    return model.with_name(f"{model.name}.json") if model.is_dir() else model.with_suffix(".json")


def card_beside(path: Path) -> ModelCard | None:
    """Return the card that `glioexport train` put beside a `.keras` file, if there is one."""
    card = card_path(path)
    if not card.is_file():
        return None
    try:
        return ModelCard.from_json(card.read_bytes())
    except GlioError as error:
        raise GlioError(f"{card}: {error}") from error


def batches(items: Iterable[Pixels], size: int) -> Iterator[list[Pixels]]:
    """Yield lists of up to `size` items."""
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch


def predict_values(model: keras.Model, windows: Iterable[Pixels], batch: int) -> Generator[Values]:
    """Yield what a network gives, (1 to batch, H, W, 1 or 2), for windows (H, W, 3) uint8."""
    for group in batches(windows, batch):
        yield np.asarray(model.predict_on_batch(np.stack(group)))


def mask_predictor(
    model: keras.Model, batch: int = 4, output: str | None = None
) -> Callable[[Iterable[Pixels]], Generator[Pixels]]:
    """Return a function that turns windows, (H, W, 3) uint8, into masks, (H, W) uint8, in order.

    `output` says what the network gives (`glioexport.scores`); by default its last layer does.
    """
    gives = output or output_of(model) or ARGMAX

    def predict(windows: Iterable[Pixels]) -> Generator[Pixels]:
        for values in predict_values(model, windows, batch):
            yield from masks_of(values, gives)

    return predict


def masks_of(values: Values, output: str = ARGMAX) -> Pixels:
    """Return the masks, (N, H, W) uint8, of what a network gives, (N, H, W, 1 or 2)."""
    return np.asarray(nucleus(values, output), dtype=np.uint8)
