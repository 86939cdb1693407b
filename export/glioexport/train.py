"""Training: random crops in, a `.keras` file and its card out; goes on after a kill."""

from __future__ import annotations

import csv
import json
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from glioexport.augment import augment
from glioexport.curves import draw_curves
from glioexport.dataset import MPP, LabelledTile, in_runtime_colour, load_tiles, read_instances
from glioexport.lessons import (
    Chosen,
    Lessons,
    choose,
    compare_by_set,
    intended_use,
    load_lessons,
    mask_of_image,
    mask_of_tile,
    otsu_baseline,
    validate,
)
from glioexport.recipe import TrainSettings
from glioexport.shape import HoverShape
from glioexport.sparse import sparse_tiles
from glioexport.trainee import trainee_of
from gliorun.atomic import cannot_write, remove_leftovers, replacing
from gliorun.errors import GlioError
from gliorun.findings.agreement import Agreement
from gliorun.measuring.streams import map_ahead
from gliorun.model.card import ModelCard, sha256_of

OPTIMIZERS = {"sgd": keras.optimizers.SGD, "adam": keras.optimizers.Adam}
"""Of `recipe.OPTIMIZERS`."""

SPARSE = "sparse"
"""Folder beside the checkpoints for the tiles whose nuclei were taken out."""


def train(
    data: Path,
    out: Path,
    settings: TrainSettings,
    *,
    say: Callable[[str], None],
    held_out: Iterable[str] = (),
    threads: int = 1,
) -> Path:
    """Train on the `train` split of `data`, validate on `val`; return the `.keras` file.

    `out` holds the newest checkpoint, `history.csv` with its picture `curves.png`, and at the
    end `model.keras` with `model.json`, its card. Called again after a kill, it goes on from the
    last whole epoch; the crops of an epoch depend on the seed and the epoch alone.

    Raises
    ------
    GlioError
        The data are unusable, or `out` holds a training with other settings.
    """
    chosen = choose(data, held_out)
    claim(out, {**settings.as_values(), "tiles": chosen.fingerprint()})
    lessons = load_lessons(chosen, chosen.mean_colour() if settings.recipe.match_colour else None)
    if isinstance(settings.shape, HoverShape):
        apart = load_tiles(chosen.train, chosen.statistics, lessons.target, read_instances)
        lessons = replace(lessons, tiles=apart)
    lessons = with_sparse(lessons, chosen, out, settings, say)
    baseline = otsu_baseline(lessons.checks, say)
    final = run_epochs(out, settings, lessons, say=say, threads=threads)
    move_threshold(final, settings)
    return save_trained(final, out, settings, lessons, baseline)


def with_sparse(
    lessons: Lessons, chosen: Chosen, out: Path, settings: TrainSettings, say: Callable[[str], None]
) -> Lessons:
    """Return lessons with tiles whose nuclei were taken out, if the recipe draws any."""
    if not settings.recipe.sparse:
        return lessons
    sparse = sparse_tiles(chosen.train, chosen.statistics, lessons.target, out / SPARSE, say)
    return replace(lessons, sparse=sparse)


def run_epochs(
    out: Path,
    settings: TrainSettings,
    lessons: Lessons,
    *,
    say: Callable[[str], None],
    threads: int,
) -> keras.Model:
    """Train from the newest checkpoint in `out` to the last epoch.

    Return the averaged model, the part that gives nuclei.
    """
    recipe, trainee = settings.recipe, trainee_of(settings)
    pixels = sum(tile.nuclei.size for tile in lessons.tiles)
    steps = recipe.steps or max(1, round(pixels / recipe.crop_px**2 / recipe.batch))
    model, averaged, history = _resume(out, settings, steps)
    for epoch in range(len(history), recipe.epochs):
        started = time.monotonic()
        loss = _one_epoch(model, averaged, lessons, settings, epoch, steps, threads, say)
        figures = compare_by_set(lessons.checks, mask_of_tile(trainee.density_part(averaged)))
        history.append(
            {
                "epoch": epoch + 1,
                "loss": round(loss, 5),
                **{f"dice {name}": round(f.dice, 4) for name, f in figures.items()},
                **{
                    f"density error {name}": round(f.density_error_points, 3)
                    for name, f in figures.items()
                },
                "seconds": round(time.monotonic() - started, 1),
            }
        )
        _save_checkpoint(out, model, averaged, history)
        dices = ", ".join(f"{name} {f.dice:.3f}" for name, f in figures.items())
        left_min = history[-1]["seconds"] * (recipe.epochs - epoch - 1) / 60
        say(
            f"epoch {epoch + 1}/{recipe.epochs}: loss {loss:.4f}, "
            f"validation Dice {dices}, {left_min:.0f} min left"
        )
    return trainee.density_part(averaged)


