"""Training: random crops in, a `.keras` file and its card out; goes on after a kill."""

from __future__ import annotations

import csv
import json
import math
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from glioexport.augment import PLAIN, SAME_COLOUR, Augmentation, augment
from glioexport.curves import draw_curves
from glioexport.dataset import (
    MPP,
    Entry,
    LabelledTile,
    load_tiles,
    read_index,
    read_rgba,
    stain_statistics,
)
from glioexport.network import UnetShape, build_unet
from glioexport.otsu import haematoxylin_otsu
from glioexport.reference import mask_predictor
from gliorun import colour
from gliorun.agreement import Agreement, agreement
from gliorun.atomic import replacing
from gliorun.card import ModelCard, sha256_of
from gliorun.errors import GlioError, UsageError
from gliorun.reading.windows import segment
from gliorun.streams import map_ahead

PRECISIONS = ("float32", "mixed_bfloat16")
OPTIMIZERS = {"sgd": keras.optimizers.SGD, "adam": keras.optimizers.Adam}


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a network is trained. `paper` is its Table 2; `best` is what works better for us.

    The network is fully convolutional, so that it may train on crops of another side than its
    tiles. `average` is the share that the running average of the weights keeps at every step; it
    is the average that is validated and saved (Polyak, Juditsky 1992; 0 keeps the last weights).
    `threshold` is the probability at which a pixel becomes nucleus; it moves into the last bias.
    """

    optimizer: str
    learning_rate: float
    cosine: bool
    dice_share: float
    batch_norm: bool
    augmentation: Augmentation
    crop_px: int = 480
    match_colour: bool = True
    average: float = 0.0
    threshold: float = 0.5
    batch: int = 4
    epochs: int = 30

    def __post_init__(self) -> None:
        if self.optimizer not in OPTIMIZERS:
            known = ", ".join(OPTIMIZERS)
            raise UsageError(f"optimizer is {self.optimizer!r}; known: {known}")
        for name, fits, must in (
            ("average", 0 <= self.average < 1, "lie from 0 to below 1"),
            ("threshold", 0 < self.threshold < 1, "lie between 0 and 1"),
            ("dice_share", 0 <= self.dice_share <= 1, "lie from 0 to 1"),
            ("learning_rate", 0 < self.learning_rate < math.inf, "be above 0"),
            ("batch", self.batch >= 1, "be at least 1"),
            ("epochs", self.epochs >= 1, "be at least 1"),
        ):
            if not fits:
                raise UsageError(f"{name} is {getattr(self, name)}; it must {must}")


RECIPES = {
    "paper": Recipe("sgd", 1e-2, False, 0.0, False, PLAIN),
    "best": Recipe("adam", 2e-3, True, 0.5, True, SAME_COLOUR, crop_px=256, average=0.998),
}


@dataclass(frozen=True, slots=True)
class TrainSettings:
    """Everything that decides what comes out of a training; kept beside its checkpoint."""

    recipe: Recipe
    shape: UnetShape
    precision: str = "float32"
    seed: int = 1

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise UsageError(f"precision is {self.precision!r}; known: {', '.join(PRECISIONS)}")
        if self.shape.height_px != self.shape.width_px:
            raise UsageError("tiles are square; height_px and width_px must be equal")
        try:
            _ = self.trained
        except ValueError as error:
            raise UsageError(f"crops of {self.recipe.crop_px} px do not fit: {error}") from error

    @property
    def network(self) -> UnetShape:
        """The shape that is saved: the recipe decides on batch normalisation."""
        return replace(self.shape, batch_norm=self.recipe.batch_norm)

    @property
    def trained(self) -> UnetShape:
        """The shape that sees the crops."""
        side = self.recipe.crop_px
        return replace(self.network, height_px=side, width_px=side)

    def as_values(self) -> dict[str, Any]:
        """Return the settings as plain JSON values, with the shape that is built."""
        return dict(json.loads(json.dumps(asdict(replace(self, shape=self.network)))))


def varied(settings: TrainSettings, change: str) -> TrainSettings:
    """Return `settings` with one change, "name=value", in the recipe, augmentation or network.

    Raises
    ------
    UsageError
        There is no such setting, or its value has another type.
    """
    name, given, text = change.partition("=")
    recipe = settings.recipe
    values = {**asdict(settings.shape), **asdict(recipe.augmentation), **asdict(recipe)}
    del values["augmentation"]
    if not given or name not in values:
        known = ", ".join(sorted(values))
        raise UsageError(f"{change}: no such setting; known, as name=value: {known}")
    default = values[name]
    try:
        value = text if isinstance(default, str) else type(default)(json.loads(text))
        one: dict[str, Any] = {name: value}
        if name in asdict(recipe):
            return replace(settings, recipe=replace(recipe, **one))
        if name in asdict(recipe.augmentation):
            crops = replace(recipe.augmentation, **one)
            return replace(settings, recipe=replace(recipe, augmentation=crops))
        return replace(settings, shape=replace(settings.shape, **one))
    except (TypeError, ValueError) as error:
        raise UsageError(f"{change}: the default is {default!r} ({error})") from error


@keras.saving.register_keras_serializable(package="glioexport")
class EntropyAndDice(keras.losses.Loss):
    """Cross-entropy, with a share of soft Dice of the nucleus class.

    Takes labels (N, H, W) from 0 to 1 and probabilities (N, H, W, 1 or 2), nucleus last. A share
    of 0 is plain cross-entropy, as in the paper.
    """

    def __init__(self, dice_share: float = 0.0, name: str = "loss", **loss: Any) -> None:
        super().__init__(name=name, **loss)
        self.dice_share = dice_share

    def call(self, y_true: Any, y_pred: Any) -> Any:
        nuclei = ops.cast(y_true, "float32")
        probability = ops.cast(y_pred, "float32")[..., -1]
        entropy = ops.mean(ops.binary_crossentropy(nuclei, probability))
        if not self.dice_share:
            return entropy
        shared = 2 * ops.sum(nuclei * probability) + 1
        soft_dice = shared / (ops.sum(nuclei) + ops.sum(probability) + 1)
        return (1 - self.dice_share) * entropy + self.dice_share * (1 - soft_dice)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "dice_share": self.dice_share}


@dataclass(frozen=True, slots=True)
class Chosen:
    """The lines of an index to train on and to validate on, and the colour of their slides."""

    train: list[Entry]
    val: list[Entry]
    statistics: dict[str, colour.StainStatistic]

    def mean_colour(self) -> colour.StainStatistic:
        """Return the mean over the slides that are trained on."""
        groups = sorted({entry.stain_group for entry in self.train} & set(self.statistics))
        return colour.mean_statistic(self.statistics[group] for group in groups)


@dataclass(frozen=True, slots=True, eq=False)
class Lessons:
    """Tiles to train on and tiles to validate on, in the colour of `target`."""

    tiles: list[LabelledTile]
    checks: list[LabelledTile]
    target: colour.StainStatistic | None

    def licences(self) -> list[dict[str, str]]:
        """Return the sets that are trained on with their licences, as plain values."""
        sources = sorted({(tile.entry.set, tile.entry.licence) for tile in self.tiles})
        return [{"set": name, "licence": licence} for name, licence in sources]


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
    held_out = set(held_out)
    chosen = choose(data, held_out)
    claim(out, {**settings.as_values(), "held_out": sorted(held_out)})
    lessons = load_lessons(chosen, chosen.mean_colour() if settings.recipe.match_colour else None)
    baseline = otsu_baseline(lessons.checks, say)
    final = run_epochs(out, settings, lessons, say=say, threads=threads)
    move_threshold(final, settings)
    return save_trained(final, out, settings, lessons, baseline)


def choose(data: Path, held_out: Iterable[str] = ()) -> Chosen:
    """Take the splits `train` and `val` of `data`; sets in `held_out` are validated on.

    Raises
    ------
    GlioError
        A split is empty or without tissue, or there is no such set to hold out.
    """
    held_out = set(held_out)
    entries = read_index(data)
    known = {e.set for e in entries}
    if not held_out <= known:
        unknown = ", ".join(sorted(held_out - known))
        raise UsageError(
            f"{data}: has no set {unknown} to hold out; it has {', '.join(sorted(known))}"
        )
    train = [e for e in entries if e.split == "train" and e.set not in held_out]
    val = [e for e in entries if e.split == "val" or e.set in held_out]
    if not train or not val:
        raise GlioError(f"{data}: needs tiles of the split train and of the split val")
    statistics = stain_statistics(entries)
    if not any(e.stain_group in statistics for e in train):
        raise GlioError(f"{data}: no tile to train on holds enough tissue; add some")
    return Chosen(train, val, statistics)


def load_lessons(chosen: Chosen, target: colour.StainStatistic | None) -> Lessons:
    """Read the chosen tiles, in the colour of `target`."""
    train, val = (load_tiles(e, chosen.statistics, target) for e in (chosen.train, chosen.val))
    return Lessons(train, val, target)


def otsu_baseline(checks: list[LabelledTile], say: Callable[[str], None]) -> dict[str, Agreement]:
    """Compare the haematoxylin threshold, what one would otherwise use, with the labels."""
    baseline = compare_by_set(
        checks, lambda t: haematoxylin_otsu(read_rgba(t.entry.image)[..., :3])
    )
    for name, plain in baseline.items():
        say(f"haematoxylin Otsu on {name}: Dice {plain.dice:.3f}")
    return baseline


def run_epochs(
    out: Path,
    settings: TrainSettings,
    lessons: Lessons,
    *,
    say: Callable[[str], None],
    threads: int,
) -> keras.Model:
    """Train from the newest checkpoint in `out` to the last epoch; return the averaged model."""
    recipe = settings.recipe
    pixels = sum(tile.nuclei.size for tile in lessons.tiles)
    steps = max(1, round(pixels / recipe.crop_px**2 / recipe.batch))
    model, averaged, history = _resume(out, settings, steps)
    for epoch in range(len(history), recipe.epochs):
        started = time.monotonic()
        loss = _one_epoch(model, averaged, lessons.tiles, settings, epoch, steps, threads, say)
        figures = compare_by_set(lessons.checks, mask_of_tile(averaged))
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
    return averaged


def compare_by_set(
    tiles: Iterable[LabelledTile], segment_tile: Callable[[LabelledTile], NDArray[np.uint8]]
) -> dict[str, Agreement]:
    """Compare masks with the labels, set by set."""
    pairs: dict[str, list[tuple[NDArray[np.uint8], NDArray[np.uint8]]]] = {}
    for tile in tiles:
        pairs.setdefault(tile.entry.set, []).append((segment_tile(tile), tile.nuclei))
    return {name: agreement(of_set) for name, of_set in pairs.items()}


def mask_of_tile(model: keras.Model) -> Callable[[LabelledTile], NDArray[np.uint8]]:
    """Return what segments a tile, colour-normalised already, of any size."""
    predict = mask_predictor(model)
    side = model.input_shape[1]
    return lambda tile: segment(tile.pixels, predict, side)


def draw_batch(
    tiles: list[LabelledTile], settings: TrainSettings, epoch: int, step: int
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return crops (N, H, W, 3) and labels (N, H, W), a function of seed, epoch and step alone."""
    random = np.random.default_rng((settings.seed, epoch, step))
    side = settings.recipe.crop_px
    share = np.sqrt([max(tile.nuclei.size / side**2, 1.0) for tile in tiles])
    picks = random.choice(len(tiles), settings.recipe.batch, p=share / share.sum())
    crops = [
        augment(tiles[pick].pixels, tiles[pick].nuclei, side, settings.recipe.augmentation, random)
        for pick in picks
    ]
    pixels, nuclei = zip(*crops, strict=True)
    return np.stack(pixels), np.stack(nuclei)


