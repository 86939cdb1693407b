"""What the last values mean is read off the last layer, and which pixels are nucleus follows."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers, ops

from glioexport.scores import ARGMAX, levels, nucleus, output_of, probability, up_to_logits


def ending(*last: keras.Layer, channels: int = 2, activation: str | None = None) -> keras.Model:
    image = keras.Input((8, 8, 3))
    maps = layers.Conv2D(channels, 1, activation=activation, name="last")(image)
    for layer in last:
        maps = layer(maps)
    return keras.Model(image, maps)


def inside_another(model: keras.Model) -> keras.Model:
    image = keras.Input((8, 8, 3))
    return keras.Model(image, keras.Sequential([layers.Input((8, 8, 3)), model])(image))


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (ending(layers.Softmax()), "softmax"),
        (ending(activation="softmax"), "softmax"),
        (ending(layers.Activation("softmax")), "softmax"),
        (ending(activation="sigmoid", channels=1), "sigmoid"),
        (ending(layers.Activation("sigmoid"), channels=1), "sigmoid"),
        (ending(), "logits"),
        (ending(layers.Activation("linear", dtype="float32")), "logits"),
        (ending(activation="tanh"), None),
        (ending(layers.Softmax(), layers.UpSampling2D()), None),
        (inside_another(ending(activation="sigmoid", channels=1)), "sigmoid"),
    ],
)
def test_the_last_layer_says_what_comes_out(model: keras.Model, expected: str | None) -> None:
    assert output_of(model) == expected


@pytest.mark.parametrize(
    ("model", "output"),
    [
        (ending(layers.Softmax()), "softmax"),
        (ending(activation="softmax"), "softmax"),
        (ending(layers.Activation("sigmoid"), channels=1), "sigmoid"),
        (ending(activation="sigmoid", channels=1), "sigmoid"),
    ],
)
def test_without_its_last_activation_a_network_gives_logits_of_the_same_probability(
    model: keras.Model, output: str
) -> None:
    pixels = np.random.default_rng(0).normal(0, 3, (2, 8, 8, 3)).astype(np.float32)
    expected = probability(model(pixels).numpy(), output)
    logits, gives = up_to_logits(model, output)
    assert gives == "logits"
    values = logits(pixels).numpy()
    assert np.abs(values).max() > 1
    np.testing.assert_allclose(probability(values, gives), expected, atol=1e-6)


@pytest.mark.parametrize("model", [ending(), ending(activation="tanh")])
def test_a_network_without_such_an_end_comes_back_as_it_is(model: keras.Model) -> None:
    assert up_to_logits(model, "any") == (model, "any")


def test_of_two_channels_the_larger_wins_whatever_they_are() -> None:
    values = np.array([[[[0.2, 0.8], [0.5, 0.5], [-3, -4]]]], dtype=np.float32)
    for output in ("softmax", "sigmoid", "logits", ARGMAX):
        np.testing.assert_array_equal(nucleus(values, output), [[[True, False, False]]])


def test_one_channel_is_nucleus_above_a_half_or_above_logit_zero() -> None:
    values = np.array([[[[0.4], [0.5], [0.6], [-0.1]]]], dtype=np.float32)
    np.testing.assert_array_equal(nucleus(values, "sigmoid"), [[[False, False, True, False]]])
    np.testing.assert_array_equal(nucleus(values, "logits"), [[[True, True, True, False]]])


def test_the_probability_of_logits_is_that_of_their_difference() -> None:
    values = np.array([[[[1.0, 1.0 + np.log(3)]]]], dtype=np.float32)
    assert probability(values, "logits")[0, 0, 0] == pytest.approx(0.75)
    assert probability(values[..., :1] - 1, "logits")[0, 0, 0] == pytest.approx(0.5)
    assert probability(values, "softmax")[0, 0, 0] == pytest.approx(1 + np.log(3))


@pytest.mark.parametrize("output", ["logits", "sigmoid"])
def test_the_level_of_one_channel_says_how_sure_it_is(output: str) -> None:
    logits = np.array([-9.0, -1.0, -0.001, 0.0, 0.001, 1.0, 9.0], np.float32)
    values = 1 / (1 + np.exp(-logits)) if output == "sigmoid" else logits
    level_values = levels(ops.convert_to_tensor(values[None, None, :, None]), output)
    wanted = [0, 112, 127, 128, 128, 144, 255]
    np.testing.assert_array_equal(np.asarray(level_values)[0, 0], wanted)


@pytest.mark.parametrize("output", ["logits", "softmax", ARGMAX])
def test_of_two_channels_the_level_is_even_where_they_are_equal(output: str) -> None:
    values = np.array([[[[0.2, 0.8], [0.5, 0.5], [0.9, 0.1]]]], np.float32)
    level_values = np.asarray(levels(ops.convert_to_tensor(values), output))[0, 0]
    assert level_values[0] > 128 > level_values[2]
    assert level_values[1] == 128
