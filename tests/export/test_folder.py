"""A folder appears whole or not at all, and an earlier one stays until then."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from glioexport.folder import replacing_folder
from gliorun.errors import GlioError

KNOWN = frozenset({"model", "report"})


def write(folder: Path, text: str) -> None:
    with replacing_folder(folder, names=KNOWN) as work:
        for name in KNOWN:
            (work / name).write_text(text, encoding="utf-8")


def texts(folder: Path) -> set[str]:
    return {file.read_text(encoding="utf-8") for file in folder.iterdir()}


def test_a_new_folder_appears_with_its_parents_and_nothing_beside_it(tmp_path: Path) -> None:
    write(tmp_path / "deep" / "out", "new")
    assert texts(tmp_path / "deep" / "out") == {"new"}
    assert [entry.name for entry in (tmp_path / "deep").iterdir()] == ["out"]


def test_others_may_read_it_as_the_umask_says(tmp_path: Path) -> None:
    write(tmp_path / "out", "new")
    (tmp_path / "plain").mkdir()
    modes = {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("out", "plain")}
    assert len(modes) == 1


def test_an_earlier_folder_is_replaced_as_a_whole(tmp_path: Path) -> None:
    write(tmp_path / "out", "old")
    with replacing_folder(tmp_path / "out", names=KNOWN) as work:
        (work / "model").write_text("new", encoding="utf-8")
        assert texts(tmp_path / "out") == {"old"}
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["model"]
    assert [entry.name for entry in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("fault", [KeyboardInterrupt, GlioError, RuntimeError])
def test_a_fault_leaves_the_earlier_folder_and_nothing_beside_it(
    tmp_path: Path, fault: type[BaseException]
) -> None:
    write(tmp_path / "out", "old")
    with pytest.raises(fault), replacing_folder(tmp_path / "out", names=KNOWN) as work:  # noqa: PT012
        (work / "model").write_text("new", encoding="utf-8")
        raise fault
    assert texts(tmp_path / "out") == {"old"}
    assert [entry.name for entry in tmp_path.iterdir()] == ["out"]


def test_a_folder_with_other_files_is_not_ours_to_replace(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "thesis.docx").write_text("mine", encoding="utf-8")
    with pytest.raises(GlioError, match=r"holds other files \(thesis.docx\); pass a new folder"):
        write(out, "new")
    assert texts(out) == {"mine"}
    assert [entry.name for entry in tmp_path.iterdir()] == ["out"]


def test_a_file_in_its_place_is_named(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("mine", encoding="utf-8")
    with pytest.raises(GlioError, match="is a file; pass a folder"):
        write(tmp_path / "out", "new")


def test_what_a_kill_between_the_two_moves_left_is_put_back(tmp_path: Path) -> None:
    write(tmp_path / "out", "old")
    (tmp_path / "out").rename(tmp_path / ".out.earlier")
    with (
        pytest.raises(KeyboardInterrupt),
        replacing_folder(tmp_path / "out", names=KNOWN),
    ):
        raise KeyboardInterrupt
    assert texts(tmp_path / "out") == {"old"}


def test_what_a_kill_after_the_moves_left_is_removed(tmp_path: Path) -> None:
    write(tmp_path / "out", "old")
    write(tmp_path / ".out.earlier", "older")
    write(tmp_path / "out", "new")
    assert texts(tmp_path / "out") == {"new"}
    assert [entry.name for entry in tmp_path.iterdir()] == ["out"]


def test_a_folder_that_is_held_for_a_moment_is_replaced(tmp_path: Path, monkeypatch) -> None:
    """As Windows has it where a virus scanner looks at a file in it."""
    replace, refused = os.replace, []
    write(tmp_path / "out", "old")

    def refuse_twice(path: Path, target: Path) -> None:
        if len(refused) < 2:
            refused.append(target)
            raise PermissionError(errno.EACCES, "used by another process", str(path))
        replace(path, target)

    monkeypatch.setattr(os, "replace", refuse_twice)
    write(tmp_path / "out", "new")
    assert len(refused) == 2
    assert texts(tmp_path / "out") == {"new"}
    assert [entry.name for entry in tmp_path.iterdir()] == ["out"]


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may write everywhere")
def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(GlioError, match="out: cannot be written"):
        write(tmp_path / "out", "new")
    tmp_path.chmod(0o700)


def test_a_parent_that_is_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine", encoding="utf-8")
    with pytest.raises(GlioError, match="out: cannot be written"):
        write(tmp_path / "file" / "out", "new")
