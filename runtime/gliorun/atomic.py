"""Files that appear whole or not at all."""

from __future__ import annotations

import errno
import os
import re
import secrets
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from gliorun.errors import GlioError

WAYS_OUT = {
    errno.ENOENT: "make its folder first",
    errno.ENOSPC: "free some space",
    errno.EDQUOT: "free some space",
    errno.ENAMETOOLONG: "give a shorter name",
    errno.EEXIST: "a file has that name, name a folder",
    errno.ENOTDIR: "a file has that name, name a folder",
    errno.EISDIR: "a folder has that name, rename it",
}
ANOTHER_PLACE = "name a folder that you may write to"
HELD = "close it where it is open, then run again"
HELD_S, NAP_S = 2.0, 0.05
"""Seconds for which a file that may not be renamed is tried again, and those between two tries."""
HIDDEN = re.compile(r"\.(?P<stem>.+)\.[0-9a-f]{8}(?P<suffix>(\.[^.]+)?)")
"""Names that `_beside` gives."""


@contextmanager
def replacing(path: Path, *, keep: bool = True) -> Generator[Path]:
    """Give a temporary path beside `path`, of its suffix, and move it there at the end.

    What was written is on the disk before it gets its name, so that a power cut does no harm.
    After an error, or with `keep=False`, the temporary file is gone and `path` as it was.

    Raises
    ------
    GlioError
        The folder does not exist or cannot be written, the disk is full, or `path` is open in a
        program.
    """
    try:
        with replacing_all([path], keep=keep) as (partial,):
            yield partial
    except OSError as error:
        raise cannot_write(path, error) from error


@contextmanager
def replacing_all(paths: Sequence[Path], *, keep: bool = True) -> Generator[list[Path]]:
    """Do for several files what `replacing` does for one: all of them are replaced, or none.

    Raises
    ------
    GlioError
        As `replacing` does; an OSError from inside the block comes out as it is.
    """
    partials: list[Path] = []
    try:
        for path in paths:
            with _named(path):
                partial = _beside(path)
                partial.touch(exist_ok=False)
                partials.append(partial)
        yield partials
        if keep:
            for partial, path in zip(partials, paths, strict=True):
                with _named(path), partial.open("rb+") as written:
                    os.fsync(written.fileno())
            move_all(partials, paths)
    finally:
        for partial in partials:
            with suppress(OSError):  # must not hide what went wrong
                partial.unlink(missing_ok=True)


def move_all(made: Sequence[Path], paths: Sequence[Path]) -> None:
    """Give files that are made their names, in place of earlier ones: all of them, or none.

    Of several, each earlier file is set aside first. After an error the earlier files are back,
    and those that were made are where they were made; only the death of the process in the middle
    leaves some of either.

    Raises
    ------
    GlioError
        One cannot be replaced: Windows refuses that of a file that is open.
    """
    if len(paths) == 1:  # replaced in one step
        with _named(paths[0], HELD):
            rename(made[0], paths[0])
        return
    moves: list[tuple[Path, Path]] = []  # noted before they are made: an interrupt may come between
    backups: list[Path] = []
    try:
        for new, path in zip(made, paths, strict=True):
            with _named(path, HELD):
                if os.path.lexists(path):
                    _check_no_folder(path)
                    backups.append(_beside(path))
                    moves.append((path, backups[-1]))
                    rename(*moves[-1])
                moves.append((new, path))
                rename(*moves[-1])
    except BaseException:
        for before, after in reversed(moves):
            with suppress(OSError):  # it was not moved; or whatever it is, the others go back
                rename(after, before)
        raise
    for backup in backups:
        with suppress(OSError):  # `remove_leftovers` knows its name
            backup.unlink()


def rename(path: Path, target: Path) -> None:
    """Rename a file over another, or a folder, and try for a while where that is not permitted.

    Windows does not permit it of a file that is open, be it to a virus scanner for a moment.
    """
    until_s = time.monotonic() + HELD_S
    while True:
        try:
            os.replace(path, target)
            return
        except PermissionError:
            if time.monotonic() >= until_s:
                raise
        time.sleep(NAP_S)


def _check_no_folder(path: Path) -> None:
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))


def _beside(path: Path) -> Path:
    """Return a hidden name beside a file that no other file has."""
    return path.with_name(f".{path.stem}.{secrets.token_hex(4)}{path.suffix}")


@contextmanager
def _named(path: Path, way_out: str = ANOTHER_PLACE) -> Generator[None]:
    """Turn what the file system refuses into a GlioError."""
    try:
        yield
    except OSError as error:
        raise cannot_write(path, error, way_out) from error


def cannot_write(path: Path, error: OSError, way_out: str = ANOTHER_PLACE) -> GlioError:
    """Return what to say of a file or folder that cannot be written; `way_out` if none is known."""
    way_out = WAYS_OUT.get(error.errno or 0, way_out)
    return GlioError(f"{path}: cannot be written ({error.strerror or error}); {way_out}")


def remove_leftovers(*paths: Path) -> None:
    """Remove the hidden files that were beside files of one folder when a process was killed.

    Only for one who knows that no other process is writing them.
    """
    names = {(path.stem, path.suffix) for path in paths}
    for folder in {path.parent for path in paths}:
        with suppress(OSError):  # no result depends on it
            for file in list(folder.iterdir()):
                hidden = HIDDEN.fullmatch(file.name)
                if hidden and (hidden["stem"], hidden["suffix"]) in names:
                    with suppress(OSError):
                        file.unlink(missing_ok=True)
