"""Foreign layers are named before anything of a file runs; dropping ones get a stand-in."""

from __future__ import annotations

import importlib.util
import json
import os
import zipfile
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

from glioexport.custom import find_custom
from glioexport.loading import Description, load_network
from gliorun.errors import GlioError

from .foreign import dark_unet

OWN_LAYER = """
import keras

class Brighten(keras.layers.Layer):
    def __init__(self, by=0.0, **layer):
        super().__init__(**layer)
        self.by = by

    def call(self, inputs):
        return inputs + self.by

    def get_config(self):
        return {**super().get_config(), "by": self.by}

def squash(values):
    return keras.ops.sigmoid(2 * values)
"""


class NoiseLayer(layers.Layer):
    """A class of somebody else's."""

    def call(self, inputs, training=None):
        return inputs


class MyDropBlock(layers.Layer):
    """Somebody else's DropBlock, with a generator of random numbers."""

    def __init__(self, rate: float = 0.1, **layer: Any) -> None:
        super().__init__(**layer)
        self.rate = rate
        self.generator = keras.random.SeedGenerator(1)

    def call(self, inputs, training=None):
        return inputs

    def get_config(self):
        return {**super().get_config(), "rate": self.rate}


class WeightyDropBlock(MyDropBlock):
    """Is called DropBlock and has a weight."""

    def build(self, shape):
        self.amount = self.add_weight(name="amount", shape=())


def saved(folder: Path, layer: keras.Layer) -> Path:
    image = keras.Input((16, 16, 3))
    path = folder / "model.keras"
    keras.Model(image, layers.Conv2D(2, 1)(layer(image))).save(path)
    return path


def test_a_layer_nobody_knows_is_named_with_how_to_pass_it(tmp_path: Path) -> None:
    path = saved(tmp_path, NoiseLayer())
    with pytest.raises(GlioError) as caught:
        load_network(path)
    assert str(caught.value) == (
        f"{path}: Keras does not know NoiseLayer; pass --custom FILE.py that defines it, or "
        "export it with model.export('folder') and convert that folder"
    )


def test_a_file_that_defines_layers_and_functions_makes_them_known(tmp_path: Path) -> None:
    file = tmp_path / "own.py"
    file.write_text(OWN_LAYER, encoding="utf-8")
    spec = importlib.util.spec_from_file_location("elsewhere", file)
    own = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(own)
    image = keras.Input((16, 16, 3))
    maps = layers.Conv2D(1, 1, activation=own.squash)(own.Brighten(by=0.25)(image))
    model = keras.Model(image, maps)
    model.save(tmp_path / "own.keras")
    with pytest.raises(GlioError, match="does not know Brighten, squash"):
        load_network(tmp_path / "own.keras")
    description = Description(custom=file, output="sigmoid")
    network = load_network(tmp_path / "own.keras", description)
    pixels = np.random.default_rng(0).uniform(0, 255, (1, 16, 16, 3)).astype(np.float32)
    np.testing.assert_allclose(network.model(pixels), model(pixels), rtol=1e-6)


def test_a_class_registered_under_a_package_is_found_in_a_file_that_registers_nothing(
    tmp_path: Path,
) -> None:
    file = tmp_path / "own.py"
    file.write_text(OWN_LAYER, encoding="utf-8")
    node = {
        "module": None,
        "class_name": "Brighten",
        "config": {},
        "registered_name": "lab>Brighten",
    }
    custom = find_custom({"layers": [node]}, tmp_path, file)
    assert custom.objects["lab>Brighten"].__name__ == "Brighten"


@pytest.mark.parametrize(
    ("text", "named"), [("1 / 0", "ZeroDivisionError"), ("class", "SyntaxError")]
)
def test_a_file_that_fails_is_named_with_its_fault(tmp_path: Path, text: str, named: str) -> None:
    file = tmp_path / "own.py"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(GlioError, match=rf"own.py: fails with {named}"):
        find_custom({}, tmp_path, file)


@pytest.mark.parametrize("name", ["none.py", "own.txt"])
def test_a_file_that_is_missing_or_no_python_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / "own.txt").write_text("x = 1", encoding="utf-8")
    with pytest.raises(GlioError, match=f"{name}: no such Python file"):
        find_custom({}, tmp_path, tmp_path / name)


def test_a_lambda_layer_is_refused_with_the_reason_and_does_not_run(tmp_path: Path) -> None:
    trace = tmp_path / "ran"
    image = keras.Input((16, 16, 3))
    command = f"touch {trace}"
    harm = layers.Lambda(lambda maps: (os.system(command), maps)[1])
    model = keras.Model(image, layers.Conv2D(1, 1)(harm(image)))
    trace.unlink()  # building ran it
    model.save(tmp_path / "model.keras")
    model.save(tmp_path / "model.h5")
    for path, trusted in ((tmp_path / "model.keras", False), (tmp_path / "model.h5", True)):
        with pytest.raises(GlioError, match=r"a Lambda layer, which is code .*--custom FILE.py"):
            load_network(path, Description(trust_h5=trusted))
    assert not trace.exists()


def test_a_lambda_hidden_in_a_wrapper_is_found(tmp_path: Path) -> None:
    inside = {"class_name": "__lambda__", "config": {"code": "…"}}
    config = {"class_name": "Wrapper", "module": "keras.layers", "config": [[{"function": inside}]]}
    with pytest.raises(GlioError, match="Lambda layer"):
        find_custom(config, tmp_path, None)


def test_a_module_of_python_is_not_imported_for_a_class(tmp_path: Path) -> None:
    """As in CVE-2025-1550: a configuration that names any function of any module."""
    path = saved(tmp_path, layers.ReLU())
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    config = json.loads(parts["config.json"])
    config["config"]["layers"][1].update(module="os", class_name="system", registered_name=None)
    parts["config.json"] = json.dumps(config).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    with pytest.raises(GlioError, match="Keras does not know system"):
        load_network(path)


def test_a_dropping_layer_whose_class_is_not_here_gets_a_stand_in_and_is_named(
    tmp_path: Path,
) -> None:
    model = dark_unet(32, drop=lambda name: MyDropBlock(name=name))
    model.save(tmp_path / "model.keras")
    network = load_network(tmp_path / "model.keras")
    assert network.stand_ins == ("MyDropBlock",)
    pixels = np.random.default_rng(0).uniform(0, 255, (1, 32, 32, 3)).astype(np.float32)
    np.testing.assert_array_equal(network.model(pixels), model(pixels, training=False))


def test_kerascv_dropblock_needs_no_kerascv(tmp_path: Path) -> None:
    @keras.saving.register_keras_serializable(package="keras_cv")
    class DropBlock2D(MyDropBlock):
        pass

    try:
        path = saved(tmp_path, DropBlock2D(rate=0.3))
    finally:
        del keras.saving.get_custom_objects()["keras_cv>DropBlock2D"]
    assert load_network(path).stand_ins == ("DropBlock2D",)


def test_a_dropping_layer_with_weights_gets_no_stand_in(tmp_path: Path) -> None:
    path = saved(tmp_path, WeightyDropBlock())
    with pytest.raises(GlioError, match="is called WeightyDropBlock but has weights"):
        load_network(path)
