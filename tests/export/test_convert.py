"""Conversion: nothing random is left, the masks stay, and what cannot be converted is named."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path

import keras
import numpy as np
import onnx
import openvino as ov
import pytest
from keras import layers

import glioexport
import gliorun
from glioexport import ir, onnx_model
from glioexport.convert import CheckTiles, convert, load_check_tiles
from glioexport.dropblock import DropBlock2D
from glioexport.network import UnetShape, build_unet
from glioexport.parity import Tolerance
from glioexport.reference import load_model, mask_predictor
from glioexport.strip import check_no_dropping
from gliorun.agreement import agreement
from gliorun.card import ModelCard, sha256_of
from gliorun.engine import CARD_KEY, open_model
from gliorun.errors import GlioError

from .small import SIDE, Converted, drawn_windows

LOOSE = Tolerance(density_points=100, class_agreement=0)
RANDOM = ("Random", "Dropout", "Bernoulli", "Multinomial", "If", "Loop")
WEIGHTS = Path(glioexport.__file__).parent / "weights" / "reference.keras"
SHIPPED = Path(gliorun.__file__).parent / "models" / "nucleus.xml"

slow = pytest.mark.slow


def save_small(path: Path, **shape: object) -> Path:
    small = {"height_px": 32, "width_px": 32, "filters": 2, "levels": 1}
    build_unet(UnetShape(**{**small, **shape})).save(path)
    return path


def refused(path: Path, out: Path, *, mpp: float | None = 0.25, tiles: Path | None = None) -> str:
    """Convert, expect a one-line GlioError and nothing written beside it; return the line."""
    before = sorted(out.parent.iterdir())
    with pytest.raises(GlioError) as caught:
        convert(path, out, tiles=tiles, mpp=mpp, tolerance=LOOSE, say=lambda _: None)
    assert sorted(out.parent.iterdir()) == before
    line = str(caught.value)
    assert "\n" not in line
    return line


@slow
def test_writes_every_file_and_leaves_no_other(converted: Converted) -> None:
    assert {file.name for file in converted.out.iterdir()} == {
        "model.onnx", "fp32.xml", "fp32.bin", "int8.xml", "int8.bin", "parity.json"
    }  # fmt: skip
    assert [file.name for file in converted.out.parent.iterdir()] == ["out"]


@slow
def test_no_random_operation_is_left_in_onnx(converted: Converted) -> None:
    graph = onnx.load(converted.out / "model.onnx").graph
    kinds = Counter(node.op_type for node in graph.node)
    assert kinds["Conv"] > 5
    assert not [kind for kind in kinds if kind.startswith(RANDOM)]
    assert not [node.name for node in graph.node if "drop" in node.name.lower()]


@slow
@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_no_random_operation_is_left_in_openvino(converted: Converted, precision: str) -> None:
    model = ov.Core().read_model(converted.out / f"{precision}.xml")
    kinds = {op.get_type_name() for op in model.get_ops()}
    assert "Convolution" in kinds
    assert not [kind for kind in kinds if kind.startswith(RANDOM)]
    names = [op.get_friendly_name().lower() for op in model.get_ops()]
    assert not [name for name in names if "drop" in name]


@slow
def test_says_which_dropblocks_it_removed(converted: Converted) -> None:
    (line,) = [line for line in converted.said if line.startswith("removed")]
    source = keras.models.load_model(converted.source)
    names = [layer.name for layer in source.layers if isinstance(layer, DropBlock2D)]
    assert len(names) == 5
    assert line == f"removed 5 dropping layers: {', '.join(names)}"


@slow
def test_onnx_takes_a_uint8_image_and_gives_a_uint8_mask(converted: Converted) -> None:
    graph = onnx.load(converted.out / "model.onnx").graph
    ends = [
        (end.type.tensor_type.elem_type, [d.dim_value for d in end.type.tensor_type.shape.dim])
        for end in (*graph.input, *graph.output)
    ]
    uint8 = onnx.TensorProto.UINT8
    assert ends == [(uint8, [1, SIDE, SIDE, 3]), (uint8, [1, SIDE, SIDE])]


@slow
@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_openvino_takes_a_uint8_image_and_gives_a_uint8_mask(
    converted: Converted, precision: str
) -> None:
    model = ov.Core().read_model(converted.out / f"{precision}.xml")
    ends = [(end.get_element_type(), list(end.get_shape())) for end in model.inputs + model.outputs]
    assert ends == [(ov.Type.u8, [1, SIDE, SIDE, 3]), (ov.Type.u8, [1, SIDE, SIDE])]


@slow
@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_the_card_travels_in_the_ir_and_the_engine_opens_it(
    converted: Converted, precision: str
) -> None:
    card = open_model(converted.out / f"{precision}.xml").card
    assert (card.name, card.tile_px, card.mpp) == ("small", SIDE, 0.4)
    assert card.colour_target == converted.card.colour_target
    assert card.training == {"data": ["µ-set"]}
    assert card.precision == precision.upper()
    assert card.source_sha256 == sha256_of(converted.source)
    assert card.weights_sha256 == sha256_of(converted.out / f"{precision}.bin")
    assert set(card.parity) == {"tiles", "ONNX", "OpenVINO FP32", "OpenVINO INT8"}


@slow
def test_the_card_travels_in_the_metadata_of_onnx(converted: Converted) -> None:
    (entry,) = [
        prop
        for prop in onnx.load(converted.out / "model.onnx").metadata_props
        if prop.key == CARD_KEY
    ]
    assert ModelCard.from_json(entry.value).name == "small"


@slow
def test_parity_json_holds_the_figures_that_were_returned(converted: Converted) -> None:
    found = json.loads((converted.out / "parity.json").read_text(encoding="utf-8"))
    for name, figures in converted.figures.items():
        assert found[name]["dice"] == figures.dice
        assert found[name]["images"] == 6


@slow
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
        "OpenVINO FP32": open_model(converted.out / "fp32.xml").masks,
    }[kind]
    differing = [(f != e).mean() for f, e in zip(predict(windows), expected, strict=True)]
    assert max(differing) <= 1 / 2000


@slow
def test_int8_is_quantised_smaller_and_still_much_like_keras(converted: Converted) -> None:
    kinds = ir.op_kinds(ov.Core().read_model(converted.out / "int8.xml"))
    assert "FakeQuantize" in kinds
    sizes = [(converted.out / f"{p}.bin").stat().st_size for p in ("int8", "fp32")]
    assert sizes[0] < 0.5 * sizes[1]
    assert converted.figures["OpenVINO INT8"].dice > 0.8  # random weights, so no closer


@slow
def test_int8_out_of_tolerance_names_the_figure_and_leaves_no_half_written_folder(
    converted: Converted, tmp_path: Path
) -> None:
    """FP32 is granted what it strays, so that INT8 is the one that fails."""
    figures = {name: f.density_error_points for name, f in converted.figures.items()}
    granted = max(figures["ONNX"], figures["OpenVINO FP32"])
    assert granted < figures["OpenVINO INT8"]
    wanted = r"INT8: mean density difference to Keras is \d\.\d+ points"
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


@slow
def test_a_failed_conversion_leaves_an_earlier_one_as_it_was(
    converted: Converted, tmp_path: Path
) -> None:
    out = Path(shutil.copytree(converted.out, tmp_path / "out"))
    before = {file.name: sha256_of(file) for file in out.iterdir()}
    with pytest.raises(GlioError, match="density class"):
        convert(
            converted.source,
            out,
            tiles=None,
            mpp=None,
            tolerance=Tolerance(density_points=100, class_agreement=1.01),
            say=lambda _: None,
        )
    assert {file.name: sha256_of(file) for file in out.iterdir()} == before
    assert [file.name for file in tmp_path.iterdir()] == ["out"]


@slow
def test_mpp_passed_overrides_the_card(converted: Converted, tmp_path: Path) -> None:
    convert(
        converted.source, tmp_path / "o", tiles=None, mpp=0.5, tolerance=LOOSE, say=lambda _: None
    )
    assert open_model(tmp_path / "o" / "int8.xml").card.mpp == 0.5


@slow
def test_without_a_card_mpp_is_enough(tmp_path: Path) -> None:
    path = save_small(tmp_path / "bare.keras")
    convert(path, tmp_path / "o", tiles=None, mpp=0.3, tolerance=LOOSE, say=lambda _: None)
    card = open_model(tmp_path / "o" / "fp32.xml").card
    assert (card.name, card.mpp, card.colour_target) == ("bare", 0.3, None)


def test_names_a_model_that_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "none.keras"
    assert refused(path, tmp_path / "out") == f"{path}: no such file"


def test_refuses_a_text_file_that_calls_itself_keras(tmp_path: Path) -> None:
    path = tmp_path / "text.keras"
    path.write_text("no model\n" * 100, encoding="utf-8")
    assert refused(path, tmp_path / "out").startswith(f"{path}: Keras cannot load it: ")


@pytest.mark.parametrize("damage", ["cut", "flipped"])
def test_refuses_a_damaged_keras_file(tmp_path: Path, damage: str) -> None:
    path = save_small(tmp_path / "model.keras")
    whole = bytearray(path.read_bytes())
    if damage == "cut":
        whole = whole[: len(whole) // 2]
    else:
        middle = len(whole) // 2
        whole[middle : middle + 64] = bytes(255 - b for b in whole[middle : middle + 64])
    path.write_bytes(whole)
    assert str(path) in refused(path, tmp_path / "out")


def test_refuses_h5_and_says_what_to_save(tmp_path: Path) -> None:
    path = tmp_path / "model.h5"
    path.write_bytes(b"\x89HDF\r\n\x1a\n")
    line = refused(path, tmp_path / "out")
    assert line == f"{path}: not a .keras file; save the model with model.save('name.keras')"


def test_refuses_a_lambda_layer_that_safe_mode_would_not_run(tmp_path: Path) -> None:
    image = keras.Input((32, 32, 3))
    maps = layers.Lambda(lambda maps: maps[..., :2])(image)
    keras.Model(image, maps).save(tmp_path / "model.keras")
    assert "cannot load it" in refused(tmp_path / "model.keras", tmp_path / "out")


@pytest.mark.parametrize("classes", [1, 3])
def test_refuses_a_network_that_does_not_give_two_channels(tmp_path: Path, classes: int) -> None:
    path = save_small(tmp_path / "model.keras", classes=classes)
    line = refused(path, tmp_path / "out")
    assert line == f"the network gives {classes} channels; it must give 2"


def test_refuses_an_input_that_is_not_square(tmp_path: Path) -> None:
    path = save_small(tmp_path / "model.keras", width_px=48)
    line = refused(path, tmp_path / "out")
    assert line == f"{path}: its input is 32 x 48 px; it must be square and fixed"


@pytest.mark.parametrize(
    ("shape", "named"), [((None, None, 3), "square and fixed"), ((32, 32, 4), "(None, H, W, 3)")]
)
def test_refuses_an_input_that_is_not_a_fixed_rgb_image(
    tmp_path: Path, shape: tuple[int | None, ...], named: str
) -> None:
    image = keras.Input(shape)
    keras.Model(image, layers.Conv2D(2, 1)(image)).save(tmp_path / "model.keras")
    assert named in refused(tmp_path / "model.keras", tmp_path / "out")


def test_without_a_card_and_without_mpp_it_asks_for_mpp(tmp_path: Path) -> None:
    path = save_small(tmp_path / "model.keras")
    line = refused(path, tmp_path / "out", mpp=None)
    assert line == f"{path}: no model.json beside it; pass --mpp, its µm per pixel"


def test_refuses_a_card_of_another_size(tmp_path: Path) -> None:
    path = save_small(tmp_path / "model.keras")
    card = ModelCard("other", 64, 0.25, None)
    path.with_suffix(".json").write_text(card.to_json(), encoding="utf-8")
    assert refused(path, tmp_path / "out") == f"{path}: takes 32 px, but its card says 64"


@pytest.mark.parametrize("card", [b"{}", b"\xff\xfe\x00 no text"])
def test_refuses_a_damaged_card(tmp_path: Path, card: bytes) -> None:
    path = save_small(tmp_path / "model.keras")
    path.with_suffix(".json").write_bytes(card)
    assert "card" in refused(path, tmp_path / "out")


def test_names_a_folder_of_tiles_that_is_missing_or_empty(tmp_path: Path) -> None:
    path = save_small(tmp_path / "model.keras")
    (tmp_path / "empty").mkdir()
    assert "no such folder" in refused(path, tmp_path / "out", tiles=tmp_path / "none")
    assert "at least two images" in refused(path, tmp_path / "out", tiles=tmp_path / "empty")


@pytest.mark.parametrize("kind", ["RandomUniform", "Dropout", "If", "RandomNormalLike"])
def test_a_graph_with_a_random_operation_is_refused_by_name(kind: str) -> None:
    check_no_dropping(["Convolution", "Relu", "Identity"])
    with pytest.raises(GlioError, match=kind):
        check_no_dropping(["Convolution", kind])


def test_quantising_without_a_tile_is_refused() -> None:
    with pytest.raises(GlioError, match="--tiles"):
        ir.quantise(None, [])


def test_index_train_calibrates_and_val_compares(small_tiles: Path) -> None:
    checks = load_check_tiles(small_tiles, ModelCard("any", SIDE, 0.25, None))
    # 96 x 160 px give 2 x 3 windows, of which the first four of each tile are taken
    assert (len(checks.calibration), len(checks.comparison)) == (16, 8)
    assert {window.shape for window in checks.calibration} == {(SIDE, SIDE, 3)}
    assert checks.source == small_tiles.name


def test_images_without_an_index_take_turns(small_tiles: Path) -> None:
    checks: CheckTiles = load_check_tiles(small_tiles / "images", ModelCard("any", 96, 0.25, None))
    assert (len(checks.calibration), len(checks.comparison)) == (6, 6)
    calibrated = {window.tobytes() for window in checks.calibration}
    assert not calibrated & {window.tobytes() for window in checks.comparison}


def test_synthetic_tiles_are_not_calibrated_and_compared_on_alike() -> None:
    checks = load_check_tiles(None, ModelCard("any", SIDE, 0.25, None))
    calibrated = {window.tobytes() for window in checks.calibration}
    assert len(calibrated) == 6
    assert not calibrated & {window.tobytes() for window in checks.comparison}


def test_the_shipped_ir_was_converted_from_the_shipped_weights() -> None:
    card = open_model(SHIPPED).card
    assert card.source_sha256 == sha256_of(WEIGHTS)
    beside = ModelCard.from_json(WEIGHTS.with_suffix(".json").read_text(encoding="utf-8"))
    assert beside.source_sha256 == card.source_sha256
    assert (card.precision, card.mpp, card.tile_px) == ("INT8", beside.mpp, beside.tile_px)
    assert card.colour_target == beside.colour_target
    assert card.training == beside.training


def test_the_shipped_weights_are_the_papers_network() -> None:
    model = load_model(WEIGHTS)
    assert model.input_shape == (None, 480, 480, 3)
    drops = [layer for layer in model.layers if isinstance(layer, DropBlock2D)]
    assert {(d.rate, d.block_size, d.normalize) for d in drops} == {(0.1, 3, True)}
    assert len(drops) == 9


@slow
def test_the_shipped_ir_agrees_with_keras_on_synthetic_windows() -> None:
    windows = drawn_windows(seed=3, side=480)
    expected = list(mask_predictor(load_model(WEIGHTS), batch=1)(windows))
    assert np.mean(expected) > 0.02
    found = agreement(zip(open_model(SHIPPED).masks(windows), expected, strict=True))
    assert found.dice_pooled > 0.97
    assert found.density_error_points <= 0.5


@slow
def test_the_shipped_ir_agrees_with_keras_on_real_tiles(shared_data: Path) -> None:
    checks = load_check_tiles(shared_data, open_model(SHIPPED).card)
    windows = checks.comparison[::3][:10]
    expected = list(mask_predictor(load_model(WEIGHTS), batch=1)(windows))
    found = agreement(zip(open_model(SHIPPED).masks(windows), expected, strict=True))
    assert found.dice > 0.95
    assert found.density_error_points <= 0.5
