"""Conversion: nothing random is left, the masks stay, and what cannot be converted is named."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import keras
import numpy as np
import onnx
import openvino as ov
import pytest
from keras import layers
from PIL import Image

import glioexport
from glioexport import ir, onnx_model, parity
from glioexport.checktiles import load_check_tiles
from glioexport.convert import FILES, convert
from glioexport.dropblock import DropBlock2D
from glioexport.loading import Description, load_model
from glioexport.parity import Tolerance
from glioexport.reference import mask_predictor
from glioexport.strip import check_no_dropping
from gliorun.errors import GlioError
from gliorun.findings.agreement import agreement
from gliorun.model import golden
from gliorun.model.card import ModelCard, sha256_of
from gliorun.model.engine import CARD_KEY, EXACT, open_model
from gliorun.model.shipped import MODELS, model_path

from .foreign import dark_unet, darkness_mask
from .small import SIDE, Converted, drawn_windows

LOOSE = Tolerance(density_points=100, class_agreement=0)
RANDOM = ("Random", "Dropout", "Bernoulli", "Multinomial", "If", "Loop")
WEIGHTS = Path(glioexport.__file__).parent / "weights"
SHIPPED = ("reference", "student")

release = pytest.mark.release


def refused(path: Path, out: Path, *, mpp: float | None = 0.25, tiles: Path | None = None) -> str:
    """Convert, expect a one-line GlioError and nothing written beside it; return the line."""
    before = sorted(out.parent.iterdir())
    with pytest.raises(GlioError) as caught:
        convert(path, out, tiles=tiles, mpp=mpp, tolerance=LOOSE, say=lambda _: None)
    assert sorted(out.parent.iterdir()) == before
    line = str(caught.value)
    assert "\n" not in line
    return line


def hashes(folder: Path) -> dict[str, str]:
    return {file.name: sha256_of(file) for file in folder.iterdir()}


@release
def test_writes_every_file_and_leaves_no_other(converted: Converted) -> None:
    assert {file.name for file in converted.out.iterdir()} == FILES == {
        "model.onnx", "fp32.xml", "fp32.bin", "fp16.xml", "fp16.bin", "int8.xml", "int8.bin",
        "parity.json", "worst.png",
    }  # fmt: skip
    with Image.open(converted.out / "worst.png") as picture:
        assert min(picture.size) > 400
    assert [file.name for file in converted.out.parent.iterdir()] == ["out"]


@release
def test_no_random_operation_is_left_in_onnx(converted: Converted) -> None:
    graph = onnx.load(converted.out / "model.onnx").graph
    kinds = Counter(node.op_type for node in graph.node)
    assert kinds["Conv"] > 5
    assert not [kind for kind in kinds if kind.startswith(RANDOM)]
    assert not [node.name for node in graph.node if "drop" in node.name.lower()]


@release
@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_no_random_operation_is_left_in_openvino(converted: Converted, precision: str) -> None:
    model = ov.Core().read_model(converted.out / f"{precision}.xml")
    kinds = {op.get_type_name() for op in model.get_ops()}
    assert "Convolution" in kinds
    assert not [kind for kind in kinds if kind.startswith(RANDOM)]
    names = [op.get_friendly_name().lower() for op in model.get_ops()]
    assert not [name for name in names if "drop" in name]


@release
def test_says_which_dropblocks_it_removed(converted: Converted) -> None:
    (line,) = [line for line in converted.said if line.startswith("removed")]
    source = keras.models.load_model(converted.source)
    names = [
        f"{layer.name} (DropBlock2D)" for layer in source.layers if isinstance(layer, DropBlock2D)
    ]
    assert len(names) == 5
    assert line == f"removed 5 dropping layers: {', '.join(names)}"


@release
def test_onnx_takes_a_uint8_image_and_gives_a_uint8_mask(converted: Converted) -> None:
    graph = onnx.load(converted.out / "model.onnx").graph
    ends = [
        (end.type.tensor_type.elem_type, [d.dim_value for d in end.type.tensor_type.shape.dim])
        for end in (*graph.input, *graph.output)
    ]
    uint8 = onnx.TensorProto.UINT8
    assert ends == [(uint8, [1, SIDE, SIDE, 3]), (uint8, [1, SIDE, SIDE])]


@release
@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_openvino_takes_a_uint8_image_and_gives_a_uint8_mask(
    converted: Converted, precision: str
) -> None:
    model = ov.Core().read_model(converted.out / f"{precision}.xml")
    ends = [(end.get_element_type(), list(end.get_shape())) for end in model.inputs + model.outputs]
    assert ends == [(ov.Type.u8, [1, SIDE, SIDE, 3]), (ov.Type.u8, [1, SIDE, SIDE])]


@release
@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_the_card_travels_in_the_ir_and_the_engine_opens_it(
    converted: Converted, precision: str
) -> None:
    engine = open_model(converted.out / f"{precision}.xml", EXACT)
    card = engine.card
    assert golden.compare(engine) == golden.Comparison(0, 960 * 480)
    assert (card.name, card.tile_px, card.mpp) == ("small", SIDE, 0.4)
    assert card.colour_target == converted.card.colour_target
    assert card.training == {"data": ["µ-set"]}
    assert card.precision == precision.upper()
    assert card.source_sha256 == sha256_of(converted.source)
    assert card.weights_sha256 == sha256_of(converted.out / f"{precision}.bin")
    assert card.outlines.inner > card.nucleus_level > card.outlines.outer
    assert set(card.parity) == {
        "tiles", "source", "stripped", "ONNX", "OpenVINO FP32", "OpenVINO FP16", "OpenVINO INT8"
    }  # fmt: skip


@release
def test_the_card_travels_in_the_metadata_of_onnx(converted: Converted) -> None:
    (entry,) = [
        prop
        for prop in onnx.load(converted.out / "model.onnx").metadata_props
        if prop.key == CARD_KEY
    ]
    assert ModelCard.from_json(entry.value).name == "small"


@release
def test_parity_json_holds_the_figures_that_were_returned(converted: Converted) -> None:
    certificate = json.loads((converted.out / "parity.json").read_text(encoding="utf-8"))
    for name, figures in converted.figures.items():
        assert certificate[name]["dice"] == figures.agreement.dice
        assert certificate[name]["images"] == 6
        assert certificate[name]["tiles_near_class_edge"] == figures.tiles_near_edge
    assert certificate["source"] == {"kind": "keras", "output": "softmax", "pixel_range": "0..255"}
    assert len(certificate["stripped"]["removed"]) == 5


@release
def test_the_stripped_network_is_keras_inference_to_the_last_digits_and_says_so(
    converted: Converted,
) -> None:
    certificate = json.loads((converted.out / "parity.json").read_text(encoding="utf-8"))
    difference = certificate["stripped"]["max_probability_difference"]
    assert difference < 1e-5
    (line,) = [line for line in converted.said if "max |Δp|" in line]
    assert f"{difference:.1e} on 4 tiles" in line


@release
@pytest.mark.parametrize("kind", ["ONNX", "OpenVINO FP32"])
def test_float_masks_are_those_of_keras_on_all_but_one_pixel_in_two_thousand(
    converted: Converted, kind: str
) -> None:
    """Float arithmetic may turn a pixel whose two logits are equal to the last digits."""
    windows = drawn_windows(seed=11)
    expected = list(mask_predictor(load_model(converted.source))(windows))
    share = np.mean(expected)
    assert 0.1 < share < 0.9  # both classes are there to be confused
    predict = {
        "ONNX": onnx_model.onnx_predictor(converted.out / "model.onnx"),
        "OpenVINO FP32": open_model(converted.out / "fp32.xml", EXACT).masks,
    }[kind]
    differing = [(f != e).mean() for f, e in zip(predict(windows), expected, strict=True)]
    assert max(differing) <= 1 / 2000


@release
def test_int8_is_quantised_smaller_and_still_much_like_keras(converted: Converted) -> None:
    kinds = ir.op_kinds(ov.Core().read_model(converted.out / "int8.xml"))
    assert "FakeQuantize" in kinds
    sizes = [(converted.out / f"{p}.bin").stat().st_size for p in ("int8", "fp16", "fp32")]
    assert sizes[0] < sizes[1] < 0.6 * sizes[2]
    assert converted.figures["OpenVINO INT8"].agreement.dice > 0.8  # random weights, so no closer


@release
@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_no_batch_normalisation_is_left_as_an_operation(
    converted: Converted, precision: str
) -> None:
    model = ov.Core().read_model(converted.out / f"{precision}.xml")
    kinds = Counter(op.get_type_name() for op in model.get_ops())
    assert not [kind for kind in kinds if kind.startswith("BatchNorm")]
    assert any("no batch normalisation left" in line for line in converted.said)


@release
def test_a_converted_model_is_the_same_bytes_twice(converted: Converted, tmp_path: Path) -> None:
    convert(
        converted.source, tmp_path / "out", tiles=None, mpp=None, tolerance=LOOSE,
        say=lambda _: None,
    )  # fmt: skip
    assert hashes(tmp_path / "out") == hashes(converted.out)


# the gate


@release
def test_a_model_out_of_tolerance_is_named_with_its_figure_and_leaves_no_half_written_folder(
    converted: Converted, tmp_path: Path
) -> None:
    """FP32 is granted what it strays, so that FP16 is the one that fails."""
    figures = {name: f.agreement.density_error_points for name, f in converted.figures.items()}
    granted = max(figures["ONNX"], figures["OpenVINO FP32"])
    assert granted < figures["OpenVINO FP16"]
    wanted = r"FP16: mean density difference to Keras is \d\.\d+ points"
    with pytest.raises(GlioError, match=wanted) as no:
        convert(
            converted.source,
            tmp_path / "out",
            tiles=None,
            mpp=None,
            tolerance=Tolerance(density_points=granted),
            say=lambda _: None,
        )
    assert "\n" not in str(no.value)
    assert list(tmp_path.iterdir()) == []


@release
def test_a_model_damaged_on_purpose_fails_the_gate(converted: Converted, tmp_path: Path) -> None:
    """One weight in ten of every layer is lost, after the conversion and under a right hash."""
    model = ov.Core().read_model(converted.out / "fp32.xml")
    random = np.random.default_rng(0)
    for op in model.get_ops():
        if op.get_type_name() == "Constant" and op.data.ndim == 4:
            kept = np.where(random.random(op.data.shape) > 0.1, op.data, 0)
            op.output(0).replace(ov.opset13.constant(kept.astype(np.float32)).output(0))
    card = open_model(converted.out / "fp32.xml").card
    ir.write_ir(model, card, tmp_path / "fp32.xml")
    windows = drawn_windows(seed=11)
    expected = list(mask_predictor(load_model(converted.source))(windows))
    agreed_parity = parity.parity_of(
        open_model(tmp_path / "fp32.xml", EXACT).masks(windows), expected
    )
    with pytest.raises(GlioError, match=r"FP32: mean density difference to Keras is \d"):
        parity.check({"FP32": agreed_parity}, Tolerance())
    whole = parity.parity_of(open_model(converted.out / "fp32.xml", EXACT).masks(windows), expected)
    parity.check({"FP32": whole}, Tolerance())


@release
def test_where_plain_int8_fails_the_layers_left_in_float_are_said_and_kept(
    tmp_path: Path,
) -> None:
    """A channel that nobody uses is 300 times the one that matters."""
    model = dark_unet(64)
    kernel, bias = model.get_layer("down0").get_weights()
    kernel[..., 1], bias[1] = 0, 300
    model.get_layer("down0").set_weights([kernel, bias])
    for name in ("down1", "up0"):
        kernel, bias = model.get_layer(name).get_weights()
        kernel[:, :, 1] = 0
        model.get_layer(name).set_weights([kernel, bias])
    model.save(tmp_path / "spiked.keras")
    said: list[str] = []
    figures = convert(
        tmp_path / "spiked.keras", tmp_path / "out", tiles=None, mpp=0.25, tolerance=Tolerance(),
        say=said.append,
    )  # fmt: skip
    assert figures["OpenVINO INT8"].agreement.density_error_points <= 0.3
    card = open_model(tmp_path / "out" / "int8.xml").card
    in_float = card.parity["int8_layers_in_float"]
    assert "up0" in in_float
    assert len(in_float) < 8
    assert f"INT8: {len(in_float)} of 8 layers left in float: {', '.join(in_float)}" in said


@release
def test_int8_that_no_layer_could_bear_is_refused_not_float_by_another_name(
    converted: Converted, tmp_path: Path
) -> None:
    """Granted is what the others stray: the rounding of 16 bits."""
    strayed = [f.agreement.density_error_points for f in converted.figures.values()]
    granted = Tolerance(density_points=sorted(strayed)[-2] + 1e-9, class_agreement=0)
    assert granted.density_points < max(strayed)
    with pytest.raises(GlioError, match=r"INT8: strays too far with any .* pass more or other"):
        convert(
            converted.source, tmp_path / "out", tiles=None, mpp=None, tolerance=granted,
            say=lambda _: None,
        )  # fmt: skip
    assert list(tmp_path.iterdir()) == []


class FadingDropout(layers.Layer):
    """Is called Dropout but acts in inference."""

    def call(self, inputs, training=None):
        return inputs * 0.95


def test_a_dropping_layer_that_acts_in_inference_is_found_out_by_numbers(tmp_path: Path) -> None:
    dark_unet(64, drop=lambda name: FadingDropout(name=name)).save(tmp_path / "m.keras")
    file = tmp_path / "own.py"
    file.write_text(
        "import keras\n"
        "class FadingDropout(keras.layers.Layer):\n"
        "    def call(self, inputs, training=None):\n"
        "        return inputs * 0.95\n",
        encoding="utf-8",
    )
    wanted = r"without drop0 \(FadingDropout\).* other values .*: one of them acts in inference"
    with pytest.raises(GlioError, match=wanted):
        convert(
            tmp_path / "m.keras", tmp_path / "out", tiles=None, mpp=0.25, tolerance=LOOSE,
            say=lambda _: None, description=Description(custom=file),
        )  # fmt: skip


# other networks, other files


@release
def test_dropblock_as_printed_is_compared_with_its_factor_folded_in(tmp_path: Path) -> None:
    model = dark_unet(64, drop=lambda name: DropBlock2D(0.2, 3, normalize=False, name=name))
    model.save(tmp_path / "m.keras")
    said: list[str] = []
    figures = convert(
        tmp_path / "m.keras", tmp_path / "out", tiles=None, mpp=0.25, tolerance=LOOSE,
        say=said.append,
    )  # fmt: skip
    assert "DropBlock without rescaling: kept share folded in at drop0, drop1" in said
    assert figures["OpenVINO FP32"].agreement.density_error_points < 0.01
    certificate = json.loads((tmp_path / "out" / "parity.json").read_text(encoding="utf-8"))
    assert certificate["stripped"]["folded"] == ["drop0", "drop1"]
    assert certificate["stripped"]["max_probability_difference"] > 0.01


@release
def test_a_saved_model_of_another_pixel_range_is_converted_and_named(tmp_path: Path) -> None:
    dark_unet(None, pixel_range="-1..1").export(tmp_path / "theirs", verbose=False)
    figures = convert(
        tmp_path / "theirs", tmp_path / "out", tiles=None, mpp=0.5, tolerance=Tolerance(),
        say=lambda _: None,
        description=Description(output="sigmoid", pixel_range="-1..1", tile_px=48),
    )  # fmt: skip
    assert set(figures) == {"ONNX", "OpenVINO FP32", "OpenVINO FP16", "OpenVINO INT8"}
    card = open_model(tmp_path / "out" / "int8.xml").card
    assert (card.name, card.tile_px, card.mpp) == ("theirs", 48, 0.5)
    assert card.colour_target is None
    assert card.parity["source"] == {
        "kind": "SavedModel", "output": "sigmoid", "pixel_range": "-1..1"
    }  # fmt: skip
    windows = drawn_windows(side=48)
    values = np.array(list(open_model(tmp_path / "out" / "fp32.xml", EXACT).masks(windows)))
    assert np.mean(values != [darkness_mask(window) for window in windows]) < 1e-3


@release
def test_mpp_passed_overrides_the_card(converted: Converted, tmp_path: Path) -> None:
    convert(
        converted.source, tmp_path / "o", tiles=None, mpp=0.5, tolerance=LOOSE, say=lambda _: None
    )
    assert open_model(tmp_path / "o" / "int8.xml").card.mpp == 0.5


# an export that is cut short


@release
def test_a_failed_conversion_leaves_an_earlier_one_as_it_was(
    converted: Converted, tmp_path: Path
) -> None:
    out = Path(shutil.copytree(converted.out, tmp_path / "out"))
    before = hashes(out)
    with pytest.raises(GlioError, match="mean density difference"):
        convert(
            converted.source,
            out,
            tiles=None,
            mpp=None,
            tolerance=Tolerance(density_points=0, class_agreement=0),
            say=lambda _: None,
        )
    assert hashes(out) == before
    assert [file.name for file in tmp_path.iterdir()] == ["out"]


@release
def test_an_interrupt_leaves_an_earlier_conversion_as_it_was(
    converted: Converted, tmp_path: Path
) -> None:
    out = Path(shutil.copytree(converted.out, tmp_path / "out"))
    before = hashes(out)

    def interrupt(line: str) -> None:
        if line.startswith("INT8: calibrates"):
            assert len(list(tmp_path.iterdir())) == 2  # it is half written, beside
            # no true signal: where OpenVINO has closed a model, its stack for signals is gone
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert(converted.source, out, tiles=None, mpp=None, tolerance=LOOSE, say=interrupt)
    assert hashes(out) == before
    assert [file.name for file in tmp_path.iterdir()] == ["out"]


@release
@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
def test_a_kill_leaves_an_earlier_conversion_as_it_was(
    converted: Converted, tmp_path: Path
) -> None:
    out = Path(shutil.copytree(converted.out, tmp_path / "out"))
    before = hashes(out)
    code = f"""
