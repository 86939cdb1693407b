"""Store the nucleus masks of the tiles on disk, so that memory stays bounded."""

from __future__ import annotations

import errno
import os
import tempfile
import zlib
from collections.abc import Generator, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from gliorun.errors import GlioError
from gliorun.measuring.tile import LeftOut, Levels, Measured, Tile
from gliorun.model.outlines import OF_MASKS
from gliorun.reading.tiles import TileGrid

Mask = NDArray[np.uint8]


class MaskStore:
    """Masks of the measured tiles of a grid, packed and deflated in a file.

    A context manager; without `path` it uses a temporary file, which is deleted at the end.

    Parameters
    ----------
    grid : TileGrid
    tile_px : int
        Side of a mask in model px.
    nucleus_level : int
        Level from which a pixel is nucleus; by default masks are fed.
    path : Path, optional
        File to resume or create instead of a temporary one; it is not deleted.

    Raises
    ------
    GlioError
        The file cannot be made.
    """

    def __init__(
        self,
        grid: TileGrid,
        tile_px: int,
        nucleus_level: int = OF_MASKS.nucleus,
        path: Path | None = None,
    ) -> None:
        self.grid = grid
        self.tile_px = tile_px
        self._nucleus_level = nucleus_level
        self._path = path
        try:
            # unbuffered, so that a full disk shows when a mask is added
            if path is None:
                file: Any = tempfile.TemporaryFile(prefix="gliorun-masks-", buffering=0)  # noqa: SIM115
            else:
                path.touch()
                file = path.open("rb+", buffering=0)
        except OSError as error:
            raise self._not_kept(error) from error
        self._file: BinaryIO = file
        self._places: dict[tuple[int, int], Sequence[int]] = {}

    def __enter__(self) -> MaskStore:
        return self

    def __exit__(self, *exception: object) -> None:
        self._file.close()

    def feed(self, tile: Measured | LeftOut) -> None:
        """Keep the nuclei of a measured tile that lie inside the slide.

        Raises
        ------
        GlioError
            The disk is full.
        """
        if isinstance(tile, LeftOut):
            return
        mask = (tile.levels >= self._nucleus_level) & (tile.valid != 0)
        packed = zlib.compress(np.packbits(mask).tobytes(), level=1)
        try:
            start = self._file.seek(0, os.SEEK_END)
            if self._file.write(packed) < len(packed):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            raise self._not_kept(error) from error
        self._places[tile.spec.row, tile.spec.column] = (start, len(packed))

    def places(self) -> NDArray[np.int64]:
        """Sync the file, and return row, column, start and length of every mask, (N, 4).

        Raises
        ------
        GlioError
            The disk is full.
        """
        try:
            os.fsync(self._file.fileno())
        except OSError as error:
            raise self._not_kept(error) from error
        tile_boxes = [(*place, *extent) for place, extent in self._places.items()]
        return np.array(tile_boxes, dtype=np.int64).reshape(-1, 4)

    def restore(self, places: NDArray[np.int64]) -> None:
        """Restore the masks that `places` lists; cut off whatever the file holds after them.

        Raises
        ------
        ValueError
            The file does not hold them all.
        """
        end = int((places[:, 2] + places[:, 3]).max(initial=0))
        if self._file.seek(0, os.SEEK_END) < end:
            raise ValueError(f"{self._path}: shorter than {end} bytes")
        self._file.truncate(end)
        self._places = {(row, column): extent for row, column, *extent in places.tolist()}

    def __contains__(self, place: tuple[int, int]) -> bool:
        return place in self._places

    def mask(self, row: int, column: int) -> Mask:
        """Return a tile's mask, (tile_px, tile_px) uint8 of 0 and 1; zeros if none was kept."""
        if (row, column) not in self._places:
            return np.zeros((self.tile_px, self.tile_px), dtype=np.uint8)
        start, length = self._places[row, column]
        self._file.seek(start)
        packed = np.frombuffer(zlib.decompress(self._file.read(length)), dtype=np.uint8)
        bits = np.unpackbits(packed, count=self.tile_px**2)
        return bits.reshape(self.tile_px, self.tile_px)

    def recall(self, tiles: Iterable[Tile]) -> Generator[tuple[Tile, Levels]]:
        """Yield tiles that were kept with their masks, as a network would without a band."""
        for tile in tiles:
            yield tile, self.mask(tile.spec.row, tile.spec.column) * np.uint8(self._nucleus_level)

    def rows(self) -> Iterator[Mask]:
        """Yield each row of the grid as one mask, (tile_px, columns × tile_px) uint8 of 0 and 1."""
        side = self.tile_px
        for row in range(self.grid.rows):
            strip = np.zeros((side, self.grid.columns * side), dtype=np.uint8)
            for column in range(self.grid.columns):
                if (row, column) in self:
                    strip[:, column * side : (column + 1) * side] = self.mask(row, column)
            yield strip

    def _not_kept(self, error: OSError) -> GlioError:
        folder = tempfile.tempdir or "temporary folder"
        way_out = "free space or set TMPDIR"
        if self._path is not None:
            folder, way_out = str(self._path.parent), "free space"
        return GlioError(f"{folder}: nucleus masks cannot be kept ({error.strerror}); {way_out}")