def _one_epoch(
    model: keras.Model,
    averaged: keras.Model,
    tiles: list[LabelledTile],
    settings: TrainSettings,
    epoch: int,
    steps: int,
    threads: int,
    say: Callable[[str], None],
) -> float:
    losses = []
    started = time.monotonic()
    batches = map_ahead(
        lambda step: draw_batch(tiles, settings, epoch, step),
        range(steps),
        threads=threads,
        ahead=2 * threads + 1,
    )
    with closing(batches):
        for step, (pixels, nuclei) in enumerate(batches, 1):
            losses.append(float(np.asarray(model.train_on_batch(pixels, nuclei))))
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
    """Take `out` for this training, or check that it is already this training's."""
    out.mkdir(parents=True, exist_ok=True)
    kept = out / "settings.json"
    if not kept.exists():
        with replacing(kept) as partial:
            partial.write_text(json.dumps(values, indent=2), encoding="utf-8")
    elif json.loads(kept.read_text(encoding="utf-8")) != values:
        raise GlioError(f"{out}: holds a training with other settings; pass another --out")


def _checkpoints(out: Path) -> list[Path]:
    return sorted(out.glob("checkpoint-[0-9][0-9][0-9][0-9].keras"))


def _averaged_beside(checkpoint: Path) -> Path:
    return checkpoint.with_name(checkpoint.name.replace("checkpoint", "averaged"))


