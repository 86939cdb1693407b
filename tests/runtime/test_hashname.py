"""With --names hash nothing that is kept tells who a slide is of."""

from __future__ import annotations

import json
import zipfile
import zlib
from dataclasses import replace
from pathlib import Path

import pytest

import batches
from gliorun import hashname
from gliorun.batch import command, loop
from gliorun.batch.failure import Failure
from gliorun.errors import UsageError
from runtime import test_regions

WHO = ("DOE JANE", "DOE%20JANE", "Doe 1950", "Doe%201950")
FORMATS = "png,qc.png,html,csv,geojson,nuclei.geojson,tissue.geojson,ome.tif,json,evidence.png"


def of_jane(folder: Path) -> Path:
    """Write a slide whose folder and file are called by a patient."""
    return batches.tiny(folder / "Doe 1950" / "DOE JANE 1950.svs")


def contents(file: Path) -> list[bytes]:
    """Return the bytes of a file, also those of its deflated parts."""
    whole = file.read_bytes()
    parts = [whole]
    if zipfile.is_zipfile(file):
        with zipfile.ZipFile(file) as archive:
            parts += [archive.read(name) for name in archive.namelist()]
    for at in range(len(whole)):
        if whole[at : at + 2] in (b"\x78\x9c", b"\x78\xda"):
            try:
                parts.append(zlib.decompressobj().decompress(whole[at:], 1 << 22))
            except zlib.error:
                continue
    return parts


def tells(folder: Path) -> list[str]:
    """Return the files that tell who somebody is, in name or content."""
    told = []
    for file in filter(Path.is_file, folder.rglob("*")):
        words = [word.encode(code) for word in WHO for code in ("utf-8", "utf-16-le")]
        if any(word in file.name for word in WHO) or any(
            word in part for part in contents(file) for word in words
        ):
            told.append(str(file.relative_to(folder)))
    return told


@pytest.fixture(scope="module")
def mapped(tmp_path_factory):
    """A folder of maps made with hidden names: a sound slide, a damaged one, regions given."""
    work = tmp_path_factory.mktemp("hidden")
    slide = of_jane(work)
    (slide.parent / "DOE JANE bad.svs").write_text("no slide")
    regions = test_regions.feature([[[0, 0], [290, 0], [290, 250], [0, 250], [0, 0]]], name="Core")
    for name in (slide.stem, "DOE JANE bad"):
        test_regions.written(work, [regions], f"{name}.geojson")
    ran = batches.type_in(
        work / "Doe 1950", "--out-dir", work / "maps", "--format", FORMATS, "--names", "hash",
        "--regions", work,
    )  # fmt: skip
    assert ran.returncode == 1, ran.stderr
    return work, slide, ran


def test_neither_names_nor_contents_of_what_is_kept_tell_who_it_is(mapped):
    work, slide, ran = mapped
    assert tells(work / "maps") == []
    records = batches.records(work / "maps")
    name = hashname.hash_name(slide)
    assert len(name) == 16
    assert records[name].state == "done"
    assert {record.state for record in records.values()} == {"done", "failed"}
    assert f"DOE JANE 1950.svs (as {name})" in ran.stdout  # who runs it learns which is which
    run = json.loads((work / "maps" / f"{name}.json").read_text(encoding="utf-8"))
    assert run["slide"]["name"] == name
    assert len(run["settings"]["regions"]) == 64


def test_the_search_itself_finds_what_a_map_by_file_name_tells(tmp_path):
    slide = of_jane(tmp_path)
    out = [f"--out={tmp_path / 'maps' / name}" for name in ("a.json", "a.html", "a.ome.tif")]
    (tmp_path / "maps").mkdir()
    assert batches.type_in(slide, *out).returncode == 0
    assert len(tells(tmp_path / "maps")) == 3
    assert batches.type_in(slide, *out, "--names", "hash").returncode == 0
    assert tells(tmp_path / "maps") == []


