"""A student is taught what its teacher says, on the training split alone."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import keras
import numpy as np
import pytest

from glioexport.convert import convert
from glioexport.dataset import LabelledTile, load_tiles, read_index, stain_statistics
from glioexport.distil import ANSWERS, ask, distil, open_teacher
from glioexport.loss import EntropyAndDice
from glioexport.network import build_unet
from glioexport.parity import Tolerance
from glioexport.recipe import TrainSettings
from glioexport.student import RECIPE, STUDENT, Teaching
from gliorun.errors import GlioError
from gliorun.model.card import ModelCard, sha256_of

from .small import SIDE, TARGET, read_rows, undecided_unet, write_index

SHAPE = replace(STUDENT, height_px=SIDE, width_px=SIDE, filters=4, levels=1)
SETTINGS = TrainSettings(replace(RECIPE, epochs=2, batch=2, crop_px=32, average=0.9), SHAPE)
TEACHING = Teaching(label_share=0.25, turns=2)


class KilledError(Exception):
    """Stands for a kill: nothing in the distillation catches it."""


@dataclass(frozen=True, slots=True)
class Taught:
    """A finished distillation: its folder, its model and what it said."""

    out: Path
    model: Path
    said: list[str]


def write_teacher(folder: Path, mpp: float = 0.25) -> Path:
    """Save a network of random weights, and its card; return its path."""
    path = folder / "teacher.keras"
    undecided_unet().save(path)
    card = ModelCard("the teacher", SIDE, mpp, TARGET, training={"data": [{"set": "older"}]})
    path.with_suffix(".json").write_text(card.to_json(), encoding="utf-8")
    return path


def first_tiles(folder: Path, count: int) -> list[LabelledTile]:
    """Load the first tiles of an index, in the teacher's colour."""
    entries = read_index(folder)[:count]
    return load_tiles(entries, stain_statistics(entries), TARGET)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_teacher(tmp_path_factory.mktemp("teacher"))


@pytest.fixture(scope="module")
def whole(teacher: Path, small_tiles: Path, tmp_path_factory: pytest.TempPathFactory) -> Taught:
    """Two epochs in one go."""
    out, said = tmp_path_factory.mktemp("whole"), []
    model = distil(teacher, small_tiles, out, SETTINGS, TEACHING, say=said.append)
    return Taught(out, model, said)


def test_a_target_is_the_teachers_answer_mixed_with_the_label(
    teacher: Path, small_tiles: Path, tmp_path: Path
) -> None:
    tiles = first_tiles(small_tiles, 1)
    opened = open_teacher(teacher)
    (taught,) = ask(opened, tiles, tmp_path / ANSWERS, Teaching(0.25, 1), print)
    answer = opened.answer(tiles[0].pixels) / 255
    assert 0.02 < (answer > 0.5).mean() < 0.98
    np.testing.assert_allclose(taught.nuclei, 0.75 * answer + 0.25 * tiles[0].nuclei, atol=1e-6)
    assert taught.nuclei.dtype == np.float32


def test_the_teachers_answer_is_its_probability_of_nucleus(teacher: Path) -> None:
    model = keras.models.load_model(teacher)
    image = np.random.default_rng(1).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
    expected = 255 * np.asarray(model.predict_on_batch(image[None]))[0, ..., 1]
    assert np.abs(open_teacher(teacher).answer(image) - expected).max() <= 0.5 + 1e-3


def test_the_teacher_sees_a_tile_in_as_many_turns_as_asked(
    teacher: Path, small_tiles: Path, tmp_path: Path
) -> None:
    tiles = first_tiles(small_tiles, 1)
    opened = open_teacher(teacher)
    seen: list[np.ndarray] = []

    def answer(pixels: np.ndarray) -> np.ndarray:
        seen.append(pixels)
        return opened.answer(pixels)

    watched = replace(opened, answer=answer)
    (taught,) = ask(watched, tiles, tmp_path / ANSWERS, Teaching(0.0, 4), print)
    assert [pixels.shape[:2] for pixels in seen] == [(96, 160), (160, 96)] * 2
    by_hand = [np.rot90(opened.answer(np.rot90(tiles[0].pixels, k)), -k) for k in range(4)]
    np.testing.assert_allclose(taught.nuclei, np.mean(by_hand, axis=0) / 255, atol=0.5 / 255 + 1e-6)


def test_an_answer_that_is_there_is_not_asked_for_again(
    teacher: Path, small_tiles: Path, tmp_path: Path
) -> None:
    tiles = first_tiles(small_tiles, 2)
    opened = open_teacher(teacher)
    first = ask(opened, tiles, tmp_path, TEACHING, print)

    def refuse(pixels: np.ndarray) -> np.ndarray:
        raise AssertionError("asked again")

    again = ask(replace(opened, answer=refuse), tiles, tmp_path, TEACHING, print)
    for one, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(one.nuclei, other.nuclei)


@pytest.mark.release
def test_the_card_says_what_the_student_was_distilled_from(whole: Taught, teacher: Path) -> None:
    card = ModelCard.from_json((whole.out / "model.json").read_text(encoding="utf-8"))
    source = card.training["distilled_from"]
    assert source["name"] == "the teacher"
    assert source["sha256"] == sha256_of(teacher)
    assert source["data"] == [{"set": "older"}]
    assert source["teaching"] == {"label_share": 0.25, "turns": 2}
    assert source["agreement"]["drawn"]["images"] == 2
    assert card.colour_target == TARGET
    assert card.source_sha256 == sha256_of(whole.model)
    assert [entry["set"] for entry in card.training["data"]] == ["drawn"]
    assert "non-commercial" in card.intended_use  # its tiles are CC0, but the teacher's are not


