"""Run the same network in every way; the only module that uses the Keras reference."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gliorun.errors import GlioError, UsageError
from gliorun.model import shipped
from gliorun.model.calibration import Calibration
from gliorun.model.card import ModelCard, sha256_of
from gliorun.model.engine import CARD_KEY, EXACT, Compute, open_model
from gliorun.reading.windows import segment

Pixels = NDArray[np.uint8]
Masks = Callable[[Iterable[Pixels]], Iterable[Pixels]]
Opened = tuple[Masks, ModelCard, Masks | None]
"""What gives masks of windows, the card, and of an IR what gives their levels."""
Packed = NDArray[np.uint8]
"""Masks, (N, H, ceil(W / 8)), with eight pixels per byte."""

OTSU = "otsu"
"""Name of the haematoxylin-Otsu baseline in place of a model file."""


KERAS, XLA, ONNX, IR = "keras", "xla", "onnx", "ir"
BATCHES = (1, 2, 4, 8)
"""Batch sizes to try with a Keras backend; converted models take one tile at a time."""


@dataclass(frozen=True, slots=True)
class Backend:
    """One way to run one network: what opens it, and what it is.

    `library` is "keras", "xla", "onnx" or "ir"; `precision` is what it computes in, "FP32", "BF16"
    or "INT8"; `source_sha256` is of the Keras file that the network comes from.
    """

    name: str
    library: str
    path: Path
    precision: str
    source_sha256: str


def backends_of(model: Path, converted: Path) -> tuple[list[Backend], ModelCard]:
    """Return every way to run one network, Keras first, and its card.

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
    if not model.is_file():
        raise GlioError(f"{model}: no such file; check its name")
    source = sha256_of(model)
    fp32, int8 = (converted / f"{name}.xml" for name in ("fp32", "int8"))
    card = open_model(int8).card
    if open_model(fp32).card.source_sha256 != source:
        raise GlioError(f"{converted}: was not converted from {model}; run 'glioexport convert'")
    onnx = converted / "model.onnx"
    if not onnx.is_file():
        raise GlioError(f"{onnx}: no such file; run 'glioexport convert'")
    ways = [
        Backend("Keras predict", KERAS, model, "FP32", source),
        Backend("Keras XLA", XLA, model, "FP32", source),
        Backend("ONNX Runtime", ONNX, onnx, "FP32", source),
        Backend("OpenVINO FP32", IR, fp32, "FP32", source),
        Backend("OpenVINO BF16", IR, fp32, "BF16", source),
        Backend("OpenVINO INT8", IR, int8, "INT8", source),
    ]
    return ways, card


def further_backend(model: Path, tile_px: int) -> Backend:
    """Return the backend of any other IR, such as a distilled student.

    Raises
    ------
    GlioError
        The IR cannot be used, or takes tiles of another size.
    """
    card = open_model(model).card
    if card.tile_px != tile_px:
        raise GlioError(
            f"{model}: takes tiles of {card.tile_px} px, the others of {tile_px} px; "
            "they cannot be fed the same"
        )
    name = f"{model.parent.name}/{model.name}, {card.precision}"
    return Backend(name, IR, model, card.precision or "FP32", card.source_sha256)


def open_backend(backend: Backend, windows: list[Pixels]) -> Callable[[int, int], Packed]:
    """Return a function that runs a backend on its first windows, in batches, to packed masks.

    It has already computed one mask, so that start-up is over.
    """
    masks_in_batches = _RUNNERS[backend.library](backend)

    def run(count: int, batch: int) -> Packed:
        masks = list(masks_in_batches(batch)(windows[:count]))
        return np.packbits(np.stack(masks).astype(bool), axis=-1)

    run(1, 1)
    return run


def _load_tensorflow() -> None:
    from glioexport.quiet import load_tensorflow

    load_tensorflow()


def _run_keras(backend: Backend) -> Callable[[int], Masks]:
    _load_tensorflow()
    from glioexport.loading import load_model
    from glioexport.reference import mask_predictor

    model = load_model(backend.path)
    return lambda batch: mask_predictor(model, batch)


