"""Convert a trained network into a folder of verified CPU models."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

import keras

from glioexport import ir, onnx_model, parity
from glioexport.band import band_of
from glioexport.checktiles import CheckTiles as CheckTiles
from glioexport.checktiles import load_check_tiles
from glioexport.description import SAVED_MODEL_INSTEAD, Description
from glioexport.folder import replacing_folder
from glioexport.loading import Network, load_network
from glioexport.parity import Parity, Tolerance
from glioexport.quantise import layers_in_float, quantise, quantise_with_control, quantise_within
from glioexport.reference import card_beside, card_path, mask_predictor, predict_values
from glioexport.scores import probability, up_to_logits
from glioexport.strip import check_no_dropping, strip_dropping
from glioexport.worst import draw_worst
from gliorun.errors import GlioError
from gliorun.model import golden
from gliorun.model.card import ModelCard
from gliorun.model.engine import EXACT, open_model
from gliorun.reading.scale import check_mpp

ONNX = "model.onnx"
PRECISIONS = ("FP32", "FP16", "INT8")
REPORT, WORST = "parity.json", "worst.png"
FILES = frozenset(
    {
        ONNX,
        REPORT,
        WORST,
        *(f"{name.lower()}{end}" for name in PRECISIONS for end in (".xml", ".bin")),
    }
)
"""Everything that a conversion writes."""
STRIP_CHECKS = 4
"""Number of tiles on which the stripped and the original network are compared by value."""

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True, eq=False)
class _Ready:
    """A network without dropping layers: its kind of output, the masks of Keras, and its report."""

    logits: keras.Model
    output: str
    expected: list[parity.Pixels]
    report: dict[str, Any]


def convert(
    path: Path,
    out: Path,
    *,
    tiles: Path | None,
    mpp: float | None,
    tolerance: Tolerance,
    say: Say,
    description: Description | None = None,
    any_stain: bool = False,
    in_float: tuple[str, ...] = (),
) -> dict[str, Parity]:
    """Convert `path` to ONNX and OpenVINO IR in FP32, FP16 and INT8, into the folder `out`.

    `out` gets `model.onnx`, `fp32.xml`, `fp16.xml`, `int8.xml` with their `.bin`,
    `parity.json`, the certificate, which every card holds too, and `worst.png`, the tiles on which
    INT8 strays furthest; it is left as it was if anything fails.

    Parameters
    ----------
    path : Path
        What `glioexport.loading.load_network` takes.
    out : Path
        A new folder, or one of an earlier conversion, which is replaced as a whole.
    tiles : Path or None
        Folder of images to calibrate and compare on; synthetic tissue without.
    mpp : float or None
        Micrometres per pixel, where no card beside `path` says so.
    tolerance : Tolerance
    say : callable
        Takes a line at each step.
    description : Description, optional
    any_stain : bool
        Take tiles that do not look like haematoxylin and eosin.
    in_float : tuple of str
        Layers that INT8 leaves in float.

    Raises
    ------
    GlioError
        The model cannot be loaded or converted, or a converted one strays from Keras.
    """
    description = description or Description()
    check_mpp(mpp)
    network = load_network(path, description)
    card = _card_for(network, path, mpp)
    with replacing_folder(out, names=FILES) as work:
        checks = load_check_tiles(tiles, card, any_stain=any_stain)
        say(f"calibration: {len(checks.calibration)} tiles of {checks.source}")
        ready = _make_ready(network, checks, tolerance, say)
        report = {
            "tiles": checks.source,
            "source": {
                "kind": network.file_format,
                "output": network.output,
                "pixel_range": description.pixel_range,
            },
            **ready.report,
        }
        return _write_all(work, ready, card, checks, tolerance, report, in_float, say)


def _make_ready(network: Network, checks: CheckTiles, tolerance: Tolerance, say: Say) -> _Ready:
    """Remove the dropping layers, run the reference, and verify that nothing else changed."""
    for name in network.stand_ins:
        say(f"{name} is not here (--custom FILE.py): taken to do nothing in inference, and removed")
    if network.reduced:
        say(f"computes in {', '.join(network.reduced)}: compared and written in float32")
    stripped = strip_dropping(network.model)
    say(f"removed {len(stripped.removed)} dropping layers: {_list(stripped.removed)}")
    if stripped.inactive:
        say(f"dropping layers that stay, inactive in inference: {_list(stripped.inactive)}")
    if stripped.folded:
        say(f"DropBlock without rescaling: kept share folded in at {_list(stripped.folded)}")
    logits, output = up_to_logits(stripped.model, network.output)

    windows = checks.comparison
    say(f"output: {network.output}; Keras: runs {len(windows)} tiles")
    reference = (logits, output) if stripped.folded else (network.model, network.output)
    expected = list(mask_predictor(reference[0], 1, reference[1])(windows))
    parity.check_reference(expected)
    some = windows[:: max(1, len(windows) // STRIP_CHECKS)][:STRIP_CHECKS]
    difference = parity.largest_difference(
        (probability(values, network.output) for values in predict_values(network.model, some, 1)),
        (probability(values, output) for values in predict_values(logits, some, 1)),
    )
    say(f"stripped beside Keras' inference: max |Δp| {difference:.1e} on {len(some)} tiles")
    if difference > tolerance.probability and not stripped.folded:
        _refuse_other_values(stripped.removed, difference)
    report = {
        "removed": stripped.removed,
        "folded": stripped.folded,
        "inactive": stripped.inactive,
        "stand_ins": network.stand_ins,
        "max_probability_difference": difference,
    }
    return _Ready(logits, output, expected, {"stripped": report})


def _refuse_other_values(removed: tuple[str, ...], difference: float) -> NoReturn:
    effect = f"the network gives other values (max |Δp| {difference:.2g})"
    if removed:
        raise GlioError(
            f"without {_list(removed)} {effect}: one of them acts in inference too; "
            "give its class another name"
        )
    raise GlioError(
        f"copied layer by layer {effect}: one of its own layers keeps more than its weights; "
        f"{SAVED_MODEL_INSTEAD}"
    )


def _write_all(
    work: Path,
    ready: _Ready,
    card: ModelCard,
    checks: CheckTiles,
    tolerance: Tolerance,
    report: dict[str, Any],
    in_float: tuple[str, ...],
    say: Say,
) -> dict[str, Parity]:
    """Write every format into `work`, compare each with Keras, and put the figures into all."""

    bands: dict[str, tuple[int, int]] = {}
    golden_masks: dict[str, str] = {}

    def write_and_compare(model: Any, precision: str) -> Parity:
        path = _ir_path(work, precision)
        ir.write_ir(model, replace(card, precision=precision), path)
        say(f"OpenVINO {precision}: runs {len(checks.comparison)} tiles")
        engine = open_model(path, EXACT)
        levels = list(engine.levels(checks.comparison))
        bands[precision] = band_of(levels, card.nucleus_level)
        golden_masks[precision] = golden.packed(golden.golden_mask(engine))
        masks = ((of_tile >= card.nucleus_level).astype("uint8") for of_tile in levels)
        return parity.parity_of(masks, ready.expected)

    def certified(precision: str) -> ModelCard:
        inner, outer = bands[precision]
        return replace(
            card,
            precision=precision,
            parity=certificate,
            inner_level=inner,
            outer_level=outer,
            golden_mask=golden_masks[precision],
        )

    onnx_model.write_onnx(ready.logits, ready.output, work / ONNX)
    folded = "BatchNormalization" not in onnx_model.op_types(work / ONNX)
    norm = "no batch normalisation left" if folded else "some batch normalisation left"
    say(f"ONNX written, opset {onnx_model.OPSET}; the checker passes it; {norm}")
    fp32 = ir.read_onnx(work / ONNX)
    check_no_dropping(ir.op_kinds(fp32))
    models = {"FP32": fp32, "FP16": fp32.clone()}
    say(f"ONNX: runs {len(checks.comparison)} tiles")
    masks_of_onnx = onnx_model.onnx_predictor(work / ONNX, nucleus_level=card.nucleus_level)
    figures = {"ONNX": parity.parity_of(masks_of_onnx(checks.comparison), ready.expected)}
    for precision, model in models.items():
        figures[f"OpenVINO {precision}"] = write_and_compare(model, precision)
    parity.check(figures, tolerance)

    say(f"INT8: calibrates on {len(checks.calibration)} tiles")
    models["INT8"] = quantise(fp32, checks.calibration, in_float)
    figures["OpenVINO INT8"] = write_and_compare(models["INT8"], "INT8")
    excess = parity.excess(figures["OpenVINO INT8"].agreement, tolerance)
    if excess > 1:
        say(f"INT8 strays {excess:.1f} times too far: looks for layers to leave in float (minutes)")

        def misses(model: Any) -> tuple[float, float]:
            path = _ir_path(work, "INT8")
            ir.write_ir(model, replace(card, precision="INT8"), path)
            measured = parity.parity_of(
                open_model(path, EXACT).masks(checks.comparison), ready.expected
            )
            strays = parity.excess(measured.agreement, tolerance)
            say(f"  {_list(layers_in_float(model))} in float: {strays:.2f} of the tolerance")
            return strays, measured.agreement.density_error_points

        models["INT8"], _ = quantise_within(fp32, checks.calibration, misses, in_float)
        if misses(models["INT8"])[0] > 1:
            say("no few layers make up for it: looks for operations to leave in float")
            models["INT8"] = _controlled(work, fp32, checks.calibration, tolerance, say)
        figures["OpenVINO INT8"] = write_and_compare(models["INT8"], "INT8")
    kept, layers = layers_in_float(models["INT8"]), layers_in_float(fp32)
    if excess > 1 or in_float:
        report["int8_layers_in_float"] = kept
        say(f"INT8: {len(kept)} of {len(layers)} layers left in float: {_list(kept)}")
    if excess > 1 and kept == layers:
        raise GlioError(
            "INT8: strays too far with any of its layers in 8 bits; pass more or other --tiles, or "
            "--max-density-points and --min-class-agreement"
        )
    parity.check(figures, tolerance)

    certificate = {**report, **parity.values(figures)}
    for precision, model in models.items():
        ir.write_ir(model, certified(precision), _ir_path(work, precision))
    onnx_model.add_card(work / ONNX, certified("FP32"))
    inner, outer = bands["INT8"]
    say(f"outlines a pixel inside and outside: levels {inner} and {outer} of {card.nucleus_level}")
    (work / REPORT).write_text(json.dumps(certificate, indent=2), encoding="utf-8")
    masks = list(open_model(_ir_path(work, "INT8")).masks(checks.comparison))
    draw_worst(work / WORST, "OpenVINO INT8", checks.comparison, ready.expected, masks)
    return figures


def _controlled(
    work: Path, fp32: Any, windows: list[parity.Pixels], tolerance: Tolerance, say: Say
) -> Any:
    """Return INT8 with as many layers in float as the tolerance requires on `windows`."""
    expected = list(open_model(_ir_path(work, "FP32"), EXACT).masks(windows))

    def misses(masks: list[parity.Pixels]) -> float:
        excess = parity.excess(parity.parity_of(masks, expected).agreement, tolerance)
        say(f"  tried: {excess:.2f} of the tolerance")
        return excess

    return quantise_with_control(fp32, windows, misses)


def _list(names: Iterable[str]) -> str:
    return ", ".join(names) or "none"


def _ir_path(folder: Path, precision: str) -> Path:
    return folder / f"{precision.lower()}.xml"


def _card_for(network: Network, path: Path, mpp: float | None) -> ModelCard:
    """Return the card beside the file, or one made from the network and `mpp`."""
    card = card_beside(path)
    side = network.side_px
    if card is None:
        if mpp is None:
            name = card_path(path).name
            raise GlioError(f"{path}: no {name} beside it; pass --mpp, its µm per pixel")
        card = ModelCard(name=path.name.split(".")[0], tile_px=side, mpp=mpp, colour_target=None)
    elif card.tile_px != side:
        raise GlioError(f"{path}: takes {side} px, but its card says {card.tile_px}; mend the card")
    return replace(card, mpp=card.mpp if mpp is None else mpp, source_sha256=network.sha256)
