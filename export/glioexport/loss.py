"""The loss that networks are trained with."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="glioexport")
class EntropyAndDice(keras.losses.Loss):
    """Cross-entropy, with a share of soft Dice of the nucleus class.

    Takes labels (N, H, W) from 0 to 1 and probabilities (N, H, W, 1 or 2), nucleus last. A share
    of 0 is plain cross-entropy, as in the paper.
    """

    def __init__(self, dice_share: float = 0.0, name: str = "loss", **loss: Any) -> None:
        super().__init__(name=name, **loss)
        self.dice_share = dice_share

    def call(self, y_true: Any, y_pred: Any) -> Any:
        nuclei = ops.cast(y_true, "float32")
        probability = ops.cast(y_pred, "float32")[..., -1]
        entropy = ops.mean(ops.binary_crossentropy(nuclei, probability))
        if not self.dice_share:
            return entropy
        shared = 2 * ops.sum(nuclei * probability) + 1
        soft_dice = shared / (ops.sum(nuclei) + ops.sum(probability) + 1)
        return (1 - self.dice_share) * entropy + self.dice_share * (1 - soft_dice)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "dice_share": self.dice_share}