import os, signal
from pathlib import Path
from glioexport.convert import convert
from glioexport.parity import Tolerance

def kill(line):
    if line.startswith("INT8: calibrates"):
        os.kill(os.getpid(), signal.SIGKILL)

convert(Path({str(converted.source)!r}), Path({str(out)!r}), tiles=None, mpp=None,
        tolerance=Tolerance(100, 0), say=kill)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL
    assert hashes(out) == before
    assert [file.name for file in tmp_path.glob("[!.]*")] == ["out"]


@release
@pytest.mark.skipif(sys.platform == "win32", reason="no RLIMIT_FSIZE")
@pytest.mark.parametrize("line", ["stripped beside", "INT8: calibrates"])
def test_a_full_disk_is_one_line_and_leaves_an_earlier_conversion_as_it_was(
    converted: Converted, tmp_path: Path, line: str
) -> None:
    import resource

    out = Path(shutil.copytree(converted.out, tmp_path / "out"))
    before = hashes(out)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill_disk(said: str) -> None:
        if said.startswith(line):  # from here on no file may grow above 4 kB
            resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))

    try:
        with pytest.raises(GlioError, match=r"out: cannot be written \(.*") as no:
            convert(converted.source, out, tiles=None, mpp=None, tolerance=LOOSE, say=fill_disk)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "\n" not in str(no.value)
    assert hashes(out) == before
    assert [file.name for file in tmp_path.iterdir()] == ["out"]


