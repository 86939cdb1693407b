"""Every kind of file that people have becomes one network of a known shape, or is refused."""

from __future__ import annotations

import re
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
from keras import layers

from glioexport.loading import Description, load_network, unet_shape
from glioexport.network import UnetShape, build_unet
from glioexport.strip import strip_dropping
from gliorun.errors import GlioError

from .foreign import dark_unet, darkness_mask
from .small import drawn_windows

TINY = ("filters=2", "levels=1", "height_px=32", "width_px=32")


def noise(side: int = 32) -> np.ndarray:
    return np.random.default_rng(0).uniform(0, 255, (1, side, side, 3)).astype(np.float32)


def saved(folder: Path, model: keras.Model, name: str = "model.keras") -> Path:
    model.save(folder / name)
    return folder / name


def refused(path: Path, **said: object) -> str:
    """Load, expect a one-line GlioError that begins with the file, and return the rest."""
    with pytest.raises(GlioError) as caught:
        load_network(path, Description(**said))
    line = str(caught.value)
    assert "\n" not in line
    assert line.startswith(f"{path}: ")
    return line.removeprefix(f"{path}: ")


def masks(network, windows: list[np.ndarray]) -> list[np.ndarray]:
    from glioexport.reference import mask_predictor

    return list(mask_predictor(network.model, 2, network.output)(windows))


# what can be loaded


@pytest.mark.parametrize(
    ("levels", "side", "channels", "ends", "output"),
    [
        (1, 32, 1, "sigmoid", "sigmoid"),
        (3, 40, 2, "softmax", "softmax"),
        (2, 64, 1, None, "logits"),
        (2, 32, 2, None, "logits"),
    ],
)
def test_any_depth_size_and_end_finds_the_dark_pixels(
    tmp_path: Path, levels: int, side: int, channels: int, ends: str | None, output: str
) -> None:
    model = dark_unet(side, levels=levels, channels=channels, ends=ends)
    network = load_network(saved(tmp_path, model))
    assert (network.side_px, network.output, network.file_format) == (side, output, "keras")
    windows = drawn_windows(side=side)
    expected = [darkness_mask(window) for window in windows]
    assert 0.02 < np.mean(expected) < 0.9
    np.testing.assert_array_equal(masks(network, windows), expected)


@pytest.mark.parametrize("pixel_range", ["0..255", "0..1", "-1..1"])
def test_the_pixel_range_is_brought_about_inside_the_network(
    tmp_path: Path, pixel_range: str
) -> None:
    path = saved(tmp_path, dark_unet(64, pixel_range=pixel_range))
    network = load_network(path, Description(pixel_range=pixel_range))
    windows = drawn_windows()
    expected = [darkness_mask(window) for window in windows]
    differing = np.mean(np.array(masks(network, windows)) != np.array(expected))
    assert differing < 1e-3  # rounding, at pixels on the very edge


def test_a_network_of_any_size_takes_the_tile_it_is_given(tmp_path: Path) -> None:
    path = saved(tmp_path, dark_unet(None))
    network = load_network(path, Description(tile_px=48))
    assert network.side_px == 48
    assert network.model.output_shape == (None, 48, 48, 1)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_reduced_precision_becomes_float32_and_is_told(tmp_path: Path, policy: str) -> None:
    exact = dark_unet(32)
    keras.config.set_dtype_policy(policy)
    try:
        model = dark_unet(32)
    finally:
        keras.config.set_dtype_policy("float32")
    network = load_network(saved(tmp_path, model))
    assert network.reduced == (policy.removeprefix("mixed_"),)
    np.testing.assert_allclose(network.model(noise()), exact(noise()), atol=1e-6)
    stripped = strip_dropping(network.model).model
    np.testing.assert_allclose(stripped(noise()), exact(noise()), atol=1e-6)


