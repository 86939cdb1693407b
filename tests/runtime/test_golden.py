"""The certificate of a machine: the mask in a card, and what becomes of it here."""

from __future__ import annotations

import base64
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gliorun import job
from gliorun.errors import GlioError
from gliorun.model import golden
from gliorun.model.engine import EXACT, Engine, open_model
from gliorun.model.shipped import DEFAULT_MODEL, models
from gliorun.plan import Plan
from gliorun.settings import Settings


@pytest.fixture(scope="module")
def engine() -> Engine:
    return open_model(DEFAULT_MODEL, EXACT)


@pytest.mark.parametrize("name", sorted(models()))
def test_this_machine_gives_the_masks_of_the_models_that_ship(name: str):
    engine = open_model(models()[name], EXACT)
    comparison = golden.compare(engine)
    assert comparison is not None
    assert comparison.agrees, comparison
    assert comparison.of_px == 960 * 480
    assert 0.2 < golden.golden_mask(engine).mean() < 0.35  # it is of tissue, which is dense


def with_mask(engine: Engine, mask: golden.Mask) -> Engine:
    """Return the engine with another mask in its card."""
    other = open_model(DEFAULT_MODEL, EXACT)
    other.card = replace(engine.card, golden_mask=golden.packed(mask))
    return other


def test_masks_that_differ_by_more_than_the_limit_are_told(engine: Engine):
    mask = golden.golden_mask(engine)
    for different, agrees in ((golden.LIMIT_PX, True), (golden.LIMIT_PX + 1, False)):
        changed = mask.copy()
        changed.ravel()[:different] ^= 1
        comparison = golden.compare(with_mask(engine, changed))
        assert comparison == golden.Comparison(different, mask.size)
        assert comparison.agrees is agrees


def test_a_model_of_an_earlier_version_has_no_certificate(engine: Engine):
    other = open_model(DEFAULT_MODEL, EXACT)
    other.card = replace(engine.card, golden_mask="")
    assert golden.compare(other) is None


def test_packing_a_mask_loses_nothing():
    mask = (np.random.default_rng(0).random((37, 53)) < 0.3).astype(np.uint8)
    np.testing.assert_array_equal(golden.unpacked(golden.packed(mask), mask.shape), mask)


def text_of(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("no base64!", "damaged"),
        (text_of(b"no deflate"), "damaged"),
        (text_of(zlib.compress(bytes(3))), "is not of 64 px"),
        (text_of(zlib.compress(bytes(64))[:-6]), "is not of 64 px"),
        (text_of(zlib.compress(bytes(50 << 20), 9)), "is not of 64 px"),  # a bomb
    ],
)
def test_a_damaged_mask_is_one_line(text: str, said: str):
    with pytest.raises(GlioError, match=rf"golden_mask .*{said}"):
        golden.unpacked(text, (8, 8))


def test_the_demo_ends_with_a_fault_where_the_masks_are_others(tmp_path: Path):
    xml = DEFAULT_MODEL.read_text(encoding="utf-8")
    packed = open_model(DEFAULT_MODEL, EXACT).card.golden_mask
    nothing = golden.packed(np.zeros((480, 960), np.uint8))
    assert packed in xml
    model = tmp_path / "other.xml"
    model.write_text(xml.replace(packed, nothing), encoding="utf-8")
    model.with_suffix(".bin").write_bytes(DEFAULT_MODEL.with_suffix(".bin").read_bytes())
    out = tmp_path / "out.csv"
    with pytest.raises(GlioError, match="does not give the masks of its certificate"):
        job.run_demo(Plan([out], model, Settings()), quiet=True)
    assert not out.exists()


def test_the_kernels_of_the_convolutions_are_told(engine: Engine):
    kernels = engine.kernels()
    # how many layers, and that the one in float is among them, follows from the model
    assert sum(kernels.values()) == 19
    assert [name.split()[-1] for name in kernels].count("I8") >= 1
