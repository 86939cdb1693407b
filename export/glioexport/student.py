"""What a student is, and how it is taught; known without Keras, so that a fault is told at once."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from glioexport.augment import MATCHED
from glioexport.recipe import Recipe, TrainSettings, varied
from glioexport.shape import UnetShape
from gliorun.errors import UsageError

STUDENT = UnetShape(filters=32, levels=3, classes=1, stem=4)
"""Shape of the student: as INT8 five times as fast as the reference; see the model card."""
RECIPE = Recipe(
    "adam", 3e-3, True, 0.0, True, MATCHED, crop_px=256, average=0.998, batch=8, epochs=30
)


def student_settings(
    changes: Iterable[str] = (),
    *,
    epochs: int | None = None,
    precision: str = "float32",
    seed: int = 1,
) -> TrainSettings:
    """Return the recipe of a student with some changed settings, each "name=value"."""
    recipe = RECIPE if epochs is None else replace(RECIPE, epochs=epochs)
    return varied(TrainSettings(recipe, STUDENT, precision, seed), changes)


@dataclass(frozen=True, slots=True)
class Teaching:
    """How the teacher and the labels teach the student.

    A pixel's target is the teacher's probability of nucleus, mixed with `label_share` of the true
    label. The teacher sees a tile in `turns` positions a quarter turn apart; the mean is used.
    """

    label_share: float = 0.3
    turns: int = 4

    def __post_init__(self) -> None:
        if not 0 <= self.label_share <= 1:
            raise UsageError(f"label share is {self.label_share}; it must lie from 0 to 1")
        if not 1 <= self.turns <= 4:
            raise UsageError(f"turns is {self.turns}; there are 1 to 4")