@pytest.mark.parametrize("given", [True, False])
def test_normalization_of_reduced_precision_becomes_float32(tmp_path: Path, given: bool) -> None:
    """In bfloat16 150.3 is 150."""
    mean, variance = [150.3, 140.3, 130.3], [3.01, 5.01, 7.01]
    known = {"mean": mean, "variance": variance} if given else {}
    norm = layers.Normalization(**known, dtype="mixed_bfloat16")
    image = keras.Input((32, 32, 3))
    model = keras.Model(image, layers.Conv2D(2, 1)(norm(image)))
    if not given:
        norm.set_weights([np.array(mean), np.array(variance), np.array(1)])
    network = load_network(saved(tmp_path, model))
    loaded = next(x for x in network.model.layers if isinstance(x, layers.Normalization))
    wanted = (noise() - mean) / np.sqrt(variance)
    np.testing.assert_allclose(loaded(noise()), wanted, rtol=1e-5, atol=1e-4)


def test_a_sequential_network_and_one_inside_another_are_taken(tmp_path: Path) -> None:
    inner = dark_unet(32)
    outer = keras.Sequential([layers.Input((32, 32, 3)), inner])
    network = load_network(saved(tmp_path, outer))
    assert network.output == "sigmoid"
    np.testing.assert_array_equal(network.model(noise()), inner(noise()))


def test_weights_alone_are_loaded_into_our_unet_as_described(tmp_path: Path) -> None:
    model = build_unet(UnetShape(32, 32, 2, 1), seed=4)
    model.save_weights(tmp_path / "run.weights.h5")
    network = load_network(tmp_path / "run.weights.h5", Description(unet=TINY))
    assert (network.file_format, network.output) == ("weights", "softmax")
    np.testing.assert_array_equal(network.model(noise()), model(noise()))
    smaller = Description(unet=("filters=2", "levels=1"), tile_px=32)
    assert load_network(tmp_path / "run.weights.h5", smaller).side_px == 32


def test_a_whole_h5_is_loaded_only_if_trusted(tmp_path: Path) -> None:
    model = dark_unet(32)
    path = saved(tmp_path, model, "model.h5")
    assert "CVE-2025-9905" in refused(path)
    network = load_network(path, Description(trust_h5=True))
    assert network.file_format == "h5"
    np.testing.assert_array_equal(network.model(noise()), model(noise()))


def test_the_users_word_settles_what_one_channel_is(tmp_path: Path) -> None:
    image = keras.Input((32, 32, 3))
    path = saved(tmp_path, keras.Model(image, layers.Conv2D(1, 1, activation="tanh")(image)))
    assert "does not say whether its one channel is a probability" in refused(path)
    assert load_network(path, Description(output="logits")).output == "logits"


def test_our_own_dropblock_needs_no_word(tmp_path: Path) -> None:
    path = saved(tmp_path, build_unet(UnetShape(32, 32, 2, 1)))
    assert load_network(path).stand_ins == ()


# what is refused


def test_a_missing_file_and_one_of_another_kind_are_named(tmp_path: Path) -> None:
    assert refused(tmp_path / "none.keras") == "no such file; check its name"
    (tmp_path / "model.onnx").write_bytes(b"")
    assert refused(tmp_path / "model.onnx").startswith("not a .keras file, a SavedModel's folder")


@pytest.mark.parametrize("damage", ["text", "cut", "flipped"])
def test_a_damaged_keras_file_is_named(tmp_path: Path, damage: str) -> None:
    path = saved(tmp_path, dark_unet(32))
    whole = bytearray(path.read_bytes())
    middle = len(whole) // 2
    if damage == "text":
        whole = bytearray(b"no model\n" * 100)
    elif damage == "cut":
        del whole[middle:]
    else:
        whole[middle : middle + 64] = bytes(255 - b for b in whole[middle : middle + 64])
    path.write_bytes(whole)
    assert refused(path).startswith("Keras cannot load it: ")


@pytest.mark.parametrize("content", [b"no model", b"\x89HDF\r\n\x1a\n"])
def test_a_damaged_h5_is_named(tmp_path: Path, content: bytes) -> None:
    for name, said in (("m.h5", {"trust_h5": True}), ("m.weights.h5", {"unet": TINY})):
        (tmp_path / name).write_bytes(content)
        assert "cannot" in refused(tmp_path / name, **said)