def draw_batch(
    lessons: Lessons, shares: NDArray[np.float64], settings: TrainSettings, epoch: int, step: int
) -> tuple[NDArray[np.uint8], NDArray[Any]]:
    """Return crops (N, H, W, 3) and labels (N, H, W), a function of seed, epoch and step alone.

    `shares` are those of `shares_of_tiles`.
    """
    random = np.random.default_rng((settings.seed, epoch, step))
    recipe = settings.recipe
    tiles = [*lessons.tiles, *lessons.sparse]
    crops = [
        augment(
            tiles[pick].pixels,
            tiles[pick].nuclei,
            recipe.crop_px,
            recipe.augmentation,
            random,
            lessons.target,
        )
        for pick in random.choice(len(tiles), recipe.batch, p=shares)
    ]
    pixels, nuclei = zip(*crops, strict=True)
    return np.stack(pixels), np.stack(nuclei)


def shares_of_tiles(lessons: Lessons, settings: TrainSettings) -> NDArray[np.float64]:
    """Return how often each tile is drawn, the sparse ones last, (N,) float64, summing to 1."""
    if not lessons.sparse:
        return _balanced(lessons.tiles, settings)
    sparse = settings.recipe.sparse
    parts = ((1 - sparse, lessons.tiles), (sparse, lessons.sparse))
    return np.concatenate([share * _balanced(tiles, settings) for share, tiles in parts])


def _balanced(tiles: list[LabelledTile], settings: TrainSettings) -> NDArray[np.float64]:
    """Return how often each of some tiles is drawn, (N,) float64, summing to 1.

    Inside a set a tile counts by its side, but never less than a crop; sets are balanced.
    """
    side = settings.recipe.crop_px
    shares = np.sqrt([max(tile.nuclei.size / side**2, 1.0) for tile in tiles])
    names = np.array([tile.entry.set for tile in tiles])
    for name in np.unique(names):
        of_set = names == name
        total = shares[of_set].sum()
        weight = settings.weights.get(str(name), 1.0)
        shares[of_set] *= weight * total**settings.recipe.balance / total
    return np.asarray(shares / shares.sum())


def _one_epoch(
    model: keras.Model,
    averaged: keras.Model,
    lessons: Lessons,
    settings: TrainSettings,
    epoch: int,
    steps: int,
    threads: int,
    say: Callable[[str], None],
) -> float:
    losses = []
    started = time.monotonic()
    targets = trainee_of(settings).targets
    shares = shares_of_tiles(lessons, settings)
    batches = map_ahead(
        lambda step: draw_batch(lessons, shares, settings, epoch, step),
        range(steps),
        threads=threads,
        ahead=2 * threads + 1,
    )
    with closing(batches):
        for step, (pixels, nuclei) in enumerate(batches, 1):
            whole, *_ = np.ravel(model.train_on_batch(pixels, targets(nuclei)))
            losses.append(float(whole))
            if not np.isfinite(losses[-1]):
                raise GlioError(
                    f"the loss is {losses[-1]} in epoch {epoch + 1}; "
                    "lower learning_rate with --vary"
                )
            done = epoch * steps + step  # at first the average keeps less: nothing good yet
            _average(averaged, model, min(settings.recipe.average, done / (done + 10)))
            if step % 20 == 0:
                pace = (time.monotonic() - started) / step
                say(f"  step {step}/{steps}: loss {np.mean(losses[-20:]):.4f}, {pace:.2f} s a step")
    return float(np.mean(losses))


def _average(averaged: keras.Model, model: keras.Model, keep: float) -> None:
    """Move the weights of `averaged` towards those of `model`, keeping the share `keep`."""
    if not keep:
        averaged.set_weights(model.get_weights())
        return
    for mean, newest in zip(averaged.weights, model.weights, strict=True):
        if "float" in mean.dtype:  # not the state of a random generator
            mean.assign(keep * mean + (1 - keep) * ops.cast(newest, mean.dtype))