# what is refused


def test_a_refused_model_is_named_and_nothing_is_written(tmp_path: Path) -> None:
    path = tmp_path / "none.keras"
    assert refused(path, tmp_path / "out") == f"{path}: no such file; check its name"
    dark_unet(48, levels=1).save(path)
    line = refused(path, tmp_path / "out", mpp=None)
    assert line == f"{path}: no none.json beside it; pass --mpp, its µm per pixel"
    card = ModelCard("other", 64, 0.25, None)
    path.with_suffix(".json").write_text(card.to_json(), encoding="utf-8")
    said = f"{path}: takes 48 px, but its card says 64; mend the card"
    assert refused(path, tmp_path / "out") == said


@pytest.mark.parametrize("card", [b"{}", b"\xff\xfe\x00 no text"])
def test_refuses_a_damaged_card(tmp_path: Path, card: bytes) -> None:
    path = tmp_path / "model.keras"
    dark_unet(32, levels=1).save(path)
    path.with_suffix(".json").write_bytes(card)
    assert "card" in refused(path, tmp_path / "out")


def test_names_a_folder_of_tiles_that_is_missing_or_empty(tmp_path: Path) -> None:
    path = tmp_path / "model.keras"
    dark_unet(32, levels=1).save(path)
    (tmp_path / "empty").mkdir()
    assert "no such folder" in refused(path, tmp_path / "out", tiles=tmp_path / "none")
    assert "at least two images" in refused(path, tmp_path / "out", tiles=tmp_path / "empty")


