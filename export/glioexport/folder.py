"""Write folders atomically: a folder appears complete or not at all."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

from gliorun.atomic import cannot_write, rename
from gliorun.errors import GlioError


@contextmanager
def replacing_folder(folder: Path, *, names: frozenset[str]) -> Generator[Path]:
    """Yield an empty folder beside `folder`, and move it into its place at the end.

    After an error the temporary folder is deleted and `folder` is unchanged. A killed process also
    leaves `folder` unchanged, beside a hidden folder; only between the two moves at the end there
    is none, and the next call restores the earlier one.

    Parameters
    ----------
    folder : Path
    names : frozenset of str
        Files that may be replaced; a folder that holds any other one is not ours.

    Raises
    ------
    GlioError
        `folder` holds other files or cannot be written, or the disk is full.
    """
    work = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}")
    earlier = folder.with_name(f".{folder.name}.earlier")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        if earlier.exists() and not folder.exists():
            rename(earlier, folder)
        _check_ours(folder, names)
        work.mkdir()
        try:
            yield work
            _swap(work, folder, earlier)
        finally:
            shutil.rmtree(work, ignore_errors=True)
    except OSError as error:
        raise cannot_write(folder, error) from error


def _check_ours(folder: Path, names: frozenset[str]) -> None:
    if not folder.exists():
        return
    if not folder.is_dir():
        raise GlioError(f"{folder}: is a file; pass a folder as --out")
    others = sorted(file.name for file in folder.iterdir() if file.name not in names)
    if others:
        raise GlioError(f"{folder}: holds other files ({', '.join(others[:3])}); pass a new folder")


def _swap(work: Path, folder: Path, earlier: Path) -> None:
    if not folder.exists():
        rename(work, folder)
        return
    shutil.rmtree(earlier, ignore_errors=True)
    rename(folder, earlier)
    try:
        rename(work, folder)
    except OSError:
        with suppress(OSError):
            rename(earlier, folder)
        raise
    shutil.rmtree(earlier, ignore_errors=True)
