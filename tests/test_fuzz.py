"""Whatever a file holds, a reader of ours reads it, or says in one line why not.

Each reader starts from a sound file, which is damaged as `damaged` says. `FUZZ_S=600 pytest -m soak
tests/test_fuzz.py` looks for ten minutes at each; what was found stands in `FOUND`. Regions of any
JSON have a test of their own (`runtime/test_regions.py`), as have slides
(`runtime/test_mutations.py`).
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

import slides
from gliobench import sidebyside
from gliobench.truth import read_cells
from gliorun import demo
from gliorun.batch.slidelist import read_list
from gliorun.errors import GlioError
from gliorun.measuring.checkpoint import checkpoint
from gliorun.model import calibration, golden
from gliorun.model.card import ModelCard
from gliorun.reading import tiff
from gliorun.reading.regions import read_regions
from gliorun.sliderecord import Record
from guides import ROOT
from runtime import test_checkpoint, test_regions

LONGEST_LINE = 8000
"""A value of thousands of characters may be repeated, a whole file may not."""
FUZZ_S = float(os.environ.get("FUZZ_S", "12"))
TOKENS = (
    b"NaN", b"-1", b"1e999", b"null", b"[]", b"{}", b'"', b"\\ud800", b"\x00", b"\xff\xfe", b",",
    b"\n", b"99999999999999999999", b"true", b"<!--", b"]]>", b"0" * 300, b"[" * 3000,
)  # fmt: skip
Damage = list[tuple[float, str, int, bytes]]
"""Place as a share of the file, what is done there, how far, and with which bytes."""


@st.composite
def damages(draw: st.DrawFn) -> Damage:
    """Draw what is done to a file: bytes changed, left out, doubled or put in, or its end cut."""
    one = st.tuples(
        st.floats(0, 1),
        st.sampled_from(("change", "leave out", "double", "put in", "cut")),
        st.integers(1, 64),
        st.one_of(st.sampled_from(TOKENS), st.binary(min_size=1, max_size=8)),
    )
    return draw(st.lists(one, min_size=1, max_size=6))


def damaged(content: bytes, damage: Damage) -> bytes:
    for share, how, length, more in damage:
        at = int(share * len(content))
        before, part, after = content[:at], content[at : at + length], content[at + length :]
        content = {
            "change": before + more + content[at + len(more) :],
            "leave out": before + after,
            "double": before + part + part + after,
            "put in": before + more + part + after,
            "cut": before,
        }[how]
    return content


def walk(path: Path) -> None:
    list(tiff.directories(path))
    tiff.check_tiles(path)
    tiff.has_strips(path)


def restore(path: Path) -> None:
    """Have a run go on from a checkpoint that was damaged."""
    home = path.parent / "out" / ".gliorun"
    home.mkdir(parents=True, exist_ok=True)
    (home / "key.npz").write_bytes(path.read_bytes())
    test_checkpoint.restored(path.parent / "out", "key")


def outlines(path: Path) -> None:
    from glioexport.nuclei_geojson import draw_labels, lies_outside, read_outlines

    for nucleus in read_outlines(path).nuclei:
        if not lies_outside(nucleus, (64, 64)):
            draw_labels([nucleus], (64, 64))


def areas(path: Path) -> None:
    read_regions(path, test_regions.SIZE)


def index(path: Path) -> None:
    from glioexport.dataset import read_index

    for folder in ("images", "labels"):
        (path.parent / folder).mkdir(exist_ok=True)
        for number in range(4):
            (path.parent / folder / f"t{number}.png").touch()
    read_index(path.parent)


READERS: dict[str, tuple[str, Callable[[Path], object]]] = {
    "tiff": ("a.svs", walk),
    "card": ("a.json", lambda path: ModelCard.from_json(path.read_bytes())),
    "certificate": ("a.txt", lambda path: golden.unpacked(path.read_text("latin-1"), (480, 960))),
    "calibration": ("a.json", calibration.read),
    "slides": ("a.csv", read_list),
    "qupath": ("a.geojson", areas),
    "imagescope": ("a.xml", areas),
    "asap": ("a.xml", areas),
    "record": ("a.json", lambda path: Record.from_json(path.read_bytes())),
    "checkpoint": ("a.npz", restore),
    "outlines": ("a.geojson", outlines),
    "index": ("index.csv", index),
    "cells": ("a.csv", read_cells),
    "bench": ("a.json", lambda path: sidebyside.read_all([path])),
}
"""Name of the file, and who reads it."""
FOUND: list[tuple[str, Damage]] = [
    ("card", [(0.0, "change", 1, b"\x00")]),  # the message repeated the whole file
    ("card", [(0.0, "put in", 1, b"[" * 3000)]),
    ("record", [(0.0, "put in", 1, b"[" * 3000)]),
    ("calibration", 3 * [(0.0, "put in", 1, b"[" * 3000)] + [(0.0, "put in", 1, b"\x80")]),
    ("checkpoint", [(0.9375, "change", 1, b"NaN")]),
]
"""What a reader once stumbled over."""


@cache
def sound(reader: str) -> bytes:
    """Return the content of a sound file of a reader."""
    return {
        "tiff": _slide,
        "card": lambda: (ROOT / "export/glioexport/weights/student.json").read_bytes(),
        "certificate": lambda: golden.packed(np.ones((480, 960), np.uint8)).encode(),
        "calibration": _calibration,
        "slides": _slides,
        "qupath": _qupath,
        "imagescope": _imagescope,
        "asap": _asap,
        "record": _record,
        "checkpoint": _checkpoint,
        "outlines": _outlines,
        "index": _index,
        "cells": _cells,
        "bench": _bench,
    }[reader]()


def _slide() -> bytes:
    with _folder() as folder:
        demo.write_slide(folder / "a.svs", slides.all_tissue(300, 260), levels=2)
        return (folder / "a.svs").read_bytes()


def _calibration() -> bytes:
    values = {
        "format": 1, "name": "Lab", "model": "student", "weights_sha256": "f" * 64,
        "outlines": {"outer": 100, "nucleus": 128, "inner": 150}, "date": "2026-01-01", "by": "x",
    }  # fmt: skip
    return json.dumps(values).encode()


def _slides() -> bytes:
    rows = [f"s{number}.svs;n{number};0,25;;;none" for number in range(4)]
    return "\n".join(["slide;name;mpp;tissue_mask;regions;calibration", *rows, ""]).encode()


def _qupath() -> bytes:
    named = test_regions.feature(
        [test_regions.SQUARE, test_regions.HOLE], name="Core", classification={"name": "Tumor"}
    )
    return json.dumps({"type": "FeatureCollection", "features": [named]}).encode()


def _imagescope() -> bytes:
    outline = test_regions.drawn(test_regions.SQUARE[:4], Text="dense", NegativeROA="0")
    return test_regions.imagescope(outline, test_regions.drawn([(4, 1), (60, 20)], "2")).encode()


def _asap() -> bytes:
    return test_regions.asap(test_regions.annotated(test_regions.SQUARE[:4])).encode()


def _record() -> bytes:
    made = {"gliorun": "0.1.0", "settings": {"mpp": None}}
    return Record(
        "a", "/x/a.svs", None, "f" * 64, made, "done", 1, "2026-01-01T00:00:00+00:00",
        outputs=("a.csv",), warnings=("w",), pace={"tiles": 9},
    ).to_json().encode()  # fmt: skip


def _checkpoint() -> bytes:
    with _folder() as folder, checkpoint(folder, "key", 10) as kept:
        test_checkpoint.save(kept, test_checkpoint.half_measured())
        return kept._path.read_bytes()


def _outlines() -> bytes:
    ring = [[5, 5], [20, 5], [20.5, 21], [5, 20], [5, 5]]
    hole = [[8, 8], [12, 8], [12, 12], [8, 8]]
    features = [
        {"type": "Feature", "id": "x", "geometry": geometry,
         "properties": {"objectType": "annotation", "classification": {"name": "Nucleus"}}}
        for geometry in (
            {"type": "Polygon", "coordinates": [ring, hole]},
            {"type": "MultiPolygon", "coordinates": [[ring], [ring, hole]]},
        )
    ]  # fmt: skip
    return json.dumps({"type": "FeatureCollection", "features": features}).encode()


def _index() -> bytes:
    head = "set,id,patient,split,licence,image,label,mpp_nominal"
    row = "lab,t{0},p{0},train,CC0,images/t{0}.png,labels/t{0}.png,0.25"
    return "\n".join([head, *(row.format(number) for number in range(4)), ""]).encode()


def _cells() -> bytes:
    head = "minx,miny,width,height,density_of_tile,class,valid_fraction,tissue_fraction,status"
    row = "{0},0,480,480,0.12,3,1.0,1.0,measured"
    return "\n".join([head, *(row.format(480 * k) for k in range(4)), ""]).encode()


def _bench() -> bytes:
    from dataclasses import asdict

    from gliobench import document

    return json.dumps({**asdict(document.seal("doctor")), "figures": {"checks": []}}).encode()


def _folder():
    from tempfile import TemporaryDirectory

    class Folder(TemporaryDirectory):
        def __enter__(self) -> Path:
            return Path(super().__enter__())

    return Folder()


def reads_or_says_why(reader: str, content: bytes, folder: Path) -> None:
    """Read a file; any error but one line of ours is a fault, and so is half a minute."""
    name, read = READERS[reader]
    (folder / name).write_bytes(content)
    started, said = time.monotonic(), ""
    try:
        read(folder / name)
    except GlioError as error:
        said = str(error)
    assert "\n" not in said
    assert len(said) < LONGEST_LINE, said
    assert time.monotonic() - started < 30


def fuzz(reader: str, folder: Path, number: int, examples: int) -> None:
    @seed(number)
    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )
    @given(damages())
    def once(damage: Damage) -> None:
        reads_or_says_why(reader, damaged(sound(reader), damage), folder)

    once()


@pytest.mark.parametrize("reader", READERS)
def test_a_sound_file_is_read(reader, tmp_path):
    if reader == "bench":
        pytest.skip("its sound files are read by bench/test_sidebyside.py")
    name, read = READERS[reader]
    (tmp_path / name).write_bytes(sound(reader))
    read(tmp_path / name)


@pytest.mark.parametrize("reader", READERS)
def test_a_damaged_file_is_read_or_refused_in_one_line(reader, tmp_path):
    fuzz(reader, tmp_path, 0, 40)


@pytest.mark.parametrize(("reader", "damage"), FOUND)
def test_what_was_found_once_stays_mended(reader, damage, tmp_path):
    reads_or_says_why(reader, damaged(sound(reader), damage), tmp_path)


@pytest.mark.soak
@pytest.mark.parametrize("reader", READERS)
def test_a_damaged_file_is_read_or_refused_in_one_line_for_long(reader, tmp_path):
    end = time.monotonic() + FUZZ_S
    start = int(np.random.default_rng().integers(2**31))
    number = start
    while time.monotonic() < end:
        fuzz(reader, tmp_path, number, 200)
        number += 1
    print(f"{reader}: {number - start} times 200 files, from seed {start}")