def test_a_slide_keeps_its_name_when_its_file_is_renamed_or_moved(mapped, tmp_path):
    _, slide, _ = mapped
    moved = tmp_path / "case 17.svs"
    moved.write_bytes(slide.read_bytes())
    assert hashname.hash_name(moved) == hashname.hash_name(slide)


def hidden(paths, folder, work, **more):
    plan = replace(batches.plan(), hides_names=True)
    return batches.run(paths, folder, work, wanted=plan, **more)


def test_a_slide_is_measured_once_and_a_copy_of_it_is_the_same(tmp_path):
    slide, seen = of_jane(tmp_path), []
    for _ in range(2):
        hidden([slide], tmp_path / "maps", batches.copies_what_it_reads(seen))
    assert seen == [slide]
    batches.tiny(slide, density=0.3)
    tally = hidden([slide], tmp_path / "maps", batches.copies_what_it_reads(seen))
    assert (tally.done, seen) == (1, [slide, slide])


def test_why_a_slide_failed_is_kept_without_its_names(tmp_path):
    slide = of_jane(tmp_path)

    def fails(tasks):
        for task in tasks:
            where = f"{task.path} and {task.path.parent / 'x.dat'} of {task.path.name!r}"
            yield task, Failure(f"{task.path}: {where}", f"File {str(task.path)!r}, {task.path}")

    hidden([slide], tmp_path / "maps", fails)
    ((name, record),) = batches.records(tmp_path / "maps").items()
    assert record.reason == f"{name}: {name} and …/x.dat of '{name}'".replace(
        "/x.dat", str(Path("/x.dat"))
    )
    assert tells(tmp_path / "maps") == []
    page = (tmp_path / "maps" / "index.html").read_text(encoding="utf-8")
    assert name in page


def test_a_folder_of_maps_is_called_in_one_way(tmp_path):
    slide = of_jane(tmp_path)
    batches.run([slide], tmp_path / "maps", batches.copies_what_it_reads())
    with pytest.raises(UsageError, match="its maps are called by file; name another --out-dir"):
        hidden([slide], tmp_path / "maps", batches.copies_what_it_reads())


def test_a_short_name_is_taken_out_as_a_word_only():
    path = Path("/scans/a.svs")
    text = hashname.without_names("a.svs: a damaged tile at 3 in /scans/a.svs, /scans/b", path, "X")
    assert text == "X: X damaged tile at 3 in X, …/b"


def test_hiding_and_telling_are_not_asked_for_at_once():
    with pytest.raises(UsageError, match="--names hash hides who it is"):
        replace(batches.plan(), hides_names=True, keep_patient=True)


def test_a_slide_that_kills_its_run_again_and_again_is_given_up(tmp_path):
    slide = of_jane(tmp_path)
    plan = replace(batches.plan(), hides_names=True)
    for tries in range(1, 4):
        with loop.opened(tmp_path / "maps", batches.CSV, plan, print) as ledger:
            assert ledger.interrupted_runs(slide) == tries - 1
            ledger.forget_vanished()
            ledger.start(slide)


def test_a_path_of_windows_is_known_again_and_taken_out_in_any_case():
    odd = Path("/scans/DOE \ud800.svs")  # half a character, which NTFS allows
    assert hashname.is_hidden(hashname.token_of(odd))
    assert hashname.token_of(odd) != hashname.token_of(odd.with_suffix(".tif"))
    text = hashname.without_names("/SCANS/doe jane.SVS: Doe Jane", Path("/scans/DOE JANE.svs"), "X")
    assert text == "X: X"


def test_faults_of_slides_are_told_by_their_folder():
    faults = {"/mnt/scans": "not there", str(Path("/mnt/new/DOE.svs")): "cannot be read"}
    assert command._by_folder(faults, ["/mnt/scans"]) == {
        "/mnt/scans": "not there",
        str(Path("/mnt/new")): "cannot be read",
    }
