"""Training writes its model, and goes on after a kill as if nothing had been."""

from __future__ import annotations

import csv
import importlib.util
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from formats import columns
from glioexport.dataset import Entry, LabelledTile, load_tiles, read_index
from glioexport.lessons import Lessons, compare_by_set, mask_of_tile
from glioexport.network import UnetShape, build_unet
from glioexport.recipe import RECIPES, TrainSettings
from glioexport.train import _average, draw_batch, shares_of_tiles, train
from gliorun.errors import GlioError
from gliorun.model.card import ModelCard, sha256_of

from .small import drawn_windows, read_rows, write_index

RECIPE = replace(RECIPES["best"], epochs=3, batch=2, learning_rate=5e-3, crop_px=32, average=0.9)
SETTINGS = TrainSettings(RECIPE, UnetShape(64, 64, 4, 2))


class KilledError(Exception):
    """Stands for a kill: nothing in the training catches it."""


@dataclass(frozen=True, slots=True)
class Trained:
    """A finished training: its folder, its model and what it said."""

    out: Path
    model: Path
    said: list[str]


@pytest.fixture(scope="module")
def whole(small_tiles: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """Three epochs in one go."""
    out, said = tmp_path_factory.mktemp("whole") / "deep" / "out", []
    return Trained(out, train(small_tiles, out, SETTINGS, say=said.append), said)


@pytest.fixture(scope="module")
def resumed(small_tiles: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """Three epochs, killed after the first one, in a folder with what an earlier kill left."""
    out, said = tmp_path_factory.mktemp("resumed"), []
    names = {"averaged-0001", "checkpoint-0001"}
    for name in names:
        (out / f".{name}.0123abcd.keras").write_bytes(b"half")

    def die(line: str) -> None:
        if line.startswith("epoch 1/"):
            raise KilledError

    with pytest.raises(KilledError):
        train(small_tiles, out, SETTINGS, say=die)
    assert {file.name for file in out.rglob("*.keras")} == {f"{name}.keras" for name in names}
    assert not list(out.glob(".*"))
    return Trained(out, train(small_tiles, out, SETTINGS, say=said.append), said)


def history_of(out: Path) -> list[dict[str, float]]:
    with (out / "history.csv").open(newline="", encoding="utf-8") as lines:
        return [{k: float(v) for k, v in row.items()} for row in csv.DictReader(lines)]


@pytest.mark.release
def test_writes_model_card_and_history_and_leaves_nothing_half_written(whole: Trained) -> None:
    assert {file.name for file in whole.out.iterdir()} == {
        "averaged-0003.keras",
        "checkpoint-0003.keras",
        "curves.png",
        "history.csv",
        "model.json",
        "model.keras",
        "settings.json",
        "sparse",
    }
    assert whole.model == whole.out / "model.keras"


@pytest.mark.release
def test_the_loss_goes_down_and_every_epoch_is_in_the_history(whole: Trained) -> None:
    history = history_of(whole.out)
    assert [row["epoch"] for row in history] == [1, 2, 3]
    losses = [row["loss"] for row in history]
    assert losses[2] < losses[0]
    assert list(history[0]) == [name.replace("SET", "drawn") for name in columns("history.csv")]


@pytest.mark.release
def test_the_card_says_what_the_model_was_trained_on(whole: Trained, small_tiles: Path) -> None:
    card = ModelCard.from_json((whole.out / "model.json").read_text(encoding="utf-8"))
    assert card.tile_px == 64
    assert card.mpp == 0.25
    assert card.source_sha256 == sha256_of(whole.model)
    assert card.training["data"] == [{"set": "drawn", "licence": "CC0"}]
    assert card.training["settings"] == SETTINGS.as_values()
    assert card.training["validation"]["drawn"]["images"] == 2
    assert 0 <= card.training["haematoxylin_otsu"]["drawn"]["dice"] <= 1
    assert card.colour_target is not None


@pytest.mark.release
def test_the_saved_model_is_float32_and_gives_the_figures_on_its_card(
    whole: Trained, small_tiles: Path
) -> None:
    from glioexport.dataset import stain_statistics

    model = keras.models.load_model(whole.model, compile=False)
    assert {layer.compute_dtype for layer in model.layers} == {"float32"}
    card = ModelCard.from_json((whole.out / "model.json").read_text(encoding="utf-8"))
    entries = read_index(small_tiles)
    checks = load_tiles(
        [e for e in entries if e.split == "val"], stain_statistics(entries), card.colour_target
    )
    figures = compare_by_set(checks, mask_of_tile(model))["drawn"]
    assert figures.dice == pytest.approx(card.training["validation"]["drawn"]["dice"], abs=1e-3)


@pytest.mark.release
def test_killed_after_an_epoch_it_goes_on_to_the_same_number_of_epochs(resumed: Trained) -> None:
    assert [row["epoch"] for row in history_of(resumed.out)] == [1, 2, 3]
    epochs = [line.split(":")[0] for line in resumed.said if line.startswith("epoch")]
    assert epochs == ["epoch 2/3", "epoch 3/3"]
    assert (resumed.out / "model.keras").is_file()


@pytest.mark.release
def test_killed_after_an_epoch_it_ends_with_the_weights_of_an_undisturbed_training(
    whole: Trained, resumed: Trained
) -> None:
    ours, theirs = (keras.models.load_model(t.model, compile=False) for t in (resumed, whole))
    for weight, (weight_now, wanted) in zip(
        theirs.weights, zip(ours.get_weights(), theirs.get_weights(), strict=True), strict=True
    ):
        np.testing.assert_allclose(weight_now, wanted, rtol=1e-4, atol=1e-5, err_msg=weight.path)


@pytest.mark.release
def test_called_again_when_finished_it_trains_no_further(
    whole: Trained, small_tiles: Path, tmp_path: Path
) -> None:
    out = Path(shutil.copytree(whole.out, tmp_path / "out"))
    said: list[str] = []
    train(small_tiles, out, SETTINGS, say=said.append)
    assert not any(line.startswith("epoch") for line in said)
    ours, theirs = (keras.models.load_model(p / "model.keras") for p in (out, whole.out))
    for weight_now, wanted in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_array_equal(weight_now, wanted)


@pytest.mark.release
@pytest.mark.parametrize(
    "other",
    [
        replace(SETTINGS, seed=2),
        replace(SETTINGS, shape=UnetShape(64, 64, 6, 2)),
        replace(SETTINGS, recipe=replace(RECIPE, epochs=4)),
    ],
)
def test_refuses_the_folder_of_a_training_with_other_settings(
    whole: Trained, small_tiles: Path, other: TrainSettings
) -> None:
    before = {file: file.stat().st_mtime_ns for file in whole.out.iterdir()}
    with pytest.raises(GlioError, match="other settings or tiles; pass another --out"):
        train(small_tiles, whole.out, other, say=print)
    assert {file: file.stat().st_mtime_ns for file in whole.out.iterdir()} == before


@pytest.mark.release
@pytest.mark.parametrize("what", ["held out", "licence", "an image", "a label", "one more"])
def test_refuses_the_folder_of_a_training_on_other_tiles(
    whole: Trained, small_tiles: Path, tmp_path: Path, what: str
) -> None:
    """Its card would tell of tiles that the weights have never seen."""
    data = Path(shutil.copytree(small_tiles, tmp_path / "data"))
    rows, held_out = read_rows(data), []
    if what == "held out":
        rows[0]["set"], held_out = "other", ["other"]
    elif what == "licence":
        rows[0]["licence"] = "CC BY 4.0"
    elif what == "one more":
        rows.append({**rows[0], "id": "again"})
    else:
        path = data / rows[0]["image" if what == "an image" else "label"]
        Image.open(path).rotate(180).save(path)
    write_index(data, rows)
    card = (whole.out / "model.json").read_bytes()
    with pytest.raises(GlioError, match="other settings or tiles"):
        train(data, whole.out, SETTINGS, say=print, held_out=held_out)
    assert (whole.out / "model.json").read_bytes() == card


@pytest.mark.release
@pytest.mark.parametrize(
    ("name", "missing"),
    [
        ("settings.json", False),
        ("checkpoint-0003.keras", False),
        ("averaged-0003.keras", False),
        ("averaged-0003.keras", True),
        ("history.csv", False),
        ("history.csv", True),
    ],
)
def test_names_what_is_damaged_of_a_training(
    whole: Trained, small_tiles: Path, tmp_path: Path, name: str, missing: bool
) -> None:
    out = Path(shutil.copytree(whole.out, tmp_path / "out"))
    content = (out / name).read_bytes()
    (out / name).write_bytes(content[: len(content) // 2])
    if missing:
        (out / name).unlink()
    with pytest.raises(GlioError, match=r"missing or damaged .*; pass another --out") as caught:
        train(small_tiles, out, SETTINGS, say=print)
    assert str(out / name) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_in_the_place_of_the_folder_is_a_fault_the_user_can_act_on(
    small_tiles: Path, tmp_path: Path
) -> None:
    (tmp_path / "out").write_text("mine", encoding="utf-8")
    with pytest.raises(GlioError, match="cannot be written"):
        train(small_tiles, tmp_path / "out", SETTINGS, say=print)
    assert (tmp_path / "out").read_text(encoding="utf-8") == "mine"


@pytest.mark.release
def test_a_set_held_out_is_validated_on_and_not_trained_on(
    small_tiles: Path, tmp_path: Path
) -> None:
    rows = read_rows(small_tiles)
    for row in rows:
        row["image"], row["label"] = (str(small_tiles / row[k]) for k in ("image", "label"))
    rows[0]["set"] = rows[1]["set"] = "other"
    write_index(tmp_path, rows)
    short = replace(SETTINGS, recipe=replace(RECIPE, epochs=1))
    train(tmp_path, tmp_path / "out", short, say=print, held_out=["other"])
    card = ModelCard.from_json((tmp_path / "out" / "model.json").read_text(encoding="utf-8"))
    assert [source["set"] for source in card.training["data"]] == ["drawn"]
    assert set(card.training["validation"]) == {"drawn", "other"}


@pytest.mark.release
def test_the_papers_recipe_trains_without_batch_normalisation(
    small_tiles: Path, tmp_path: Path
) -> None:
    recipe = replace(RECIPES["paper"], epochs=1, batch=2, crop_px=64)
    path = train(small_tiles, tmp_path, replace(SETTINGS, recipe=recipe), say=print)
    kinds = {type(layer) for layer in keras.models.load_model(path).layers}
    assert keras.layers.BatchNormalization not in kinds


@pytest.fixture
def lessons(small_tiles: Path) -> Lessons:
    return Lessons(load_tiles(read_index(small_tiles), {}, None), [], None)


def drawn(lessons: Lessons, settings: TrainSettings, epoch: int, step: int) -> tuple[Any, Any]:
    return draw_batch(lessons, shares_of_tiles(lessons, settings), settings, epoch, step)


def test_crops_are_a_function_of_seed_epoch_and_step_alone(lessons: Lessons) -> None:
    first = drawn(lessons, SETTINGS, 2, 5)
    drawn(lessons, SETTINGS, 0, 0)
    np.random.seed(0)  # noqa: NPY002  the global state must not matter
    again = drawn(lessons, SETTINGS, 2, 5)
    for weight_now, wanted in zip(again, first, strict=True):
        np.testing.assert_array_equal(weight_now, wanted)
    for epoch, step, seed in ((1, 5, 1), (2, 6, 1), (5, 2, 1), (2, 5, 2)):
        other, _ = drawn(lessons, replace(SETTINGS, seed=seed), epoch, step)
        assert (other != first[0]).any()


def test_a_batch_has_the_recipes_batch_and_crop(lessons: Lessons) -> None:
    pixels, nuclei = drawn(lessons, SETTINGS, 0, 0)
    assert (pixels.shape, pixels.dtype) == ((2, 32, 32, 3), np.uint8)
    assert (nuclei.shape, nuclei.dtype) == ((2, 32, 32), np.uint8)
    assert set(np.unique(nuclei)) == {0, 1}


def of_set(name: str, side: int) -> LabelledTile:
    entry = Entry(name, "1", "", "train", "CC0", Path("image"), Path("label"))
    return LabelledTile(entry, np.zeros((side, side, 3), np.uint8), np.zeros((side, side)))


def shares(balance: float, **weights: float) -> NDArray[np.float64]:
    """Return the shares of 9 tiles of one set and 1 of another, each the size of a crop."""
    lessons = Lessons([*[of_set("large", 32)] * 9, of_set("small", 32)], [], None)
    recipe = replace(SETTINGS.recipe, balance=balance)
    return shares_of_tiles(lessons, replace(SETTINGS, recipe=recipe, weights=weights))


@pytest.mark.parametrize(("balance", "small"), [(1.0, 0.1), (0.5, 0.25), (0.0, 0.5)])
def test_sets_are_balanced_by_a_power_of_their_size(balance: float, small: float) -> None:
    assert shares(balance)[-1] == pytest.approx(small)
    assert shares(balance).sum() == pytest.approx(1)


def test_a_set_is_drawn_as_much_more_often_as_its_weight_says() -> None:
    large, small = shares(0.0, small=3.0)[[0, -1]]
    assert small == pytest.approx(3 * 9 * large)


def test_sparse_tiles_are_drawn_as_often_as_the_recipe_says() -> None:
    lessons = Lessons([of_set("a", 32)] * 3, [], None, [of_set("a", 64), of_set("b", 32)])
    recipe = replace(SETTINGS.recipe, sparse=0.4, balance=0.0)
    weight_now = shares_of_tiles(lessons, replace(SETTINGS, recipe=recipe))
    np.testing.assert_allclose(weight_now, [0.2, 0.2, 0.2, 0.2, 0.2])


@pytest.mark.release
def test_the_model_that_is_saved_is_the_running_average_of_the_weights(whole: Trained) -> None:
    saved = keras.models.load_model(whole.model, compile=False)
    average = keras.models.load_model(whole.out / "averaged-0003.keras", compile=False)
    newest = keras.models.load_model(whole.out / "checkpoint-0003.keras", compile=False)
    assert saved.input_shape == (None, 64, 64, 3)
    assert newest.input_shape == (None, 32, 32, 3)
    kernel = "bottomb_conv"
    np.testing.assert_array_equal(
        saved.get_layer(kernel).kernel.numpy(), average.get_layer(kernel).kernel.numpy()
    )
    assert (saved.get_layer(kernel).kernel.numpy() != newest.get_layer(kernel).kernel.numpy()).any()


def test_an_average_keeps_its_share_and_leaves_random_states_alone() -> None:
    shape = UnetShape(16, 16, 2, 1)
    average, newest = build_unet(shape, seed=1), build_unet(shape, seed=2)
    before = average.get_layer("logits").kernel.numpy()
    states = [w.numpy() for w in average.weights if "float" not in w.dtype]
    _average(average, newest, 0.75)
    wanted = 0.75 * before + 0.25 * newest.get_layer("logits").kernel.numpy()
    np.testing.assert_allclose(average.get_layer("logits").kernel.numpy(), wanted, rtol=1e-6)
    after = [w.numpy() for w in average.weights if "float" not in w.dtype]
    for weight_now, kept in zip(after, states, strict=True):
        np.testing.assert_array_equal(weight_now, kept)


@pytest.mark.release
def test_a_threshold_moves_into_the_last_bias(
    whole: Trained, small_tiles: Path, tmp_path: Path
) -> None:
    assert RECIPE.threshold == 0.5
    lower = replace(SETTINGS, recipe=replace(RECIPE, threshold=0.3))
    models = whole.model, train(small_tiles, tmp_path, lower, say=print)
    windows = np.stack(drawn_windows()).astype(np.float32)
    at_half, moved = (
        keras.models.load_model(model, compile=False).predict_on_batch(windows)[..., 1]
        for model in models
    )
    undecided = np.abs(at_half - 0.3) < 1e-3  # rounding may decide either way there
    np.testing.assert_array_equal((at_half > 0.3)[~undecided], (moved > 0.5)[~undecided])
    assert (at_half > 0.5).sum() < (at_half > 0.3).sum() < at_half.size


@pytest.mark.release
@pytest.mark.parametrize("backend", ["torch", "jax"])
def test_trains_on_other_backends(backend: str, small_tiles: Path, tmp_path: Path) -> None:
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    command = [sys.executable, "-c", "from glioexport.cli import run; run()", "train"]
    command += [str(small_tiles)]
    command += ["--out", str(tmp_path / "out"), "--epochs", "1", "--filters", "2"]
    command += ["--vary", "crop_px=32", "--vary", "batch=2"]
    environment = {**os.environ, "KERAS_BACKEND": backend}
    subprocess.run(command, check=True, env=environment, timeout=600)
    model = keras.models.load_model(tmp_path / "out" / "model.keras", compile=False)
    assert model.count_params() > 0
    assert np.isfinite(history_of(tmp_path / "out")[0]["loss"])
