"""Checkpoints beside the outputs of a slide, from which an interrupted run resumes.

A folder `.gliorun` holds two files per run, named by a key over what `identity` lists: the map so
far, and the nucleus masks if an output needs them. Both are deleted when the run is done.
"""

from __future__ import annotations

import struct
import time
import tokenize
import zipfile
import zlib
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from filelock import FileLock, Timeout

from gliorun.atomic import replacing
from gliorun.errors import DamagedSlideError, GlioError
from gliorun.measuring.density import DensityMap
from gliorun.measuring.masks import MaskStore
from gliorun.measuring.tile import LeftOut, Measured, Status

if TYPE_CHECKING:
    from gliorun.measuring.regions import InRegions

FOLDER = ".gliorun"
SUFFIXES = (".npz", ".masks", ".lock")
STALE_S = 30 * 86_400
"""Age at which the files of an abandoned run are deleted."""
MOST_SHARE = 0.02
"""Greatest share of the time spent on saving; slow saves are made less often."""
UNUSABLE = (
    OSError, ValueError, KeyError, EOFError, TypeError, OverflowError, SyntaxError, MemoryError,
    NotImplementedError, RuntimeError, struct.error, tokenize.TokenError,
    zlib.error, zipfile.BadZipFile,
)  # fmt: skip
"""What reading a damaged archive of arrays may raise."""


class Checkpoint:
    """The checkpoint of one run. No result depends on it, so it never raises an error.

    Parameters
    ----------
    path : Path
        The archive; the masks lie beside it.
    every_s : float
        Least seconds between two saves.
    """

    def __init__(self, path: Path, every_s: float) -> None:
        self.restored_tiles = 0
        self.finished = False
        self._path = path
        self._every_s = every_s
        self._due = time.monotonic() + every_s
        self._density: DensityMap | None = None
        self._masks: MaskStore | None = None
        self._in_regions: InRegions | None = None

    @property
    def masks_path(self) -> Path:
        """Where the masks belong that a later run can resume."""
        return self._path.with_suffix(".masks")

    def hold(
        self,
        density: DensityMap,
        masks: MaskStore | None = None,
        in_regions: InRegions | None = None,
    ) -> None:
        """Save this map, its masks and the sums of its regions from now on."""
        self._density, self._masks, self._in_regions = density, masks, in_regions

    def restore(
        self,
        density: DensityMap,
        masks: MaskStore | None = None,
        in_regions: InRegions | None = None,
    ) -> None:
        """Fill all of it, which is empty, from the checkpoint if that is usable, and hold it.

        Unreadable tiles are not restored, so that they are tried again.
        """
        self.hold(density, masks, in_regions)
        try:
            with np.load(self._path) as kept:
                outlined_px, valid_px = kept["outlined_px"], kept["valid_px"]
                status, places = kept["status"], kept["places"]
                sums_of_regions = kept["region_places"], kept["region_sums"]
            if outlined_px.shape != density.outlined_px.shape:
                raise ValueError("of another grid")
            if in_regions is not None:
                in_regions.restore(*sums_of_regions)
            if masks is not None:
                masks.restore(places)
        except UNUSABLE:
            return  # missing, truncated by a power cut or damaged: start over
        status[status == Status.UNREADABLE] = Status.NO_TISSUE
        density.outlined_px[:], density.valid_px[:] = outlined_px, valid_px
        density.status[:] = status
        self.restored_tiles = density.known_tiles()

    def feed(self, tile: Measured | LeftOut) -> None:
        """Save the map and its masks, which know the tile already, if that is due."""
        if time.monotonic() >= self._due:
            self.save()

    def save(self) -> None:
        """Save the map and its masks now, if the disk has room."""
        density, started = self._density, time.monotonic()
        if density is None:
            return
        with suppress(GlioError), replacing(self._path) as partial:
            # Sync the masks before writing the archive that points into them.
            places = np.empty((0, 4), np.int64) if self._masks is None else self._masks.places()
            region_places, region_sums = (
                (np.empty((0, 3), np.int64), np.empty(0, np.int64))
                if self._in_regions is None
                else self._in_regions.kept()
            )
            np.savez(
                partial,
                outlined_px=density.outlined_px,
                valid_px=density.valid_px,
                status=density.status,
                places=places,
                region_places=region_places,
                region_sums=region_sums,
            )
        took = time.monotonic() - started
        self._due = time.monotonic() + max(self._every_s, took / MOST_SHARE)


@contextmanager
def checkpoint(folder: Path, key: str, every_s: float) -> Generator[Checkpoint | None]:
    """Yield the checkpoint of a run whose outputs go to `folder`.

    It is None if the folder cannot be written or another process has the same checkpoint open.
    """
    home = folder / FOLDER
    path = home / f"{key}.npz"
    lock = FileLock(path.with_suffix(".lock"))
    locked = False
    with suppress(OSError, Timeout, NotImplementedError):
        home.mkdir(exist_ok=True)
        lock.acquire(timeout=0)
        locked = True
        _remove_stale(home, key)
    if not locked:
        yield None
        return
    try:
        kept = Checkpoint(path, every_s)
        yield kept
        if kept.finished:
            _remove(path)
    except DamagedSlideError:
        _remove(path)
        raise
    finally:
        if not path.exists():
            _remove(path.with_suffix(".masks"))
        lock.release()
        if not path.exists():
            _remove(path.with_suffix(".lock"))
            with suppress(OSError):  # fails if it holds other checkpoints
                home.rmdir()


def _remove_stale(home: Path, key: str) -> None:
    """Delete the files of abandoned runs, and an interrupted save of this run."""
    before = time.time() - STALE_S
    for file in home.iterdir():
        with suppress(OSError):
            half = file.name.startswith(f".{key}.")
            if half or (file.suffix in SUFFIXES and file.stat().st_mtime < before):
                file.unlink()


def _remove(file: Path) -> None:
    with suppress(OSError):
        file.unlink(missing_ok=True)
