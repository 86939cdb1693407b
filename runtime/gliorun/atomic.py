"""Files that appear whole or not at all."""

from __future__ import annotations

import errno
import os
import re
import secrets
from collections.abc import Generator
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
}
ANOTHER_PLACE = "name a folder that you may write to"


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
    partial = path.with_name(f".{path.stem}.{secrets.token_hex(4)}{path.suffix}")
    try:
        partial.touch(exist_ok=False)
        yield partial
        if keep:
            with partial.open("rb+") as written:
                os.fsync(written.fileno())
            move(partial, path)
    except OSError as error:
        raise cannot_write(path, error) from error
    finally:
        with suppress(OSError):  # must not hide what went wrong
            partial.unlink(missing_ok=True)


def move(made: Path, path: Path) -> None:
    """Give a file that is made its name, in place of an earlier one.

    Raises
    ------
    GlioError
        It cannot be replaced: Windows refuses that of a file that is open.
    """
    try:
        os.replace(made, path)
    except OSError as error:
        raise GlioError(
            f"{path}: cannot be written ({error.strerror or error}); close it where it is open, "
            "then run again"
        ) from error


def cannot_write(path: Path, error: OSError) -> GlioError:
    """Return what to say of a file or folder that cannot be written, with the way out."""
    way_out = WAYS_OUT.get(error.errno or 0, ANOTHER_PLACE)
    return GlioError(f"{path}: cannot be written ({error.strerror or error}); {way_out}")


def remove_leftovers(path: Path) -> None:
    """Remove the temporary files that `replacing(path)` left when its process was killed.

    Only for one who knows that no other process is writing `path`.
    """
    left = re.compile(re.escape(f".{path.stem}.") + "[0-9a-f]{8}" + re.escape(path.suffix))
    for file in path.parent.iterdir():
        if left.fullmatch(file.name):
            with suppress(OSError):  # no result depends on it
                file.unlink(missing_ok=True)
