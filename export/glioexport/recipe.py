"""How a network is trained: recipes, the settings of one training, and changes to them."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, TypeAlias, TypeVar

from glioexport.augment import MATCHED, PLAIN, Augmentation
from glioexport.shape import HOVER_LEARNING_RATE, HoverShape, UnetShape
from gliorun.changes import named_value
from gliorun.errors import GlioError, UsageError

PRECISIONS = ("float32", "mixed_bfloat16")
OPTIMIZERS = ("sgd", "adam")
SIDE = "side_px"
"""What the two sides of a network's square tiles are changed by."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a network is trained. `paper` is its Table 2; `best` is what works better for us.

    `hovernet` has the rate of the paper's Table 2 for HoVer-Net, and short epochs, as one of its
    steps takes seconds.

    The network is fully convolutional, so that it may train on crops of another side than its
    tiles. `average` is the share that the running average of the weights keeps at every step; it
    is the average that is validated and saved (Polyak, Juditsky 1992; 0 keeps the last weights).
    `threshold` is the probability at which a pixel becomes nucleus; it moves into the last bias.
    `balance` decides between sets of unequal size: with 1 every tile counts by its side, with 0
    every set counts the same, and between them sets count by that power of their tiles.
    `sparse` is the share of crops from tiles whose nuclei were taken out (`glioexport.sparse`).
    `steps` are those of an epoch; 0 are as many as show every pixel once on average.
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
    balance: float = 0.5
    sparse: float = 0.25
    batch: int = 4
    epochs: int = 30
    steps: int = 0

    def __post_init__(self) -> None:
        if self.optimizer not in OPTIMIZERS:
            choices = ", ".join(OPTIMIZERS)
            raise UsageError(f"optimizer is {self.optimizer!r}; known: {choices}")
        for name, fits, must in (
            ("average", 0 <= self.average < 1, "lie from 0 to below 1"),
            ("threshold", 0 < self.threshold < 1, "lie between 0 and 1"),
            ("sparse", 0 <= self.sparse < 1, "lie from 0 to below 1"),
            ("balance", 0 <= self.balance <= 1, "lie from 0 to 1"),
            ("dice_share", 0 <= self.dice_share <= 1, "lie from 0 to 1"),
            ("learning_rate", 0 < self.learning_rate < math.inf, "be above 0"),
            ("batch", self.batch >= 1, "be at least 1"),
            ("epochs", self.epochs >= 1, "be at least 1"),
            ("steps", self.steps >= 0, "be 0 or more"),
        ):
            if not fits:
                raise UsageError(f"{name} is {getattr(self, name)}; it must {must}")


RECIPES = {
    "paper": Recipe("sgd", 1e-2, False, 0.0, False, PLAIN, sparse=0.0, balance=1.0),
    "best": Recipe("adam", 2e-3, True, 0.5, True, MATCHED, crop_px=256, average=0.998),
    "hovernet": Recipe(
        "adam", HOVER_LEARNING_RATE, False, 0.0, True, PLAIN, 256, sparse=0.0, epochs=20, steps=20
    ),
}
Shape: TypeAlias = UnetShape | HoverShape


def shape_of(recipe: str) -> Shape:
    """Return the network that a recipe of `RECIPES` is for."""
    return HoverShape() if recipe == "hovernet" else UnetShape()


@dataclass(frozen=True, slots=True)
class TrainSettings:
    """Everything that decides what comes out of a training; kept beside its checkpoint.

    `weights` are factors by which sets are drawn more or less often, by name.
    """

    recipe: Recipe
    shape: Shape
    precision: str = "float32"
    seed: int = 1
    weights: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise UsageError(f"precision is {self.precision!r}; known: {', '.join(PRECISIONS)}")
        for name, factor in self.weights.items():
            if not 0 < factor < math.inf:
                raise UsageError(f"the weight of {name} is {factor}; it must be above 0")
        if isinstance(self.shape, HoverShape):
            self._must_be_plain()
        elif self.shape.height_px != self.shape.width_px:
            raise UsageError("tiles are square; height_px and width_px must be equal")
        try:
            _ = self.trained
        except (ValueError, GlioError) as error:
            raise UsageError(f"crops of {self.recipe.crop_px} px do not fit: {error}") from error

    def _must_be_plain(self) -> None:
        """Refuse what the loss of HoVer-Net and its distances leave no room for."""
        for name, wanted in (("threshold", 0.5), ("dice_share", 0.0), ("sparse", 0.0)):
            if getattr(self.recipe, name) != wanted:
                raise UsageError(f"{name} of HoVer-Net must stay {wanted:g}")

    @property
    def network(self) -> Shape:
        """The shape that is saved: the recipe decides on batch normalisation of a U-net."""
        if isinstance(self.shape, HoverShape):
            return self.shape
        return replace(self.shape, batch_norm=self.recipe.batch_norm)

    @property
    def trained(self) -> Shape:
        """The shape that sees the crops."""
        return self.network.at(self.recipe.crop_px)

    def as_values(self) -> dict[str, Any]:
        """Return the settings as plain JSON values, with the shape that is built."""
        return dict(json.loads(json.dumps(asdict(replace(self, shape=self.network)))))


Part = TypeVar("Part", Recipe, Augmentation, Shape)


def varied(settings: TrainSettings, changes: Iterable[str]) -> TrainSettings:
    """Return `settings` with changes, each "name=value", of recipe, augmentation and network.

    They are made at once, so that their order does not matter; of one name, the last holds.

    Raises
    ------
    UsageError
        There is no such setting, its value has another type, or what comes out makes no sense.
    """
    recipe = settings.recipe
    parts = (recipe, recipe.augmentation, settings.shape)
    defaults = {f.name: getattr(part, f.name) for part in reversed(parts) for f in fields(part)}
    for name in ("augmentation", "height_px", "width_px"):
        defaults.pop(name, None)
    defaults[SIDE] = settings.shape.side_px
    changes = list(changes)
    given = dict(named_value(change, defaults) for change in changes)
    if SIDE in given and isinstance(settings.shape, UnetShape):
        given["height_px"] = given["width_px"] = given[SIDE]

    def changed(part: Part, **further: Any) -> Part:
        names = {f.name for f in fields(part)}
        return replace(part, **{n: v for n, v in given.items() if n in names}, **further)

    try:
        crops = changed(recipe.augmentation)
        return replace(
            settings, recipe=changed(recipe, augmentation=crops), shape=changed(settings.shape)
        )
    except (ValueError, GlioError) as error:
        raise UsageError(f"{', '.join(changes)}: {error}") from error


def weights_of_sets(texts: Iterable[str], sets: set[str]) -> dict[str, float]:
    """Return the factor of each set out of texts, each "set=factor".

    Raises
    ------
    UsageError
        A text is no name with a number, or names none of `sets`.
    """
    weights = {}
    for text in texts:
        name, equals, factor = text.rpartition("=")
        try:
            weights[name] = float(factor)
        except ValueError as error:
            raise UsageError(f"{text}: not a set with a factor, as emory_gbm40=2") from error
        if not equals or not name:
            raise UsageError(f"{text}: not a set with a factor, as emory_gbm40=2")
        if name not in sets:
            raise UsageError(f"{text}: no such set; the index has {', '.join(sorted(sets))}")
    return weights
