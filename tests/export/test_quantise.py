"""INT8: plain where it is good enough, with named layers in float where it is not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import openvino as ov
import pytest

from glioexport import ir, parity
from glioexport.onnx_model import write_onnx
from glioexport.quantise import layers_in_float, quantise, quantise_with_control, quantise_within
from gliorun.errors import GlioError
from gliorun.findings.agreement import Agreement
from gliorun.model.card import EVEN_LEVEL

from .foreign import dark_unet, darkness_mask
from .small import drawn_windows

TOLERANCE = parity.Tolerance()


def converted(folder: Path, *, outlier: float = 1.0) -> ov.Model:
    """Return the network that finds dark pixels, which an `outlier` makes hard to quantise.

    A channel of the first convolution that nobody uses is that much larger than darkness, so
    that one scale for all of the layer's output leaves darkness no steps.
    """
    model = dark_unet(64, ends=None)
    kernel, bias = model.get_layer("down0").get_weights()
    kernel[..., 1], bias[1] = 0, outlier
    model.get_layer("down0").set_weights([kernel, bias])
    for name in ("down1", "up0"):
        kernel, bias = model.get_layer(name).get_weights()
        kernel[:, :, 1] = 0
        model.get_layer(name).set_weights([kernel, bias])
    write_onnx(model, "logits", folder / "m.onnx")
    return ir.read_onnx(folder / "m.onnx")


def beside_darkness(model: ov.Model, windows: list[np.ndarray]) -> Agreement:
    compiled = ov.Core().compile_model(model, "CPU")
    masks = [compiled(window[None])[0][0] >= EVEN_LEVEL for window in windows]
    return parity.parity_of(masks, [darkness_mask(window) for window in windows]).agreement


def test_plain_int8_keeps_every_layer_quantised_and_finds_the_same_pixels(tmp_path: Path) -> None:
    int8 = quantise(converted(tmp_path), drawn_windows(seed=1))
    assert "FakeQuantize" in ir.op_kinds(int8)
    assert layers_in_float(int8) == []
    agreed = beside_darkness(int8, drawn_windows(seed=2))
    assert agreed.dice > 0.98
    assert parity.excess(agreed, TOLERANCE) <= 1


def test_layers_named_to_stay_in_float_do_and_no_other(tmp_path: Path) -> None:
    int8 = quantise(converted(tmp_path), drawn_windows(seed=1), ["down0", "rise1"])
    assert layers_in_float(int8) == ["down0", "rise1"]


def test_a_layer_to_leave_in_float_that_is_not_there_is_named_with_those_that_are(
    tmp_path: Path,
) -> None:
    with pytest.raises(GlioError, match=r"no layer stem to leave in float; known: down0, down1"):
        quantise(converted(tmp_path), drawn_windows(seed=1), ["stem"])


def test_float_layers_are_named_in_order(tmp_path: Path) -> None:
    assert layers_in_float(converted(tmp_path)) == [
        "down0", "down1", "bottom", "rise1", "up1", "rise0", "up0", "last"
    ]  # fmt: skip


def test_an_outlier_breaks_plain_int8_and_control_saves_it_by_layers_in_float(
    tmp_path: Path,
) -> None:
    model = converted(tmp_path, outlier=300.0)
    calibration, others = drawn_windows(seed=1), drawn_windows(seed=2)
    broken = quantise(model, calibration)
    assert parity.excess(beside_darkness(broken, others), TOLERANCE) > 3
    with pytest.raises(GlioError, match="mean density difference"):
        parity.check({"INT8": parity.Parity(beside_darkness(broken, others), 0)}, TOLERANCE)

    def misses(int8: ov.Model) -> tuple[float, float]:
        agreed = beside_darkness(int8, calibration)
        return parity.excess(agreed, TOLERANCE), agreed.density_error_points

    saved, kept = quantise_within(model, calibration, misses)
    assert parity.excess(beside_darkness(saved, others), TOLERANCE) <= 1
    assert sorted(kept) == sorted(layers_in_float(saved))
    assert "up0" in kept
    assert len(kept) <= 3


def test_control_saves_it_by_operations_in_float(
    tmp_path: Path,
) -> None:
    model = converted(tmp_path, outlier=300.0)  # which breaks plain INT8, as seen above
    calibration, others = drawn_windows(seed=1), drawn_windows(seed=2)
    expected = [darkness_mask(window) for window in calibration]

    def misses(masks: list[np.ndarray]) -> float:
        return parity.excess(parity.parity_of(masks, expected).agreement, TOLERANCE)

    saved = quantise_with_control(model, calibration, misses)
    assert parity.excess(beside_darkness(saved, others), TOLERANCE) <= 1
    # NNCF gives operations back in their order, here all; convert refuses what has none left
    assert "up0" in layers_in_float(saved)


def test_calibration_on_black_tiles_damages_int8_beyond_the_tolerance(tmp_path: Path) -> None:
    black = [np.zeros((64, 64, 3), dtype=np.uint8)] * 4
    agreed = beside_darkness(quantise(converted(tmp_path), black), drawn_windows(seed=2))
    assert parity.excess(agreed, TOLERANCE) > 1


def test_quantising_without_a_tile_is_refused() -> None:
    with pytest.raises(GlioError, match="--tiles"):
        quantise(None, [])


def test_the_same_tiles_give_the_same_weights(tmp_path: Path) -> None:
    model, windows = converted(tmp_path), drawn_windows(seed=1)
    for name in ("one", "two"):
        ov.save_model(quantise(model, windows), tmp_path / f"{name}.xml", compress_to_fp16=False)
    assert (tmp_path / "one.bin").read_bytes() == (tmp_path / "two.bin").read_bytes()
