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
    without = strip_dropping(with_all_kinds())
    stripped = without.model
    assert sorted(without.removed) == [
        "block (DropBlock2D)",
        "channel (SpatialDropout2D)",
        "single (Dropout)",
    ]
    assert without.folded == ()
    kinds = {type(layer) for layer in stripped.layers}
    assert not kinds & {DropBlock2D, layers.Dropout, layers.SpatialDropout2D}
    assert {"first", "last"} <= {layer.name for layer in stripped.layers}


@pytest.mark.parametrize(
    "build", [with_all_kinds, lambda: shaken(build_unet(UnetShape(32, 48, 4, 2)))]
)
def test_computes_what_the_model_computes_in_inference(build) -> None:
    model = build()
    without = strip_dropping(model)
    stripped = without.model
    assert without.removed
    image = noise(2, *model.input_shape[1:])
    expected = model(image, training=False).numpy()
    np.testing.assert_array_equal(stripped(image, training=False).numpy(), expected)


def test_shares_no_variable_with_the_model() -> None:
    model = with_all_kinds()
    stripped = strip_dropping(model).model
    image = noise(1, 16, 24, 3)
    before = stripped(image, training=False).numpy()
    model.set_weights([np.zeros_like(w) for w in model.get_weights()])
    np.testing.assert_array_equal(stripped(image, training=False).numpy(), before)


def test_a_model_without_dropping_layers_comes_back_whole() -> None:
    model = shaken(build_unet(UnetShape(16, 16, 2, 1, drop_rate=0.0)))
    without = strip_dropping(model)
    stripped = without.model
    assert without.removed == ()
    image = noise(1, 16, 16, 3)
    expected = model(image, training=False).numpy()
    np.testing.assert_array_equal(stripped(image, training=False).numpy(), expected)


def scaled_by_hand(model: keras.Model) -> keras.Model:
    """Return the network with every DropBlock replaced by its mean share, as a layer."""

    def call(layer: keras.Layer, *inputs, **settings):
        if isinstance(layer, DropBlock2D):
            return layers.Rescaling(layer.kept_share(*inputs[0].shape[1:3]))(inputs[0])
        return layer(*inputs, **settings)

    scaled = keras.models.clone_model(model, call_function=call)
    for layer in model.layers:
        if layer.weights and not isinstance(layer, DropBlock2D):
            scaled.get_layer(layer.name).set_weights(layer.get_weights())
    return scaled


@pytest.mark.parametrize("batch_norm", [True, False])
def test_the_factor_of_dropblock_as_printed_is_folded_into_the_layer_before(
    batch_norm: bool,
) -> None:
    shape = UnetShape(16, 24, 3, 2, drop_rate=0.3, drop_normalize=False, batch_norm=batch_norm)
    model = shaken(build_unet(shape))
    stripped = strip_dropping(model)
    assert len(stripped.folded) == len(stripped.removed) == 5
    assert not any(isinstance(layer, layers.Rescaling) for layer in stripped.model.layers[2:])
    image = noise(2, 16, 24, 3)
    folded = stripped.model(image, training=False).numpy()
    np.testing.assert_allclose(folded, scaled_by_hand(model)(image, training=False), atol=2e-6)
    assert np.abs(folded - model(image, training=False).numpy()).max() > 1e-3


def test_the_factor_becomes_a_layer_where_none_before_can_take_it() -> None:
    image = keras.Input((12, 12, 3))
    maps = layers.Conv2D(4, 3, padding="same", activation="relu")(image)
    dropped = DropBlock2D(0.3, 3, normalize=False, name="after_relu")(maps)
    both = layers.Concatenate()([maps, dropped])
    more = layers.Conv2D(4, 1)(both)
    shared = DropBlock2D(0.3, 3, normalize=False, name="beside")(more)
    model = shaken(keras.Model(image, layers.Add()([more, shared])))
    stripped = strip_dropping(model)
    assert set(stripped.folded) == {"after_relu", "beside"}
    pixels = noise(1, 12, 12, 3)
    np.testing.assert_allclose(
        stripped.model(pixels, training=False),
        scaled_by_hand(model)(pixels, training=False),
        rtol=1e-5,
    )


