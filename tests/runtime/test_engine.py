"""The engine opens what is whole, refuses what is not, and keeps the order."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import openvino as ov
import pytest

import slides
from gliorun.errors import GlioError, StalledError
from gliorun.model import shipped
from gliorun.model.engine import CARD_KEY, Compute, Engine, open_model
from gliorun.model.shipped import DEFAULT_MODEL
from gliorun.plan import Plan, open_engine
from gliorun.settings import Settings


@dataclass(frozen=True, slots=True)
class NumberedTile:
    number: int
    pixels: np.ndarray


@pytest.fixture(scope="module")
def engine() -> Engine:
    return open_model(DEFAULT_MODEL, Compute(requests=4))


@pytest.fixture(scope="module")
def tiles(engine) -> list[NumberedTile]:
    """Seven tiles that differ much in density."""
    side = engine.card.tile_px
    return [
        NumberedTile(n, slides.all_tissue(side, side, density=0.04 * n, seed=n))
        for n in range(1, 8)
    ]


@pytest.fixture
def copied(tmp_path) -> Path:
    """A copy of the default model to do harm to."""
    for suffix in (".xml", ".bin"):
        shutil.copy(DEFAULT_MODEL.with_suffix(suffix), tmp_path / f"model{suffix}")
    return tmp_path / "model.xml"


def test_the_model_that_ships_is_small_and_knows_itself(engine):
    card = engine.card
    assert (card.tile_px, card.mpp) == (480, 0.25)
    assert card.classes == ("background", "nucleus")
    assert card.parity
    assert card.training
    assert len(card.source_sha256) == 64
    assert DEFAULT_MODEL.with_suffix(".bin").stat().st_size < 50e6


def test_masks_are_zeros_and_ones_and_rise_with_the_density(engine, tiles):
    masks = list(engine.masks(tile.pixels for tile in tiles))
    assert {(mask.shape, mask.dtype.name) for mask in masks} == {((480, 480), "uint8")}
    assert set(np.unique(masks)) == {0, 1}
    assert masks[0].mean() < masks[3].mean() < masks[6].mean()


def test_from_a_higher_level_on_less_is_nucleus_and_nothing_else(engine, tiles):
    masks = {}
    for level in (1, 96, 128, 160, 255):
        card = replace(engine.card, nucleus_level=level, inner_level=None, outer_level=None)
        asked = Engine(engine._compiled, card, 2, engine.compute)
        masks[level] = np.stack(list(asked.masks(tile.pixels for tile in tiles)))
    areas = [mask.sum() for mask in masks.values()]
    assert areas == sorted(areas, reverse=True)
    assert areas[1] > areas[2] > areas[3]
    assert not (masks[160] & ~masks[128] & 1).any()
    levels = np.stack([levels for _, levels in engine.predict(tiles)])
    for level, of_level in masks.items():
        np.testing.assert_array_equal(levels >= level, of_level == 1)


def test_tiles_come_back_in_order_each_with_its_own_levels(engine, tiles):
    together = list(engine.predict(tiles))
    assert [tile.number for tile, _ in together] == [1, 2, 3, 4, 5, 6, 7]
    for tile, mask in together[::3]:
        [(_, alone)] = engine.predict([tile])
        np.testing.assert_array_equal(mask, alone)


def test_one_request_gives_the_same_bytes_as_four(engine, tiles):
    one = open_model(DEFAULT_MODEL, Compute(requests=1))
    for (_, ours), (_, theirs) in zip(one.predict(tiles), engine.predict(tiles), strict=True):
        assert ours.tobytes() == theirs.tobytes()


@pytest.mark.parametrize(
    "compute",
    [
        Compute(streams=1, threads=1),
        Compute(streams=2, threads=2, requests=3),
        Compute(device="AUTO"),
        Compute(device="MULTI:CPU"),
        Compute(cores="performance"),
    ],
)
def test_streams_threads_and_device_names_change_no_byte(engine, tiles, compute):
    other = open_model(DEFAULT_MODEL, compute)
    for (_, ours), (_, theirs) in zip(other.predict(tiles), engine.predict(tiles), strict=True):
        assert ours.tobytes() == theirs.tobytes()


def test_the_engine_tells_what_it_runs_on():
    choices = open_model(DEFAULT_MODEL, Compute(requests=3, streams=1, threads=1)).choices()
    assert choices == {
        "requests": "3",
        "device": "CPU",
        "precision": "f32",
        "streams": "1",
        "threads": "1",
        "cores": "ANY_CORE",
    }


def test_a_float_model_runs_in_bf16_where_the_processor_has_it_and_an_int8_one_does_not():
    auto = Compute(precision="auto")
    card = open_model(DEFAULT_MODEL).card
    for precision, able, chosen in (
        ("FP32", ["FP32", "BF16"], "bf16"),
        ("FP16", ["BF16"], "bf16"),
        ("FP32", ["FP32"], "f32"),
        ("INT8", ["FP32", "BF16"], "f32"),
    ):
        compute = auto.settled(replace(card, precision=precision), able)
        assert compute == Compute(precision=chosen)
        assert compute.properties()["INFERENCE_PRECISION_HINT"] == chosen
    assert open_model(DEFAULT_MODEL, auto).choices()["precision"] == "f32"


def test_a_processor_without_bf16_gets_f32_whatever_is_typed():
    card = replace(open_model(DEFAULT_MODEL).card, precision="FP32")
    typed = Compute(precision="bf16")
    assert typed.settled(card, ["FP32"]).precision == "f32"
    assert typed.settled(card, ["FP32", "BF16"]).precision == "bf16"


def test_an_npu_is_told_no_precision():
    card = open_model(DEFAULT_MODEL).card
    for precision in ("auto", "f32"):
        compute = Compute(device="NPU", precision=precision).settled(card, [])
        assert compute.precision == "auto"
        assert "INFERENCE_PRECISION_HINT" not in compute.properties()


def test_a_limit_to_the_processors_time_is_one_to_the_network_s_threads():
    named = "INFERENCE_NUM_THREADS"
    assert named not in Compute().properties()
    assert Compute().properties(most_threads=3)[named] == 3
    assert Compute(threads=5).properties(most_threads=3)[named] == 5
    assert named not in Compute(device="GPU").properties(most_threads=3)


@pytest.mark.parametrize("device", ["NONSENSE", "MULTI:NONSENSE", "GPU.7"])
def test_a_device_that_is_not_there_is_named_beside_those_that_are(device):
    with pytest.raises(GlioError, match=rf"{device}: no such device, .* this machine has CPU"):
        open_model(DEFAULT_MODEL, Compute(device=device))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"requests": 0}, "requests is 0"),
        ({"streams": -1}, "streams is -1"),
        ({"threads": 0}, "threads is 0"),
        ({"cores": "fast"}, "cores is 'fast'; known: any, performance, efficiency"),
        ({"precision": "f8"}, "precision is 'f8'"),
        ({"timeout_s": 0}, "timeout is 0 s"),
        ({"timeout_s": float("nan")}, "timeout is nan s"),
    ],
)
def test_senseless_wishes_are_refused(change, said):
    with pytest.raises(GlioError, match=said):
        Compute(**change)


class HangingRequest:
    """Stands for an OpenVINO request that never comes back."""

    def start_async(self, inputs, share_inputs):
        pass

    def wait_for(self, timeout_ms):
        return False

    def cancel(self):
        pass


class HangingModel:
    def create_infer_request(self):
        return HangingRequest()


def test_an_inference_that_hangs_is_given_up_by_name(engine, tiles):
    hanging = Engine(HangingModel(), engine.card, requests=2, compute=Compute(timeout_s=0.01))
    with pytest.raises(StalledError, match=r"not come back within 0\.01 s"):
        list(hanging.predict(tiles))


def test_all_inferences_that_hang_are_given_up_together(engine, tiles, monkeypatch):
    waits = 0

    def wait_for(request, timeout_ms):
        nonlocal waits
        waits += 1
        return False

    seconds = count()  # one passes at every look
    monkeypatch.setattr(HangingRequest, "wait_for", wait_for)
    clock = SimpleNamespace(monotonic=lambda: next(seconds))
    monkeypatch.setattr("gliorun.model.engine.time", clock)
    hanging = Engine(HangingModel(), engine.card, requests=4, compute=Compute(timeout_s=10))
    with pytest.raises(StalledError):
        list(hanging.predict(tiles))
    assert waits < 3 * 10  # one timeout to notice, one for all of them


def test_a_command_with_an_inference_that_hangs_ends(tmp_path):
    program = """
