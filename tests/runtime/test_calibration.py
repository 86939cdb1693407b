"""A calibration as a file: what is read back, what is refused, and that it is of one model."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gliorun.errors import GlioError
from gliorun.model import calibration
from gliorun.model.calibration import Calibration
from gliorun.model.card import ModelCard
from gliorun.model.outlines import Outlines

MADE = Calibration("Köln", "student", "ab" * 32, Outlines(150, 140, 130), "2026-11-30", "me")
CARD = ModelCard("student", 480, 0.25, None, weights_sha256="ab" * 32)


def written(path: Path, **changes: Any) -> Path:
    """Write `MADE` with other entries; None takes one out."""
    values = {**json.loads(MADE.to_json({"figures": {"bias": 0.1}})), **changes}
    values = {name: value for name, value in values.items() if value is not None}
    path.write_text(json.dumps(values), encoding="utf-8")
    return path


def test_a_calibration_is_read_as_it_was_written_without_its_figures(tmp_path: Path):
    assert calibration.read(written(tmp_path / "lab.json")) == MADE
    assert str(MADE) == "Köln, level 140"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"format": 2}, "not of format 1"),
        ({"format": None}, "not a calibration"),
        ({"outlines": {"inner": 1, "nucleus": 140, "outer": 130}}, "levels of the inner"),
        ({"outlines": {"inner": 300, "nucleus": 140, "outer": 130}}, "levels of the inner"),
        ({"outlines": {"inner": 150.5, "nucleus": 140, "outer": 130}}, "not a calibration"),
        ({"outlines": None}, "not a calibration"),
        ({"weights_sha256": "ab"}, "no SHA-256"),
        ({"date": "yesterday"}, "yesterday"),
        ({"name": ""}, "1 to 60 printable"),
        ({"name": "a\nb"}, "1 to 60 printable"),
        ({"name": "x" * 61}, "1 to 60 printable"),
        ({"name": "none"}, "is no name"),
        ({"name": 7}, "not a calibration"),
    ],
)
def test_a_calibration_that_is_none_is_refused_with_its_file(
    tmp_path: Path, changes: dict[str, Any], said: str
):
    path = written(tmp_path / "lab.json", **changes)
    with pytest.raises(GlioError, match=said) as refused:
        calibration.read(path)
    assert str(refused.value).startswith(str(path))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("content", [b"", b"[]", b"3", b"\xff\xfe", b"{", b"[" * 100_000])
def test_what_is_no_json_of_a_calibration_is_one_line(tmp_path: Path, content: bytes):
    path = tmp_path / "lab.json"
    path.write_bytes(content)
    with pytest.raises(GlioError, match="not a calibration"):
        calibration.read(path)


def test_a_missing_file_names_the_way_out(tmp_path: Path):
    with pytest.raises(GlioError, match="no such calibration; pass what 'glioexport calibrate'"):
        calibration.read(tmp_path / "none.json")


def test_another_model_is_refused():
    MADE.check(CARD)
    with pytest.raises(GlioError, match=r"of the model student \(abababababab\), not of other"):
        MADE.check(replace(CARD, name="other", weights_sha256="cd" * 32))
