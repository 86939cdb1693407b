"""HoVer-Net is trained by the same command: it resumes, and what it saves gives a density."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest
from typer.testing import CliRunner

from glioexport.augment import PLAIN, augment
from glioexport.cli import app
from glioexport.hovernet import HoverShape
from glioexport.recipe import RECIPES, TrainSettings, shape_of, varied
from glioexport.train import train
from glioexport.trainee import trainee_of
from gliorun.errors import UsageError
from gliorun.model.card import ModelCard

RECIPE = replace(RECIPES["hovernet"], crop_px=32, batch=2, epochs=2, steps=3)
SETTINGS = TrainSettings(RECIPE, HoverShape(64, 0.125, (1, 1, 1, 1), (1, 1)))


def test_numbers_of_nuclei_survive_a_crop() -> None:
    numbers = np.zeros((40, 40), dtype=np.int32)
    numbers[5:20, 5:20], numbers[20:35, 20:35] = 700, 900
    pixels = np.zeros((40, 40, 3), dtype=np.uint8)
    scaled = replace(PLAIN, scale=1.5)
    for seed in range(5):
        _, crop = augment(pixels, numbers, 32, scaled, np.random.default_rng(seed))
        assert set(np.unique(crop)) <= {0, 700, 900}


def test_the_parts_of_a_nucleus_that_a_mirror_made_count_apart() -> None:
    label = np.zeros((1, 8, 16), dtype=np.int32)
    label[0, 2:6, 1:4] = label[0, 2:6, 12:15] = 5
    distances = trainee_of(SETTINGS).targets(label)["hv"]
    assert distances[0, 3, 1, 0] == distances[0, 3, 12, 0] == -1
    assert distances[0, 3, 3, 0] == distances[0, 3, 14, 0] == 1


def test_what_its_loss_leaves_no_room_for_is_refused() -> None:
    hovernet = TrainSettings(RECIPES["hovernet"], shape_of("hovernet"))
    for change in ("threshold=0.4", "dice_share=0.5", "sparse=0.25", "filters=8"):
        with pytest.raises(UsageError, match=change.partition("=")[0]):
            varied(hovernet, [change])
    assert varied(hovernet, ["side_px=256", "width=0.5"]).shape == HoverShape(256, 0.5)


def test_filters_belong_to_the_unet(tmp_path: Path) -> None:
    result = CliRunner().invoke(
        app,
        ["train", str(tmp_path), "--out", str(tmp_path), "--recipe", "hovernet", "--filters", "8"],
    )
    assert isinstance(result.exception, UsageError)


@pytest.mark.release
def test_it_trains_resumes_and_gives_nuclei(small_tiles: Path, tmp_path: Path) -> None:
    whole = train(small_tiles, tmp_path / "whole", SETTINGS, say=lambda line: None)
    said: list[str] = []

    def kill(line: str) -> None:
        said.append(line)
        if line.startswith("epoch 1/2"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(small_tiles, tmp_path / "resumed", SETTINGS, say=kill)
    resumed = train(small_tiles, tmp_path / "resumed", SETTINGS, say=lambda line: None)
    models = [keras.models.load_model(path) for path in (whole, resumed)]
    for ours, theirs in zip(*(model.get_weights() for model in models), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)
    probability = models[0].predict(np.zeros((1, 64, 64, 3), np.uint8), verbose=0)
    assert probability.shape == (1, 64, 64, 2)
    card = ModelCard.from_json(whole.with_suffix(".json").read_bytes())
    assert card.name == "HoVer-Net, width 0.125"
    assert card.training["validation"]
