"""Convert a trained network into a folder of verified CPU models."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
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
        conversion = _Conversion(work, ready, card, checks, tolerance, say)
        conversion.write_floats()
        in_float_now = conversion.write_int8(in_float)
        if in_float_now is not None:
            report["int8_layers_in_float"] = in_float_now
        conversion.certify(report)
        return conversion.figures


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


@dataclass(frozen=True, slots=True, eq=False)
class _Conversion:
    """The formats of one network in the folder `work`, each compared with Keras once written.

    `bands` are the levels of the inner and the outer outline, `golden_masks` those of the golden
    tissue, by precision.
    """

    work: Path
    ready: _Ready
    card: ModelCard
    checks: CheckTiles
    tolerance: Tolerance
    say: Say
    models: dict[str, Any] = field(default_factory=dict)
    figures: dict[str, Parity] = field(default_factory=dict)
    bands: dict[str, tuple[int, int]] = field(default_factory=dict)
    golden_masks: dict[str, str] = field(default_factory=dict)

    def write_floats(self) -> None:
        """Write ONNX, and the IR in FP32 and FP16."""
        onnx, say = self.work / ONNX, self.say
        onnx_model.write_onnx(self.ready.logits, self.ready.output, onnx)
        folded = "BatchNormalization" not in onnx_model.op_types(onnx)
        norm = "no batch normalisation left" if folded else "some batch normalisation left"
        say(f"ONNX written, opset {onnx_model.OPSET}; the checker passes it; {norm}")
        fp32 = ir.read_onnx(onnx)
        check_no_dropping(ir.op_kinds(fp32))
        say(f"ONNX: runs {len(self.checks.comparison)} tiles")
        masks_of = onnx_model.onnx_predictor(onnx, nucleus_level=self.card.nucleus_level)
        masks = masks_of(self.checks.comparison)
        self.figures["ONNX"] = parity.parity_of(masks, self.ready.expected)
        for precision, model in (("FP32", fp32), ("FP16", fp32.clone())):
            self._write(precision, model)
        parity.check(self.figures, self.tolerance)

    def write_int8(self, in_float: tuple[str, ...]) -> list[str] | None:
        """Write the IR in INT8; return its layers in float, if some were asked for or needed."""
        fp32, calibration = self.models["FP32"], self.checks.calibration
        self.say(f"INT8: calibrates on {len(calibration)} tiles")
        self._write("INT8", quantise(fp32, calibration, in_float))
        excess = parity.excess(self.figures["OpenVINO INT8"].agreement, self.tolerance)
        if excess > 1:
            self.say(
                f"INT8 strays {excess:.1f} times too far: looks for layers to leave in float "
                "(minutes)"
            )
            self._write("INT8", self._nearer_int8(in_float))
        elif not in_float:
            return None
        kept, layers = layers_in_float(self.models["INT8"]), layers_in_float(fp32)
        self.say(f"INT8: {len(kept)} of {len(layers)} layers left in float: {_list(kept)}")
        if excess > 1 and kept == layers:
            raise GlioError(
                "INT8: strays too far with any of its layers in 8 bits; pass more or other "
                "--tiles, or --max-density-points and --min-class-agreement"
            )
        return kept

    def certify(self, report: dict[str, Any]) -> None:
        """Check all figures, put them into the card of every model, and draw the worst tiles."""
        parity.check(self.figures, self.tolerance)
        certificate = {**report, **parity.values(self.figures)}
        for precision, model in self.models.items():
            card = self._certified(precision, certificate)
            ir.write_ir(model, card, _ir_path(self.work, precision))
        onnx_model.add_card(self.work / ONNX, self._certified("FP32", certificate))
        inner, outer = self.bands["INT8"]
        self.say(
            f"outlines a pixel inside and outside: levels {inner} and {outer} of "
            f"{self.card.nucleus_level}"
        )
        (self.work / REPORT).write_text(json.dumps(certificate, indent=2), encoding="utf-8")
        windows = self.checks.comparison
        masks = list(open_model(_ir_path(self.work, "INT8")).masks(windows))
        draw_worst(self.work / WORST, "OpenVINO INT8", windows, self.ready.expected, masks)

    def _write(self, precision: str, model: Any) -> None:
        """Write an IR, and compare it with Keras."""
        path, windows = _ir_path(self.work, precision), self.checks.comparison
        ir.write_ir(model, replace(self.card, precision=precision), path)
        self.say(f"OpenVINO {precision}: runs {len(windows)} tiles")
        engine, nucleus_level = open_model(path, EXACT), self.card.nucleus_level
        levels = list(engine.levels(windows))
        masks = ((of_tile >= nucleus_level).astype("uint8") for of_tile in levels)
        self.models[precision] = model
        self.figures[f"OpenVINO {precision}"] = parity.parity_of(masks, self.ready.expected)
        self.bands[precision] = band_of(levels, nucleus_level)
        self.golden_masks[precision] = golden.packed(golden.golden_mask(engine))

    def _certified(self, precision: str, certificate: dict[str, Any]) -> ModelCard:
        inner, outer = self.bands[precision]
        return replace(
            self.card,
            precision=precision,
            parity=certificate,
            inner_level=inner,
            outer_level=outer,
            golden_mask=self.golden_masks[precision],
        )

    def _nearer_int8(self, in_float: tuple[str, ...]) -> Any:
        """Return INT8 with as few layers in float as the tolerance requires, or else operations."""
        fp32, calibration = self.models["FP32"], self.checks.calibration
        model, _ = quantise_within(fp32, calibration, self._misses, in_float)
        if self._misses(model)[0] <= 1:
            return model
        self.say("no few layers make up for it: looks for operations to leave in float")
        return self._controlled(calibration)

    def _misses(self, model: Any) -> tuple[float, float]:
        """Return by how many tolerances an INT8 model strays, and its density error in points."""
        path = _ir_path(self.work, "INT8")
        ir.write_ir(model, replace(self.card, precision="INT8"), path)
        masks = open_model(path, EXACT).masks(self.checks.comparison)
        measured = parity.parity_of(masks, self.ready.expected)
        strays = parity.excess(measured.agreement, self.tolerance)
        self.say(f"  {_list(layers_in_float(model))} in float: {strays:.2f} of the tolerance")
        return strays, measured.agreement.density_error_points

    def _controlled(self, windows: list[parity.Pixels]) -> Any:
        """Return INT8 with as many layers in float as the tolerance requires on `windows`."""
        expected = list(open_model(_ir_path(self.work, "FP32"), EXACT).masks(windows))

        def misses(masks: list[parity.Pixels]) -> float:
            excess = parity.excess(parity.parity_of(masks, expected).agreement, self.tolerance)
            self.say(f"  tried: {excess:.2f} of the tolerance")
            return excess

        return quantise_with_control(self.models["FP32"], windows, misses)


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
