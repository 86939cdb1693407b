"""U-net+DropBlock: shapes, the place of DropBlock, and its file."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers

from glioexport.dropblock import DropBlock2D
from glioexport.network import UnetShape, build_unet

SMALL = UnetShape(height_px=32, width_px=48, filters=4, levels=2)


def image_of(shape: UnetShape, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    return random.integers(0, 256, (2, shape.height_px, shape.width_px, 3)).astype(np.float32)


def sole_input(layer: keras.Layer) -> keras.Layer:
    (node,) = layer._inbound_nodes
    (before,) = node.parent_nodes
    return before.operation


def sole_outputs(layer: keras.Layer) -> list[keras.Layer]:
    return [node.operation for node in layer._outbound_nodes]


def test_the_default_is_the_papers_network() -> None:
    model = build_unet(UnetShape(filters=2))
    assert model.input_shape == (None, 480, 480, 3)
    assert model.output_shape == (None, 480, 480, 2)
    kinds = [type(layer) for layer in model.layers]
    assert kinds.count(layers.MaxPooling2D) == 4
    assert kinds.count(layers.Conv2DTranspose) == 4
    assert kinds.count(layers.Concatenate) == 4
    assert model.get_layer("bottomb_relu").output.shape[1:3] == (30, 30)


@pytest.mark.parametrize("batch_norm", [True, False])
def test_every_dropblock_lies_between_a_convolution_and_its_relu(batch_norm: bool) -> None:
    model = build_unet(UnetShape(64, 64, 4, 4, batch_norm=batch_norm))
    drops = [layer for layer in model.layers if isinstance(layer, DropBlock2D)]
    assert len(drops) == 9  # four levels down, the bottom, four levels up
    for drop in drops:
        before = sole_input(drop)
        if batch_norm:
            assert isinstance(before, layers.BatchNormalization)
            before = sole_input(before)
        assert isinstance(before, layers.Conv2D)
        (after,) = sole_outputs(drop)
        assert isinstance(after, layers.ReLU)
        assert (drop.rate, drop.block_size, drop.gamma, drop.normalize) == (0.1, 3, "eq3", True)


def test_dropblocks_draw_apart_from_each_other() -> None:
    model = build_unet(SMALL)
    seeds = [layer.seed for layer in model.layers if isinstance(layer, DropBlock2D)]
    assert len(set(seeds)) == len(seeds)


def test_the_dropping_asked_for_reaches_every_layer() -> None:
    shape = UnetShape(32, 32, 4, 2, drop_rate=0.2, drop_block=5, drop_gamma="eq2")
    drops = [layer for layer in build_unet(shape).layers if isinstance(layer, DropBlock2D)]
    assert {(d.rate, d.block_size, d.gamma) for d in drops} == {(0.2, 5, "eq2")}


def test_without_a_rate_there_is_no_dropblock() -> None:
    model = build_unet(UnetShape(32, 32, 4, 2, drop_rate=0.0))
    assert not any(isinstance(layer, DropBlock2D) for layer in model.layers)


@pytest.mark.parametrize(("filters", "levels"), [(4, 2), (6, 3), (8, 1)])
def test_filters_double_level_by_level(filters: int, levels: int) -> None:
    model = build_unet(UnetShape(32, 32, filters, levels))
    for depth in range(levels):
        assert model.get_layer(f"down{depth + 1}a_conv").filters == filters * 2**depth
        assert model.get_layer(f"up{depth + 1}b_conv").filters == filters * 2**depth
    assert model.get_layer("bottomb_conv").filters == filters * 2**levels


@pytest.mark.parametrize(("height", "width"), [(32, 48), (48, 32), (16, 16)])
def test_probabilities_have_the_size_of_the_image_and_sum_to_one(height: int, width: int) -> None:
    shape = UnetShape(height, width, 4, 2)
    out = build_unet(shape)(image_of(shape), training=False).numpy()
    assert out.shape == (2, height, width, 2)
    assert out.min() >= 0
    np.testing.assert_allclose(out.sum(axis=-1), 1, atol=1e-5)


def test_the_skips_carry_detail_past_the_bottom() -> None:
    """One pixel moves its own surroundings most: a network without skips would smear it."""
    model = build_unet(SMALL)
    image = image_of(SMALL)[:1]
    spotted = image.copy()
    spotted[0, 10, 20] = 255 - spotted[0, 10, 20]
    moved = np.abs(model(spotted, training=False).numpy() - model(image, training=False).numpy())
    top, left = np.unravel_index(moved[0, ..., 1].argmax(), moved.shape[1:3])
    assert abs(top - 10) <= 4
    assert abs(left - 20) <= 4


def test_training_drops_and_inference_does_not() -> None:
    model = build_unet(UnetShape(32, 48, 4, 2, batch_norm=False))
    image = image_of(SMALL)
    calm = [model(image, training=False).numpy() for _ in range(2)]
    wild = [model(image, training=True).numpy() for _ in range(2)]
    np.testing.assert_array_equal(*calm)
    assert np.abs(wild[0] - wild[1]).max() > 1e-4


@pytest.mark.parametrize(("height", "width"), [(30, 32), (32, 30), (0, 32), (2, 32), (-32, 32)])
def test_raises_on_a_side_that_cannot_be_halved_level_times(height: int, width: int) -> None:
    with pytest.raises(ValueError, match="must be a multiple of 4"):
        UnetShape(height, width, levels=2)


@pytest.mark.parametrize("bad", [{"filters": 0}, {"levels": 0}, {"classes": 0}, {"classes": 3}])
def test_raises_on_a_count_below_one(bad: dict) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        UnetShape(**bad)


def test_the_same_seed_gives_the_same_weights_and_another_seed_others() -> None:
    first, second, other = (build_unet(SMALL, seed=seed) for seed in (1, 1, 200))
    for ours, theirs in zip(first.get_weights(), second.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    kernels = [model.get_layer("down1a_conv").get_weights()[0] for model in (first, other)]
    assert (kernels[0] != kernels[1]).any()


def test_a_keras_file_gives_the_same_predictions(tmp_path: Path) -> None:
    model = build_unet(SMALL, seed=3)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    image = image_of(SMALL)
    np.testing.assert_array_equal(
        loaded(image, training=False).numpy(), model(image, training=False).numpy()
    )


def test_mixed_bfloat16_takes_the_weights_and_agrees_with_float32() -> None:
    whole, mixed = (build_unet(SMALL, precision=p) for p in ("float32", "mixed_bfloat16"))
    mixed.set_weights(whole.get_weights())
    image = image_of(SMALL)
    rounded = mixed(image, training=False)
    assert keras.backend.standardize_dtype(rounded.dtype) == "float32"
    assert np.abs(rounded.numpy() - whole(image, training=False).numpy()).mean() < 0.02


def test_a_student_works_at_the_stems_resolution_and_answers_at_full() -> None:
    model = build_unet(UnetShape(64, 96, 4, 2, classes=1, drop_rate=0.0, stem=4))
    assert model.get_layer("down1b_relu").output.shape[1:] == (16, 24, 4)
    assert model.output_shape == (None, 64, 96, 1)
    assert all(layer.output.shape[1:3] != (64, 96) for layer in model.layers[3:-3])


@pytest.mark.parametrize("classes", [1, 2])
def test_every_place_of_the_stem_becomes_its_own_pixels(classes: int) -> None:
    model = build_unet(UnetShape(16, 24, 2, 1, classes=classes, drop_rate=0.0, stem=4))
    channels, spread = model.get_layer("logits"), model.get_layer("probability").input
    both = keras.Model(model.inputs, [channels.output, spread])
    coarse, fine = both.predict_on_batch(image_of(UnetShape(16, 24, 2, 1)))
    for row, column in ((0, 0), (5, 9), (15, 23)):
        offset = (row % 4 * 4 + column % 4) * classes
        np.testing.assert_array_equal(
            fine[:, row, column], coarse[:, row // 4, column // 4, offset : offset + classes]
        )


def test_separable_convolutions_are_one_for_each_channel_then_one_for_each_place() -> None:
    model = build_unet(UnetShape(32, 32, 4, 2, drop_rate=0.0, stem=2, separable=True))
    plain = build_unet(UnetShape(32, 32, 4, 2, drop_rate=0.0, stem=2))
    assert model.get_layer("down1a_depthwise").kernel.shape == (3, 3, 4, 1)
    assert model.get_layer("down2a_conv").kernel.shape == (1, 1, 4, 8)
    assert model.count_params() < plain.count_params() / 2


def test_a_level_has_the_convolutions_asked_for() -> None:
    names = {layer.name for layer in build_unet(UnetShape(32, 32, 4, 2, convolutions=1)).layers}
    assert "down1a_conv" in names
    assert "down1b_conv" not in names
    assert "down1a_drop" in names


def test_a_stem_that_does_not_divide_the_tile_is_refused() -> None:
    with pytest.raises(ValueError, match="multiple of 48"):
        UnetShape(480 + 16, 480 + 16, levels=4, stem=3)