def test_a_network_that_finds_nothing_is_asked_about_its_pixel_range(tmp_path: Path) -> None:
    path = tmp_path / "model.keras"
    dark_unet(32, pixel_range="0..1").save(path)
    assert "are --pixel-range and --output right" in refused(path, tmp_path / "out")


def test_a_folder_with_other_files_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "model.keras"
    dark_unet(32, levels=1).save(path)
    assert "holds other files (model.keras)" in refused(path, tmp_path)


@pytest.mark.parametrize("kind", ["RandomUniform", "Dropout", "If", "RandomNormalLike"])
def test_a_graph_with_a_random_operation_is_refused_by_name(kind: str) -> None:
    check_no_dropping(["Convolution", "Relu", "Identity"])
    with pytest.raises(GlioError, match=kind):
        check_no_dropping(["Convolution", kind])


# what ships


def weights_of(name: str) -> Path:
    return WEIGHTS / f"{name}.keras"


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_ir_was_converted_from_the_shipped_weights(name: str) -> None:
    weights, card = weights_of(name), open_model(model_path(Path(name))).card
    assert card.source_sha256 == sha256_of(weights)
    beside = ModelCard.from_json(weights.with_suffix(".json").read_text(encoding="utf-8"))
    assert beside.source_sha256 == card.source_sha256
    assert (card.precision, card.mpp, card.tile_px) == ("INT8", beside.mpp, beside.tile_px)
    assert card.colour_target == beside.colour_target
    assert card.training == beside.training
    assert 0 < card.parity["OpenVINO INT8"]["density_error_points"] <= 0.3