def _run_xla(backend: Backend) -> Callable[[int], Masks]:
    """Return Keras compiled by XLA; where XLA fails it raises a GlioError."""
    _load_tensorflow()
    import tensorflow as tf

    from glioexport.loading import load_model
    from glioexport.reference import mask_predictor

    model = load_model(backend.path)
    model.jit_compile = True

    def masks_in(batch: int) -> Masks:
        predict = mask_predictor(model, batch)

        def masks(windows: Iterable[Pixels]) -> Iterable[Pixels]:
            try:
                yield from predict(windows)
            except (tf.errors.OpError, NotImplementedError, ValueError) as error:
                raise GlioError(f"XLA: {str(error).splitlines()[0]}") from error

        return masks

    return masks_in


def _run_onnx(backend: Backend) -> Callable[[int], Masks]:
    from glioexport.onnx_model import onnx_predictor

    predict = onnx_predictor(backend.path)
    return lambda batch: predict


def _run_ir(backend: Backend) -> Callable[[int], Masks]:
    precision = "bf16" if backend.precision == "BF16" else "f32"
    engine = open_model(backend.path, Compute(precision=precision))
    return lambda batch: engine.masks


_RUNNERS: dict[str, Callable[[Backend], Callable[[int], Masks]]] = {
    KERAS: _run_keras,
    XLA: _run_xla,
    ONNX: _run_onnx,
    IR: _run_ir,
}


def reference_model() -> Path:
    """Return the `.keras` file of the shipped reference."""
    from glioexport.shipped import REFERENCE

    return REFERENCE


def has_keras() -> bool:
    """Tell whether the Keras reference can run here."""
    return find_spec("tensorflow") is not None and find_spec("keras") is not None


def is_reference_of(keras_file: Path, card: ModelCard) -> bool:
    """Tell whether a converted model, by its card, was made of this Keras file."""
    if not keras_file.is_file():
        raise GlioError(f"{keras_file}: no such file; check its name")
    return card.source_sha256 == sha256_of(keras_file)


def keras_script(keras_file: Path) -> Callable[[Pixels], Pixels]:
    """Return what a plain script does: `model.predict` on one window, (H, W, 3) uint8."""
    _load_tensorflow()
    from glioexport.loading import load_model
    from glioexport.reference import masks_of
    from glioexport.scores import ARGMAX, output_of

    model = load_model(keras_file)
    output = output_of(model) or ARGMAX

    def segment(pixels: Pixels) -> Pixels:
        (mask,) = masks_of(model.predict(pixels[None], verbose=0), output)
        return np.asarray(mask)

    return segment


def convert_reference(out: Path, tiles: Path | None, say: Callable[[str], None]) -> None:
    """Convert the shipped reference into `out`."""
    _load_tensorflow()
    from glioexport.convert import convert
    from glioexport.parity import Tolerance

    convert(reference_model(), out, tiles=tiles, mpp=None, tolerance=Tolerance(), say=say)


@dataclass(frozen=True, slots=True)
class Network:
    """A network as INT8, trained or not, and how many weights it has."""

    name: str
    masks: Masks
    weights: int


def open_untrained(
    shapes: Iterable[str], windows: list[Pixels], say: Callable[[str], None]
) -> list[Network]:
    """Open the shipped reference, followed by untrained students.

    Parameters
    ----------
    shapes : iterable of str
        Each "name=value name=value": settings of `glioexport distil --vary`.
    windows : list of (480, 480, 3) uint8
        Windows to calibrate on; any will do, as the students are untrained.

    Raises
    ------
    GlioError
        A shape has no such setting, or its values do not fit.
    """
    from glioexport.student import student_settings

    settings = {shape: student_settings(shape.split()) for shape in shapes}

    _load_tensorflow()
    from glioexport.distil import write_untrained
    from glioexport.loading import load_model

    weights = load_model(reference_model()).count_params()
    networks = [Network("reference", open_model(shipped.REFERENCE_MODEL, EXACT).masks, weights)]
    for shape in settings:
        say(f"converts {shape}")
        with tempfile.TemporaryDirectory(prefix="gliobench-") as folder:
            path, weights = write_untrained(settings[shape], windows, Path(folder))
            networks.append(Network(shape, open_model(path, EXACT).masks, weights))
    return networks


def comparison_windows(tiles: Path | None, card: ModelCard) -> tuple[list[Pixels], str]:
    """Return colour-normalised windows that no training saw, and their source."""
    from glioexport.checktiles import load_check_tiles

    checks = load_check_tiles(tiles, card)
    return checks.comparison, checks.source