def claim(out: Path, values: dict[str, Any]) -> None:
    """Take `out` for this training, or check that it is already this training's.

    Raises
    ------
    GlioError
        It holds another one, or cannot be written.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write(out, error) from error
    kept = out / "settings.json"
    if not kept.exists():
        with replacing(kept) as partial:
            partial.write_text(json.dumps(values, indent=2), encoding="utf-8")
        return
    try:
        claimed = json.loads(kept.read_text(encoding="utf-8"))
    except ValueError as error:
        raise _damaged(kept, error) from error
    if claimed != values:
        raise GlioError(f"{out}: holds a training with other settings or tiles; pass another --out")


def _damaged(path: Path, error: Exception) -> GlioError:
    what = str(error).splitlines()[0] if str(error) else type(error).__name__
    return GlioError(f"{path}: missing or damaged ({what}); pass another --out")


def _checkpoints(out: Path) -> list[Path]:
    return sorted(out.glob("checkpoint-[0-9][0-9][0-9][0-9].keras"))


def _averaged_beside(checkpoint: Path) -> Path:
    return checkpoint.with_name(checkpoint.name.replace("checkpoint", "averaged"))


def _resume(
    out: Path, settings: TrainSettings, steps: int
) -> tuple[keras.Model, keras.Model, list[dict[str, Any]]]:
    recipe = settings.recipe
    checkpoints = _checkpoints(out)
    if checkpoints:
        return _load_checkpoint(checkpoints[-1])
    trainee = trainee_of(settings)
    model = trainee.build(settings.trained, settings.precision, settings.seed)
    averaged = trainee.build(settings.network, "float32", settings.seed)
    rate: Any = recipe.learning_rate
    if recipe.cosine:
        total = steps * recipe.epochs
        warm = min(100, total // 10)
        rate = keras.optimizers.schedules.CosineDecay(
            rate / 20, total - warm, alpha=0.02, warmup_target=rate, warmup_steps=warm
        )
    trainee.compile(model, OPTIMIZERS[recipe.optimizer](rate))
    return model, averaged, []


def _load_checkpoint(path: Path) -> tuple[keras.Model, keras.Model, list[dict[str, Any]]]:
    reading = path
    try:
        model = keras.models.load_model(path)
        reading = _averaged_beside(path)
        averaged = keras.models.load_model(reading, compile=False)
        reading = path.with_name("history.csv")
        with reading.open(newline="", encoding="utf-8") as lines:
            history = [
                {name: int(text) if name == "epoch" else float(text) for name, text in row.items()}
                for row in csv.DictReader(lines)
            ]
    except (OSError, ValueError, KeyError, TypeError, BadZipFile) as error:
        raise _damaged(reading, error) from error
    return model, averaged, history[: int(path.stem[-4:])]


def _save_checkpoint(
    out: Path, model: keras.Model, averaged: keras.Model, history: list[dict[str, Any]]
) -> None:
    older = _checkpoints(out)
    newest = out / f"checkpoint-{len(history):04d}.keras"
    for path in (out / "history.csv", out / "curves.png", _averaged_beside(newest), newest):
        remove_leftovers(path)  # of a process that was killed while it saved this epoch
    with (
        replacing(out / "history.csv") as partial,
        partial.open("w", newline="", encoding="utf-8") as lines,
    ):
        writer = csv.DictWriter(lines, history[0].keys())
        writer.writeheader()
        writer.writerows(history)
    with replacing(out / "curves.png") as partial:
        draw_curves(out / "history.csv", partial)
    for path, what in ((_averaged_beside(newest), averaged), (newest, model)):
        with replacing(path) as partial:  # the checkpoint last: where it is, the other is whole
            what.save(partial)
    for checkpoint in older:
        checkpoint.unlink()
        _averaged_beside(checkpoint).unlink(missing_ok=True)


def move_threshold(model: keras.Model, settings: TrainSettings) -> None:
    """Move the recipe's threshold into the last bias, so that nucleus begins at 1/2."""
    odds = np.log(settings.recipe.threshold / (1 - settings.recipe.threshold))
    if isinstance(settings.shape, HoverShape) or not odds:
        return
    bias = model.get_layer("logits").bias
    of_nucleus = np.arange(bias.shape[0]) % settings.shape.classes == settings.shape.classes - 1
    bias.assign(np.asarray(bias) - of_nucleus * np.float32(odds))


def save_trained(
    final: keras.Model,
    out: Path,
    settings: TrainSettings,
    lessons: Lessons,
    baseline: dict[str, Agreement],
    further: Mapping[str, Any] | None = None,
    taught_by: Iterable[Any] = (),
) -> Path:
    """Save the trained model and its card, which also says what is in `further`.

    `taught_by` are the sources that its teacher was trained on, if it had one.
    """
    sources = lessons.licences()
    path = out / "model.keras"
    with replacing(path) as partial:
        final.save(partial)
    scanned = load_tiles([tile.entry for tile in lessons.checks], {}, None)
    checks = in_runtime_colour(scanned, lessons.target, mask_of_image(final))
    card = ModelCard(
        name=settings.network.name,
        tile_px=settings.shape.side_px,
        mpp=MPP,
        colour_target=lessons.target,
        source_sha256=sha256_of(path),
        intended_use=intended_use([*sources, *taught_by]),
        training={
            "data": sources,
            "settings": settings.as_values(),
            "validation": validate(checks, mask_of_tile(final)),
            "haematoxylin_otsu": {name: asdict(f) for name, f in baseline.items()},
            **(further or {}),
        },
    )
    with replacing(path.with_suffix(".json")) as partial:
        partial.write_text(card.to_json(), encoding="utf-8")
    return path
