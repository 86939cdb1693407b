"""A trained Keras model in, a folder of checked CPU models out."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import keras
import numpy as np
from numpy.typing import NDArray

from glioexport import ir, onnx_model, parity
from glioexport.dataset import Entry, read_index, read_rgba, stain_statistics
from glioexport.reference import card_beside, load_model, mask_predictor
from glioexport.strip import check_no_dropping, strip_dropping
from gliorun import colour, demo
from gliorun.agreement import Agreement
from gliorun.card import ModelCard, sha256_of
from gliorun.engine import open_model
from gliorun.errors import GlioError
from gliorun.reading.windows import windows

Pixels = NDArray[np.uint8]

MAX_WINDOWS = 120
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff")


@dataclass(frozen=True, slots=True)
class CheckTiles:
    """Windows of the network's size, colour-normalised: to calibrate on and to compare on."""

    calibration: list[Pixels]
    comparison: list[Pixels]
    source: str


def convert(
    path: Path,
    out: Path,
    *,
    tiles: Path | None,
    mpp: float | None,
    tolerance: parity.Tolerance,
    say: Callable[[str], None],
) -> dict[str, Agreement]:
    """Convert `path` (.keras) to ONNX and OpenVINO IR in FP32 and INT8, into the folder `out`.

    `out` gets `model.onnx`, `fp32.xml`, `int8.xml` with their `.bin`, and `parity.json`; it is
    left as it was if anything fails.

    Raises
    ------
    GlioError
        The model cannot be loaded or converted, or a converted one strays from Keras.
    """
    model = load_model(path)
    card = _card_for(model, path, mpp)
    out.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}."))
    try:
        figures = _convert_into(work, model, card, tiles, tolerance, say)
        out.mkdir(exist_ok=True)
        for file in sorted(work.iterdir()):
            os.replace(file, out / file.name)
    except OSError as error:
        raise GlioError(f"{out}: cannot be written ({error.strerror or error})") from error
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return figures


def _convert_into(
    work: Path,
    model: keras.Model,
    card: ModelCard,
    tiles: Path | None,
    tolerance: parity.Tolerance,
    say: Callable[[str], None],
) -> dict[str, Agreement]:
    checks = load_check_tiles(tiles, card)
    say(f"calibration: {len(checks.calibration)} tiles of {checks.source}")
    stripped = strip_dropping(model)
    names = ", ".join(stripped.removed) or "none there"
    say(f"removed {len(stripped.removed)} dropping layers: {names}")
    if stripped.folded:
        say(f"DropBlock without rescaling: kept share folded in at {', '.join(stripped.folded)}")
    onnx_model.write_onnx(stripped.model, work / "model.onnx")
    say(f"ONNX written, opset {onnx_model.OPSET}")
    fp32 = ir.read_onnx(work / "model.onnx")
    check_no_dropping(ir.op_kinds(fp32))
    ir.write_ir(fp32, replace(card, precision="FP32"), work / "fp32.xml")
    say("OpenVINO FP32 written")
    int8 = ir.quantise(fp32, checks.calibration)
    ir.write_ir(int8, replace(card, precision="INT8"), work / "int8.xml")
    say("OpenVINO INT8 written")
    figures = parity.compare(
        mask_predictor(stripped.model if stripped.folded else model),
        {
            "ONNX": onnx_model.onnx_predictor(work / "model.onnx"),
            "OpenVINO FP32": open_model(work / "fp32.xml").masks,
            "OpenVINO INT8": open_model(work / "int8.xml").masks,
        },
        checks.comparison,
    )
    parity.check(figures, tolerance)
    found = {"tiles": checks.source, **parity.values(figures)}
    ir.write_ir(fp32, replace(card, precision="FP32", parity=found), work / "fp32.xml")
    ir.write_ir(int8, replace(card, precision="INT8", parity=found), work / "int8.xml")
    onnx_model.add_card(work / "model.onnx", replace(card, precision="FP32", parity=found))
    (work / "parity.json").write_text(json.dumps(found, indent=2), encoding="utf-8")
    return figures


def load_check_tiles(folder: Path | None, card: ModelCard) -> CheckTiles:
    """Cut windows from labelled tiles, from a folder of images, or from synthetic tissue.

    With an `index.csv`, the split `train` calibrates and `val` compares; otherwise images take
    turns.

    Raises
    ------
    GlioError
        The folder holds no image that can be used.
    """
    side = card.tile_px
    if folder is None:
        images = [
            demo.draw_tissue(demo.demo_density(2 * side, 3 * side), seed).pixels for seed in (0, 1)
        ]
        first, second = ([*windows(image, side)] for image in images)
        return CheckTiles(first, second, "synthetic tissue (pass --tiles for real ones)")
    if (folder / "index.csv").is_file():
        entries = read_index(folder)
        chosen = [
            [e for e in entries if e.split == "train"],
            [e for e in entries if e.split == "val"],
        ]
    else:
        if not folder.is_dir():
            raise GlioError(f"{folder}: no such folder of tiles")
        files = sorted(f for f in folder.iterdir() if f.suffix.lower() in IMAGE_SUFFIXES)
        entries = [Entry("", f.stem, "", "", "", f, f) for f in files]
        chosen = [entries[::2], entries[1::2]]
    if not all(chosen):
        raise GlioError(f"{folder}: needs at least two images, one to calibrate, one to compare")
    statistics = stain_statistics(entries)

    def cut(some: list[Entry]) -> list[Pixels]:
        step = max(1, len(some) // MAX_WINDOWS)
        found: list[Pixels] = []
        for entry in some[::step]:
            table = colour.table_between(statistics.get(entry.stain_group), card.colour_target)
            pixels, _ = colour.normalise(read_rgba(entry.image), table)
            found += islice(windows(pixels, side), 4)
        keep = max(1, -(-len(found) // MAX_WINDOWS))
        return found[::keep]

    return CheckTiles(cut(chosen[0]), cut(chosen[1]), folder.name)


def _card_for(model: keras.Model, path: Path, mpp: float | None) -> ModelCard:
    """Return the card beside the file, or one made from the network and `mpp`."""
    if len(model.inputs) != 1 or len(model.input_shape) != 4 or model.input_shape[3] != 3:
        raise GlioError(f"{path}: its input is {model.input_shape}; it must be (None, H, W, 3)")
    _, height, width, _ = model.input_shape
    if height is None or height != width:
        raise GlioError(f"{path}: its input is {height} x {width} px; it must be square and fixed")
    card = card_beside(path)
    if card is None:
        if mpp is None:
            raise GlioError(f"{path}: no {path.stem}.json beside it; pass --mpp, its µm per pixel")
        card = ModelCard(name=path.stem, tile_px=height, mpp=mpp, colour_target=None)
    elif card.tile_px != height:
        raise GlioError(f"{path}: takes {height} px, but its card says {card.tile_px}")
    return replace(card, mpp=card.mpp if mpp is None else mpp, source_sha256=sha256_of(path))
