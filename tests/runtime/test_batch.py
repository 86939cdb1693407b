"""Every slide once, whatever becomes of the others; what is done stays done."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Generator, Iterable
from dataclasses import replace
from pathlib import Path, PureWindowsPath

import pytest
from PIL import Image

import batches
import slides
from gliorun import demo, writers
from gliorun.batch import loop
from gliorun.batch.failure import Failure
from gliorun.batch.ledger import MAX_INTERRUPTED, RECORDS, TRY_AGAIN_S, UNDER_WAY, Ledger
from gliorun.batch.loop import Task
from gliorun.errors import GlioError, StalledError
from gliorun.reading import files
from gliorun.sliderecord import Record
from gliorun.templates.tables import data_tables
from gliorun.writers import Appearance


def put(path: Path, content: str = "slide") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    return path


def counts(tally: loop.Tally) -> tuple[int, int, int]:
    return tally.done, tally.failed, tally.skipped


def left_in(folder: Path) -> set[str]:
    """Return the outputs in a folder, without the tables."""
    return {p.name for p in folder.iterdir() if p.is_file()} - {
        "summary.csv", "index.html", ".lock",
    }  # fmt: skip


@pytest.fixture(scope="module")
def scans_folder(tmp_path_factory) -> Path:
    """Two good slides of one name, and five that each lack something."""
    scans = tmp_path_factory.mktemp("folder") / "scans"
    good = batches.tiny(scans / "a" / "S1.svs")
    batches.tiny(scans / "b" / "S1.svs", density=0.3)
    slides.truncated(scans / "cut.svs", good, 0.6)
    slides.text_file(scans / "text.svs")
    (scans / "empty.svs").touch()
    demo.write_slide(scans / "glass.svs", slides.glass(300, 260), levels=1)
    demo.write_slide(scans / "bare.svs", slides.all_tissue(300, 260), mpp=None, levels=1)
    return scans


def test_a_dicom_slide_is_called_like_its_folder(tmp_path):
    case = slides.dicom(tmp_path / "case.1", slides.all_tissue(400, 300))
    maps = tmp_path / "maps"
    assert counts(batches.run([case], maps, batches.in_process())) == (1, 0, 0)
    assert counts(batches.run([case], maps, batches.in_process())) == (0, 0, 1)
    assert left_in(maps) == {"case.1.csv"}


def odd_files(scans: Path) -> dict[str, str]:
    """Write a file of each kind that is no slide or a damaged one, and two slides, y and z.

    Return what is said of each by name.
    """
    pixels = slides.all_tissue(*batches.TINY_PX)
    turned = [(274, "H", 1, 3, True)]
    slides.looped(scans / "loop.svs", 2)
    slides.tiled_tiff(scans / "turned.tif", pixels, "deflate", extratags=turned)
    slides.tiled_tiff(scans / "webp.tif", pixels, "webp")
    slides.mrxs(scans / "lone.mrxs", slides.all_tissue(512, 512))
    shutil.rmtree(scans / "lone")
    for size, name in enumerate(("II.tif", "MM.tif")):
        (scans / name).write_bytes((b"II*\0", b"MM\0*")[size] + b"\0\0\0"[: 3 * size])
    shutil.copy(batches.tiny(scans / "case" / "y.svs"), scans / "z.svs")
    (scans / "case" / "loose.dcm").write_bytes(b"\0" * 128 + b"DICM")
    if hasattr(os, "mkfifo"):
        os.mkfifo(scans / "pipe.svs")
    return {
        "loop": "damaged",
        "turned": "orientation 3",
        "webp": "holds WebP",
        "lone": "the folder lone",
        "II": "damaged",
        "MM": "damaged",
        "loose": "DICOM that is of no whole slide",
        **({"pipe": "a pipe or a device"} if hasattr(os, "mkfifo") else {}),
    }


def test_no_odd_file_hangs_or_stops_the_others_and_each_is_called_what_it_is(tmp_path):
    scans, maps = tmp_path / "scans", tmp_path / "maps"
    scans.mkdir()
    said = odd_files(scans)
    done = batches.type_in(scans, "--out-dir", maps, "--format", "csv")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    rows = batches.summary(maps)
    assert {name: row["state"] for name, row in rows.items()} == {
        **dict.fromkeys(said, "failed"),
        **dict.fromkeys("yz", "done"),
    }
    for name, part in said.items():
        assert part in rows[name]["reason"], name
    assert "bug" not in "".join(row["reason"] for row in rows.values())


@pytest.fixture(scope="module")
def measured(scans_folder) -> Path:
    """The folder that the command made of the slides."""
    maps = scans_folder.parent / "maps"
    done = batches.type_in(scans_folder, "--out-dir", maps, "--format", "csv,png")
    assert done.returncode == 1, done.stderr
    assert done.stdout.count("\n") == 3  # two slides and the total
    assert done.stdout.splitlines()[-1].startswith("2 done, 5 failed, 0 as they were")
    assert done.stderr.count("\n") == 5
    assert "Traceback" not in done.stderr
    return maps


def test_a_failed_slide_stops_no_other_and_its_reason_is_recorded(measured):
    rows = batches.summary(measured)
    failed = {name for name, row in rows.items() if row["state"] == "failed"}
    assert failed == {"cut", "text", "empty", "glass", "bare"}
    assert "--mpp" in rows["bare"]["reason"]
    assert "no tissue found" in rows["glass"]["reason"]
    assert "not a slide" in rows["text"]["reason"]
    assert all(rows[name]["reason"] for name in failed)


def test_two_slides_of_one_name_have_a_result_each(measured, scans_folder):
    rows = batches.summary(measured)
    done = {name: row for name, row in rows.items() if row["state"] == "done"}
    assert {row["slide"] for row in done.values()} == {
        str(scans_folder / folder / "S1.svs") for folder in "ab"
    }
    assert len(done) == 2
    means = sorted(float(row["mean_density"]) for row in done.values())
    assert means[1] > means[0] + 0.05
    for name, row in done.items():
        assert row["outputs"].split() == [f"{name}.csv", f"{name}.png", f"{name}.thumb.jpg"]
        with (measured / f"{name}.csv").open(newline="", encoding="utf-8") as stream:
            cells = list(csv.DictReader(stream))
        assert float(cells[0]["density"]) == pytest.approx(float(row["mean_density"]), abs=1e-3)
        with Image.open(measured / f"{name}.thumb.jpg") as thumbnail:
            assert thumbnail.width > thumbnail.height


def test_nothing_else_is_left(measured):
    rows = batches.summary(measured)
    wanted = {output for row in rows.values() for output in row["outputs"].split()}
    assert left_in(measured) == wanted
    assert not (measured / UNDER_WAY).exists()
    assert {p.stem for p in (measured / RECORDS).iterdir()} == set(rows)


def test_the_index_shows_what_failed_and_links_what_is_done(measured):
    page = (measured / "index.html").read_text(encoding="utf-8")
    assert "5 without a map" in page
    assert page.index("no tissue found") < page.index("S1.thumb.jpg")
    assert 'href="S1.csv"' in page
    for brought in (data_tables().script, data_tables().css):
        page = page.replace(brought, "")  # they name their licences
    assert "http" not in page.replace('http-equiv="Content-Security-Policy"', "")


def test_a_slide_on_which_no_field_fits_has_a_hint_and_no_warning(tmp_path, small_slide, capsys):
    assert counts(batches.run([small_slide.path], tmp_path, batches.in_process())) == (1, 0, 0)
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert re.search(r'<small class="hint">hot spots are fields of 0.0\d mm², as none of 1', page)
    assert 'class="warning"' not in page
    (row,) = batches.summary(tmp_path).values()
    assert float(row["densest_field"]) > 0
    assert row["warnings"] == ""
    assert "warning" not in capsys.readouterr().out


def test_a_second_run_measures_nothing_again_but_tries_what_failed(measured, scans_folder):
    before = batches.records(measured)
    done = batches.type_in(
        scans_folder, "--out-dir", measured, "--format", "csv,png", "--json-lines"
    )
    assert done.returncode == 1
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert {e["name"] for e in events if e["event"] == "skipped"} == {
        name for name, record in before.items() if record.state == "done"
    }
    failed = [e for e in events if e["event"] == "slide"]
    assert {e["state"] for e in failed} == {"failed"}
    assert len(failed) == 5
    total = events[-1]
    assert (total["event"], total["done"], total["failed"], total["skipped"]) == ("total", 0, 5, 2)
    after = batches.records(measured)
    assert {n: r for n, r in after.items() if r.state == "done"} == {
        n: r for n, r in before.items() if r.state == "done"
    }


def test_quiet_tells_faults_and_the_total(measured, scans_folder):
    done = batches.type_in(
        scans_folder / "text.svs",
        scans_folder / "a",
        "--out-dir",
        measured,
        "--format",
        "csv",
        "--quiet",
    )
    assert done.returncode == 1
    assert done.stdout.startswith("0 done, 1 failed, 1 as they were")
    assert done.stderr.startswith("[1/2] text.svs: failed: not a slide")
    assert (done.stdout.count("\n"), done.stderr.count("\n")) == (1, 1)


def test_a_slide_that_has_changed_is_measured_again_under_its_name(tmp_path):
    slide, maps, seen = put(tmp_path / "a.svs"), tmp_path / "maps", []
    work = batches.copies_what_it_reads(seen)
    assert counts(batches.run([slide], maps, work)) == (1, 0, 0)
    assert counts(batches.run([slide], maps, work)) == (0, 0, 1)
    put(slide, "rescanned")
    assert counts(batches.run([slide], maps, work)) == (1, 0, 0)
    assert (maps / "a.csv").read_text() == "rescanned"
    assert left_in(maps) == {"a.csv"}
    assert len(seen) == 2


@pytest.mark.parametrize(
    "change",
    [
        lambda plan: replace(plan, settings=replace(plan.settings, mpp=0.5)),
        lambda plan: replace(plan, settings=replace(plan.settings, quality=None)),
        lambda plan: replace(plan, appearance=Appearance("continuous")),
        lambda plan: replace(plan, hot_spots=3),
    ],
)
def test_other_settings_are_another_result(tmp_path, change):
    slide, maps = put(tmp_path / "a.svs"), tmp_path / "maps"
    work = batches.copies_what_it_reads()
    batches.run([slide], maps, work)
    changed = change(batches.plan())
    assert counts(batches.run([slide], maps, work, wanted=changed)) == (1, 0, 0)
    assert counts(batches.run([slide], maps, work, wanted=changed)) == (0, 0, 1)


def test_another_model_is_another_result(tmp_path):
    slide, maps = put(tmp_path / "a.svs"), tmp_path / "maps"
    model = batches.plan().model
    other = Path(shutil.copy(model, tmp_path / "other.xml"))
    other.with_suffix(".bin").write_bytes(model.with_suffix(".bin").read_bytes() + b"\0")
    work = batches.copies_what_it_reads()
    batches.run([slide], maps, work)
    changed = replace(batches.plan(), model=other)
    assert counts(batches.run([slide], maps, work, wanted=changed)) == (1, 0, 0)


def test_how_many_threads_read_changes_nothing(tmp_path):
    slide, maps = put(tmp_path / "a.svs"), tmp_path / "maps"
    work = batches.copies_what_it_reads()
    batches.run([slide], maps, work)
    assert counts(batches.run([slide], maps, work, wanted=batches.plan(threads=7))) == (0, 0, 1)


def test_an_output_that_is_missing_or_new_is_made_and_none_grows_stale(tmp_path):
    slide, maps = put(tmp_path / "a.svs"), tmp_path / "maps"
    work = batches.copies_what_it_reads()
    batches.run([slide], maps, work, suffixes=(".csv", ".png"))
    (maps / "a.png").unlink()
    assert counts(batches.run([slide], maps, work)) == (1, 0, 0)
    assert counts(batches.run([slide], maps, work, suffixes=(".csv", ".html"))) == (1, 0, 0)
    assert left_in(maps) == {"a.csv", "a.png", "a.html"}
    put(slide, "rescanned")
    batches.run([slide], maps, work)
    assert {(maps / name).read_text() for name in left_in(maps)} == {"rescanned"}


def test_a_slide_that_was_moved_or_copied_under_its_name_is_the_same(tmp_path):
    slide, maps = put(tmp_path / "in" / "a.svs"), tmp_path / "maps"
    work = batches.copies_what_it_reads()
    batches.run([slide], maps, work)
    (tmp_path / "archive").mkdir()
    copy = Path(shutil.copy2(slide, tmp_path / "archive" / "a.svs"))
    assert counts(batches.run([slide, copy], maps, work)) == (0, 0, 2)
    slide.unlink()
    assert counts(batches.run([copy], maps, work)) == (0, 0, 1)
    assert left_in(maps) == {"a.csv"}


def test_a_copy_under_another_name_has_its_own_result_and_a_note(tmp_path):
    slide, maps = put(tmp_path / "a.svs"), tmp_path / "maps"
    copy = Path(shutil.copy2(slide, tmp_path / "b.svs"))
    batches.run([slide, copy], maps, batches.copies_what_it_reads())
    assert left_in(maps) == {"a.csv", "b.csv"}
    assert batches.summary(maps)["b"]["same_as"] == "a"


def test_a_copy_that_was_damaged_between_the_samples_is_not_called_the_same(tmp_path):
    """Both have one fingerprint, which knows of a large file only some parts."""
    slide, maps = put(tmp_path / "a.svs", "tile" * 250_000), tmp_path / "maps"
    content = bytearray(slide.read_bytes())
    content[40_000] ^= 1
    damaged = tmp_path / "b.svs"
    damaged.write_bytes(content)
    copy = Path(shutil.copy2(slide, tmp_path / "c.svs"))
    assert files.fingerprint_of(damaged) == files.fingerprint_of(slide)
    batches.run([slide, damaged, copy], maps, batches.copies_what_it_reads())
    assert {name: row["same_as"] for name, row in batches.summary(maps).items()} == {
        "a": "", "b": "", "c": "a",
    }  # fmt: skip
    assert (maps / "index.html").read_text(encoding="utf-8").count("same content as a") == 1


@pytest.mark.parametrize("name", ["summary.svs", "index.svs", "INDEX.svs"])
def test_a_slide_called_like_a_table_does_not_overwrite_it(tmp_path, name):
    slide, maps = put(tmp_path / name), tmp_path / "maps"
    batches.run([slide], maps, batches.copies_what_it_reads(), suffixes=(".csv", ".html"))
    assert len(batches.summary(maps)) == 1
    assert "1 slide" in (maps / "index.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "called"),
    [
        ("=cmd.svs", "_=cmd"), ("-a.svs", "_-a"), ("a\nb.svs", "a_b"), ("<b>&.svs", "_b_&"),
        ("x.mask.svs", "x.mask_"), ("TCGA-06.ab12.svs", "TCGA-06.ab12"), ("a" * 200, "a" * 64),
        ("脑.svs", "脑"), ("a\udcff.svs", "a_"), (60 * "🧠" + ".svs", 48 * "🧠"),
    ],
)  # fmt: skip
@pytest.mark.skipif(os.name == "nt", reason="Windows allows few of these names")
def test_hostile_names_are_shown_and_break_nothing(tmp_path, capsys, name, called):
    slide, maps = put(tmp_path / name), tmp_path / "maps"
    batches.run([slide], maps, batches.copies_what_it_reads(), suffixes=(".ome.tif", ".csv"))
    assert left_in(maps) == {f"{called}.ome.tif", f"{called}.csv"}
    assert list(batches.summary(maps)) == [called]
    printed = capsys.readouterr().out
    assert printed.count("\n") == 2
    assert "<b>" not in (maps / "index.html").read_text(encoding="utf-8")
    assert counts(batches.run([slide], maps, batches.copies_what_it_reads(),
                               suffixes=(".ome.tif", ".csv"))) == (0, 0, 1)  # fmt: skip


@pytest.mark.parametrize(
    "name",
    ["CON.svs", "nul.backup.svs", "Aux .svs", "com1.svs", "LPT9.ome.svs", "COM².svs", "a. .svs",
     "CONOUT$.svs", "C:evil.svs", "a:stream.svs", "..svs", "trailing...svs", "a b (c) & é.svs",
     "\\\\server\\share.svs", "TCGA-06-0137-01Z-00-DX1." + "0" * 160],
)  # fmt: skip
@pytest.mark.skipif(os.name == "nt", reason="Windows allows few of these names")
def test_windows_can_hold_the_outputs_of_every_name(tmp_path, name):
    """As pathlib knows Windows; a folder of ninety characters leaves room for them."""
    slide = put(tmp_path / name)
    with loop.opened(tmp_path / "maps", batches.CSV, batches.plan(), print) as ledger:
        record, _ = ledger.start(slide)
    (output,) = record.outputs
    for folder in (r"D:\my maps", r"\\server\share\maps"):
        path = PureWindowsPath(folder) / output
        assert path.name == output
        assert path.parent == PureWindowsPath(folder)
    for entry in (record.name, output):
        assert not PureWindowsPath(entry).is_reserved()
        assert not set(entry) & set('<>:"/\\|?*')
        assert not entry.endswith((".", " "))
    deepest = PureWindowsPath(UNDER_WAY) / record.name / f".{record.name}.01234567.nuclei.geojson"
    assert len(str(PureWindowsPath("D:\\" + 90 * "x") / deepest)) < 260


def test_no_name_turns_an_output_into_another(tmp_path):
    suffixes = tuple(writers.WRITERS)
    for number, suffix in enumerate(suffixes):
        slide = put(tmp_path / f"a{suffix.rpartition('.')[0]}.svs", str(number))
        with loop.opened(tmp_path / "maps", suffixes, batches.plan(), print) as ledger:
            record, _ = ledger.start(slide)
        assert [writers.suffix_of(Path(output)) for output in record.outputs] == list(suffixes)


def test_names_that_differ_in_case_only_are_two(tmp_path):
    one, other, maps = put(tmp_path / "x" / "a.svs"), put(tmp_path / "A.svs", "B"), tmp_path / "m"
    batches.run([one, other], maps, batches.copies_what_it_reads())
    assert len({name.lower() for name in left_in(maps)}) == 2


def test_a_missing_file_fails_and_the_others_do_not(tmp_path):
    slide, maps = put(tmp_path / "a.svs"), tmp_path / "maps"
    tally = batches.run([tmp_path / "gone.svs", slide], maps, batches.copies_what_it_reads())
    assert counts(tally) == (1, 1, 0)
    assert batches.summary(maps)["gone"]["state"] == "failed, not there"


def test_a_bug_is_the_failure_of_one_slide_and_leaves_its_traceback(tmp_path):
    """The plan is unfit in a way that nothing foresees."""
    slide, maps = batches.tiny(tmp_path / "a.svs"), tmp_path / "maps"
    broken = replace(batches.plan(), appearance="no appearance at all")  # type: ignore[arg-type]

    def nothing(*told: object) -> None:
        return None

    with (
        pytest.raises(TypeError),  # asdict, before any slide is begun
        loop.opened(maps, (".png",), broken, nothing),
    ):
        pass
    outcome = loop.attempt(
        slide,
        replace(broken, outputs=[tmp_path / "a.png"]),
        lambda: loop.job.open_engine(batches.plan()),
    )
    assert isinstance(outcome, Failure)
    assert "; this is a bug, and its traceback is in records" in outcome.reason
    assert outcome.reason.count("\n") == 0
    assert "Traceback" in outcome.trace


def test_a_slide_that_changes_under_way_is_no_result(tmp_path):
    slide, maps = put(tmp_path / "a.svs"), tmp_path / "maps"

    def growing(tasks: Iterable[Task | None]) -> Generator:
        for task in tasks:
            outcome = batches.copied(task)
            put(slide, "slide, and more of it")
            yield task, outcome

    assert counts(batches.run([slide], maps, growing)) == (0, 1, 0)
    assert "changed while it was measured" in batches.summary(maps)["a"]["reason"]
    assert left_in(maps) == set()


@pytest.mark.parametrize("retry", [True, False])
def test_a_slide_that_vanishes_fails_in_a_batch_and_is_forgotten_by_a_watch(tmp_path, retry):
    slide, maps = put(tmp_path / "a.svs"), tmp_path / "maps"

    def vanishing(tasks: Iterable[Task | None]) -> Generator:
        for task in tasks:
            slide.unlink()
            yield task, batches.copied(task)

    tally = batches.run([slide], maps, vanishing, retry=retry)
    assert counts(tally) == (0, 1 if retry else 0, 0)
    assert len(batches.summary(maps)) == (1 if retry else 0)


def test_a_slide_taken_away_after_it_was_read_is_done(tmp_path):
    slide, maps = put(tmp_path / "a.svs"), tmp_path / "maps"

    def taking(tasks: Iterable[Task | None]) -> Generator:
        for task in tasks:
            outcome = batches.copied(task)
            slide.unlink()
            yield task, outcome

    assert counts(batches.run([slide], maps, taking)) == (1, 0, 0)


@pytest.mark.parametrize("stop", [KeyboardInterrupt, GlioError])
def test_a_stop_leaves_everything_as_it_was(tmp_path, stop):
    old, new, maps = put(tmp_path / "old.svs"), put(tmp_path / "new.svs"), tmp_path / "maps"
    batches.run([old], maps, batches.copies_what_it_reads())
    before = batches.records(maps)
    put(old, "rescanned")

    def stopping(tasks: Iterable[Task | None]) -> Generator:
        begun = [task for _, task in zip(range(2), tasks, strict=False)]
        batches.copied(begun[0])
        raise stop("now")
        yield

    with pytest.raises(stop):
        batches.run([old, new], maps, stopping)
    assert batches.records(maps) == before
    assert left_in(maps) == {"old.csv"}
    assert (maps / "old.csv").read_text() == "slide"
    assert not (maps / UNDER_WAY).exists()


def dying(paths: list[Path], maps: Path) -> None:
    """Begin slides and be gone, as if killed."""
    wanted = batches.plan()
    with loop.opened(maps, batches.CSV, wanted, print) as ledger:
        for path in paths:
            record, _ = ledger.start(path)
            (ledger.made_at(record)[0]).write_text("half")


def test_what_a_kill_cut_off_is_measured_again_after_the_others(tmp_path):
    one, other, maps, seen = put(tmp_path / "a.svs"), put(tmp_path / "b.svs"), tmp_path / "m", []
    dying([one], maps)
    tally = batches.run([one, other], maps, batches.copies_what_it_reads(seen), retry=False)
    assert counts(tally) == (2, 0, 0)
    assert seen == [other, one]
    assert (maps / "a.csv").read_text() == "slide"


def test_a_copy_takes_the_place_of_a_slide_that_was_cut_off(tmp_path):
    slide, maps = put(tmp_path / "in" / "a.svs"), tmp_path / "maps"
    (tmp_path / "b").mkdir()
    copy = Path(shutil.copy2(slide, tmp_path / "b" / "a.svs"))
    dying([slide], maps)
    work = batches.copies_what_it_reads()
    assert counts(batches.run([slide, copy], maps, work, retry=False)) == (1, 0, 1)
    assert left_in(maps) == {"a.csv"}


def test_a_slide_that_every_run_dies_of_is_given_up_by_a_watch_and_tried_by_a_batch(tmp_path):
    slide, maps = put(tmp_path / "a.svs"), tmp_path / "maps"
    work = batches.copies_what_it_reads()
    for _ in range(MAX_INTERRUPTED):
        dying([slide], maps)
    assert counts(batches.run([slide], maps, work, retry=False)) == (0, 1, 0)
    assert "5 runs in turn were cut off" in batches.summary(maps)["a"]["reason"]
    assert counts(batches.run([slide], maps, work, retry=False)) == (0, 0, 1)
    assert counts(batches.run([slide], maps, work)) == (1, 0, 0)


def test_a_start_whose_slide_is_gone_is_forgotten(tmp_path):
    slide, maps = put(tmp_path / "a.svs"), tmp_path / "maps"
    dying([slide], maps)
    slide.unlink()
    batches.run([], maps, batches.copies_what_it_reads())
    assert batches.records(maps) == {}


def test_a_watch_tries_a_failed_slide_again_only_after_a_while(tmp_path, monkeypatch):
    slide, maps, seen = put(tmp_path / "a.svs", ""), tmp_path / "maps", []
    work = batches.copies_what_it_reads(seen)
    batches.run([slide], maps, work, retry=False)
    assert counts(batches.run([slide], maps, work, retry=False)) == (0, 0, 1)
    monkeypatch.setattr("gliorun.batch.ledger.TRY_AGAIN_S", (0.0,) * len(TRY_AGAIN_S))
    for _ in range(len(TRY_AGAIN_S) + 2):
        batches.run([slide], maps, work, retry=False)
    assert len(seen) == 1 + len(TRY_AGAIN_S)
    put(slide, "whole")
    assert counts(batches.run([slide], maps, work, retry=False)) == (1, 0, 0)


@pytest.mark.soak
def test_a_killed_run_goes_on_with_the_tiles_it_had(tmp_path):
    """Killed when a first checkpoint is there, in the middle of a slide of 30 tiles."""
    scans, maps, whole = tmp_path / "scans", tmp_path / "maps", tmp_path / "whole"
    scans.mkdir()
    slides.drawn(scans / "a.svs", 2880, 2400)
    words = (scans, "--format", "csv,png", "--checkpoint", 0.1)
    process = subprocess.Popen([*batches.COMMAND, *map(str, words), "--out-dir", maps])
    while not list(maps.glob(f"{UNDER_WAY}/a/**/[!.]*.npz")):
        assert process.poll() is None
        time.sleep(0.005)
    process.kill()
    process.wait()
    assert batches.records(maps)["a"].state == "started"
    assert left_in(maps) <= {"a.csv", "a.png", "a.thumb.jpg"}
    for folder in (maps, whole):
        assert batches.type_in(*words, "--out-dir", folder).returncode == 0
    assert batches.records(maps)["a"].figures["resumed_tiles"] > 0
    assert batches.records(whole)["a"].figures["resumed_tiles"] == 0
    for output in ("a.csv", "a.png", "a.thumb.jpg"):
        assert (maps / output).read_bytes() == (whole / output).read_bytes()
    assert not (maps / UNDER_WAY).exists()


def test_a_damaged_record_is_told_and_its_slide_measured_again(tmp_path, capsys):
    one, other, maps = put(tmp_path / "a.svs"), put(tmp_path / "b.svs"), tmp_path / "maps"
    work = batches.copies_what_it_reads()
    batches.run([one, other], maps, work)
    for content in ("", "{", "[]", '{"format": 1}', (maps / RECORDS / "b.json").read_text()):
        (maps / RECORDS / "a.json").write_text(content)
        assert counts(batches.run([one, other], maps, work)) == (1, 0, 1)
        assert "a.json: left out" in capsys.readouterr().err
        assert len(batches.summary(maps)) == 2


@pytest.mark.parametrize(
    "change",
    [
        {"outputs": ["a/../../evil.csv"]}, {"outputs": ["../a.csv"]}, {"outputs": ["b.csv"]},
        {"tries": 0}, {"tries": "many"}, {"changed_at": "2026-01-01T00:00:00"},
        {"changed_at": 7}, {"state": "lost"}, {"name": ""}, {"figures": []}, {"pace": None},
        {"made_with": "mine"}, {"slide": ["a"]}, {"stamp": {"size_bytes": "x"}}, {"more": 1},
    ],
)  # fmt: skip
def test_a_hostile_record_is_refused(tmp_path, change):
    slide, maps = put(tmp_path / "a.svs"), tmp_path / "maps"
    batches.run([slide], maps, batches.copies_what_it_reads())
    path = maps / RECORDS / "a.json"
    Record.from_json(path.read_bytes())
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(GlioError, match="not a record of a slide"):
        Record.from_json(path.read_bytes())
    assert counts(batches.run([slide], maps, batches.copies_what_it_reads())) == (1, 0, 0)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["a.svs", "maps"]


@pytest.mark.parametrize(
    "figures",
    [
        {"density": {"mean": "high", "class_shares": ["<b>"]}, "tiles": "all", "seconds": [1]},
        {"density": None, "hot_spots": {}, "tiles": {"measured": "<b>"}, "scale": {"x_mpp": "<b>"}},
    ],
)
def test_a_record_of_strange_figures_is_shown_without_them(tmp_path, figures):
    slide, maps = put(tmp_path / "a.svs"), tmp_path / "maps"
    batches.run([slide], maps, batches.copies_what_it_reads())
    path = maps / RECORDS / "a.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"figures": figures}))
    batches.run([slide], maps, batches.copies_what_it_reads())
    assert batches.summary(maps)["a"]["state"] == "done"
    assert "<b>" not in (maps / "index.html").read_text(encoding="utf-8")


def test_two_runs_into_one_folder_are_refused(tmp_path):
    maps = tmp_path / "maps"
    with (
        loop.opened(maps, batches.CSV, batches.plan(), print),
        pytest.raises(GlioError, match="another gliorun writes there"),
        loop.opened(maps, batches.CSV, batches.plan(), print),
    ):
        pass


def test_an_output_whose_name_a_folder_has_fails_its_slide_with_the_way_out(tmp_path):
    slide, other, maps = put(tmp_path / "a.svs"), put(tmp_path / "b.svs"), tmp_path / "maps"
    (maps / "a.csv").mkdir(parents=True)
    tally = batches.run([slide, other], maps, batches.copies_what_it_reads())
    assert counts(tally) == (1, 1, 0)
    assert "a folder has that name, rename it" in batches.summary(maps)["a"]["reason"]


def test_a_table_that_cannot_be_written_ends_in_a_fault_and_loses_no_result(tmp_path):
    """A folder in its place stands for one that is open in a program."""
    slide, maps = put(tmp_path / "a.svs"), tmp_path / "maps"
    (maps / "summary.csv").mkdir(parents=True)
    with pytest.raises(GlioError, match=r"summary\.csv: cannot be written"):
        batches.run([slide], maps, batches.copies_what_it_reads())
    assert batches.records(maps)["a"].state == "done"
    (maps / "summary.csv").rmdir()
    assert counts(batches.run([slide], maps, batches.copies_what_it_reads())) == (0, 0, 1)
    assert list(batches.summary(maps)) == ["a"]


def test_a_stalled_network_fails_one_slide_and_ends_the_process_after_the_rest(tmp_path):
    one, other, maps = put(tmp_path / "a.svs"), put(tmp_path / "b.svs"), tmp_path / "maps"

    def stalling(tasks: Iterable[Task | None]) -> Generator:
        for task in tasks:
            stalled = Failure("a.svs: stalled", stalled=True)
            yield task, stalled if task.path == one else batches.copied(task)

    with pytest.raises(StalledError):
        batches.run([one, other], maps, stalling)
    assert {name: r.state for name, r in batches.records(maps).items()} == {
        "a": "failed", "b": "done",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("a.svs", "b.svs", "--out", "a.csv"), "--out is for one slide"),
        (("a.svs", "--out", "a.csv", "--out-dir", "m"), "give one of them"),
        (("a.svs", "--out", "a.csv", "--watch"), "--watch goes with --out-dir"),
        (("a.svs", "--out", "a.csv", "--json-lines"), "--json-lines goes with --out-dir"),
        (("a.svs", "--out", "a.csv", "--format", "csv"), "--format goes with --out-dir"),
        (("--demo", "--out-dir", "m"), "--demo goes with --out. Example: gliorun --demo --out"),
        (("a.svs", "--out-dir", "m", "--tissue-mask", "t.png"), "--tissue-mask is of one slide"),
        ((".", "--out-dir", "."), "name another folder"),
        (("a.svs", "--out-dir", "."), "name another folder"),
        (("scans/**/*.svs", "--out-dir", "scans"), "name another folder"),
    ],
)
def test_wrong_usage_exits_with_2_and_makes_nothing(tmp_path, words, said):
    done = batches.type_in_at(tmp_path, *words)
    assert done.returncode == 2
    assert said in " ".join(done.stderr.replace("│", " ").split())
    assert list(tmp_path.iterdir()) == []


def test_names_without_a_slide_are_one_line_and_make_nothing(tmp_path):
    done = batches.type_in_at(tmp_path, "nothing/*.svs", "--out-dir", "m")
    assert done.returncode == 1
    assert done.stderr == (
        "gliorun: nothing/*.svs: no slide found; name a slide, or a folder that holds some\n"
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("formats", "said"), [("csv,doc", "doc: unknown; known: png"), (",", "names no output")]
)
def test_an_unknown_format_is_named(formats, said):
    with pytest.raises(GlioError, match=said):
        loop.suffixes_of(formats)


def test_formats_are_forgiving_about_dots_case_and_order():
    assert loop.suffixes_of(" .PNG, nuclei.geojson,png") == (
        ".png", ".nuclei.geojson", ".thumb.jpg",
    )  # fmt: skip


def test_a_ledger_of_hundreds_opens_and_finds(tmp_path):

    maps = tmp_path / "maps"
    maps.mkdir()
    ledger = Ledger(maps, {}, batches.CSV)
    for number in range(300):
        record, _ = ledger.start(put(tmp_path / f"{number}.svs", str(number)))
        ledger.failed(record, "why")
    again = Ledger(maps, {}, batches.CSV)
    assert len(list(again)) == 300
    record = again.of(tmp_path / "7.svs")
    assert record is not None
    assert record.reason == "why"
