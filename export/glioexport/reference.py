"""The Keras model as the reference that everything else is compared with."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Generator, Iterable, Iterator
from itertools import islice
from pathlib import Path

import keras
import numpy as np
from numpy.typing import NDArray

from glioexport import dropblock  # noqa: F401  registers DropBlock2D for loading
from gliorun.card import ModelCard
from gliorun.errors import GlioError

Pixels = NDArray[np.uint8]


def load_model(path: Path) -> keras.Model:
    """Load a `.keras` file in Keras' safe mode.

    Raises
    ------
    GlioError
        The file is missing, not a `.keras` file, or holds what safe mode refuses.
    """
    if not path.is_file():
        raise GlioError(f"{path}: no such file")
    if path.suffix != ".keras":
        raise GlioError(f"{path}: not a .keras file; save the model with model.save('name.keras')")
    try:
        return keras.models.load_model(path, compile=False)
    except (ValueError, TypeError, OSError, KeyError, zipfile.BadZipFile) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
        raise GlioError(f"{path}: Keras cannot load it: {reason}") from error


def card_beside(path: Path) -> ModelCard | None:
    """Return the card that `glioexport train` put beside a `.keras` file, if there is one."""
    card = path.with_suffix(".json")
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


def mask_predictor(
    model: keras.Model, batch: int = 4
) -> Callable[[Iterable[Pixels]], Generator[Pixels]]:
    """Return a function that turns windows, (H, W, 3) uint8, into masks, (H, W) uint8, in order."""

    def predict(windows: Iterable[Pixels]) -> Generator[Pixels]:
        for group in batches(windows, batch):
            yield from masks_of(np.asarray(model.predict_on_batch(np.stack(group))))

    return predict


def masks_of(probability: NDArray[np.float32]) -> Pixels:
    """Return the masks, (N, H, W) uint8, of (N, H, W, 2) softmax output: nucleus where larger."""
    return (probability[..., 1] > probability[..., 0]).astype(np.uint8)
