"""How a network is trained: recipes, the settings of one training, and changes to them."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, replace
from typing import Any

import keras

from glioexport.augment import PLAIN, SAME_COLOUR, Augmentation
from glioexport.network import UnetShape
from gliorun.errors import UsageError

PRECISIONS = ("float32", "mixed_bfloat16")
OPTIMIZERS = {"sgd": keras.optimizers.SGD, "adam": keras.optimizers.Adam}


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a network is trained. `paper` is its Table 2; `best` is what works better for us.

    The network is fully convolutional, so that it may train on crops of another side than its
    tiles. `average` is the share that the running average of the weights keeps at every step; it
    is the average that is validated and saved (Polyak, Juditsky 1992; 0 keeps the last weights).
    `threshold` is the probability at which a pixel becomes nucleus; it moves into the last bias.
    """

    optimizer: str
    learning_rate: float
    cosine: bool
    dice_share: float
    batch_norm: bool
    augmentation: Augmentation
    crop_px: int = 480
    match_colour: bool = True
    average: float = 0.0
    threshold: float = 0.5
    batch: int = 4
    epochs: int = 30

    def __post_init__(self) -> None:
        if self.optimizer not in OPTIMIZERS:
            known = ", ".join(OPTIMIZERS)
            raise UsageError(f"optimizer is {self.optimizer!r}; known: {known}")
        for name, fits, must in (
            ("average", 0 <= self.average < 1, "lie from 0 to below 1"),
            ("threshold", 0 < self.threshold < 1, "lie between 0 and 1"),
            ("dice_share", 0 <= self.dice_share <= 1, "lie from 0 to 1"),
            ("learning_rate", 0 < self.learning_rate < math.inf, "be above 0"),
            ("batch", self.batch >= 1, "be at least 1"),
            ("epochs", self.epochs >= 1, "be at least 1"),
        ):
            if not fits:
                raise UsageError(f"{name} is {getattr(self, name)}; it must {must}")


RECIPES = {
    "paper": Recipe("sgd", 1e-2, False, 0.0, False, PLAIN),
    "best": Recipe("adam", 2e-3, True, 0.5, True, SAME_COLOUR, crop_px=256, average=0.998),
}


@dataclass(frozen=True, slots=True)
class TrainSettings:
    """Everything that decides what comes out of a training; kept beside its checkpoint."""

    recipe: Recipe
    shape: UnetShape
    precision: str = "float32"
    seed: int = 1

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise UsageError(f"precision is {self.precision!r}; known: {', '.join(PRECISIONS)}")
        if self.shape.height_px != self.shape.width_px:
            raise UsageError("tiles are square; height_px and width_px must be equal")
        try:
            _ = self.trained
        except ValueError as error:
            raise UsageError(f"crops of {self.recipe.crop_px} px do not fit: {error}") from error

    @property
    def network(self) -> UnetShape:
        """The shape that is saved: the recipe decides on batch normalisation."""
        return replace(self.shape, batch_norm=self.recipe.batch_norm)

    @property
    def trained(self) -> UnetShape:
        """The shape that sees the crops."""
        side = self.recipe.crop_px
        return replace(self.network, height_px=side, width_px=side)

    def as_values(self) -> dict[str, Any]:
        """Return the settings as plain JSON values, with the shape that is built."""
        return dict(json.loads(json.dumps(asdict(replace(self, shape=self.network)))))


def varied(settings: TrainSettings, change: str) -> TrainSettings:
    """Return `settings` with one change, "name=value", in the recipe, augmentation or network.

    Raises
    ------
    UsageError
        There is no such setting, or its value has another type.
    """
    name, given, text = change.partition("=")
    recipe = settings.recipe
    values = {**asdict(settings.shape), **asdict(recipe.augmentation), **asdict(recipe)}
    del values["augmentation"]
    if not given or name not in values:
        known = ", ".join(sorted(values))
        raise UsageError(f"{change}: no such setting; known, as name=value: {known}")
    default = values[name]
    try:
        value = text if isinstance(default, str) else type(default)(json.loads(text))
        one: dict[str, Any] = {name: value}
        if name in asdict(recipe):
            return replace(settings, recipe=replace(recipe, **one))
        if name in asdict(recipe.augmentation):
            crops = replace(recipe.augmentation, **one)
            return replace(settings, recipe=replace(recipe, augmentation=crops))
        return replace(settings, shape=replace(settings.shape, **one))
    except (TypeError, ValueError) as error:
        raise UsageError(f"{change}: the default is {default!r} ({error})") from error
