"""Documents come back as they were written; what is no document is one clear line."""

import json
from dataclasses import dataclass

import pytest

from gliobench import document
from gliobench.machine import Machine, describe, noise, this_machine, versions
from gliorun.errors import GlioError


@dataclass(frozen=True)
class Inner:
    values: tuple[float, ...]
    peak: int | None


@dataclass(frozen=True)
class Figures:
    """Figures of a test."""

    name: str
    good: bool
    parts: tuple[Inner, ...]
    by_name: dict[str, float]
    note: str = "none"


FIGURES = Figures("a", True, (Inner((1.5, 2.0), None), Inner((), 7)), {"µ": 0.25})


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "a.json"
    document.write(path, document.as_values(document.seal("test"), FIGURES))
    return path


def changed(path, **changes):
    values = json.loads(path.read_text(encoding="utf-8"))
    values.update(changes)
    path.write_text(json.dumps(values), encoding="utf-8")
    return path


def test_a_document_comes_back_as_it_was_written(path):
    envelope, values = document.load(path)
    assert document.read(Figures, values["figures"], "a.json") == FIGURES
    assert (envelope.format, envelope.kind) == (1, "test")
    assert envelope.machine.processor == this_machine().processor
    assert envelope.versions == versions()
    assert envelope.versions["openvino"]


def test_entries_of_a_later_version_are_passed_over(path):
    _, values = document.load(changed(path, later=1))
    assert document.read(Figures, {**values["figures"], "later": 2}, "a") == FIGURES


def test_whole_numbers_are_numbers_and_truth_is_not():
    assert document.read(Inner, {"values": [1], "peak": 3}, "a") == Inner((1.0,), 3)
    with pytest.raises(
        GlioError, match=r"a: Expected `float`, got `bool` - at `\$\.values\[0\]`; "
    ):
        document.read(Inner, {"values": [True], "peak": 3}, "a")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"good": "yes"}, r"a: Expected `bool`, got `str` - at `\$\.good`; measure again"),
        ({"parts": [{"values": [], "peak": "x"}]}, r"got `str` - at `\$\.parts\[0\]\.peak`"),
        ({"parts": 3}, r"Expected `array`, got `int` - at `\$\.parts`"),
        ({"by_name": []}, r"Expected `object`, got `array` - at `\$\.by_name`"),
        ({"parts": [4]}, r"Expected `object`, got `int` - at `\$\.parts\[0\]`"),
    ],
)
def test_an_entry_of_another_type_is_named(path, change, message):
    _, values = document.load(path)
    with pytest.raises(GlioError, match=message):
        document.read(Figures, {**values["figures"], **change}, "a")


def test_a_missing_entry_is_named_unless_it_has_a_default(path):
    _, values = document.load(path)
    del values["figures"]["note"]
    assert document.read(Figures, values["figures"], "a") == FIGURES
    del values["figures"]["good"]
    with pytest.raises(GlioError, match="a: Object missing required field `good`; "):
        document.read(Figures, values["figures"], "a")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not JSON"),
        ("{", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("[1]", "not written by gliobench"),
        ("{}", "not written by gliobench"),
        ('{"kind": "speed", "format": 2}', "is of format 2, known is 1"),
        ('{"kind": "speed", "format": 1}', "Object missing required field `made`"),
    ],
)
def test_what_is_no_document_is_refused_by_name(tmp_path, text, message):
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(GlioError, match=rf"a\.json: {message}"):
        document.load(path)


def test_a_file_that_is_missing_or_binary_is_refused(tmp_path):
    with pytest.raises(GlioError, match="cannot be read"):
        document.load(tmp_path / "none.json")
    path = tmp_path / "a.json"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(GlioError, match="not JSON"):
        document.load(path)


def test_the_schema_names_every_entry_with_its_type():
    whole = document.schema({"test": Figures})
    (json_schema,) = whole["oneOf"]
    assert json_schema["properties"]["kind"] == {"const": "test"}
    assert json_schema["properties"]["figures"] == {"$ref": "#/$defs/Figures"}
    figures, inner = (whole["$defs"][name] for name in ("Figures", "Inner"))
    assert figures["required"] == ["name", "good", "parts", "by_name"]
    assert figures["properties"]["parts"]["items"] == {"$ref": "#/$defs/Inner"}
    assert inner["properties"]["values"] == {"type": "array", "items": {"type": "number"}}
    assert inner["properties"]["peak"] == {"anyOf": [{"type": "integer"}, {"type": "null"}]}
    assert "machine" in json_schema["required"]


def test_a_machine_is_described_with_its_core_types():
    mixed = Machine("X", ("avx2",), 12, {"performance": 4, "efficient": 8}, 16.0, None, "A", "3.11")
    assert (
        describe(mixed) == "X (avx2), 12 cores (4 performance, 8 efficient), 16 GB, A, Python 3.11"
    )
    assert noise(mixed) == ""
    plain = Machine("Y", (), 2, {}, 8.0, 0.1, "B", "3.12")
    assert describe(plain) == "Y, 2 cores, 8 GB, B, Python 3.12"
    assert noise(plain) == ""
    busy = noise(Machine("Y", (), 2, {}, 8.0, 9.0, "B", "3.12"))
    assert "load 9.0 on 2 cores): compare CPU seconds; tiles/s are too low, and a ratio" in busy


def test_half_a_character_is_refused_in_one_line(path):
    text = path.read_text("utf-8")
    assert '"made"' in text
    path.write_text(text.replace('"made"', r'"\ud800"'), "utf-8")
    with pytest.raises(GlioError, match=r"a\.json: .*measure again"):
        document.load(path)
