"""Recipes are what they are said to be, and one setting of them is changed by its name."""

from __future__ import annotations

import numpy as np
import pytest

from glioexport.augment import PLAIN, augment
from glioexport.network import UnetShape
from glioexport.recipe import RECIPES, TrainSettings, varied
from glioexport.train import OPTIMIZERS
from gliorun.errors import GlioError

SETTINGS = TrainSettings(RECIPES["best"], UnetShape(64, 64, 4, 2))


def test_the_papers_recipe_is_its_table_2() -> None:
    paper = RECIPES["paper"]
    assert (paper.optimizer, paper.learning_rate, paper.batch, paper.epochs) == ("sgd", 1e-2, 4, 30)
    assert (paper.cosine, paper.dice_share, paper.augmentation) == (False, 0.0, PLAIN)
    assert (paper.crop_px, paper.average, paper.batch_norm) == (480, 0.0, False)
    assert (UnetShape().drop_rate, UnetShape().drop_block) == (0.1, 3)
    sgd = OPTIMIZERS[paper.optimizer](paper.learning_rate)
    assert (sgd.momentum, sgd.nesterov, sgd.weight_decay, sgd.clipnorm) == (0, False, None, None)


@pytest.mark.parametrize(
    ("change", "part", "name", "value"),
    [
        ("dice_share=0.25", "recipe", "dice_share", 0.25),
        ("stain_factor=2", "augmentation", "stain_factor", 2.0),
        ("drop_normalize=false", "shape", "drop_normalize", False),
        ("drop_gamma=eq2", "shape", "drop_gamma", "eq2"),
        ("batch_norm=false", "recipe", "batch_norm", False),
        ("side_px=96", "shape", "width_px", 96),
    ],
)
def test_one_setting_is_changed_by_name(change: str, part: str, name: str, value: object) -> None:
    settings = varied(SETTINGS, [change])
    places = {
        "recipe": settings.recipe,
        "augmentation": settings.recipe.augmentation,
        "shape": settings.shape,
    }
    setting = getattr(places[part], name)
    assert (setting, type(setting)) == (value, type(value))
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
        "batch=1.9",
        "batch=true",
        'drop_normalize="false"',
        "drop_rate=2",
        "drop_gamma=eq9",
        "drop_block=0",
        "classes=3",
        "height_px=64",
        "side_px=50",
        "scale=-1",
        "gamma=0",
        "gamma=NaN",
        "gamma=Infinity",
        "blur_share=1.5",
        "noise_level=-1",
        "jpeg_quality=200",
    ],
)
def test_a_change_that_makes_no_sense_is_a_fault_the_user_can_act_on(change: str) -> None:
    with pytest.raises(GlioError):
        varied(SETTINGS, [change])


def test_changes_are_made_at_once_so_that_their_order_does_not_matter() -> None:
    default = TrainSettings(RECIPES["best"], UnetShape())
    changes = ["levels=3", "stem=4", "crop_px=96", "side_px=96"]
    assert varied(default, changes) == varied(default, changes[::-1])
    assert varied(default, changes).shape.stem == 4
    with pytest.raises(GlioError, match="stem"):
        varied(default, ["stem=0", "levels=3"])


@pytest.mark.parametrize("change", ["blur_sigma_px=0.1", "noise_level=0.5", "blur_sigma_px=0"])
def test_the_least_of_a_degradation_is_a_degradation(change: str) -> None:
    how = varied(SETTINGS, [change, "blur_share=1", "noise_share=1"]).recipe.augmentation
    pixels, nuclei = np.full((64, 64, 3), 128, np.uint8), np.zeros((64, 64), np.uint8)
    crop, _ = augment(pixels, nuclei, 32, how, np.random.default_rng(0))
    assert crop.shape == (32, 32, 3)
