"""Files that appear whole or not at all."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from gliorun.errors import GlioError


@contextmanager
def replacing(path: Path, *, keep: bool = True) -> Generator[Path]:
    """Give a temporary path beside `path`, of its suffix, and move it there at the end.

    What was written is on the disk before it gets its name, so that a power cut does no harm.
    After an error, or with `keep=False`, the temporary file is gone and `path` as it was.

    Raises
    ------
    GlioError
        The folder does not exist or cannot be written, or the disk is full.
    """
    try:
        number, name = tempfile.mkstemp(
            dir=path.parent, prefix=f".{path.stem}.", suffix=path.suffix
        )
        os.close(number)
    except OSError as error:
        raise cannot_write(path, error) from error
    partial = Path(name)
    try:
        yield partial
        if keep:
            with partial.open("rb+") as written:
                os.fsync(written.fileno())
            partial.chmod(0o666 & ~_umask())
            os.replace(partial, path)
    except OSError as error:
        raise cannot_write(path, error) from error
    finally:
        partial.unlink(missing_ok=True)


def cannot_write(path: Path, error: OSError) -> GlioError:
    """Return the fault that a file cannot be written."""
    return GlioError(f"{path}: cannot be written ({error.strerror or error})")


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def leftovers(path: Path) -> list[Path]:
    """Return the temporary files that `replacing(path)` left when its process was killed."""
    left = re.compile(re.escape(f".{path.stem}.") + "[a-z0-9_]{8}" + re.escape(path.suffix))
    return [file for file in path.parent.iterdir() if left.fullmatch(file.name)]