import threading, time
import typer
from gliorun import commandline
from gliorun.errors import StalledError
app = typer.Typer()
@app.command()
def main() -> None:
    threading.Thread(target=time.sleep, args=(3600,)).start()  # as a request that hangs
    raise StalledError("an inference has not come back")
commandline.run(app, "gliorun")
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (1, "gliorun: an inference has not come back\n")


def test_takes_no_more_tiles_early_than_it_has_requests(engine, tiles):
    taken = 0

    def counted() -> Iterator[NumberedTile]:
        nonlocal taken
        for tile in tiles:
            taken += 1
            yield tile

    with closing(engine.predict(counted())) as predictions:
        for tile, _ in predictions:
            assert taken <= tile.number + engine.requests


def test_an_error_of_the_tiles_surfaces_as_it_is_and_the_engine_goes_on(engine, tiles):
    def failing() -> Iterator[NumberedTile]:
        yield from tiles[:3]
        raise LookupError("reader died")

    with pytest.raises(LookupError, match="reader died"):
        list(engine.predict(failing()))
    assert len(list(engine.predict(tiles[:2]))) == 2


def test_a_bug_of_the_tiles_is_not_called_a_failed_inference(engine, tiles):
    def failing() -> Iterator[NumberedTile]:
        yield tiles[0]
        raise RuntimeError("a bug elsewhere")

    with pytest.raises(RuntimeError, match="a bug elsewhere"):
        list(engine.predict(failing()))