@pytest.mark.parametrize("version", ["2.15.0", "3.8.0"])
def test_a_layer_that_keras_2_wrote_otherwise_has_a_way_out(tmp_path: Path, version: str) -> None:
    path = saved(tmp_path, dark_unet(32), "model.h5")
    with h5py.File(path, "a") as file:
        wrote = file.attrs["model_config"].replace(
            '"class_name": "Conv2DTranspose", "config": {',
            '"class_name": "Conv2DTranspose", "config": {"groups": 1, ',
        )
        assert '"groups": 1, "name": "rise0"' in wrote
        file.attrs["model_config"], file.attrs["keras_version"] = wrote, version
    line = refused(path, trust_h5=True)
    assert line.startswith("Keras cannot load it: Unrecognized keyword arguments passed to Conv2DT")
    out = "; it is of Keras 2.15.0: load it there, export it with model.export('folder') and conv"
    assert (out in line) == version.startswith("2.")


def test_weights_in_a_plain_h5_are_told_from_a_model(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "only.h5", "w") as file:
        file["layers/conv"] = np.zeros(3)
    assert "holds weights alone" in refused(tmp_path / "only.h5", trust_h5=True)


@pytest.mark.parametrize(
    "other", ["filters=4", "levels=2", "classes=1", "batch_norm=false", "levels=0", "filters=x"]
)
def test_weights_of_another_unet_are_refused(tmp_path: Path, other: str) -> None:
    path = tmp_path / "run.weights.h5"
    build_unet(UnetShape(32, 32, 2, 1)).save_weights(path)
    with pytest.raises(GlioError, match=r"--unet"):
        load_network(path, Description(unet=(*TINY, other)))


def test_weights_with_more_layers_than_described_are_refused(tmp_path: Path) -> None:
    """Keras itself would load the part that fits."""
    path = tmp_path / "run.weights.h5"
    build_unet(UnetShape(32, 32, 2, 1)).save_weights(path)
    with h5py.File(path, "a") as file:
        file["layers/conv2d_9/vars/0"] = np.zeros((3, 3, 2, 2), dtype=np.float32)
    assert refused(path, unet=TINY).startswith("its weights are not those of a U-net of height_px")


def test_a_setting_that_a_unet_does_not_have_is_named_with_those_it_has() -> None:
    with pytest.raises(GlioError, match=r"--unet: filter=4: no such setting; known.* filters"):
        unet_shape(["filter=4"])
    for value in ("32.9", "true", '"32"', "[32]"):
        said = re.escape(f"--unet: filters={value}: not of the kind of the default, 16")
        with pytest.raises(GlioError, match=f"^{said}$"):
            unet_shape([f"filters={value}"])
    with pytest.raises(GlioError, match="multiple of 16"):
        unet_shape(["height_px=470", "width_px=470"])
    assert unet_shape(["drop_gamma=eq2", "drop_normalize=false", "drop_rate=0.2"]) == UnetShape(
        drop_gamma="eq2", drop_normalize=False, drop_rate=0.2
    )


def test_unet_settings_for_a_model_with_its_own_architecture_are_refused(tmp_path: Path) -> None:
    path = saved(tmp_path, dark_unet(32))
    assert refused(path, unet=("filters=2",)).startswith("holds its own architecture")


def test_a_file_of_layers_for_weights_alone_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "run.weights.h5"
    build_unet(UnetShape(32, 32, 2, 1)).save_weights(path)
    assert refused(path, unet=TINY, custom=tmp_path / "own.py") == "needs no --custom; leave it out"