class SomebodysDropBlock(layers.Layer):
    """Stands for a user's own class."""

    def call(self, inputs, training=None):
        return inputs * 0 if training else inputs


class Drop_Path(layers.Layer):  # noqa: N801
    """A class with another habit of naming."""

    def call(self, inputs, training=None):
        return inputs


class LearnedDropout(layers.Layer):
    """Called like a layer that drops, but has a weight and acts in inference."""

    def build(self, shape):
        self.amount = self.add_weight(name="amount", shape=())

    def call(self, inputs, training=None):
        return inputs * self.amount


def with_layer(layer: keras.Layer) -> keras.Model:
    image = keras.Input((8, 8, 3))
    return keras.Model(image, layers.Conv2D(2, 1)(layer(layers.Conv2D(4, 3)(image))))


@pytest.mark.parametrize(
    "layer",
    [SomebodysDropBlock(name="x"), Drop_Path(name="x"), layers.GaussianDropout(0.2, name="x")],
)
def test_layers_that_drop_under_another_name_are_found_and_named(layer: keras.Layer) -> None:
    model = with_layer(layer)
    stripped = strip_dropping(model)
    assert stripped.removed == (f"x ({type(layer).__name__})",)
    assert "x" not in [left.name for left in stripped.model.layers]
    image = noise(1, 8, 8, 3)
    np.testing.assert_array_equal(stripped.model(image), model(image, training=False))


def test_a_layer_with_weights_stays_whatever_its_name_and_is_named() -> None:
    model = shaken(with_layer(LearnedDropout(name="x")))
    stripped = strip_dropping(model)
    assert stripped.removed == ()
    assert stripped.inactive == ("x (LearnedDropout)",)
    image = noise(1, 8, 8, 3)
    np.testing.assert_array_equal(stripped.model(image), model(image, training=False))


class Block(layers.Layer):
    """A user's block: its layers are called by code that is not ours."""

    def __init__(self, normalize: bool | None = None, **layer) -> None:
        super().__init__(**layer)
        self.convolution = layers.Conv2D(4, 3)
        self.drop = (
            layers.Dropout(0.5) if normalize is None else DropBlock2D(0.3, 3, normalize=normalize)
        )
        self.normalize = normalize

    def call(self, inputs, training=None):
        return self.drop(self.convolution(inputs), training=training)

    def get_config(self):
        return {**super().get_config(), "normalize": self.normalize}


def test_what_drops_inside_a_users_block_stays_inactive_and_is_named() -> None:
    model = shaken(with_layer(Block(name="block")))
    stripped = strip_dropping(model)
    assert stripped.removed == ()
    (name,) = stripped.inactive
    assert name.startswith("block/dropout")
    assert name.endswith(" (Dropout)")
    image = noise(1, 8, 8, 3)
    np.testing.assert_array_equal(stripped.model(image), model(image, training=False))


def test_dropblock_as_printed_inside_a_users_block_is_refused_as_no_factor_can_follow_it() -> None:
    with pytest.raises(GlioError, match=r"'block' \(Block\) holds DropBlock without rescaling"):
        strip_dropping(with_layer(Block(normalize=False, name="block")))


def encoder() -> keras.Sequential:
    return keras.Sequential(
        [
            layers.Input((16, 16, 4)),
            layers.Conv2D(4, 3, padding="same", name="same"),
            layers.Dropout(0.5, name="drop"),
        ],
        name="encoder",
    )


def nested(levels: int = 1) -> keras.Model:
    """Return networks in networks, with layers of one name in each."""
    inner = encoder()
    for level in range(levels):
        maps = keras.Input((16, 16, 4))
        inner = keras.Model(
            maps, DropBlock2D(0.2, 3, name="drop")(inner(maps)), name=f"level{level}"
        )
    image = keras.Input((16, 16, 3))
    maps = layers.Conv2D(4, 3, padding="same", name="same")(image)
    maps = layers.Dropout(0.5, name="drop")(inner(maps))
    return shaken(keras.Model(image, layers.Conv2D(1, 1, name="last")(maps)))


