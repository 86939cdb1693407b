"""A file is replaced whole or not at all, also where Windows would refuse it."""

from __future__ import annotations

import errno
import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import batches
import slides
from gliorun import atomic, cli
from gliorun.atomic import move_all, remove_leftovers, replacing, replacing_all
from gliorun.errors import GlioError

IN_USE = "The process cannot access the file because it is being used by another process"


@pytest.fixture
def hold_open(monkeypatch) -> Callable[[str], None]:
    """Give a function after which no file of a name can be replaced, as Windows has it."""
    replace = os.replace

    def hold(name: str) -> None:
        def refuse(made: Path, path: Path) -> None:
            if name in (Path(made).name, Path(path).name):
                raise PermissionError(errno.EACCES, IN_USE, str(made), 32, str(path))
            replace(made, path)

        monkeypatch.setattr(atomic.os, "replace", refuse)
        monkeypatch.setattr(atomic, "HELD_S", 0.1)

    return hold


def write(path: Path, text: str) -> None:
    with replacing(path) as partial:
        partial.write_text(text)


def test_a_file_that_is_open_elsewhere_stays_and_the_fault_says_to_close_it(tmp_path, hold_open):
    path = tmp_path / "heat map.png"
    write(path, "earlier")
    hold_open(path.name)
    said = r"^\S*heat map\.png: cannot be written \(.*another process\); close it [^\n]*$"
    with pytest.raises(GlioError, match=said):
        write(path, "later")
    assert path.read_text() == "earlier"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_a_virus_scanner_holds_for_a_moment_is_replaced(tmp_path, monkeypatch):
    path, replace, refused = tmp_path / "a.csv", os.replace, []
    write(path, "earlier")

    def refuse_thrice(made: Path, target: Path) -> None:
        if len(refused) < 3:
            refused.append(target)
            raise PermissionError(errno.EACCES, IN_USE, str(made), 32, str(target))
        replace(made, target)

    monkeypatch.setattr(atomic.os, "replace", refuse_thrice)
    write(path, "later")
    assert refused == [path] * 3
    assert path.read_text() == "later"
    assert list(tmp_path.iterdir()) == [path]


NAMES = ("a.csv", "b.png", "c.html", "d.json")
"""Of several files; the last is new."""


@pytest.fixture
def earlier(tmp_path) -> dict[str, str]:
    """Contents of the files that are there, by name."""
    for name in NAMES[:-1]:
        (tmp_path / name).write_text(f"earlier {name}")
    return contents(tmp_path)


def contents(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir() if path.is_file()}


def write_all(folder: Path) -> None:
    with replacing_all([folder / name for name in NAMES]) as partials:
        for name, partial in zip(NAMES, partials, strict=True):
            partial.write_text(f"later {name}")


@pytest.mark.parametrize("held", NAMES)
def test_of_several_files_none_is_replaced_if_one_is_open_elsewhere(
    tmp_path, earlier, hold_open, monkeypatch, held
):
    hold_open(held)
    with pytest.raises(GlioError, match=rf"{held}: cannot be written .*; close it where"):
        write_all(tmp_path)
    assert contents(tmp_path) == earlier
    monkeypatch.undo()
    write_all(tmp_path)
    assert contents(tmp_path) == {name: f"later {name}" for name in NAMES}


def test_of_several_files_none_is_replaced_if_one_is_a_folder_by_now(tmp_path, earlier):
    (tmp_path / NAMES[-1]).mkdir()
    with pytest.raises(GlioError, match=r"d\.json: cannot be written .*; a folder has that name"):
        write_all(tmp_path)
    assert contents(tmp_path) == earlier
    assert (tmp_path / NAMES[-1]).is_dir()


@pytest.mark.parametrize("last", range(2 * len(NAMES) - 1))
def test_of_several_files_none_is_replaced_if_the_user_stops_it(
    tmp_path, earlier, monkeypatch, last
):
    """Before the first of the moves, or after any of them."""
    replace, moves = os.replace, []

    def stop(made: Path, path: Path) -> None:
        moves.append(path)
        if len(moves) == last + 1:
            raise KeyboardInterrupt
        replace(made, path)

    monkeypatch.setattr(atomic.os, "replace", stop)
    with pytest.raises(KeyboardInterrupt):
        write_all(tmp_path)
    assert contents(tmp_path) == earlier


def test_files_that_cannot_be_moved_stay_where_they_were_made(tmp_path, earlier, hold_open):
    made = [tmp_path / "made" / name for name in NAMES]
    made[0].parent.mkdir()
    for path in made:
        path.write_text("later")
    hold_open(NAMES[2])
    with pytest.raises(GlioError):
        move_all(made, [tmp_path / name for name in NAMES])
    assert contents(tmp_path) == earlier
    assert contents(made[0].parent) == dict.fromkeys(NAMES, "later")


