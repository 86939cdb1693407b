"""The loss, against the same by hand."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from glioexport.loss import EntropyAndDice


def test_loss_is_cross_entropy_by_hand() -> None:
    truth = np.array([[[1, 0], [0, 1]]], dtype=np.uint8)
    nucleus = np.array([[[0.9, 0.2], [0.4, 0.6]]], dtype=np.float32)
    probability = np.stack([1 - nucleus, nucleus], axis=-1)
    entropy = -np.log([0.9, 0.8, 0.6, 0.6]).mean()
    assert float(EntropyAndDice()(truth, probability)) == pytest.approx(entropy, rel=1e-5)
    soft_dice = (2 * 1.5 + 1) / (2 + 2.1 + 1)
    mixed = 0.75 * entropy + 0.25 * (1 - soft_dice)
    assert float(EntropyAndDice(0.25)(truth, probability)) == pytest.approx(mixed, rel=1e-5)
    sparse = keras.losses.SparseCategoricalCrossentropy()(truth, probability)
    assert float(EntropyAndDice()(truth, probability)) == pytest.approx(float(sparse), rel=1e-5)
