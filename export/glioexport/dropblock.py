"""DropBlock: drops square blocks of a feature map instead of single values."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops

from glioexport.shape import check_drop


@keras.saving.register_keras_serializable(package="glioexport")
class DropBlock2D(keras.layers.Layer):
    """Drop blocks of a feature map while training; the identity in inference.

    A seed is drawn for every sample, channel and position at which a whole block fits inside
    the map. Every seed clears a block of `block_size` x `block_size` values.

    Parameters
    ----------
    rate : float
        Share of the values to drop, `0 <= rate < 1`.
    block_size : int
        Side of a block in px. A map smaller than that is dropped in blocks of its own size.
    gamma : {"eq3", "eq2"}
        Probability of a seed. `"eq3"` is `rate / block_size**2`; `"eq2"` also makes up for the
        positions at the border where no block fits: `* H*W / ((H-L+1) * (W-L+1))`.
    normalize : bool
        Multiply what is left by `count / count_kept`, over the whole tensor, so that inference
        needs no factor. `False` is Algorithm 1 of the paper as printed.
    seed : int or keras.random.SeedGenerator, optional

    Notes
    -----
    Input and output are float maps of shape (N, H, W, C), H and W free of each other.
    Overlapping blocks make the realised rate a little smaller than `rate`: 9.57 % for 10 % and
    blocks of 3.

    Sources: Ghiasi, Lin, Le, "DropBlock: a regularization method for convolutional networks",
    NeurIPS 2018; Eq. 2 and 3 as printed in the glioma density paper that this package follows.
    """

    def __init__(
        self,
        rate: float = 0.1,
        block_size: int = 3,
        *,
        gamma: str = "eq3",
        normalize: bool = True,
        seed: Any = None,
        **layer: Any,
    ) -> None:
        super().__init__(**layer)
        check_drop(rate, block_size, gamma)
        self.rate = rate
        self.block_size = block_size
        self.gamma = gamma
        self.normalize = normalize
        self.seed = seed
        self.seed_generator = (
            seed
            if isinstance(seed, keras.random.SeedGenerator)
            else keras.random.SeedGenerator(seed)
        )
        self.supports_masking = True

    def seed_probability(self, height: int, width: int) -> float:
        """Return gamma for a map of `height` x `width` px."""
        block = min(self.block_size, height, width)
        gamma = self.rate / block**2
        if self.gamma == "eq2":
            gamma *= height * width / ((height - block + 1) * (width - block + 1))
        return gamma

    def kept_share(self, height: int, width: int) -> float:
        """Return the mean share of a `height` x `width` map that is kept, over all draws.

        A value is kept if none of the seeds that reach it is drawn; fewer reach it at the border.
        """
        block = min(self.block_size, height, width)

        def reaching(side: int) -> Any:
            i = np.arange(side)
            return np.minimum(i, side - block) - np.maximum(i - block + 1, 0) + 1

        seeds = reaching(height)[:, None] * reaching(width)[None]
        return float(((1 - self.seed_probability(height, width)) ** seeds).mean())

    def kept(self, batch: Any, height: int, width: int, channels: int) -> Any:
        """Draw a mask, (N, H, W, C) float32: 1 where a value is kept, 0 inside a block."""
        block = min(self.block_size, height, width)
        draws = keras.random.uniform(
            (batch, height - block + 1, width - block + 1, channels),
            dtype="float32",  # bfloat16 has too few steps near zero for a gamma of 1 %
            seed=self.seed_generator,
        )
        seeds = ops.cast(draws < self.seed_probability(height, width), "float32")
        border = (block - 1, block - 1)
        padded = ops.pad(seeds, ((0, 0), border, border, (0, 0)))
        dropped = ops.max_pool(
            padded, block, strides=1, padding="valid", data_format="channels_last"
        )
        return 1.0 - dropped

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        if not training or self.rate == 0:
            return inputs
        _, height, width, channels = inputs.shape
        if height is None or width is None:
            raise ValueError("DropBlock2D needs a fixed height and width to train")
        kept = self.kept(ops.shape(inputs)[0], height, width, channels)
        if self.normalize:
            kept = kept / ops.maximum(ops.mean(kept), 1e-6)
        return inputs * ops.cast(kept, inputs.dtype)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return input_shape

    def save_own_variables(self, store: Any) -> None:
        store["drawn"] = np.asarray(self.seed_generator.state)

    def load_own_variables(self, store: Any) -> None:
        if "drawn" in store:  # a training that goes on draws on
            self.seed_generator.state.assign(np.asarray(store["drawn"]))

    def get_config(self) -> dict[str, Any]:
        seed = self.seed
        if isinstance(seed, keras.random.SeedGenerator):
            seed = keras.saving.serialize_keras_object(seed)
        return {
            **super().get_config(),
            "rate": self.rate,
            "block_size": self.block_size,
            "gamma": self.gamma,
            "normalize": self.normalize,
            "seed": seed,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> DropBlock2D:
        config = dict(config)
        if isinstance(config.get("seed"), dict):
            config["seed"] = keras.saving.deserialize_keras_object(config["seed"])
        return cls(**config)
