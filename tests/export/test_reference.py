"""The Keras reference: masks in order whatever the batch, and the card beside a model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from glioexport.reference import card_beside, card_path, mask_predictor, masks_of
from glioexport.shipped import WEIGHTS
from gliorun.errors import GlioError
from gliorun.model import shipped
from gliorun.model.card import ModelCard, sha256_of
from gliorun.model.engine import open_model

from .foreign import dark_unet, darkness_mask
from .small import drawn_windows


@pytest.mark.parametrize("batch", [1, 4, 7])
def test_masks_come_in_the_order_of_the_windows_whatever_the_batch(batch: int) -> None:
    windows = drawn_windows()
    masks = list(mask_predictor(dark_unet(64), batch, "sigmoid")(windows))
    np.testing.assert_array_equal(masks, [darkness_mask(window) for window in windows])


def test_the_last_layer_says_what_one_channel_is() -> None:
    windows = drawn_windows()
    expected = [darkness_mask(window) for window in windows]
    for ends in ("sigmoid", None):
        masks = list(mask_predictor(dark_unet(64, ends=ends))(windows))
        np.testing.assert_array_equal(masks, expected)


def test_of_two_channels_the_larger_is_the_mask() -> None:
    values = np.array([[[[0.3, 0.7], [0.5, 0.5]]]], dtype=np.float32)
    masks = masks_of(values)
    assert masks.dtype == np.uint8
    np.testing.assert_array_equal(masks, [[[1, 0]]])


def test_a_card_lies_beside_each_kind_of_model(tmp_path: Path) -> None:
    (tmp_path / "run.v2").mkdir()
    names = {
        "run.keras": "run.json",
        "run.h5": "run.json",
        "run.weights.h5": "run.json",
        "run.v2": "run.v2.json",  # a folder
    }
    for model, card in names.items():
        assert card_path(tmp_path / model) == tmp_path / card
    (tmp_path / "run.json").write_text(ModelCard("x", 64, 0.5, None).to_json(), encoding="utf-8")
    assert card_beside(tmp_path / "run.weights.h5").mpp == 0.5
    assert card_beside(tmp_path / "other.keras") is None


def test_a_damaged_card_is_named(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text("{}", encoding="utf-8")
    with pytest.raises(GlioError, match=r"run.json: model card"):
        card_beside(tmp_path / "run.keras")


@pytest.mark.parametrize("name", ["reference", "student"])
def test_a_shipped_model_may_be_used_for_no_more_than_its_tiles(name: str) -> None:
    """MoNuSeg and MoNuSAC are CC BY-NC-SA: the weights say so wherever they go."""
    use = "Research and non-commercial use only; not a medical device."
    beside = card_beside(WEIGHTS / f"{name}.keras")
    inside = open_model(shipped.models()[name]).card
    assert beside is not None
    assert beside.intended_use == inside.intended_use == use
    assert beside.training == inside.training
    assert inside.source_sha256 == sha256_of(WEIGHTS / f"{name}.keras")