def test_the_shipped_reference_is_the_papers_network() -> None:
    model = load_model(weights_of("reference"))
    assert model.input_shape == (None, 480, 480, 3)
    drops = [layer for layer in model.layers if isinstance(layer, DropBlock2D)]
    assert {(d.rate, d.block_size, d.normalize) for d in drops} == {(0.1, 3, True)}
    assert len(drops) == 9


def test_the_shipped_models_take_the_same_colour_and_were_trained_with_dropblock() -> None:
    reference, student = (open_model(model_path(Path(name))).card for name in SHIPPED)
    assert student.colour_target == reference.colour_target
    for name in SHIPPED:
        network = load_model(weights_of(name))
        assert any(isinstance(layer, DropBlock2D) for layer in network.layers)
    assert load_model(weights_of("student")).output_shape == (None, 480, 480, 1)


def test_the_models_that_ship_stay_below_forty_megabytes() -> None:
    assert {path.stem for path in MODELS.glob("*.xml")} == set(SHIPPED)
    assert sum(file.stat().st_size for file in (*WEIGHTS.iterdir(), *MODELS.iterdir())) < 40e6


@release
@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_ir_agrees_with_keras_on_synthetic_windows(name: str) -> None:
    windows = drawn_windows(seed=3, side=480)
    expected = list(mask_predictor(load_model(weights_of(name)), batch=1)(windows))
    assert np.mean(expected) > 0.02
    agreed = agreement(
        zip(open_model(model_path(Path(name)), EXACT).masks(windows), expected, strict=True)
    )
    assert agreed.dice_pooled > 0.97
    assert agreed.density_error_points <= 0.5


