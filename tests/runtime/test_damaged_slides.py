"""What is said of a damaged slide: a line a case in `damaged_slides.csv`, for anyone to add to.

A case is a sound slide (`mutations.KINDS`), a patch, and a part of the line that is expected, or
"measured". Patches are `cut to N %`, `byte N is HEX`, `tag N is N`, `entry N of tag N is N`,
`next of directory N is directory N`, and `text "…" is "…"`.
"""

from __future__ import annotations

import csv
import re
import struct
from pathlib import Path

import pytest

import mutation_worker
import mutations
from guides import ROOT

TABLE = ROOT / "tests" / "damaged_slides.csv"
with TABLE.open(newline="", encoding="utf-8") as lines:
    CASES = [(row["base"], row["patch"], row["expected"]) for row in csv.DictReader(lines)]


@pytest.fixture(scope="module")
def sound(tmp_path_factory) -> dict[str, Path]:
    return mutations.sound(tmp_path_factory.mktemp("sound"))


def patched(path: Path, patch: str) -> bytes:
    """Return the content of a sound slide with a patch."""
    content, parts = bytearray(path.read_bytes()), mutations.parts_of(path)
    if found := re.fullmatch(r"cut to (\d+) %", patch):
        return bytes(content[: len(content) * int(found[1]) // 100])
    if found := re.fullmatch(r"byte (\d+) is ([0-9a-f]{2})", patch):
        content[int(found[1])] = int(found[2], 16)
    elif found := re.fullmatch(r"tag (\d+) is (\d+)", patch):
        mutations.set_tag(content, parts, int(found[1]), int(found[2]))
    elif found := re.fullmatch(r"entry (\d+) of tag (\d+) is (\d+)", patch):
        mutations.set_tag(content, parts, int(found[2]), int(found[3]), int(found[1]))
    elif found := re.fullmatch(r"next of directory (\d+) is directory (\d+)", patch):
        at = mutations.next_at(content, parts, int(found[1]))
        struct.pack_into("<I", content, at, parts.directories[int(found[2])])
    elif found := re.fullmatch(r'text "(.+)" is "(.+)"', patch):
        before, after = found[1].encode(), found[2].encode()
        assert before in content
        assert len(before) == len(after)
        return bytes(content).replace(before, after)
    else:
        raise ValueError(f"{TABLE}: {patch!r} is no patch")
    return bytes(content)


@pytest.mark.parametrize(("base", "patch", "expected"), CASES)
def test_a_damaged_slide_is_said_to_be_what_it_is(sound, tmp_path, base, patch, expected):
    path = tmp_path / f"damaged{sound[base].suffix}"
    path.write_bytes(patched(sound[base], patch))
    outcome = mutation_worker.outcome(path)
    assert outcome["outcome"] == ("measured" if expected == "measured" else "refused"), outcome
    if expected != "measured":
        assert outcome["why"].startswith(f"{path}: ")
        assert "\n" not in outcome["why"]
        assert expected in outcome["why"]