def test_a_table_that_is_open_costs_no_tile_and_leaves_no_mixture(
    tmp_path, small_slide, hold_open, monkeypatch
):
    """The slide is measured anew while the table of its first measurement is open."""
    maps, wanted = tmp_path / "maps", tmp_path / "wanted"
    slide = Path(shutil.copy2(small_slide.path, tmp_path / "a.svs"))
    suffixes, outputs = (".csv", ".png", ".thumb.jpg"), ("a.csv", "a.png", "a.thumb.jpg")

    def measure(folder: Path) -> tuple[str, int | None]:
        batches.run([slide], folder, batches.in_process(), suffixes=suffixes)
        record = batches.records(folder)["a"]
        return record.state, record.figures.get("resumed_tiles")

    assert measure(maps) == ("done", 0)
    before = {name: (maps / name).read_bytes() for name in outputs}
    slides.drawn(slide, 1800, 1300, seed=1)
    hold_open("a.csv")
    assert measure(maps) == ("failed", None)
    assert "close it where it is open" in batches.summary(maps)["a"]["reason"]
    assert {name: (maps / name).read_bytes() for name in outputs} == before
    monkeypatch.undo()
    assert measure(wanted) == ("done", 0)
    assert measure(maps) == ("done", 11)
    for name in outputs:
        assert (maps / name).read_bytes() == (wanted / name).read_bytes() != before[name]
    assert {path.name for path in maps.iterdir()} - {".lock"} == {
        *outputs, "index.html", "summary.csv", "records"
    }  # fmt: skip


def test_a_temporary_file_that_cannot_be_removed_hides_no_fault(tmp_path, hold_open, monkeypatch):
    """A virus scanner, say, holds both."""

    def refuse(path: Path, missing_ok: bool = False) -> None:
        raise PermissionError(errno.EACCES, IN_USE, str(path))

    hold_open("a.csv")
    monkeypatch.setattr(Path, "unlink", refuse)
    with pytest.raises(GlioError, match="close it where it is open"):
        write(tmp_path / "a.csv", "later")


def test_the_command_says_so_in_a_line_and_writes_all_once_it_is_closed(
    tmp_path, hold_open, monkeypatch, capsys
):
    """Without measuring the tile anew."""
    slide = batches.tiny(tmp_path / "a slide.svs")
    record, table = outputs = tmp_path / "a.json", tmp_path / "a.csv"
    for output in outputs:
        output.write_text("earlier")
    words = [word for output in outputs for word in ("--out", str(output))]

    def type_in() -> int | str | None:
        monkeypatch.setattr(sys, "argv", ["gliorun", str(slide), *words, "--quiet"])
        with pytest.raises(SystemExit) as left:
            cli.run()
        return left.value.code

    hold_open(table.name)
    assert type_in() == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith(f"gliorun: {table}: cannot be written")
    assert "close it where it is open" in said.err
    assert said.err.count("\n") == 1
    assert [output.read_text() for output in outputs] == ["earlier"] * 2
    monkeypatch.undo()
    assert type_in() in (0, None)
    assert table.read_text().startswith("minx,")
    assert json.loads(record.read_text(encoding="utf-8"))["resumed_tiles"] == 1
    assert " of 1 tile, " in capsys.readouterr().out
    assert set(tmp_path.iterdir()) == {slide, *outputs}


def test_a_table_open_in_a_spreadsheet_keeps_no_result_from_the_index(tmp_path, hold_open):
    slide, maps = tmp_path / "a.svs", tmp_path / "maps"
    slide.write_bytes(b"x")
    hold_open("summary.csv")
    with pytest.raises(GlioError, match=r"summary\.csv: .*close it where it is open"):
        batches.run([slide], maps, batches.copies_what_it_reads())
    assert (maps / "a.csv").read_text() == "x"
    assert 'href="a.csv"' in (maps / "index.html").read_text(encoding="utf-8")


@pytest.mark.skipif(os.name == "nt", reason="Windows has no umask to speak of")
def test_others_may_read_it_as_the_umask_says(tmp_path):
    before = os.umask(0o027)
    try:
        write(tmp_path / "a.csv", "x")
    finally:
        os.umask(before)
    assert (tmp_path / "a.csv").stat().st_mode & 0o777 == 0o640


def test_what_a_killed_process_left_is_removed_and_nothing_else(tmp_path):
    path = tmp_path / "index.html"
    with replacing(path) as partial:
        left = Path(shutil.copy(partial, tmp_path / "kept"))
    left.rename(partial)
    others = {tmp_path / name for name in (".index.0123.html", "index.01234567.html")}
    for other in others:
        other.touch()
    remove_leftovers(path)
    assert set(tmp_path.iterdir()) == {path, *others}


@pytest.mark.parametrize(
    ("place", "way_out"), [("gone/a.csv", "make its folder first"), ("a" * 250, "shorter name")]
)
def test_a_place_that_cannot_be_written_is_named_with_the_way_out(tmp_path, place, way_out):
    with pytest.raises(GlioError, match=f"cannot be written .*; .*{way_out}"):
        write(tmp_path / place, "x")