@release
@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_ir_agrees_with_keras_on_real_tiles(name: str, shared_data: Path) -> None:
    engine = open_model(model_path(Path(name)), EXACT)
    windows = load_check_tiles(shared_data, engine.card).comparison[::3][:10]
    expected = list(mask_predictor(load_model(weights_of(name)), batch=1)(windows))
    agreed = agreement(zip(engine.masks(windows), expected, strict=True))
    assert agreed.dice > 0.95
    assert agreed.density_error_points <= 0.5


def efficient_unet(side: int) -> keras.Model:
    """Return a U-net on the first blocks of keras.applications.EfficientNetB0.

    They have every kind of layer that the other blocks have. The weights are random; the threshold
    lets a fifth of drawn tissue be nucleus.
    """
    keras.utils.set_random_seed(1)
    windows = np.stack(drawn_windows(side=side)).astype(np.float32)
    image = keras.Input((side, side, 3))
    whole = keras.applications.EfficientNetB0(
        include_top=False, weights=None, input_shape=(side, side, 3)
    )
    (norm,) = [layer for layer in whole.layers if isinstance(layer, layers.Normalization)]
    norm.adapt(windows / 255)
    names = [f"block{block}a_expand_activation" for block in (2, 3, 4)]
    ends = [whole.get_layer(name).output for name in names]
    *skips, maps = keras.Model(whole.input, ends, name="encoder")(image)
    for skip in reversed(skips):
        maps = layers.Concatenate()([skip, layers.Conv2DTranspose(16, 2, strides=2)(maps)])
        maps = layers.Conv2D(16, 3, padding="same", activation="relu")(maps)
    maps = layers.Conv2DTranspose(8, 2, strides=2)(maps)
    last = layers.Conv2D(1, 1, activation="sigmoid", name="last")
    model = keras.Model(image, last(maps))
    logits = keras.Model(image, maps).predict_on_batch(windows) @ last.kernel.numpy()[0, 0]
    sharpness = 10 / logits.std()
    threshold = np.quantile(logits, [0.8])
    last.set_weights([last.kernel * sharpness, -threshold * sharpness])
    return model


@release
def test_an_encoder_of_keras_applications_gives_what_keras_gives(tmp_path: Path) -> None:
    path = tmp_path / "efficient.keras"
    efficient_unet(SIDE).save(path)
    figures = convert(
        path, tmp_path / "out", tiles=None, mpp=0.25, tolerance=LOOSE, say=lambda _: None
    )
    for name in ("ONNX", "OpenVINO FP32"):
        assert figures[name].agreement.dice > 0.9999
        assert figures[name].agreement.density_worst_points < 0.05
    assert figures["OpenVINO INT8"].agreement.dice > 0.9
