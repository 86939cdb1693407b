"""Masks come back as they went in, and their file never stays."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import tracemalloc

import numpy as np
import pytest

from gliorun.errors import GlioError
from gliorun.measuring.masks import MaskStore
from gliorun.measuring.tile import Measured
from gliorun.reading.tiles import TileGrid

GRID = TileGrid((250, 170), (100.0, 100.0))  # 3 × 2 tiles
ONES = np.ones((100, 100), np.uint8)


def noise(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).choice([0, 1, 255], (100, 100)).astype(np.uint8)


def test_masks_come_back_as_0_and_1_in_any_order():
    with MaskStore(GRID, 100) as store:
        places = [(1, 2), (0, 0), (0, 1)]
        for number, (row, column) in enumerate(places):
            store.feed(Measured(GRID.tile(column, row), noise(number), ONES))
        for number, (row, column) in reversed(list(enumerate(places))):
            kept_mask = store.mask(row, column)
            assert kept_mask.dtype == np.uint8
            np.testing.assert_array_equal(kept_mask, noise(number) != 0)


def test_nuclei_outside_the_slide_are_not_kept():
    valid = np.zeros((100, 100), np.uint8)
    valid[:70] = 255
    with MaskStore(GRID, 100) as store:
        store.feed(Measured(GRID.tile(0, 1), ONES, valid))
        np.testing.assert_array_equal(store.mask(1, 0), valid != 0)


def test_a_tile_that_was_not_kept_is_empty_and_absent():
    with MaskStore(GRID, 100) as store:
        store.feed(Measured(GRID.tile(0, 0), ONES, ONES))
        assert (0, 0) in store
        assert (0, 1) not in store
        assert not store.mask(0, 1).any()


def test_a_tile_added_again_takes_the_place_of_the_first():
    with MaskStore(GRID, 100) as store:
        store.feed(Measured(GRID.tile(0, 0), noise(0), ONES))
        store.feed(Measured(GRID.tile(1, 0), noise(1), ONES))
        store.feed(Measured(GRID.tile(0, 0), noise(2), ONES))
        np.testing.assert_array_equal(store.mask(0, 0), noise(2) != 0)
        np.testing.assert_array_equal(store.mask(0, 1), noise(1) != 0)


def test_rows_hold_every_tile_of_the_grid_from_the_top_left():
    with MaskStore(GRID, 100) as store:
        store.feed(Measured(GRID.tile(2, 1), noise(1), ONES))
        rows = list(store.rows())
        assert [row.shape for row in rows] == [(100, 300), (100, 300)]
        np.testing.assert_array_equal(rows[1][:, 200:], noise(1) != 0)
        assert rows[1][:, :200].sum() == rows[0].sum() == 0


def test_a_side_that_is_no_multiple_of_8_is_kept_exactly():
    grid = TileGrid((33, 33), (33.0, 33.0))
    mask = noise(0)[:33, :33]
    with MaskStore(grid, 33) as store:
        store.feed(Measured(grid.tile(0, 0), mask, np.ones_like(mask)))
        np.testing.assert_array_equal(store.mask(0, 0), mask != 0)


def test_memory_stays_bounded_however_many_masks_are_kept():
    grid = TileGrid((480 * 40, 480 * 10), (480.0, 480.0))
    mask = np.random.default_rng(0).integers(0, 2, (480, 480), dtype=np.uint8)
    ones = np.ones_like(mask)
    tracemalloc.start()
    with MaskStore(grid, 480) as store:
        for spec in grid:  # 400 masks of 230 KB, 29 KB packed
            store.feed(Measured(spec, mask, ones))
        _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2_000_000


def test_the_file_is_gone_at_the_end(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with MaskStore(GRID, 100) as store:
        store.feed(Measured(GRID.tile(0, 0), noise(0), ONES))
    assert list(tmp_path.iterdir()) == []


def test_a_temporary_folder_that_is_not_there_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))
    with pytest.raises(GlioError, match=r"none: nucleus masks cannot be kept .*set TMPDIR"):
        MaskStore(GRID, 100)


@pytest.mark.skipif(
    sys.platform == "win32", reason="no limit of file size to stand for a full disk"
)
def test_a_full_disk_is_one_clear_error():
    program = """
import resource, signal
import numpy as np
from gliorun.errors import GlioError
from gliorun.measuring.masks import MaskStore
from gliorun.measuring.tile import Measured
from gliorun.reading.tiles import TileGrid
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
grid = TileGrid((4800, 480), (480.0, 480.0))
mask = np.random.default_rng(0).integers(0, 2, (480, 480), dtype=np.uint8)
try:
    with MaskStore(grid, 480) as store:
        for spec in grid:
            store.feed(Measured(spec, mask, np.ones_like(mask)))
except GlioError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert "nucleus masks cannot be kept" in done.stdout
    assert "free space or set TMPDIR" in done.stdout
