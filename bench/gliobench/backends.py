"""Every way to run the same network; the only module that touches the Keras reference."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gliorun.card import ModelCard, sha256_of
from gliorun.engine import CARD_KEY, open_model
from gliorun.errors import GlioError
from gliorun.job import MODELS, REFERENCE_MODEL, STUDENT_MODEL
from gliorun.reading.windows import segment

Pixels = NDArray[np.uint8]
Masks = Callable[[Iterable[Pixels]], Iterable[Pixels]]

KERAS = "Keras predict"
OTSU = "otsu"
"""What stands for the haematoxylin-Otsu baseline where a model file could."""


@dataclass(frozen=True, slots=True)
class Backend:
    """A name, and what turns (tile_px, tile_px, 3) uint8 windows into masks, in order."""

    name: str
    masks: Masks


def open_backends(model: Path, converted: Path) -> tuple[list[Backend], ModelCard]:
    """Open Keras, ONNX Runtime and OpenVINO FP32 and INT8 on one network.

    Parameters
    ----------
    model : Path
        The `.keras` file.
    converted : Path
        The folder that `glioexport convert` made of it.

    Raises
    ------
    GlioError
        A file is missing, or `converted` was made of another `.keras` file.
    """
    from glioexport.onnx_model import onnx_predictor
    from glioexport.reference import load_model, mask_predictor

    keras_model = load_model(model)
    fp32, int8 = (open_model(converted / f"{name}.xml") for name in ("fp32", "int8"))
    if fp32.card.source_sha256 != sha256_of(model):
        raise GlioError(f"{converted}: was not converted from {model}; run 'glioexport convert'")
    onnx = converted / "model.onnx"
    if not onnx.is_file():
        raise GlioError(f"{onnx}: no such file; run 'glioexport convert'")
    backends = [
        Backend(KERAS, mask_predictor(keras_model, batch=4)),
        Backend("ONNX Runtime", onnx_predictor(onnx)),
        Backend("OpenVINO FP32", fp32.masks),
        Backend("OpenVINO INT8", int8.masks),
    ]
    return backends, int8.card


def reference_model() -> Path:
    """Return the `.keras` file that ships."""
    from glioexport.reference import SHIPPED

    return SHIPPED


def open_student() -> Backend:
    """Open the student that ships; its tiles have the colour of the reference's."""
    return Backend("student, INT8", open_model(STUDENT_MODEL).masks)


def convert_reference(out: Path, tiles: Path | None, say: Callable[[str], None]) -> None:
    """Convert the reference that ships into `out`."""
    from glioexport.convert import convert
    from glioexport.parity import Tolerance

    convert(reference_model(), out, tiles=tiles, mpp=None, tolerance=Tolerance(), say=say)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A network as INT8, trained or not, and how many weights it has."""

    name: str
    masks: Masks
    weights: int


def open_candidates(
    shapes: Iterable[str], windows: list[Pixels], say: Callable[[str], None]
) -> list[Candidate]:
    """Open the reference that ships, and after it untrained students.

    Parameters
    ----------
    shapes : iterable of str
        Each "name=value name=value": settings of `glioexport distil --vary`.
    windows : list of (480, 480, 3) uint8
        To calibrate on; as no weight of a student means anything, any will do.

    Raises
    ------
    GlioError
        A shape has no such setting, or its values do not fit.
    """
    from glioexport.distil import student_settings, write_candidate
    from glioexport.reference import load_model

    weights = load_model(reference_model()).count_params()
    found = [Candidate("reference", open_model(REFERENCE_MODEL).masks, weights)]
    for shape in shapes:
        say(f"converts {shape}")
        settings = student_settings(shape.split())
        with tempfile.TemporaryDirectory(prefix="gliobench-") as folder:
            path, weights = write_candidate(settings.network, windows, Path(folder))
            found.append(Candidate(shape, open_model(path).masks, weights))
    return found


def comparison_windows(tiles: Path | None, card: ModelCard) -> tuple[list[Pixels], str]:
    """Return windows that no training saw, colour-normalised, and where they come from."""
    from glioexport.convert import load_check_tiles

    found = load_check_tiles(tiles, card)
    return found.comparison, found.source


@dataclass(frozen=True, slots=True)
class Segmenter:
    """What turns an image of any size, (H, W, 3) uint8, into its nucleus mask, (H, W) uint8.

    The image has the card's scale, and its colour normalised to the card's target. The baseline
    has no card and no file; it takes any scale and the colour as it is.
    """

    name: str
    segment: Callable[[Pixels], Pixels]
    card: ModelCard | None = None
    sha256: str = ""


def shipped_models() -> list[str]:
    """Return the models that ship, the reference in Keras and every IR, and the baseline."""
    return [str(reference_model()), *map(str, sorted(MODELS.glob("*.xml"))), OTSU]


def open_segmenters(models: list[str]) -> list[Segmenter]:
    """Open `.keras`, `.onnx` and `.xml` files, and the baseline for the word "otsu".

    A model is called by as much of the end of its path as tells it from the others.

    Raises
    ------
    GlioError
        A file is missing, damaged, of another kind or without its card, or is given twice.
    """
    parts = [Path(model).parts for model in models]
    if len(set(parts)) < len(parts):
        raise GlioError(f"{', '.join(models)}: a model is given twice")
    depth = 1
    while len({of_one[-depth:] for of_one in parts}) < len(parts):
        depth += 1
    return [
        _open_segmenter(model, "/".join(of_one[-depth:]))
        for model, of_one in zip(models, parts, strict=True)
    ]


def _open_segmenter(model: str, name: str) -> Segmenter:
    if model == OTSU:
        from glioexport.otsu import haematoxylin_otsu

        return Segmenter(name, haematoxylin_otsu)
    path = Path(model)
    if path.suffix not in _OPENERS:
        raise GlioError(f"{path}: not a .keras, .onnx or .xml file, nor the word {OTSU!r}")
    if not path.is_file():
        raise GlioError(f"{path}: no such file")
    masks, card = _OPENERS[path.suffix](path)
    return Segmenter(
        name, partial(segment, predict=masks, side=card.tile_px), card, sha256_of(path)
    )


def _open_keras(path: Path) -> tuple[Masks, ModelCard]:
    from glioexport.reference import card_beside, load_model, mask_predictor

    card = card_beside(path)
    if card is None:
        raise GlioError(f"{path}: no {path.stem}.json beside it; its card names its colour target")
    if card.source_sha256 not in ("", sha256_of(path)):
        raise GlioError(f"{path.with_suffix('.json')}: is the card of another model than {path}")
    return mask_predictor(load_model(path)), card


def _open_onnx(path: Path) -> tuple[Masks, ModelCard]:
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    from glioexport.onnx_model import onnx_predictor

    try:
        entries = {entry.key: entry.value for entry in onnx.load(path).metadata_props}
    except DecodeError as error:
        raise GlioError(f"{path}: not an ONNX file, or damaged") from error
    if CARD_KEY not in entries:
        raise GlioError(f"{path}: has no model card; make it with 'glioexport convert'")
    try:
        card = ModelCard.from_json(entries[CARD_KEY])
    except GlioError as error:
        raise GlioError(f"{path}: {error}") from error
    return onnx_predictor(path), card


def _open_ir(path: Path) -> tuple[Masks, ModelCard]:
    engine = open_model(path)
    return engine.masks, engine.card


_OPENERS: dict[str, Callable[[Path], tuple[Masks, ModelCard]]] = {
    ".keras": _open_keras,
    ".onnx": _open_onnx,
    ".xml": _open_ir,
}