@pytest.mark.parametrize(
    ("shape", "said", "named"),
    [
        ((32, 32, 4), {}, "4 channels; it must be (None, H, W, 3)"),
        ((32, 32, 1), {}, "1 channels; it must be (None, H, W, 3)"),
        ((3, 32, 32), {}, "it must be (None, H, W, 3)"),
        ((32, 3), {}, "it must be one (None, H, W, 3)"),
        ((4, 32, 32, 3), {}, "it must be one (None, H, W, 3)"),
        ((32, 48, 3), {}, "its input is 32 x 48 px; it must be square"),
        ((None, 48, 3), {}, "its input is None x 48 px; it must be square"),
        ((None, None, 3), {}, "pass --tile-px, the side in px"),
        ((32, 32, 3), {"tile_px": 64}, "takes 32 px; leave --tile-px out"),
        ((8, 8, 3), {}, "takes 8 px; a tile must be at least 16 px"),
    ],
)
def test_an_input_that_is_no_square_rgb_image_is_named(
    tmp_path: Path, shape: tuple[int | None, ...], said: dict[str, int], named: str
) -> None:
    image = keras.Input(shape)
    path = saved(tmp_path, keras.Model(image, layers.Activation("sigmoid")(image)))
    assert named in refused(path, **said)


@pytest.mark.parametrize(
    ("last", "named"),
    [
        (lambda maps: layers.Conv2D(3, 1)(maps), "gives 3 channels; it must give 1 or 2"),
        (lambda maps: layers.Conv2D(1, 3)(maps), "gives (30, 30, 1) for a tile of 32 px"),
        (lambda maps: layers.GlobalAveragePooling2D()(maps), "gives (3,) for a tile of 32 px"),
        (lambda maps: [layers.Conv2D(1, 1)(maps), maps], "gives 2 outputs; it must give one"),
        (lambda maps: layers.Conv2D(1, 1, activation="softmax")(maps), "softmax over one channel"),
    ],
)
def test_an_output_that_is_no_mask_is_named(tmp_path: Path, last, named: str) -> None:
    image = keras.Input((32, 32, 3))
    assert named in refused(saved(tmp_path, keras.Model(image, last(image))))


def test_two_inputs_are_refused(tmp_path: Path) -> None:
    ends = [keras.Input((32, 32, 3)), keras.Input((32, 32, 3))]
    path = saved(tmp_path, keras.Model(ends, layers.Add()(ends)))
    assert "it must be one (None, H, W, 3)" in refused(path)


def test_a_side_that_the_levels_do_not_divide_is_refused_with_its_rule(tmp_path: Path) -> None:
    path = saved(tmp_path, dark_unet(None, levels=3))
    line = refused(path, tile_px=60)
    assert line.startswith("a tile of 60 px does not pass through it (")
    assert line.endswith("its side must be divisible by 2 for each level")


@keras.saving.register_keras_serializable(package="tests")
class Subclassed(keras.Model):
    """A model whose graph is Python code."""

    def __init__(self, **model) -> None:
        super().__init__(**model)
        self.convolution = layers.Conv2D(1, 1, activation="sigmoid")

    def call(self, inputs):
        return self.convolution(inputs)


def test_a_subclassed_model_is_refused_with_the_way_out_and_the_way_out_works(
    tmp_path: Path,
) -> None:
    model = Subclassed()
    model(noise())
    line = refused(saved(tmp_path, model))
    assert line.startswith("is a subclassed model (Subclassed), whose layers cannot be seen")
    assert "model.export('folder')" in line
    model.export(tmp_path / "folder", verbose=False)
    network = load_network(tmp_path / "folder", Description(output="sigmoid", tile_px=32))
    np.testing.assert_allclose(network.model(noise()), model(noise()), atol=1e-6)


def test_a_word_against_the_last_layer_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path, dark_unet(32))
    assert refused(path, output="logits") == "ends in a sigmoid; leave --output logits out"


@pytest.mark.parametrize("said", [{"output": "tanh"}, {"pixel_range": "0-255"}])
def test_an_unknown_word_is_refused_with_the_known_ones(said: dict[str, str]) -> None:
    with pytest.raises(GlioError, match="known: "):
        Description(**said)
