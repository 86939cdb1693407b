"""ONNX: the mask inside the graph, nothing random, the same bytes every time."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import onnx
import pytest
from keras import layers

from glioexport.network import UnetShape, build_unet
from glioexport.onnx_model import add_card, onnx_predictor, op_types, write_onnx
from glioexport.scores import up_to_logits
from glioexport.strip import strip_dropping
from gliorun.errors import GlioError
from gliorun.model.card import ModelCard
from gliorun.model.engine import CARD_KEY

from .foreign import dark_unet, darkness_mask
from .small import drawn_windows


def graph(path: Path) -> onnx.GraphProto:
    return onnx.load(path).graph


@pytest.mark.parametrize(
    ("channels", "ends", "output"),
    [
        (1, "sigmoid", "sigmoid"),
        (1, None, "logits"),
        (2, "softmax", "softmax"),
        (2, None, "logits"),
    ],
)
def test_each_end_gives_the_mask_inside_the_graph(
    tmp_path: Path, channels: int, ends: str | None, output: str
) -> None:
    model = dark_unet(64, channels=channels, ends=ends)
    write_onnx(model, output, tmp_path / "m.onnx")
    windows = drawn_windows()
    values = np.array(list(onnx_predictor(tmp_path / "m.onnx")(windows)))
    assert (values.dtype, values.shape) == (np.uint8, (6, 64, 64))
    np.testing.assert_array_equal(values, [darkness_mask(window) for window in windows])


def test_batch_normalisation_is_folded_into_the_convolutions(tmp_path: Path) -> None:
    model = build_unet(UnetShape(32, 32, 2, 1))
    random = np.random.default_rng(2)
    model.set_weights([w + random.uniform(0.1, 0.3, w.shape) for w in model.get_weights()])
    logits, _ = up_to_logits(strip_dropping(model).model, "softmax")
    write_onnx(logits, "logits", tmp_path / "m.onnx")
    assert op_types(tmp_path / "m.onnx").isdisjoint({"BatchNormalization", "Sqrt", "Div"})
    kinds = [node.op_type for node in graph(tmp_path / "m.onnx").node]
    # of the scale of the input and of the level, which is of the difference of two logits
    assert [kinds.count(kind) for kind in ("Mul", "Add", "Sub")] == [2, 2, 1]
    assert kinds.count("Conv") == 7


def test_nodes_carry_the_name_of_their_layer(tmp_path: Path) -> None:
    logits, _ = up_to_logits(strip_dropping(build_unet(UnetShape(32, 32, 2, 1))).model, "softmax")
    write_onnx(logits, "logits", tmp_path / "m.onnx")
    named = [n.name.split("/")[0] for n in graph(tmp_path / "m.onnx").node if n.op_type == "Conv"]
    assert named == [
        "down1a_conv", "down1b_conv", "bottoma_conv", "bottomb_conv", "up1a_conv", "up1b_conv",
        "logits",
    ]  # fmt: skip


def test_the_same_network_gives_the_same_bytes(tmp_path: Path) -> None:
    """tf2onnx numbers what it makes, through the whole process."""
    model = dark_unet(32)
    for name in ("one", "two"):
        logits, gives = up_to_logits(strip_dropping(model).model, "sigmoid")
        write_onnx(logits, gives, tmp_path / name)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


class Noisy(layers.Layer):
    """Drops in inference too."""

    def __init__(self) -> None:
        super().__init__()
        self.generator = keras.random.SeedGenerator(1)

    def call(self, inputs):
        return inputs * keras.random.uniform((1,), seed=self.generator)


class Gaussian(layers.Layer):
    """Drops in inference too, by TensorFlow's own generator."""

    def call(self, inputs):
        import tensorflow as tf

        return inputs * tf.random.normal((1,))


class Gamma(layers.Layer):
    """Asks for an operation that ONNX does not have."""

    def call(self, inputs):
        import tensorflow as tf

        return tf.math.igamma(inputs, inputs)


def after(layer: keras.Layer) -> keras.Model:
    image = keras.Input((16, 16, 3))
    return keras.Model(image, layers.Conv2D(1, 1)(layer(image)))


@pytest.mark.parametrize("layer", [Noisy(), Gaussian()])
def test_a_layer_that_is_random_in_inference_is_refused(tmp_path: Path, layer: keras.Layer) -> None:
    with pytest.raises(GlioError, match=r"still holds .*Random.*in inference too"):
        write_onnx(after(layer), "logits", tmp_path / "m.onnx")
    assert list(tmp_path.iterdir()) == []


def test_an_operation_that_onnx_has_not_is_named(tmp_path: Path) -> None:
    with pytest.raises(GlioError, match=r"cannot be written as ONNX: .*Igamma"):
        write_onnx(after(Gamma()), "logits", tmp_path / "m.onnx")


def test_a_card_is_kept_in_the_metadata(tmp_path: Path) -> None:
    write_onnx(dark_unet(32), "sigmoid", tmp_path / "m.onnx")
    add_card(tmp_path / "m.onnx", ModelCard("dark", 32, 0.5, None))
    (entry,) = onnx.load(tmp_path / "m.onnx").metadata_props
    assert entry.key == CARD_KEY
    assert ModelCard.from_json(entry.value).name == "dark"


def normalized(norm: layers.Layer) -> keras.Model:
    """Return a network that calls nucleus what a layer makes smaller than 0 in red."""
    image = keras.Input((64, 64, 3))
    model = keras.Model(image, layers.Conv2D(1, 1, name="last")(norm(image)))
    kernel = np.reshape(np.array([-1, 0, 0], dtype=np.float32), (1, 1, 3, 1))
    model.get_layer("last").set_weights([kernel, np.zeros(1)])
    return model


def test_what_normalization_computes_with_is_written_as_constants(tmp_path: Path) -> None:
    norm = layers.Normalization(axis=-1)
    norm.build((None, 64, 64, 3))
    norm.load_own_variables({"0": np.array([150.5, 1, 1]), "1": np.ones(3), "2": np.array(1)})
    write_onnx(normalized(norm), "logits", tmp_path / "m.onnx")
    assert [end.name for end in graph(tmp_path / "m.onnx").input] == ["image"]
    windows = drawn_windows()
    masks = list(onnx_predictor(tmp_path / "m.onnx")(windows))
    np.testing.assert_array_equal(masks, [window[..., 0] < 150.5 for window in windows])


class Shift(layers.Layer):
    """Keeps a tensor that is none of its weights."""

    def build(self, input_shape: tuple[int, ...]) -> None:
        self.by = keras.ops.convert_to_tensor([150.5, 1.0, 1.0])

    def call(self, inputs):
        return inputs - self.by


def test_a_tensor_that_is_no_weight_is_refused_with_its_layer(tmp_path: Path) -> None:
    said = r"layer 'shifts' computes with a tensor that is none of its weights; make it one with "
    with pytest.raises(GlioError, match=said):
        write_onnx(normalized(Shift(name="shifts")), "logits", tmp_path / "m.onnx")
    assert not list(tmp_path.iterdir())