@dataclass(frozen=True, slots=True)
class Segmenter:
    """Turns an image of any size, (H, W, 3) uint8, into its nucleus mask, (H, W) uint8.

    The image has the card's scale, and its colour normalised to the card's target. The baseline
    has no card and no file; it takes any scale and the colour as it is. An IR also gives the
    `levels` of an image, of which a calibration has another one decide than the card.
    """

    name: str
    segment: Callable[[Pixels], Pixels]
    card: ModelCard | None = None
    sha256: str = ""
    levels: Callable[[Pixels], Pixels] | None = None
    calibration: Calibration | None = None

    def outline(self, image: Pixels) -> Pixels:
        """Return the mask that is judged: by the calibration, or by the card.

        `segment` is by the card in any case, as it is what colour is matched with.
        """
        if self.calibration is None or self.levels is None:
            return self.segment(image)
        return (self.levels(image) >= self.calibration.outlines.nucleus).view(np.uint8)


def shipped_models() -> list[str]:
    """Return the shipped models, the reference in Keras and every IR, and the baseline."""
    return [str(reference_model()), *map(str, shipped.models().values()), OTSU]


def open_segmenters(models: list[str]) -> list[Segmenter]:
    """Open `.keras`, `.onnx` and `.xml` files, shipped models by name, and the baseline "otsu".

    A model is named by the shortest end of its path that distinguishes it from the others.

    Raises
    ------
    GlioError
        A file is missing, damaged, of another kind or without its card, or is given twice.
    """
    parts = [Path(model).parts for model in models]
    if len(set(parts)) < len(parts):
        raise UsageError(f"{', '.join(models)}: a model is given twice; give it once")
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
    names = shipped.models()
    path = names.get(model, Path(model))
    if path.suffix not in _OPENERS:
        names_known = ", ".join([*names, OTSU])
        raise GlioError(f"{path}: not a .keras, .onnx or .xml file; nor one of {names_known}")
    if not path.is_file():
        raise GlioError(f"{path}: no such file; check its name")
    masks, card, levels = _OPENERS[path.suffix](path)
    in_windows = partial(segment, side=card.tile_px)
    return Segmenter(
        name,
        partial(in_windows, predict=masks),
        card,
        sha256_of(path),
        None if levels is None else partial(in_windows, predict=levels),
    )


def calibrated(models: list[Segmenter], calibration: Calibration) -> list[Segmenter]:
    """Return the models, and before the one that was calibrated itself with the calibration.

    Raises
    ------
    GlioError
        None of them is the one that was calibrated.
    """
    with_levels = [model for model in models if model.levels is not None]
    if not with_levels:
        raise GlioError(f"calibration {calibration.name} is of an IR (.xml); name it")
    result = []
    for model in models:
        if model in with_levels and model.card is not None and calibration.fits(model.card):
            name = f"{model.name}, calibrated to {calibration}"
            result.append(replace(model, name=name, calibration=calibration))
        result.append(model)
    if len(result) == len(models):
        for model in with_levels:
            if model.card is not None:
                calibration.check(model.card)
    return result


def _open_keras(path: Path) -> Opened:
    _load_tensorflow()
    from glioexport.loading import load_model
    from glioexport.reference import card_beside, mask_predictor

    card = card_beside(path)
    if card is None:
        raise GlioError(f"{path}: no {path.stem}.json beside it; its card names its colour target")
    if card.source_sha256 not in ("", sha256_of(path)):
        raise GlioError(f"{path.with_suffix('.json')}: is the card of another model than {path}")
    return mask_predictor(load_model(path)), card, None


def _open_onnx(path: Path) -> Opened:
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    from glioexport.onnx_model import onnx_predictor

    try:
        entries = {entry.key: entry.value for entry in onnx.load(path).metadata_props}
    except DecodeError as error:
        raise GlioError(f"{path}: not an ONNX file, or damaged; convert the model again") from error
    if CARD_KEY not in entries:
        raise GlioError(f"{path}: has no model card; make it with 'glioexport convert'")
    try:
        card = ModelCard.from_json(entries[CARD_KEY])
    except GlioError as error:
        raise GlioError(f"{path}: {error}") from error
    return onnx_predictor(path), card, None


def _open_ir(path: Path) -> Opened:
    engine = open_model(path, EXACT)
    return engine.masks, engine.card, engine.levels


_OPENERS: dict[str, Callable[[Path], Opened]] = {
    ".keras": _open_keras,
    ".onnx": _open_onnx,
    ".xml": _open_ir,
}
