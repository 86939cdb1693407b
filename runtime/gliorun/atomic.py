"""Write files atomically: a file appears complete or not at all."""

from __future__ import annotations

import errno
import os
import re
import secrets
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from gliorun.errors import DiskFullError, GlioError

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
"""Seconds for which a refused rename is retried, and the pause between two tries."""
HIDDEN = re.compile(r"\.(?P<stem>.+)\.[0-9a-f]{8}(?P<suffix>(\.[^.]+)?)")
"""Pattern of the names that `_beside` returns."""


@contextmanager
def replacing(path: Path, *, keep: bool = True) -> Generator[Path]:
    """Yield a temporary path beside `path`, with its suffix, and move it there at the end.

    The content is synced to the disk before it gets its name, so that a power cut does no harm.
    After an error, or with `keep=False`, the temporary file is deleted and `path` is unchanged.

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
    """Replace several files as `replacing` does one: all of them, or none.

    Raises
    ------
    GlioError
        As for `replacing`; an OSError from inside the block is not converted.
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
            with suppress(OSError):  # must not hide the first error
                partial.unlink(missing_ok=True)


def move_all(made: Sequence[Path], paths: Sequence[Path]) -> None:
    """Move new files to their final names, over earlier files: all of them, or none.

    With several files, each earlier file is first moved to a backup. After an error the earlier
    files are restored, and the new ones stay at their temporary paths; only if the process dies in
    the middle can a mixture remain.

    Raises
    ------
    GlioError
        A file cannot be replaced: Windows refuses this for a file that is open.
    """
    if len(paths) == 1:  # one file is replaced in one step
        with _named(paths[0], HELD):
            rename(made[0], paths[0])
        return
    moves: list[
        tuple[Path, Path]
    ] = []  # each is listed before it is made, in case an interrupt comes between
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
            with suppress(OSError):  # not moved yet, or cannot be undone; restore the others
                rename(after, before)
        raise
    for backup in backups:
        with suppress(OSError):  # `remove_leftovers` deletes it later
            backup.unlink()


def rename(path: Path, target: Path) -> None:
    """Rename a file over another, or a folder, and retry for a while if that is refused.

    Windows refuses it while any program has the file open, such as a virus scanner for a moment.
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
    """Return an unused hidden name beside a file."""
    return path.with_name(f".{path.stem}.{secrets.token_hex(4)}{path.suffix}")


@contextmanager
def _named(path: Path, way_out: str = ANOTHER_PLACE) -> Generator[None]:
    """Turn an OSError on a path into a GlioError."""
    try:
        yield
    except OSError as error:
        raise cannot_write(path, error, way_out) from error


def cannot_write(path: Path, error: OSError, way_out: str = ANOTHER_PLACE) -> GlioError:
    """Return the error for an unwritable file or folder; `way_out` is the default advice."""
    way_out = WAYS_OUT.get(error.errno or 0, way_out)
    is_full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    error_class = DiskFullError if is_full else GlioError
    return error_class(f"{path}: cannot be written ({error.strerror or error}); {way_out}")


def remove_leftovers(*paths: Path) -> None:
    """Remove the hidden temporary files that a killed process left beside some files.

    Call it only while no other process can be writing them.
    """
    names = {(path.stem, path.suffix) for path in paths}
    for folder in {path.parent for path in paths}:
        with suppress(OSError):  # only tidying: no result depends on it
            for file in list(folder.iterdir()):
                hidden = HIDDEN.fullmatch(file.name)
                if hidden and (hidden["stem"], hidden["suffix"]) in names:
                    with suppress(OSError):
                        file.unlink(missing_ok=True)