def _resume(
    out: Path, settings: TrainSettings, steps: int
) -> tuple[keras.Model, keras.Model, list[dict[str, Any]]]:
    recipe = settings.recipe
    found = _checkpoints(out)
    if found:
        model = keras.models.load_model(found[-1])
        averaged = keras.models.load_model(_averaged_beside(found[-1]), compile=False)
        with (out / "history.csv").open(newline="", encoding="utf-8") as lines:
            history = [
                {name: int(text) if name == "epoch" else float(text) for name, text in row.items()}
                for row in csv.DictReader(lines)
            ]
        return model, averaged, history[: int(found[-1].stem[-4:])]
    model = build_unet(settings.trained, precision=settings.precision, seed=settings.seed)
    averaged = build_unet(settings.network, seed=settings.seed)
    rate: Any = recipe.learning_rate
    if recipe.cosine:
        total = steps * recipe.epochs
        warm = min(100, total // 10)
        rate = keras.optimizers.schedules.CosineDecay(
            rate / 20, total - warm, alpha=0.02, warmup_target=rate, warmup_steps=warm
        )
    model.compile(
        OPTIMIZERS[recipe.optimizer](rate),
        EntropyAndDice(recipe.dice_share),
        # of TensorFlow, XLA's convolutions are slower on a CPU: 3.3 s a step, not 1.9
        jit_compile=keras.backend.backend() == "jax",
    )
    return model, averaged, []


def _save_checkpoint(
    out: Path, model: keras.Model, averaged: keras.Model, history: list[dict[str, Any]]
) -> None:
    older = _checkpoints(out)
    with (
        replacing(out / "history.csv") as partial,
        partial.open("w", newline="", encoding="utf-8") as lines,
    ):
        writer = csv.DictWriter(lines, history[0].keys())
        writer.writeheader()
        writer.writerows(history)
    with replacing(out / "curves.png") as partial:
        draw_curves(out / "history.csv", partial)
    newest = out / f"checkpoint-{len(history):04d}.keras"
    for path, what in ((_averaged_beside(newest), averaged), (newest, model)):
        with replacing(path) as partial:  # the checkpoint last: it vouches for the other
            what.save(partial)
    for checkpoint in older:
        checkpoint.unlink()
        _averaged_beside(checkpoint).unlink(missing_ok=True)


def move_threshold(model: keras.Model, settings: TrainSettings) -> None:
    """Move the recipe's threshold into the last bias, so that nucleus begins at 1/2."""
    odds = np.log(settings.recipe.threshold / (1 - settings.recipe.threshold))
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
) -> Path:
    """Save the trained model and its card, which also says what is in `further`."""
    figures = compare_by_set(lessons.checks, mask_of_tile(final))
    path = out / "model.keras"
    with replacing(path) as partial:
        final.save(partial)
    card = ModelCard(
        name=settings.network.name,
        tile_px=settings.shape.height_px,
        mpp=MPP,
        colour_target=lessons.target,
        source_sha256=sha256_of(path),
        training={
            "data": lessons.licences(),
            "settings": settings.as_values(),
            "validation": {name: asdict(f) for name, f in figures.items()},
            "haematoxylin_otsu": {name: asdict(f) for name, f in baseline.items()},
            **(further or {}),
        },
    )
    with replacing(path.with_suffix(".json")) as partial:
        partial.write_text(card.to_json(), encoding="utf-8")
    return path
