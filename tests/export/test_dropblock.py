"""DropBlock against what the paper says of it and what public ports get wrong."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from glioexport.dropblock import DropBlock2D

Maps = NDArray[np.float32]


def dropped(layer: DropBlock2D, *shape: int) -> NDArray[np.bool_]:
    """Return where a layer in training clears a map of ones."""
    return np.asarray(layer(np.ones(shape, np.float32), training=True), np.float32) == 0


def covered_by_blocks(zeros: NDArray[np.bool_], block: int) -> NDArray[np.bool_]:
    """Return where a value lies in at least one wholly zero block, position by position."""
    n, height, width, channels = zeros.shape
    covered = np.zeros_like(zeros)
    for top in range(height - block + 1):
        for left in range(width - block + 1):
            place = np.s_[:, top : top + block, left : left + block]
            whole = zeros[place].all(axis=(1, 2))
            covered[place] |= whole.reshape(n, 1, 1, channels)
    return covered


def expected_rate(height: int, width: int, block: int, gamma: float) -> float:
    """Return the mean share of dropped values: each survives if no seed reaches it."""
    reach_y = np.convolve(np.ones(height - block + 1), np.ones(block))
    reach_x = np.convolve(np.ones(width - block + 1), np.ones(block))
    return float(1 - ((1 - gamma) ** np.outer(reach_y, reach_x)).mean())


@pytest.mark.parametrize("training", [False, None])
def test_is_the_identity_in_inference(training: bool | None) -> None:
    maps = np.random.default_rng(0).normal(size=(2, 12, 9, 4)).astype(np.float32)
    layer = DropBlock2D(0.5, 3, seed=1)
    np.testing.assert_array_equal(np.asarray(layer(maps, training=training)), maps)


def test_a_rate_of_zero_drops_nothing_in_training() -> None:
    assert not dropped(DropBlock2D(0.0, 3, seed=1), 2, 20, 20, 4).any()


def test_realised_rate_is_what_the_paper_gives_for_ten_percent_and_blocks_of_three() -> None:
    interior = dropped(DropBlock2D(0.1, 3, seed=1), 4, 240, 240, 16)[:, 2:-2, 2:-2]
    assert interior.mean() == pytest.approx(1 - (1 - 0.1 / 9) ** 9, abs=0.001)
    assert interior.mean() == pytest.approx(0.0957, abs=0.001)


@pytest.mark.parametrize("gamma", ["eq3", "eq2"])
@pytest.mark.parametrize(("height", "width"), [(30, 30), (16, 40), (40, 16), (3, 50)])
def test_realised_rate_is_right_at_the_borders_too(gamma: str, height: int, width: int) -> None:
    layer = DropBlock2D(0.1, 3, gamma=gamma, seed=2)
    share = dropped(layer, 64, height, width, 64)
    wanted = expected_rate(height, width, 3, layer.seed_probability(height, width))
    assert share.mean() == pytest.approx(wanted, abs=0.003)


@pytest.mark.parametrize(("height", "width"), [(20, 20), (12, 31), (31, 12)])
@pytest.mark.parametrize("block", [1, 2, 3, 5])
def test_every_zero_lies_in_a_wholly_zero_square(height: int, width: int, block: int) -> None:
    zeros = dropped(DropBlock2D(0.15, block, seed=3), 3, height, width, 5)
    assert 0 < zeros.mean() < 0.5
    np.testing.assert_array_equal(covered_by_blocks(zeros, block), zeros)


@pytest.mark.parametrize(("height", "width"), [(9, 24), (24, 9)])
def test_blocks_reach_every_border_of_a_map_that_is_not_square(height: int, width: int) -> None:
    zeros = dropped(DropBlock2D(0.3, 3, seed=4), 32, height, width, 8)
    for border in (zeros[:, 0], zeros[:, -1], zeros[:, :, 0], zeros[:, :, -1]):
        assert border.any()
    assert dropped(DropBlock2D(0.3, 3, seed=4), 32, height, width, 8).shape == zeros.shape


def test_a_block_is_as_large_as_asked_and_not_larger() -> None:
    zeros = dropped(DropBlock2D(0.005, 4, seed=5), 8, 64, 64, 8)
    rows = sliding_window_view(np.pad(zeros, ((0, 0), (1, 1), (0, 0), (0, 0))), 6, axis=1)
    alone = ~rows[..., 0] & rows[..., 1:5].all(axis=-1) & ~rows[..., 5]
    starts = ~rows[..., 0] & rows[..., 1]
    assert starts.sum() > 100
    assert alone.sum() > 0.8 * starts.sum()  # the others are blocks that overlap


def test_seed_probability_of_equation_3_is_rate_over_area() -> None:
    assert DropBlock2D(0.1, 3).seed_probability(480, 480) == pytest.approx(0.1 / 9)
    assert DropBlock2D(0.1, 3).seed_probability(30, 7) == pytest.approx(0.1 / 9)


def test_seed_probability_of_equation_2_is_1_148_times_higher_at_30_px() -> None:
    layer = DropBlock2D(0.1, 3, gamma="eq2")
    assert layer.seed_probability(30, 30) == pytest.approx(0.1 / 9 * 900 / 784)
    assert layer.seed_probability(30, 30) * 9 / 0.1 == pytest.approx(1.148, abs=0.0005)


def test_seed_probability_of_equation_2_takes_height_and_width_apart() -> None:
    layer = DropBlock2D(0.2, 5, gamma="eq2")
    assert layer.seed_probability(10, 40) == pytest.approx(0.2 / 25 * 400 / (6 * 36))
    assert layer.seed_probability(40, 10) == pytest.approx(0.2 / 25 * 400 / (36 * 6))


def test_rescaling_keeps_the_mean_of_the_whole_tensor() -> None:
    maps = np.ones((3, 40, 25, 7), np.float32)
    out = np.asarray(DropBlock2D(0.3, 3, seed=6)(maps, training=True))
    zeros = out == 0
    assert 0.1 < zeros.mean() < 0.4
    assert out.mean() == pytest.approx(1, abs=1e-4)
    assert out[~zeros] == pytest.approx(1 / (1 - zeros.mean()), rel=1e-4)


def test_without_rescaling_what_is_left_stays_as_it_was() -> None:
    maps = np.random.default_rng(1).uniform(1, 2, (2, 30, 20, 3)).astype(np.float32)
    out = np.asarray(DropBlock2D(0.3, 3, normalize=False, seed=7)(maps, training=True))
    assert (out == 0).any()
    np.testing.assert_array_equal(out[out != 0], maps[out != 0])


@pytest.mark.parametrize(("height", "width", "block"), [(30, 20, 3), (5, 9, 5), (2, 40, 7)])
def test_the_share_that_is_kept_is_the_mean_of_many_masks(
    height: int, width: int, block: int
) -> None:
    layer = DropBlock2D(0.3, block, gamma="eq2", seed=3)
    masks = np.asarray(layer.kept(400, height, width, 64))
    spread = masks.mean(axis=(1, 2)).std() / np.sqrt(400 * 64)
    assert masks.mean() == pytest.approx(layer.kept_share(height, width), abs=5 * spread)


def test_the_share_that_is_kept_at_the_papers_rate_and_block() -> None:
    assert DropBlock2D(0.1, 3).kept_share(480, 480) == pytest.approx(0.9043, abs=1e-3)


def test_mask_differs_from_call_to_call() -> None:
    layer = DropBlock2D(0.2, 3, seed=8)
    assert (dropped(layer, 1, 40, 40, 1) != dropped(layer, 1, 40, 40, 1)).any()


def test_mask_differs_from_step_to_step_inside_a_compiled_function() -> None:
    import tensorflow as tf

    layer = DropBlock2D(0.2, 3, seed=8)
    step = tf.function(lambda maps: layer(maps, training=True))
    ones = tf.ones((1, 40, 40, 1))
    assert (step(ones).numpy() != step(ones).numpy()).any()


def test_mask_differs_between_samples_and_between_channels() -> None:
    zeros = dropped(DropBlock2D(0.2, 3, seed=9), 3, 40, 40, 3)
    masks = [zeros[n, ..., c] for n in range(3) for c in range(3)]
    for i, mask in enumerate(masks):
        assert all((mask != other).any() for other in masks[:i])


def test_the_same_seed_gives_the_same_masks() -> None:
    first, second, other = (DropBlock2D(0.2, 3, seed=seed) for seed in (10, 10, 11))
    zeros = dropped(first, 2, 40, 40, 2)
    np.testing.assert_array_equal(zeros, dropped(second, 2, 40, 40, 2))
    assert (zeros != dropped(other, 2, 40, 40, 2)).any()


def test_rate_is_right_in_a_layer_of_mixed_bfloat16() -> None:
    layer = DropBlock2D(0.1, 3, seed=12, dtype="mixed_bfloat16")
    out = layer(np.ones((4, 240, 240, 16), np.float32), training=True)
    assert keras.backend.standardize_dtype(out.dtype) == "bfloat16"
    zeros = np.asarray(keras.ops.cast(out, "float32")) == 0
    assert zeros[:, 2:-2, 2:-2].mean() == pytest.approx(0.0957, abs=0.001)


@pytest.mark.parametrize(("height", "width", "block"), [(2, 2, 2), (2, 9, 2), (9, 1, 1)])
def test_a_map_smaller_than_the_block_is_dropped_in_blocks_of_its_own_size(
    height: int, width: int, block: int
) -> None:
    layer = DropBlock2D(0.1, 5, seed=13)
    zeros = dropped(layer, 256, height, width, 64)
    np.testing.assert_array_equal(covered_by_blocks(zeros, block), zeros)
    wanted = expected_rate(height, width, block, 0.1 / block**2)
    assert zeros.mean() == pytest.approx(wanted, abs=0.006)


def test_everything_dropped_gives_zeros_and_not_nan() -> None:
    out = np.asarray(DropBlock2D(0.999, 1, seed=14)(np.ones((1, 2, 2, 1)), training=True))
    np.testing.assert_array_equal(out, np.zeros((1, 2, 2, 1)))


@pytest.mark.parametrize(
    ("bad", "named"),
    [
        ({"rate": -0.1}, "rate is -0.1"),
        ({"rate": 1.0}, "rate is 1.0"),
        ({"rate": float("nan")}, "rate is nan"),
        ({"block_size": 0}, "block_size is 0"),
        ({"gamma": "eq4"}, "gamma is 'eq4'"),
    ],
)
def test_raises_on_an_argument_out_of_range(bad: dict, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        DropBlock2D(**bad)


def test_refuses_to_train_on_a_map_of_unknown_size() -> None:
    import tensorflow as tf

    layer = DropBlock2D()
    step = tf.function(lambda maps: layer(maps, training=True))
    with pytest.raises(ValueError, match="fixed height and width"):
        step.get_concrete_function(tf.TensorSpec((None, None, 20, 3), tf.float32))


def in_a_model(layer: DropBlock2D) -> keras.Model:
    image = keras.Input((16, 24, 3))
    return keras.Model(image, layer(image))


def test_a_keras_file_keeps_every_argument(tmp_path: Path) -> None:
    layer = DropBlock2D(0.23, 5, gamma="eq2", normalize=False, seed=17, name="drop")
    in_a_model(layer).save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras").get_layer("drop")
    assert isinstance(loaded, DropBlock2D)
    assert (loaded.rate, loaded.block_size, loaded.gamma) == (0.23, 5, "eq2")
    assert loaded.normalize is False
    assert loaded.seed == 17


def test_a_keras_file_goes_on_where_the_masks_were(tmp_path: Path) -> None:
    layer = DropBlock2D(0.3, 3, seed=18, name="drop")
    model = in_a_model(layer)
    first = dropped(layer, 1, 16, 24, 3)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras").get_layer("drop")
    second = dropped(layer, 1, 16, 24, 3)
    np.testing.assert_array_equal(dropped(loaded, 1, 16, 24, 3), second)
    assert (first != second).any()


def test_a_keras_file_keeps_a_seed_generator(tmp_path: Path) -> None:
    layer = DropBlock2D(0.3, 3, seed=keras.random.SeedGenerator(19), name="drop")
    in_a_model(layer).save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras").get_layer("drop")
    np.testing.assert_array_equal(dropped(loaded, 1, 16, 24, 3), dropped(layer, 1, 16, 24, 3))


def test_gradients_flow_through_what_is_kept_alone() -> None:
    import tensorflow as tf

    layer = DropBlock2D(0.3, 3, seed=20)
    maps = tf.ones((2, 20, 20, 4))
    with tf.GradientTape() as tape:
        tape.watch(maps)
        out = layer(maps, training=True)
    slope = tape.gradient(out, maps).numpy()
    np.testing.assert_array_equal(slope == 0, out.numpy() == 0)
