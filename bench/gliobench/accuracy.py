"""Compare models with labelled tiles: the nuclei that they find, and the error of the density."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from gliobench.backends import Segmenter
from gliobench.metrics import Difference, Figures, Score, difference, figures, score
from gliobench.stains import COMPARED, Method
from gliobench.stress import CHANGES
from glioexport.dataset import (
    MPP,
    Entry,
    LabelledTile,
    as_runtime,
    by_slide,
    choose_entries,
    load_tiles,
    read_index,
)
from gliorun.errors import GlioError, UsageError
from gliorun.model.card import ModelCard
from gliorun.reading.scale import SAME_SCALE

Pixels = NDArray[np.uint8]
Normalise = Callable[[list[Pixels]], list[Pixels]]
Statistic = TypeVar("Statistic")

choose = choose_entries
COLOURS = ("card", "none", *COMPARED)
WORST = 5


@dataclass(frozen=True, slots=True)
class TileSet:
    """A group of tiles with common figures: one source and one split."""

    name: str
    split: str

    def __str__(self) -> str:
        return f"{self.name} {self.split}"


@dataclass(frozen=True, slots=True, eq=False)
class Shown:
    """A tile and the mask that a model made of it."""

    tile: LabelledTile
    mask: Pixels
    score: Score


@dataclass(frozen=True, slots=True, eq=False)
class SetAccuracy:
    """The accuracy of one model on one set of tiles.

    `seen` says what the training of the model saw of the set. `to_baseline` is the difference to
    the last model, and None for that one. `stress` has the figures under each change. `worst` are
    the tiles of lowest Dice, in rising order.
    """

    model: Segmenter
    tiles: TileSet
    seen: str
    scores: list[Score]
    figures: Figures
    to_baseline: Difference | None
    stress: dict[str, Figures] = field(default_factory=dict)
    worst: list[Shown] = field(default_factory=list)


def check_colour(colour: str) -> None:
    """Raise UsageError unless `colour` is one of `COLOURS`."""
    if colour not in COLOURS:
        raise UsageError(f"colour is {colour!r}; known: {', '.join(COLOURS)}")


def accuracy(
    folder: Path,
    models: Sequence[Segmenter],
    *,
    sets: Sequence[str],
    split: str,
    colour: str,
    stress: bool,
    say: Callable[[str], None],
) -> list[SetAccuracy]:
    """Run every model on the chosen tiles of `folder`, set by set; the last one is the baseline.

    Parameters
    ----------
    folder : Path
        Labelled tiles with an index.csv.
    colour : str
        How the input of a network is normalised, one of `COLOURS`; "card" is what the runtime
        does. The target of the others is fitted to the tiles the network was trained on, as it
        saw them.
    stress : bool
        Repeat under every change of `gliobench.stress`, made before colour is measured.

    Raises
    ------
    GlioError
        The tiles are unusable, or a model takes another scale.
    """
    if not models:
        raise GlioError("accuracy needs at least one model")
    check_colour(colour)
    for model in models:
        if model.card is not None and abs(model.card.mpp / MPP - 1) > SAME_SCALE:
            raise GlioError(
                f"{model.name}: takes {model.card.mpp:g} µm/px, the tiles {MPP:g}; leave it out"
            )
    tiles = load_tiles(choose(folder, sets, split), {}, None)
    results: list[SetAccuracy] = []
    for model in reversed(models):  # the baseline runs first
        normalise = normaliser(colour, model, folder)
        say(f"{model.name}: {len(tiles)} tiles")
        shown = _show(model, normalise, tiles, lambda image: image)
        stressed: dict[str, list[Score]] = {}
        for name, change in CHANGES.items() if stress else ():
            say(f"{model.name}: {name}")
            stressed[name] = [s.score for s in _show(model, normalise, tiles, change)]
        results = [
            _result(model, of_set, shown, stressed, results) for of_set in _sets(tiles)
        ] + results
    return results


def _sets(tiles: Iterable[LabelledTile]) -> list[TileSet]:
    return list(dict.fromkeys(_set_of(tile) for tile in tiles))


def _set_of(tile: LabelledTile) -> TileSet:
    return TileSet(tile.entry.set, tile.entry.split)


def _show(
    model: Segmenter,
    normalise: Normalise,
    tiles: list[LabelledTile],
    change: Callable[[Pixels], Pixels],
) -> list[Shown]:
    """Run a model on changed tiles; tiles of one slide share one colour statistic."""
    shown = []
    images = by_slide(tiles, [change(tile.pixels) for tile in tiles], normalise)
    for tile, image in zip(tiles, images, strict=True):
        mask = model.outline(image)
        tile_score = score(tile.entry.id, tile.entry.patient, mask, tile.nuclei)
        shown.append(Shown(tile, mask, tile_score))
    return shown


def _result(
    model: Segmenter,
    of_set: TileSet,
    shown: list[Shown],
    stressed: dict[str, list[Score]],
    so_far: list[SetAccuracy],
) -> SetAccuracy:
    places = [n for n, shown_tile in enumerate(shown) if _set_of(shown_tile.tile) == of_set]
    scores = [shown[n].score for n in places]
    of_baseline = [r for r in so_far if r.tiles == of_set][-1:]
    return SetAccuracy(
        model=model,
        tiles=of_set,
        seen=seen(model.card, of_set),
        scores=scores,
        figures=figures(scores),
        to_baseline=difference(scores, of_baseline[0].scores) if of_baseline else None,
        stress={
            name: figures([all_figures[n] for n in places])
            for name, all_figures in stressed.items()
        },
        worst=sorted((shown[n] for n in places), key=lambda shown_tile: shown_tile.score.dice)[
            :WORST
        ],
    )


def seen(card: ModelCard | None, tiles: TileSet) -> str:
    """Describe what a training saw of a set: nothing, other tiles of the source, or these tiles."""
    if card is None:
        return "not trained"
    sources = trained_on(card)
    if not sources:
        return "not stated"
    if tiles.name not in sources:
        return "no"
    return "these tiles" if tiles.split == "train" else "the source"


def trained_on(card: ModelCard) -> set[str]:
    """Return the sets that a card says its model was trained on."""
    named = card.training.get("data", [])
    return {str(entry["set"]) if isinstance(entry, dict) else str(entry) for entry in named}


def normaliser(name: str, model: Segmenter, folder: Path) -> Normalise:
    """Return the function that normalises the images of one slide for a model.

    For the baseline it changes nothing, as that takes any colour.

    Raises
    ------
    GlioError
        The method needs a target, and `folder` has no tile that the model was trained on.
    """
    card = model.card
    if card is None or name == "none":
        return list
    of_card = partial(as_runtime, segment=model.segment, target=card.colour_target)
    if name == "card":
        return of_card
    method = COMPARED[name]
    sources = trained_on(card)
    slides: dict[str, list[Entry]] = {}
    for entry in read_index(folder):
        if entry.split == "train" and (not sources or entry.set in sources):
            slides.setdefault(entry.stain_group, []).append(entry)
    fits = []
    for entries in slides.values():
        images = [tile.pixels for tile in load_tiles(entries, {}, None)]
        fit = method.fit(of_card(images))
        if fit is not None:
            fits.append(fit)
    if not fits:
        raise GlioError(
            f"{folder}: has no training tile of {card.name} to fit {name} to; pass --colour card"
        )
    return _moving(method, method.mean(fits))


def _moving(method: Method[Statistic], target: Statistic | None) -> Normalise:
    """Return a function that moves a slide to `target`, or changes nothing if it cannot."""

    def move(images: list[Pixels]) -> list[Pixels]:
        source = method.fit(images)
        if source is None or target is None:
            return images
        return [method.move(image, source, target) for image in images]

    return move
