"""HoVer-Net: its shape, its targets and losses, and that it learns."""

from __future__ import annotations

import math
import re
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers
from numpy.typing import NDArray
from skimage.measure import label as number_nuclei

from glioexport.hovernet import (
    HoverShape,
    build_hovernet,
    compile_hovernet,
    hv_maps,
    nucleus_model,
    targets,
)
from glioexport.loading import load_model
from glioexport.network import UnetShape, build_unet
from glioexport.reference import mask_predictor, masks_of
from gliorun import demo
from gliorun.errors import GlioError
from gliorun.findings.agreement import dice

pytestmark = pytest.mark.release

SMALL = HoverShape(side_px=24, width=0.125, encoder_units=(1, 2, 1, 1), dense_units=(2, 1))


def nucleus_mask(model: keras.Model, pixels: np.ndarray) -> np.ndarray:
    """The nucleus masks, (N, H, W) uint8, of images."""
    return masks_of(np.asarray(model.predict_on_batch(pixels)["np"]))


def images_of(side_px: int, seed: int = 0) -> NDArray[np.uint8]:
    random = np.random.default_rng(seed)
    return random.integers(0, 256, (2, side_px, side_px, 3), dtype=np.uint8)


def outputs_of(model: keras.Model, *, training: bool = False) -> dict[str, np.ndarray]:
    images = images_of(model.input_shape[1]).astype(np.float32)
    answer = model(images, training=training)
    return {name: keras.ops.convert_to_numpy(output) for name, output in answer.items()}


def weights_of(model: keras.Model) -> list[np.ndarray]:
    return [weight.copy() for weight in model.get_weights()]


def assert_same_weights(model: keras.Model, wanted: list[np.ndarray]) -> None:
    for answer, one in zip(model.get_weights(), wanted, strict=True):
        np.testing.assert_array_equal(answer, one)


def stir(model: keras.Model, seed: int) -> None:
    """Give biases and normalisations values that are not 0 and 1, as a training does."""
    random = np.random.default_rng(seed)
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            size = layer.gamma.shape
            layer.set_weights(
                [
                    random.uniform(0.5, 1.5, size),
                    random.normal(0, 0.1, size),
                    random.normal(0, 0.1, size),
                    random.uniform(0.5, 1.5, size),
                ]
            )
        elif isinstance(layer, layers.Conv2D) and layer.use_bias:
            kernel, bias = layer.get_weights()
            layer.set_weights([kernel, random.normal(0, 0.1, bias.shape)])


@pytest.fixture(scope="module")
def published() -> keras.Model:
    """The network as published, for tiles of 480 px."""
    return build_hovernet()


@pytest.fixture(scope="module")
def small() -> keras.Model:
    """A narrow, shallow network for images of 24 px."""
    return build_hovernet(SMALL, seed=1)


def test_the_default_is_the_publications_network_on_the_papers_tiles(
    published: keras.Model,
) -> None:
    assert published.input_shape == (None, 480, 480, 3)
    assert {name: output.shape for name, output in published.output.items()} == {
        "np": (None, 480, 480, 2),
        "hv": (None, 480, 480, 2),
    }
    sides = {
        "conv1_conv": (480, 64),
        "conv2_block3_out": (480, 256),
        "conv3_block4_out": (240, 512),
    }
    sides |= {"conv4_block6_out": (120, 1024), "conv5_block3_out": (60, 2048), "bottom": (60, 1024)}
    for name, (side, filters) in sides.items():
        assert published.get_layer(name).output.shape == (None, side, side, filters)
    joins = [layer.name for layer in published.layers if isinstance(layer, layers.Add)]
    assert len([name for name in joins if name.startswith("conv")]) == 3 + 4 + 6 + 3
    assert {"np_256_skip", "np_128_skip", "np_64_skip"} < set(joins)
    assert {"hv_256_skip", "hv_128_skip", "hv_64_skip"} < set(joins)