def test_closing_early_leaves_the_engine_fit_for_use(engine, tiles):
    wanted = [mask.tobytes() for _, mask in engine.predict(tiles[4:])]
    with closing(engine.predict(tiles)) as predictions:
        next(predictions)
    assert [mask.tobytes() for _, mask in engine.predict(tiles[4:])] == wanted


def test_plain_windows_need_not_be_contiguous(engine, tiles):
    whole = tiles[3].pixels
    [straight] = engine.masks([whole.copy()])
    [strided] = engine.masks([np.dstack([whole, whole])[..., :3]])
    np.testing.assert_array_equal(straight, strided)


@pytest.mark.parametrize("shape", [(240, 240, 3), (480, 480, 4), (3, 480, 480), (960, 480, 3)])
def test_a_tile_of_another_shape_is_refused(engine, shape):
    with pytest.raises(GlioError):
        list(engine.predict([NumberedTile(0, np.zeros(shape, np.uint8))]))


def test_a_tile_of_another_type_is_refused(engine):
    with pytest.raises(GlioError):
        list(engine.predict([NumberedTile(0, np.zeros((480, 480, 3), np.float32))]))


@pytest.mark.parametrize("suffix", [".xml", ".bin"])
def test_a_missing_file_is_named(copied, suffix):
    gone = copied.with_suffix(suffix)
    gone.unlink()
    with pytest.raises(GlioError, match=f"{gone.name}: no such model file"):
        open_model(copied)


def test_weights_altered_by_one_byte_are_refused(copied):
    weights = copied.with_suffix(".bin")
    content = bytearray(weights.read_bytes())
    content[len(content) // 2] ^= 1
    weights.write_bytes(content)
    with pytest.raises(GlioError, match=r"model\.bin: does not match its card"):
        open_model(copied)


def test_weights_cut_short_are_refused(copied):
    weights = copied.with_suffix(".bin")
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(GlioError, match=r"model\.(xml|bin): "):
        open_model(copied)


def test_text_under_a_model_s_name_is_refused(copied):
    copied.write_text("this is no model")
    with pytest.raises(GlioError, match=r"model\.xml: not an OpenVINO model, or damaged"):
        open_model(copied)


def test_a_file_of_another_kind_says_what_is_needed(tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(b"onnx")
    with pytest.raises(GlioError, match=r"model\.onnx: not an OpenVINO IR"):
        open_model(path)


def test_a_model_without_a_card_is_refused(tmp_path):
    image = ov.opset13.parameter([1, 480, 480, 3], ov.Type.u8, name="image")
    mask = ov.opset13.reduce_max(image, np.array([3]), keep_dims=False)
    path = tmp_path / "foreign.xml"
    ov.save_model(ov.Model([mask], [image]), path)
    with pytest.raises(GlioError, match=r"foreign\.xml: has no model card"):
        open_model(path)


def test_a_model_whose_card_is_damaged_is_refused(tmp_path):
    image = ov.opset13.parameter([1, 480, 480, 3], ov.Type.u8, name="image")
    model = ov.Model([ov.opset13.reduce_max(image, np.array([3]), keep_dims=False)], [image])
    model.set_rt_info("{", CARD_KEY)
    path = tmp_path / "foreign.xml"
    ov.save_model(model, path)
    with pytest.raises(GlioError, match=r"foreign\.xml: model card: cannot be read"):
        open_model(path)


def test_a_card_that_promises_another_tile_than_the_model_takes_is_refused(copied):
    text = copied.read_text(encoding="utf-8")
    promised = re.sub(r"(&quot;tile_px&quot;: ?)480", r"\g<1>512", text)
    assert promised != text
    copied.write_text(promised, encoding="utf-8")
    with pytest.raises(GlioError, match=r"model\.xml: its input or output is not uint8"):
        open_model(copied)


def test_a_card_without_the_levels_of_a_band_is_refused_before_a_slide_is_opened(copied):
    text = copied.read_text(encoding="utf-8")
    bare = re.sub(r"&quot;inner_level&quot;:\d+,&quot;outer_level&quot;:\d+,", "", text)
    assert bare != text
    copied.write_text(bare, encoding="utf-8")
    with pytest.raises(GlioError, match=r"model\.xml: .*convert the model again"):
        open_engine(Plan([], copied, Settings()))


def test_of_a_converted_folder_the_int8_model_is_taken(tmp_path):
    for suffix in (".xml", ".bin"):
        shutil.copy(shipped.DEFAULT_MODEL.with_suffix(suffix), tmp_path / f"int8{suffix}")
    assert shipped.model_path(tmp_path) == tmp_path / "int8.xml"
    (tmp_path / "int8.xml").unlink()
    with pytest.raises(GlioError, match=r"no int8\.xml in this folder; name one of 'glioexport"):
        shipped.model_path(tmp_path)
