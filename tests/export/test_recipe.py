"""Recipes are what they are said to be, and one setting of them is changed by its name."""

from __future__ import annotations

import pytest

from glioexport.augment import PLAIN
from glioexport.network import UnetShape
from glioexport.recipe import RECIPES, TrainSettings, varied
from gliorun.errors import GlioError

SETTINGS = TrainSettings(RECIPES["best"], UnetShape(64, 64, 4, 2))


def test_the_papers_recipe_is_its_table_2() -> None:
    paper = RECIPES["paper"]
    assert (paper.optimizer, paper.learning_rate, paper.batch, paper.epochs) == ("sgd", 1e-2, 4, 30)
    assert (paper.cosine, paper.dice_share, paper.augmentation) == (False, 0.0, PLAIN)
    assert (paper.crop_px, paper.average, paper.batch_norm) == (480, 0.0, False)
    assert (UnetShape().drop_rate, UnetShape().drop_block) == (0.1, 3)


@pytest.mark.parametrize(
    ("change", "part", "name", "value"),
    [
        ("dice_share=0.25", "recipe", "dice_share", 0.25),
        ("stain_factor=2", "augmentation", "stain_factor", 2.0),
        ("drop_normalize=false", "shape", "drop_normalize", False),
        ("drop_gamma=eq2", "shape", "drop_gamma", "eq2"),
        ("batch_norm=false", "recipe", "batch_norm", False),
    ],
)
def test_one_setting_is_changed_by_name(change: str, part: str, name: str, value: object) -> None:
    settings = varied(SETTINGS, change)
    places = {
        "recipe": settings.recipe,
        "augmentation": settings.recipe.augmentation,
        "shape": settings.shape,
    }
    found = getattr(places[part], name)
    assert (found, type(found)) == (value, type(value))
    assert settings != SETTINGS


@pytest.mark.parametrize(
    "change",
    [
        "speed=2",
        "dice_share",
        "dice_share=",
        "dice_share=much",
        "dice_share=[1]",
        "dice_share=2",
        "learning_rate=0",
        "optimizer=magic",
        "augmentation=1",
        "crop_px=30",
        "levels=0",
        "threshold=1",
    ],
)
def test_a_change_that_makes_no_sense_is_a_fault_the_user_can_act_on(change: str) -> None:
    with pytest.raises(GlioError):
        varied(SETTINGS, change)
