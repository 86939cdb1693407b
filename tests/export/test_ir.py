"""The IR: its card, its precision, the same bytes every time, and a disk that is full."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from full_disk import files_up_to
from glioexport import ir
from glioexport.onnx_model import write_onnx
from gliorun.errors import GlioError
from gliorun.model.card import ModelCard, sha256_of
from gliorun.model.engine import EXACT, open_model

from .foreign import dark_unet, darkness_mask
from .small import drawn_windows

CARD = ModelCard("dark", 64, 0.25, None, precision="FP32")


@pytest.fixture(scope="module")
def dark_onnx(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("dark") / "dark.onnx"
    write_onnx(dark_unet(64, ends=None), "logits", path)
    return path


def test_the_card_as_written_names_its_own_weights(dark_onnx: Path, tmp_path: Path) -> None:
    written = ir.write_ir(ir.read_onnx(dark_onnx), CARD, tmp_path / "m.xml")
    assert written.weights_sha256 == sha256_of(tmp_path / "m.bin")
    assert open_model(tmp_path / "m.xml").card == written


@pytest.mark.parametrize("precision", ["FP32", "FP16"])
def test_the_model_answers_as_keras_does(dark_onnx: Path, tmp_path: Path, precision: str) -> None:
    ir.write_ir(ir.read_onnx(dark_onnx), replace(CARD, precision=precision), tmp_path / "m.xml")
    windows = drawn_windows()
    values = np.array(list(open_model(tmp_path / "m.xml", EXACT).masks(windows)))
    expected = np.array([darkness_mask(window) for window in windows])
    assert np.mean(values != expected) <= (0 if precision == "FP32" else 2e-3)


def test_fp16_halves_the_weights(dark_onnx: Path, tmp_path: Path) -> None:
    sizes = []
    for precision in ("FP32", "FP16"):
        path = tmp_path / f"{precision}.xml"
        ir.write_ir(ir.read_onnx(dark_onnx), replace(CARD, precision=precision), path)
        sizes.append(path.with_suffix(".bin").stat().st_size)
    assert sizes[1] < 0.6 * sizes[0]


def test_the_same_model_and_card_give_the_same_bytes(dark_onnx: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        ir.write_ir(ir.read_onnx(dark_onnx), CARD, tmp_path / f"{name}.xml")
    for end in (".xml", ".bin"):
        assert (tmp_path / f"one{end}").read_bytes() == (tmp_path / f"two{end}").read_bytes()


def test_altered_weights_are_refused_by_the_runtime(dark_onnx: Path, tmp_path: Path) -> None:
    ir.write_ir(ir.read_onnx(dark_onnx), CARD, tmp_path / "m.xml")
    weights = bytearray((tmp_path / "m.bin").read_bytes())
    weights[100] ^= 1
    (tmp_path / "m.bin").write_bytes(weights)
    with pytest.raises(GlioError, match="does not match its card"):
        open_model(tmp_path / "m.xml")


@pytest.mark.parametrize("size", [0, 1000, 20_000])
def test_a_full_disk_is_told_whatever_does_not_fit(
    dark_onnx: Path, tmp_path: Path, size: int
) -> None:
    model = ir.read_onnx(dark_onnx)
    with files_up_to(size), pytest.raises(OSError, match=r"write m.xml; is the disk full\?"):
        ir.write_ir(model, CARD, tmp_path / "m.xml")


def test_the_kinds_of_operation_are_those_of_the_graph(dark_onnx: Path) -> None:
    kinds = ir.op_kinds(ir.read_onnx(dark_onnx))
    assert {"Convolution", "ConvolutionBackpropData", "MaxPool", "Maximum"} <= kinds
    assert "BatchNormInference" not in kinds
