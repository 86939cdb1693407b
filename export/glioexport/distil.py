"""Distillation: a small, fast student learns the output of a trained network at every pixel."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from glioexport import ir, onnx_model
from glioexport.dataset import MPP, LabelledTile, read_label
from glioexport.lessons import (
    choose,
    compare_by_set,
    load_lessons,
    mask_of_tile,
    otsu_baseline,
)
from glioexport.loading import load_network
from glioexport.quantise import quantise
from glioexport.recipe import TrainSettings
from glioexport.reference import card_beside, predict_values
from glioexport.scores import output_of, probability, up_to_logits
from glioexport.student import Teaching
from glioexport.train import claim, move_threshold, run_epochs, save_trained, with_sparse
from glioexport.trainee import trainee_of
from gliorun.atomic import replacing
from gliorun.errors import GlioError
from gliorun.model.card import ModelCard
from gliorun.reading.windows import segment

ANSWERS = "teacher"
"""Folder beside the checkpoints for the teacher's answers: grey images, 255 is nucleus."""

Say = Callable[[str], None]
Pixels = NDArray[np.uint8]


@dataclass(frozen=True, slots=True, eq=False)
class Teacher:
    """A trained network: its card, and the probability of nucleus that it sees in an image.

    `answer` takes (H, W, 3) uint8 of any size and gives (H, W) uint8, 255 being certainty.
    """

    card: ModelCard
    answer: Callable[[Pixels], Pixels]


def open_teacher(path: Path) -> Teacher:
    """Load a teacher: what `glioexport.loading.load_network` takes, with its card beside it.

    Raises
    ------
    GlioError
        It cannot be loaded, has no card, or works at another scale than tiles are trained at.
    """
    network = load_network(path)
    card = card_beside(path)
    if card is None:
        raise GlioError(f"{path}: no card beside it; a teacher's card names its colour target")
    if card.mpp != MPP:
        raise GlioError(f"{path}: works at {card.mpp} µm per pixel; a student is taught at {MPP}")

    def of_windows(windows: Iterable[Pixels]) -> Iterable[Pixels]:
        for values in predict_values(network.model, windows, 1):
            yield np.rint(255 * probability(values, network.output)[0]).astype(np.uint8)

    return Teacher(
        replace(card, source_sha256=network.sha256),
        lambda image: segment(image, of_windows, network.side_px),
    )


def distil(
    path: Path,
    data: Path,
    out: Path,
    settings: TrainSettings,
    teaching: Teaching,
    *,
    say: Say,
    held_out: Iterable[str] = (),
    threads: int = 1,
) -> Path:
    """Teach a student the output of the network `path`; return the student's `.keras` file.

    It is taught on the split `train` of `data`, unlabelled regions included. The split `val` and
    the sets in `held_out` are for validation alone: neither their images nor their labels teach;
    the teacher should not have seen them either. `out` is what
    `glioexport.train.train` makes of it, with the teacher's answers in the folder `teacher`, and
    a call after a kill goes on as there.

    Raises
    ------
    GlioError
        The teacher or the data are unusable, or `out` holds another training.
    """
    chosen = choose(data, held_out)
    teacher = open_teacher(path)
    source = {"name": teacher.card.name, "sha256": teacher.card.source_sha256}
    how = {**settings.as_values(), "teaching": asdict(teaching), "teacher": source}
    claim(out, {**how, "tiles": chosen.fingerprint()})
    lessons = load_lessons(chosen, teacher.card.colour_target)
    lessons = with_sparse(lessons, chosen, out, settings, say)
    baseline = otsu_baseline(lessons.checks, say)
    taught = ask(teacher, lessons.tiles, out / ANSWERS, teaching, say)
    student = run_epochs(out, settings, replace(lessons, tiles=taught), say=say, threads=threads)
    move_threshold(student, settings)
    by_teacher = [replace(tile, nuclei=_mask(teacher, tile)) for tile in lessons.checks]
    agreement = compare_by_set(by_teacher, mask_of_tile(student))
    seen = teacher.card.training.get("data", [])
    further = {
        "distilled_from": {
            **source,
            "data": seen,
            "teaching": asdict(teaching),
            "agreement": {name: asdict(figures) for name, figures in agreement.items()},
        }
    }
    return save_trained(student, out, settings, lessons, baseline, further, seen or [{}])


def ask(
    teacher: Teacher, tiles: list[LabelledTile], folder: Path, teaching: Teaching, say: Say
) -> list[LabelledTile]:
    """Return the tiles with the target of the student, (H, W) float32, as nuclei.

    An answer of the teacher that lies in `folder`, named after the hash of the pixels, is not
    asked for again.
    """
    folder.mkdir(exist_ok=True)
    taught = []
    for number, tile in enumerate(tiles, 1):
        path = folder / f"{hashlib.sha256(tile.pixels.tobytes()).hexdigest()[:24]}.png"
        if not path.exists():
            say(f"the teacher looks at tile {number}/{len(tiles)}")
            with replacing(path) as partial:
                Image.fromarray(_mean_answer(teacher, tile.pixels, teaching.turns)).save(partial)
        answer = read_label(path).astype(np.float32) / 255
        target = answer + np.float32(teaching.label_share) * (tile.nuclei - answer)
        taught.append(replace(tile, nuclei=target))
    return taught


def _mean_answer(teacher: Teacher, pixels: Pixels, turns: int) -> Pixels:
    """Return the mean answer, (H, W) uint8, over an image in several positions."""
    answers = [np.rot90(teacher.answer(np.rot90(pixels, k)), -k) for k in range(turns)]
    return np.rint(np.mean(answers, axis=0, dtype=np.float32)).astype(np.uint8)


def _mask(teacher: Teacher, tile: LabelledTile) -> Pixels:
    """Return the teacher's mask of a tile, (H, W) uint8 of 0 and 1."""
    return (teacher.answer(tile.pixels) > 127).astype(np.uint8)


def write_untrained(
    settings: TrainSettings, windows: list[Pixels], folder: Path
) -> tuple[Path, int]:
    """Write an untrained student into `folder` as INT8; return its path and number of weights.

    It is as fast as a trained one.
    """
    shape = settings.network
    model = trainee_of(settings).build(shape, "float32", settings.seed)
    logits, output = up_to_logits(model, output_of(model) or "softmax")
    onnx_model.write_onnx(logits, output, folder / "candidate.onnx")
    int8 = quantise(ir.read_onnx(folder / "candidate.onnx"), windows)
    path = folder / "candidate.xml"
    card = ModelCard(shape.name, shape.side_px, MPP, colour_target=None, precision="INT8")
    ir.write_ir(int8, card, path)
    return path, model.count_params()
