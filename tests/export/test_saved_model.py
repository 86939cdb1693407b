"""A SavedModel is taken as it is, if its graph is one for inference."""

from __future__ import annotations

import shutil
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from glioexport.loading import Description, load_network
from glioexport.onnx_model import onnx_predictor, write_onnx
from glioexport.saved_model import sha256_of_folder
from glioexport.strip import strip_dropping
from gliorun.errors import GlioError

from .foreign import dark_unet

Exported = tuple[keras.Model, Path]
SIGMOID = Description(output="sigmoid")


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    folder = tmp_path_factory.mktemp("exported") / "dark"
    model = dark_unet(32, drop=lambda name: layers.Dropout(0.5, name=name))
    model.export(folder, verbose=False)
    return model, folder


def noise(side: int = 32, batch: int = 1) -> np.ndarray:
    return np.random.default_rng(0).uniform(0, 255, (batch, side, side, 3)).astype(np.float32)


def signed(folder: Path, function, *shapes: tuple[int | None, ...], **root) -> Path:
    """Save a function of tensors of these shapes as a SavedModel's only signature."""
    module = tf.Module()
    for name, value in root.items():
        setattr(module, name, value)
    specs = [tf.TensorSpec(shape, tf.float32, name=f"in{n}") for n, shape in enumerate(shapes)]
    module.run = tf.function(function, input_signature=specs)
    tf.saved_model.save(module, folder, signatures={"serving_default": module.run})
    return folder


def test_it_gives_what_the_model_gives(exported: Exported) -> None:
    model, folder = exported
    network = load_network(folder, SIGMOID)
    assert (network.file_format, network.side_px, network.output) == ("SavedModel", 32, "sigmoid")
    expected = model(noise(batch=3), training=False).numpy()
    np.testing.assert_allclose(network.model(noise(batch=3)), expected, atol=1e-6)


def test_a_copy_without_dropping_layers_shares_its_graph(
    exported: Exported,
) -> None:
    model, folder = exported
    stripped = strip_dropping(load_network(folder, SIGMOID).model)
    assert stripped.removed == stripped.inactive == ()
    expected = model(noise(), training=False).numpy()
    np.testing.assert_allclose(stripped.model(noise()), expected, atol=1e-6)


def test_one_channel_needs_the_users_word_for_what_it_is(
    exported: Exported,
) -> None:
    with pytest.raises(GlioError, match="pass --output sigmoid or --output logits"):
        load_network(exported[1])


def test_two_channels_need_no_word(tmp_path: Path) -> None:
    dark_unet(32, channels=2, ends="softmax").export(tmp_path / "two", verbose=False)
    assert load_network(tmp_path / "two").output == "larger of two channels"


def test_a_graph_of_any_size_needs_the_side_of_a_tile(tmp_path: Path) -> None:
    model = dark_unet(None)
    model.export(tmp_path / "any", verbose=False)
    with pytest.raises(GlioError, match="any: takes tiles of any size; pass --tile-px"):
        load_network(tmp_path / "any", SIGMOID)
    network = load_network(tmp_path / "any", Description(output="sigmoid", tile_px=48))
    assert network.side_px == 48
    np.testing.assert_allclose(network.model(noise(48)), model(noise(48)), atol=1e-6)


def test_a_graph_of_one_tile_at_a_time_and_of_bytes_is_taken(tmp_path: Path) -> None:
    module = tf.Module()
    spec = tf.TensorSpec((1, 32, 32, 3), tf.uint8, name="pixels")
    module.run = tf.function(
        lambda pixels: tf.cast(pixels[..., :1], tf.float32) / 255, input_signature=[spec]
    )
    tf.saved_model.save(module, tmp_path / "bytes", signatures=module.run)
    network = load_network(tmp_path / "bytes", SIGMOID)
    pixels = noise().astype(np.uint8)
    output = network.model.predict_on_batch(pixels)
    np.testing.assert_allclose(output, pixels[..., :1] / 255, rtol=1e-6)
    stripped = strip_dropping(network.model).model
    write_onnx(stripped, "sigmoid", tmp_path / "m.onnx")
    (mask,) = onnx_predictor(tmp_path / "m.onnx")([pixels[0]])
    np.testing.assert_array_equal(mask, pixels[0, ..., 0] > 127)


def test_a_graph_in_training_mode_is_refused_by_its_random_operation(tmp_path: Path) -> None:
    folder = signed(tmp_path / "alive", lambda x: tf.nn.dropout(x[..., :1], 0.5), (None, 32, 32, 3))
    with pytest.raises(GlioError, match=r"alive: the graph still holds .*Random.*for inference"):
        load_network(folder, SIGMOID)


def test_a_training_function_beside_the_signature_does_no_harm(tmp_path: Path) -> None:
    @tf.function(input_signature=[tf.TensorSpec((None, 32, 32, 3), tf.float32)])
    def train(x):
        return tf.nn.dropout(x, 0.5)

    folder = signed(tmp_path / "both", lambda x: x[..., :1] / 255, (None, 32, 32, 3), train=train)
    assert load_network(folder, SIGMOID).side_px == 32


def test_a_graph_that_writes_files_is_refused_before_it_runs(tmp_path: Path) -> None:
    def write(x):
        tf.io.write_file(str(tmp_path / "harm"), "harm")
        return x[..., :1]

    folder = signed(tmp_path / "harmful", write, (None, 32, 32, 3))
    with pytest.raises(GlioError, match=r"does more than compute an output \(WriteFile\)"):
        load_network(folder, SIGMOID)
    assert not (tmp_path / "harm").exists()


def test_a_graph_of_two_inputs_is_refused(tmp_path: Path) -> None:
    shape = (None, 32, 32, 3)
    folder = signed(tmp_path / "two", lambda x, y: x[..., :1] + y[..., :1], shape, shape)
    with pytest.raises(GlioError, match="takes 2 inputs and gives 1 outputs"):
        load_network(folder, SIGMOID)


def test_a_folder_that_is_none_is_named(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(GlioError, match=r"empty: no saved_model.pb in this folder; .*export"):
        load_network(tmp_path / "empty")


def test_a_damaged_one_is_named(exported: Exported, tmp_path: Path) -> None:
    for part in ("saved_model.pb", "variables/variables.data-00000-of-00001"):
        folder = Path(shutil.copytree(exported[1], tmp_path / part.replace("/", "-")))
        content = (folder / part).read_bytes()
        (folder / part).write_bytes(content[: len(content) // 2])
        with pytest.raises(GlioError, match="not a SavedModel, or damaged"):
            load_network(folder, SIGMOID)


def test_its_hash_is_of_every_file_and_of_no_place(exported: Exported, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(exported[1], tmp_path / "elsewhere"))
    assert sha256_of_folder(copy) == sha256_of_folder(exported[1])
    data = copy / "variables" / "variables.data-00000-of-00001"
    data.write_bytes(data.read_bytes()[:-1] + b"?")
    assert sha256_of_folder(copy) != sha256_of_folder(exported[1])