def test_its_weights_are_as_many_as_the_publications_layers_have(published: keras.Model) -> None:
    """Counted by hand from the authors' layers, which have no biases before a normalisation."""
    kernels = 5 * 5 * 1024 * 256 + 5 * 5 * 512 * 128 + 5 * 5 * 256 * 64  # into each level
    kernels += sum((256 + 32 * unit) * 128 for unit in range(8))
    kernels += sum((128 + 32 * unit) * 128 for unit in range(4))
    kernels += 12 * 5 * 5 * (128 // 4) * 32  # in four groups
    kernels += 512 * 512 + 256 * 256
    normalised = sum(256 + 32 * unit for unit in range(9)) + 8 * 128
    normalised += sum(128 + 32 * unit for unit in range(5)) + 4 * 128 + 64
    branch = kernels + 2 * normalised + 64 * 2 + 2
    for name in ("np", "hv"):
        answer = [w for w in published.trainable_weights if w.path.startswith(f"{name}_")]
        assert sum(math.prod(weight.shape) for weight in answer) == branch
    resnet = 23_564_800  # Keras' ResNet50V2 without its top, with the means it keeps
    encoder = keras.Model(published.input, published.get_layer("post_relu").output)
    assert encoder.count_params() == resnet
    means = 2 * 2 * normalised
    assert published.count_params() == resnet + 2048 * 1024 + 2 * branch + means == 45_117_188


def multiply_accumulates(model: keras.Model) -> int:
    """Return the multiply-accumulate operations of the convolutions in `model`, for one image."""
    total = 0
    for layer in model.layers:
        if isinstance(layer, layers.Conv2D):
            total += math.prod(layer.output.shape[1:3]) * math.prod(layer.kernel.shape)
        elif isinstance(layer, layers.Conv2DTranspose):
            total += math.prod(layer.input.shape[1:3]) * math.prod(layer.kernel.shape)
    return total


def test_operations_a_tile_are_counted_from_the_layers(published: keras.Model) -> None:
    assert multiply_accumulates(published) / 1e9 == pytest.approx(921.6, abs=0.1)
    assert multiply_accumulates(nucleus_model(published)) / 1e9 == pytest.approx(611.5, abs=0.1)
    unet = build_unet(UnetShape(filters=16))
    assert multiply_accumulates(unet) / 1e9 == pytest.approx(10.7, abs=0.05)


def test_operations_of_one_convolution_by_hand() -> None:
    image = layers.Input((6, 4, 3))
    maps = layers.Conv2D(8, 5, strides=2, padding="same")(image)  # 3 x 2 places
    maps = layers.Conv2D(4, 3, groups=2, padding="same")(maps)
    maps = layers.Conv2DTranspose(7, 2, strides=2)(maps)
    wanted = 6 * 25 * 3 * 8 + 6 * 9 * 4 * 4 + 6 * 4 * 4 * 7
    assert multiply_accumulates(keras.Model(image, maps)) == wanted


@pytest.mark.parametrize("side_px", [8, 24, 40])
def test_outputs_have_the_size_of_the_image(side_px: int) -> None:
    outputs = outputs_of(build_hovernet(HoverShape(side_px, 0.125, (1, 1, 1, 1), (1, 1))))
    assert set(outputs) == {"np", "hv"}
    assert outputs["np"].shape == outputs["hv"].shape == (2, side_px, side_px, 2)
    np.testing.assert_allclose(outputs["np"].sum(axis=-1), 1, atol=1e-5)
    assert outputs["np"].min() >= 0
    assert outputs["hv"].min() < 0 < outputs["hv"].max()  # linear: distances have a sign


def test_width_and_units_reach_every_layer() -> None:
    model = build_hovernet(HoverShape(16, 0.25, (2, 1, 3, 1), (3, 2)))
    filters = {"conv1_conv": 16, "conv4_block3_3_conv": 256, "bottom": 256, "np_256_in": 64}
    filters |= {"hv_256_dense3_1_conv": 32, "hv_256_dense3_2_conv4": 2, "hv_128_out": 64}
    for name, wanted in filters.items():
        assert model.get_layer(name).filters == wanted
    names = {layer.name for layer in model.layers}
    assert not names & {"conv2_block3_out", "np_256_dense4_out", "np_128_dense3_out"}


@pytest.mark.parametrize("side_px", [0, -8, 4, 12, 481])
def test_raises_on_a_side_that_is_no_multiple_of_8(side_px: int) -> None:
    with pytest.raises(GlioError, match=f"side_px is {side_px}; it must be a multiple of 8"):
        HoverShape(side_px)


@pytest.mark.parametrize("width", [0, -0.125, 0.1, 0.3])
def test_raises_on_a_width_that_gives_no_whole_filters(width: float) -> None:
    with pytest.raises(GlioError, match=r"must be a multiple of 1/8 above 0"):
        HoverShape(width=width)


@pytest.mark.parametrize(
    "bad",
    [
        {"encoder_units": (3, 4, 6)},
        {"encoder_units": (3, 0, 6, 3)},
        {"dense_units": (8, 4, 2)},
        {"dense_units": (8, 0)},
    ],
)
def test_raises_on_units_that_are_too_few_or_too_many(bad: dict) -> None:
    (name,) = bad
    with pytest.raises(GlioError, match=f"{name} is .* counts of at least 1"):
        HoverShape(**bad)


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(small: keras.Model) -> None:
    assert_same_weights(build_hovernet(SMALL, seed=1), small.get_weights())
    other = build_hovernet(SMALL, seed=500).get_layer("conv1_conv").get_weights()[0]
    assert (other != small.get_layer("conv1_conv").get_weights()[0]).any()


def test_no_two_layers_begin_with_the_same_kernel(small: keras.Model) -> None:
    kernels = [layer.get_weights()[0] for layer in small.layers if isinstance(layer, layers.Conv2D)]
    first = [kernel.flat[0] for kernel in kernels]
    assert len(set(first)) == len(first)


@pytest.mark.parametrize("training", [False, True])
def test_nothing_in_it_is_random(small: keras.Model, training: bool) -> None:
    first, again = (outputs_of(small, training=training) for _ in range(2))
    for name in ("np", "hv"):
        np.testing.assert_array_equal(first[name], again[name])


def test_the_groups_of_a_dense_unit_see_a_quarter_of_the_maps_each(small: keras.Model) -> None:
    groups = [small.get_layer(f"np_256_dense1_2_conv{group}") for group in (1, 2, 3, 4)]
    assert {group.kernel.shape for group in groups} == {(5, 5, 4, 1)}
    whole = small.get_layer("np_256_dense1_2_relu").output
    values = keras.Model(small.input, [whole, *(group.output for group in groups)])
    maps, *parts = (np.asarray(v) for v in values.predict_on_batch(images_of(24)))
    kernel = np.concatenate([np.asarray(group.kernel) for group in groups], axis=-1)
    padded = np.pad(maps, ((0, 0), (2, 2), (2, 2), (0, 0)))
    wanted = np.zeros((*maps.shape[:3], 4))
    for filter_ in range(4):
        share = padded[..., 4 * filter_ : 4 * filter_ + 4]
        for row, column in np.ndindex(5, 5):
            window = share[:, row : row + maps.shape[1], column : column + maps.shape[2]]
            wanted[..., filter_] += window @ kernel[row, column, :, filter_]
    np.testing.assert_allclose(np.concatenate(parts, axis=-1), wanted, rtol=1e-4, atol=1e-5)


def test_a_keras_file_gives_the_same_outputs_in_safe_mode(
    small: keras.Model, tmp_path: Path
) -> None:
    small.save(tmp_path / "small.keras")
    answer, wanted = outputs_of(load_model(tmp_path / "small.keras")), outputs_of(small)
    for name in ("np", "hv"):
        np.testing.assert_array_equal(answer[name], wanted[name])


def test_the_mask_is_where_nucleus_is_likelier_than_background(small: keras.Model) -> None:
    images = images_of(24)
    bias = small.get_layer("np_logits").bias
    kept = np.asarray(bias).copy()
    try:
        mask = nucleus_mask(small, images)
        probability = outputs_of(small)["np"][..., 1]
        assert (mask.shape, mask.dtype) == ((2, 24, 24), np.uint8)
        np.testing.assert_array_equal(mask, probability > 0.5)
        assert 0 < mask.mean() < 1
        bias.assign([0.0, 1e4])
        assert nucleus_mask(small, images).all()
        bias.assign([1e4, 0.0])
        assert not nucleus_mask(small, images).any()
    finally:
        bias.assign(kept)


def test_the_nuclear_pixels_alone_predict_like_a_unet(small: keras.Model, tmp_path: Path) -> None:
    nucleus_model(small).save(tmp_path / "np.keras")
    alone = load_model(tmp_path / "np.keras")
    assert alone.output_shape == (None, 24, 24, 2)
    images = images_of(24)
    masks = np.stack(list(mask_predictor(alone)(images)))
    np.testing.assert_array_equal(masks, nucleus_mask(small, images))
    assert not [layer.name for layer in alone.layers if layer.name.startswith("hv")]


def test_distances_by_hand() -> None:
    labels = np.array(
        [
            [0, 7, 7, 7, 0, 0],
            [0, 7, 0, 0, 0, 2],
            [0, 7, 0, 0, 0, 0],
        ],
        dtype=np.uint16,
    )
    distances = hv_maps(labels)
    assert (distances.shape, distances.dtype) == ((3, 6, 2), np.float32)
    # nucleus 7: centre of mass at column 1.6, row 0.6; farthest 0.6 left, 1.4 right and down
    horizontal = [[0, -1, 0.4 / 1.4, 1, 0, 0], [0, -1, 0, 0, 0, 0], [0, -1, 0, 0, 0, 0]]
    vertical = [[0, -1, -1, -1, 0, 0], [0, 0.4 / 1.4, 0, 0, 0, 0], [0, 1, 0, 0, 0, 0]]
    np.testing.assert_allclose(distances[..., 0], horizontal, atol=1e-6)
    np.testing.assert_allclose(distances[..., 1], vertical, atol=1e-6)


def test_nuclei_that_touch_have_distances_of_their_own() -> None:
    labels = np.array([[3, 3, 3, 1, 1]], dtype=np.int32)
    np.testing.assert_allclose(hv_maps(labels)[..., 0], [[-1, 0, 1, -1, 1]], atol=1e-6)
    np.testing.assert_array_equal(hv_maps(labels)[..., 1], 0)


@pytest.mark.parametrize(
    "labels", [np.zeros((5, 4), int), np.diag([1, 2, 3]), np.eye(1, dtype=int)]
)
def test_no_nucleus_and_nuclei_of_one_pixel_have_no_distances(labels: np.ndarray) -> None:
    distances = hv_maps(labels)
    assert distances.shape == (*labels.shape, 2)
    np.testing.assert_array_equal(distances, 0)


def test_labels_below_zero_are_background() -> None:
    labels = np.array([[-1, -1, -1, 2, 2]])
    np.testing.assert_allclose(hv_maps(labels)[..., 0], [[0, 0, 0, -1, 1]])


def test_distances_keep_to_their_nucleus_and_to_one() -> None:
    tissue = demo.draw_tissue(np.full((150, 210), 0.3, dtype=np.float32), seed=2)
    labels = number_nuclei(tissue.nuclei)
    distances = hv_maps(labels)
    assert labels.max() > 10
    assert (distances[labels == 0] == 0).all()
    for number in range(1, labels.max() + 1):
        inside = distances[labels == number]
        np.testing.assert_allclose(inside.min(axis=0), -1)
        np.testing.assert_allclose(inside.max(axis=0), 1)


def test_a_mirrored_label_image_has_mirrored_distances_of_the_other_sign() -> None:
    tissue = demo.draw_tissue(np.full((90, 120), 0.3, dtype=np.float32), seed=3)
    labels = number_nuclei(tissue.nuclei)
    answer, mirrored = hv_maps(labels), hv_maps(labels[:, ::-1])[:, ::-1]
    np.testing.assert_allclose(mirrored[..., 0], -answer[..., 0], atol=1e-5)
    np.testing.assert_allclose(mirrored[..., 1], answer[..., 1], atol=1e-5)


@pytest.mark.parametrize("wrong", [np.zeros((4, 4, 3), int), np.zeros(4, int), np.zeros((4, 4))])
def test_names_what_is_no_label_image(wrong: np.ndarray) -> None:
    shape = re.escape(f"not {wrong.shape} of {wrong.dtype}")
    with pytest.raises(GlioError, match=shape):
        hv_maps(wrong)


def test_losses_are_cross_entropy_plus_mean_squared_error_by_hand(small: keras.Model) -> None:
    model = keras.models.clone_model(small)
    compile_hovernet(model)
    labels = np.zeros((2, 24, 24), dtype=np.int32)
    labels[0, 3:9, 4:15] = 1
    labels[1, 10:20, 2:4] = 5
    outputs = outputs_of(model)
    nucleus = np.where(labels > 0, outputs["np"][..., 1], outputs["np"][..., 0])
    entropy = -np.log(nucleus.astype(np.float64)).mean()
    squares = np.square(outputs["hv"] - np.stack([hv_maps(image) for image in labels])).mean()
    total, *parts = model.evaluate(images_of(24), targets(labels), verbose=0)
    assert sorted(parts) == pytest.approx(sorted([entropy, squares]), rel=1e-4)
    assert total == pytest.approx(entropy + squares, rel=1e-4)


def test_it_is_trained_as_table_2_of_the_paper_says(small: keras.Model) -> None:
    model = keras.models.clone_model(small)
    compile_hovernet(model)
    assert type(model.optimizer) is keras.optimizers.Adam
    assert float(model.optimizer.learning_rate) == pytest.approx(1e-4)


def test_it_learns_a_few_crops_of_drawn_tissue() -> None:
    density = np.full((120, 120), 0.25, dtype=np.float32)
    tissues = [demo.draw_tissue(density, seed) for seed in range(4)]
    pixels = np.stack([tissue.pixels[28:92, 28:92] for tissue in tissues])
    nuclei = np.stack([tissue.nuclei[28:92, 28:92] for tissue in tissues])
    wanted = targets(np.stack([number_nuclei(mask) for mask in nuclei]))
    model = build_hovernet(HoverShape(64, 0.25, (1, 1, 1, 1), (2, 1)), seed=1)
    compile_hovernet(model)
    losses = [float(model.train_on_batch(pixels, wanted)[0]) for _ in range(60)]
    assert losses[-1] < 0.2 * losses[0]
    assert dice(nucleus_mask(model, pixels), nuclei) > 0.9
    distances = np.asarray(model.predict_on_batch(pixels)["hv"])
    inside = nuclei == 1
    for channel in range(2):  # left and right, above and below are told apart
        answer, true = distances[inside][:, channel], wanted["hv"][inside][:, channel]
        assert np.corrcoef(answer, true)[0, 1] > 0.5
