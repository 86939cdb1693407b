"""Models that gliobench opens by their suffix, and what it refuses."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from gliobench import backends
from gliobench.backends import calibrated, open_segmenters
from gliorun import demo
from gliorun.errors import GlioError
from gliorun.model.calibration import Calibration
from gliorun.model.card import ModelCard
from gliorun.model.outlines import Outlines


def write_card(path, **changes):
    values = {"name": "x", "tile_px": 64, "mpp": 0.25, "colour_target": None, **changes}
    path.write_text(ModelCard(**values).to_json(), encoding="utf-8")


def write_onnx(path):
    from onnx import TensorProto, helper, save

    image, mask = (
        helper.make_tensor_value_info(name, TensorProto.UINT8, [1, 8, 8, 3]) for name in "ab"
    )
    node = helper.make_node("Identity", ["a"], ["b"])
    graph = helper.make_graph([node], "g", [image], [mask])
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)


def test_otsu_takes_any_size_without_file_or_card():
    (segmenter,) = open_segmenters(["otsu"])
    assert (segmenter.name, segmenter.card, segmenter.sha256) == ("otsu", None, "")
    for level in (255, 0):  # a blank tile has no threshold
        blank = np.full((30, 47, 3), level, np.uint8)
        assert segmenter.segment(blank).shape == (30, 47)
        assert not segmenter.segment(blank).any()


@pytest.mark.parametrize("name", ["model.h5", "model", "Otsu", "model.KERAS"])
def test_a_file_of_another_kind_is_refused_by_name(name):
    with pytest.raises(GlioError, match=r"\.keras, \.onnx or \.xml"):
        open_segmenters([name])


@pytest.mark.parametrize("name", ["model.keras", "model.onnx", "model.xml"])
def test_a_missing_file_is_named(tmp_path, name):
    with pytest.raises(GlioError, match=f"{name}: no such file"):
        open_segmenters([str(tmp_path / name)])


def test_a_keras_file_without_its_card_is_refused(tmp_path):
    shutil.copy(backends.reference_model(), tmp_path / "mine.keras")
    with pytest.raises(GlioError, match=r"no mine\.json beside it"):
        open_segmenters([str(tmp_path / "mine.keras")])


def test_a_keras_file_with_the_card_of_another_is_refused(tmp_path):
    shutil.copy(backends.reference_model(), tmp_path / "mine.keras")
    write_card(tmp_path / "mine.json", source_sha256="0" * 64)
    with pytest.raises(GlioError, match="card of another model"):
        open_segmenters([str(tmp_path / "mine.keras")])


@pytest.mark.parametrize("content", [b"", b"not a graph" * 9])
def test_an_onnx_file_that_is_none_is_refused(tmp_path, content):
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    with pytest.raises(GlioError, match=r"model\.onnx: (not an ONNX file|has no model card)"):
        open_segmenters([str(path)])


def test_an_onnx_file_without_a_card_is_refused(tmp_path):
    write_onnx(tmp_path / "model.onnx")
    with pytest.raises(GlioError, match="has no model card"):
        open_segmenters([str(tmp_path / "model.onnx")])


def test_an_onnx_file_with_a_damaged_card_is_refused_by_name(tmp_path):
    import onnx

    from gliorun.model.engine import CARD_KEY

    path = tmp_path / "model.onnx"
    write_onnx(path)
    graph = onnx.load(path)
    graph.metadata_props.append(onnx.StringStringEntryProto(key=CARD_KEY, value="{"))
    onnx.save(graph, path)
    with pytest.raises(GlioError, match=r"model\.onnx: model card: cannot be read"):
        open_segmenters([str(path)])


def test_a_model_given_twice_is_refused(tmp_path):
    with pytest.raises(GlioError, match="given twice"):
        open_segmenters(["otsu", "otsu"])
    with pytest.raises(GlioError, match="given twice"):
        open_segmenters(["a.keras", "./a.keras"])


def test_models_are_called_by_what_tells_them_apart(tmp_path):
    for run in ("run1", "run2"):
        (tmp_path / run).mkdir()
        for name in ("reference.xml", "reference.bin"):
            shutil.copy(Path(backends.shipped_models()[1]).with_name(name), tmp_path / run)
    paths = [str(tmp_path / run / "reference.xml") for run in ("run1", "run2")]
    assert [m.name for m in open_segmenters(paths[:1])] == ["reference.xml"]
    assert [m.name for m in open_segmenters(paths)] == ["run1/reference.xml", "run2/reference.xml"]


@pytest.mark.release
def test_keras_onnx_and_ir_of_one_network_segment_alike(tmp_path):
    from export.small import convert_small
    from gliorun import demo
    from gliorun.findings.agreement import dice

    converted = convert_small(tmp_path)
    files = [converted.source, *(converted.out / name for name in ("model.onnx", "fp32.xml"))]
    opened = open_segmenters([str(file) for file in files])
    assert [m.name for m in opened] == ["small.keras", "model.onnx", "fp32.xml"]
    assert {m.card.colour_target for m in opened} == {converted.card.colour_target}
    assert len({m.sha256 for m in opened}) == 3
    image = demo.draw_tissue(np.full((100, 150), 0.2, np.float32), seed=3).pixels
    keras_mask, *others = (m.segment(image) for m in opened)
    assert keras_mask.shape == (100, 150)
    assert 0.02 < keras_mask.mean() < 0.98
    for other in others:
        assert dice(other, keras_mask) > 0.99


def test_a_calibration_is_judged_beside_its_model_and_of_no_other():
    student, otsu = open_segmenters(["student", backends.OTSU])
    lab = Calibration(
        "lab", "student", student.card.weights_sha256, Outlines(190, 170, 150), "2026-11-30"
    )
    strict, plain, last = calibrated([student, otsu], lab)
    assert (plain, last) == (student, otsu)
    assert strict.name == "student, calibrated to lab, level 170"
    image = demo.draw_tissue(np.full((480, 480), 0.2, np.float32)).pixels
    inside, outside = strict.outline(image), plain.outline(image)
    np.testing.assert_array_equal(strict.segment(image), outside)  # colour is by the card's level
    assert (inside <= outside).all()
    assert 0 < inside.sum() < 0.95 * outside.sum()
    with pytest.raises(GlioError, match="is of the model student"):
        calibrated(open_segmenters(["reference"]), lab)
    with pytest.raises(GlioError, match="is of an IR"):
        calibrated([otsu], lab)
