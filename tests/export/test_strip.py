"""Stripping takes the dropping layers out and nothing else."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers

from glioexport.dropblock import DropBlock2D
from glioexport.network import UnetShape, build_unet
from glioexport.strip import strip_dropping
from gliorun.errors import GlioError


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).uniform(0, 255, shape).astype(np.float32)


def shaken(model: keras.Model) -> keras.Model:
    """Give every weight, batch statistics too, a value that is not the initial one."""
    random = np.random.default_rng(1)
    model.set_weights(
        [
            w * random.uniform(0.7, 1.3, w.shape) + 0.01 * random.random()
            for w in model.get_weights()
        ]
    )
    return model


def with_all_kinds() -> keras.Model:
    image = keras.Input((16, 24, 3))
    maps = layers.Conv2D(4, 3, padding="same", name="first")(image)
    maps = DropBlock2D(0.3, 3, name="block")(maps)
    maps = layers.Dropout(0.5, name="single")(layers.ReLU()(maps))
    side = layers.SpatialDropout2D(0.5, name="channel")(maps)
    maps = layers.Concatenate()([maps, side])
    return shaken(keras.Model(image, layers.Conv2D(2, 1, name="last")(maps)))


def test_takes_out_dropout_spatial_dropout_and_dropblock() -> None:
    stripped, removed = strip_dropping(with_all_kinds())
    assert sorted(removed) == ["block", "channel", "single"]
    kinds = {type(layer) for layer in stripped.layers}
    assert not kinds & {DropBlock2D, layers.Dropout, layers.SpatialDropout2D}
    assert {"first", "last"} <= {layer.name for layer in stripped.layers}


@pytest.mark.parametrize(
    "build", [with_all_kinds, lambda: shaken(build_unet(UnetShape(32, 48, 4, 2)))]
)
def test_computes_what_the_model_computes_in_inference(build) -> None:
    model = build()
    stripped, removed = strip_dropping(model)
    assert removed
    image = noise(2, *model.input_shape[1:])
    expected = model(image, training=False).numpy()
    np.testing.assert_array_equal(stripped(image, training=False).numpy(), expected)


def test_shares_no_variable_with_the_model() -> None:
    model = with_all_kinds()
    stripped, _ = strip_dropping(model)
    image = noise(1, 16, 24, 3)
    before = stripped(image, training=False).numpy()
    model.set_weights([np.zeros_like(w) for w in model.get_weights()])
    np.testing.assert_array_equal(stripped(image, training=False).numpy(), before)


def test_a_model_without_dropping_layers_comes_back_whole() -> None:
    model = shaken(build_unet(UnetShape(16, 16, 2, 1, drop_rate=0.0)))
    stripped, removed = strip_dropping(model)
    assert removed == []
    image = noise(1, 16, 16, 3)
    expected = model(image, training=False).numpy()
    np.testing.assert_array_equal(stripped(image, training=False).numpy(), expected)


def test_refuses_dropblock_that_does_not_rescale_and_names_the_layer() -> None:
    model = build_unet(UnetShape(16, 16, 2, 1, drop_normalize=False))
    with pytest.raises(GlioError, match=r"down1b_drop.*normalize=True"):
        strip_dropping(model)