@pytest.mark.parametrize("levels", [0, 1, 2])
def test_networks_inside_a_network_are_searched_and_dissolved(levels: int) -> None:
    model = nested(levels)
    stripped = strip_dropping(model)
    assert len(stripped.removed) == len(set(stripped.removed)) == levels + 2
    kinds = [type(layer) for layer in stripped.model.layers]
    assert kinds == [layers.InputLayer, *[layers.Conv2D] * 3]
    image = noise(2, 16, 16, 3)
    np.testing.assert_array_equal(stripped.model(image), model(image, training=False))


def test_a_sequential_network_is_stripped() -> None:
    model = shaken(
        keras.Sequential(
            [
                layers.Input((8, 8, 3)),
                layers.Conv2D(4, 3),
                layers.SpatialDropout2D(0.5, name="drop"),
                layers.Conv2D(1, 1, activation="sigmoid"),
            ]
        )
    )
    stripped = strip_dropping(model)
    assert stripped.removed == ("drop (SpatialDropout2D)",)
    image = noise(2, 8, 8, 3)
    np.testing.assert_array_equal(stripped.model(image), model(image, training=False))


def test_a_network_used_twice_keeps_one_set_of_weights() -> None:
    shared, image = encoder(), keras.Input((16, 16, 3))
    maps = layers.Conv2D(4, 1)(image)
    model = shaken(keras.Model(image, layers.Concatenate()([shared(maps), shared(shared(maps))])))
    stripped = strip_dropping(model)
    assert stripped.removed == ("drop (Dropout)",)
    assert stripped.model.count_params() == model.count_params()
    pixels = noise(1, 16, 16, 3)
    np.testing.assert_array_equal(stripped.model(pixels), model(pixels, training=False))


def test_a_factor_is_not_folded_into_a_layer_that_stands_in_two_places() -> None:
    image = keras.Input((12, 12, 4))
    convolution = layers.Conv2D(4, 3, padding="same")
    drop = DropBlock2D(0.3, 3, normalize=False, name="drop")
    maps = drop(convolution(drop(convolution(image))))
    model = shaken(keras.Model(image, maps))
    stripped = strip_dropping(model)
    assert stripped.folded == ("drop", "drop")
    pixels = noise(1, 12, 12, 4)
    np.testing.assert_allclose(
        stripped.model(pixels), scaled_by_hand(model)(pixels, training=False), rtol=1e-5
    )


def test_operations_that_are_no_layers_stay() -> None:
    image = keras.Input((8, 8, 3))
    maps = keras.ops.relu(layers.Dropout(0.5)(image) * 2 - 100)
    model = keras.Model(image, maps)
    pixels = noise(1, 8, 8, 3)
    expected = np.maximum(pixels * 2 - 100, 0)
    np.testing.assert_allclose(strip_dropping(model).model(pixels), expected, rtol=1e-6)


def test_a_layer_called_with_training_true_is_taken_out_all_the_same() -> None:
    image = keras.Input((8, 8, 3))
    maps = layers.Dropout(0.5, name="always")(image, training=True)
    maps = layers.BatchNormalization(name="norm")(maps, training=True)
    model = shaken(keras.Model(image, maps))
    stripped = strip_dropping(model)
    assert stripped.removed == ("always (Dropout)",)
    pixels = noise(4, 8, 8, 3)
    once, again = (stripped.model.predict_on_batch(pixels) for _ in range(2))
    np.testing.assert_array_equal(once, again)
    np.testing.assert_array_equal(once[:1], stripped.model.predict_on_batch(pixels[:1]))
    np.testing.assert_array_equal(once, model.predict_on_batch(pixels))


@pytest.mark.parametrize("given", [True, False])
def test_what_normalization_makes_of_its_weights_comes_along(given: bool) -> None:
    mean, variance = [100.0, 140.0, 180.0], [400.0, 900.0, 1600.0]
    norm = layers.Normalization(**({"mean": mean, "variance": variance} if given else {}))
    image = keras.Input((16, 24, 3))
    model = keras.Model(image, norm(image))
    if not given:
        norm.adapt(np.random.default_rng(2).normal(mean, np.sqrt(variance), (8, 64, 64, 3)))
    pixels = noise(2, 16, 24, 3)
    without = strip_dropping(model).model(pixels, training=False).numpy()
    np.testing.assert_allclose(without, (pixels - mean) / np.sqrt(variance), atol=0.05)
    np.testing.assert_array_equal(without, model(pixels).numpy())