@pytest.mark.release
def test_validation_tiles_are_not_taught_on(whole: Taught, small_tiles: Path) -> None:
    train = [entry for entry in read_index(small_tiles) if entry.split == "train"]
    assert len(list((whole.out / ANSWERS).iterdir())) == len(train) == 4


@pytest.mark.release
def test_a_set_held_out_is_not_taught_on_either(
    teacher: Path, small_tiles: Path, tmp_path: Path
) -> None:
    data = Path(shutil.copytree(small_tiles, tmp_path / "data"))
    rows = read_rows(data)
    rows[0]["set"] = "other"
    write_index(data, rows)
    short = replace(SETTINGS, recipe=replace(SETTINGS.recipe, epochs=1))
    out = tmp_path / "out"
    distil(teacher, data, out, short, TEACHING, say=print, held_out=["other"])
    assert len(list((out / ANSWERS).iterdir())) == 3
    card = ModelCard.from_json((out / "model.json").read_text(encoding="utf-8"))
    assert set(card.training["validation"]) == {"drawn", "other"}
    assert [source["set"] for source in card.training["data"]] == ["drawn"]


@pytest.mark.release
def test_the_student_takes_full_tiles_and_has_one_channel(whole: Taught) -> None:
    model = keras.models.load_model(whole.model, compile=False)
    assert model.input_shape == (None, SIDE, SIDE, 3)
    assert model.output_shape == (None, SIDE, SIDE, 1)


@pytest.mark.release
def test_killed_after_an_epoch_it_ends_with_the_same_weights(
    whole: Taught, teacher: Path, small_tiles: Path, tmp_path: Path
) -> None:
    def die(line: str) -> None:
        if line.startswith("epoch 1/"):
            raise KilledError

    with pytest.raises(KilledError):
        distil(teacher, small_tiles, tmp_path, SETTINGS, TEACHING, say=die)
    said: list[str] = []
    model = distil(teacher, small_tiles, tmp_path, SETTINGS, TEACHING, say=said.append)
    assert not any("the teacher looks" in line for line in said)
    ours, theirs = (keras.models.load_model(p, compile=False) for p in (model, whole.model))
    for weight, wanted in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_allclose(weight, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.release
def test_refuses_the_folder_of_another_distillation(
    whole: Taught, teacher: Path, small_tiles: Path
) -> None:
    other = replace(TEACHING, label_share=0.5)
    with pytest.raises(GlioError, match="other settings"):
        distil(teacher, small_tiles, whole.out, SETTINGS, other, say=print)


@pytest.mark.release
def test_a_student_is_converted_like_any_network(whole: Taught, tmp_path: Path) -> None:
    source = tmp_path / "student.keras"
    shutil.copy(whole.model, source)
    shutil.copy(whole.model.with_suffix(".json"), source.with_suffix(".json"))
    loose = Tolerance(density_points=100, class_agreement=0)
    undecided = keras.models.load_model(source, compile=False)
    logits = undecided.get_layer("logits")
    kernel, bias = logits.get_weights()
    logits.set_weights([kernel, bias + 0.5])
    undecided.save(source)
    figures = convert(source, tmp_path / "out", tiles=None, mpp=None, tolerance=loose, say=print)
    assert figures["OpenVINO FP32"].agreement.dice > 0.999


def test_a_student_learns_from_probabilities() -> None:
    """A constant target between 0 and 1 is reached, where hard labels would run off to an end."""
    model = build_unet(SHAPE)
    model.compile(keras.optimizers.Adam(0.05), EntropyAndDice())
    image = np.full((2, SIDE, SIDE, 3), 128, dtype=np.uint8)
    target = np.full((2, SIDE, SIDE), 0.7, dtype=np.float32)
    for _ in range(40):
        model.train_on_batch(image, target)
    output = np.asarray(model(image.astype(np.float32), training=True))
    assert output.mean() == pytest.approx(0.7, abs=0.05)


@pytest.mark.parametrize("wrong", [{"label_share": 1.5}, {"turns": 0}, {"turns": 5}])
def test_teaching_that_makes_no_sense_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(GlioError, match=r"turns|label share"):
        Teaching(**wrong)  # type: ignore[arg-type]


def test_a_teacher_without_a_card_is_refused(tmp_path: Path) -> None:
    write_teacher(tmp_path).with_suffix(".json").unlink()
    with pytest.raises(GlioError, match="no card beside it"):
        open_teacher(tmp_path / "teacher.keras")


def test_a_teacher_of_another_scale_is_refused(tmp_path: Path) -> None:
    with pytest.raises(GlioError, match=r"works at 0\.5 µm per pixel"):
        open_teacher(write_teacher(tmp_path, mpp=0.5))


def test_a_damaged_answer_is_named(teacher: Path, small_tiles: Path, tmp_path: Path) -> None:
    tiles = first_tiles(small_tiles, 1)
    opened = open_teacher(teacher)
    ask(opened, tiles, tmp_path, TEACHING, print)
    (answer,) = tmp_path.iterdir()
    answer.write_bytes(answer.read_bytes()[:100])
    with pytest.raises(GlioError, match=answer.name):
        ask(opened, tiles, tmp_path, TEACHING, print)
