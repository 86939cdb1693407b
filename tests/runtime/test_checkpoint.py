"""What a checkpoint keeps, when it keeps nothing, and what it leaves behind."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest

from gliorun.errors import DamagedSlideError, GlioError
from gliorun.measuring.checkpoint import FOLDER, STALE_S, checkpoint
from gliorun.measuring.density import DensityMap
from gliorun.measuring.masks import MaskStore
from gliorun.measuring.tile import LeftOut, Measured, Status
from gliorun.reading.tiles import TileGrid

GRID = TileGrid((400, 300), (100.0, 100.0))
ONES = np.ones((100, 100), np.uint8)
BLURRED = LeftOut(GRID.tile(0, 1), Status.BLURRED)


def half_measured(masks=None) -> DensityMap:
    """A map of which a row is measured, a tile blurred and one not to be read."""
    density = DensityMap(GRID, 100, 50)
    random = np.random.default_rng(0)
    for column in range(4):
        mask = random.integers(0, 2, (100, 100), np.uint8)
        density.feed(Measured(GRID.tile(column, 0), mask, ONES))
        if masks is not None:
            masks.feed(Measured(GRID.tile(column, 0), mask, ONES))
    density.feed(BLURRED)
    density.feed(LeftOut(GRID.tile(1, 1), Status.UNREADABLE))
    return density


def save(kept, density: DensityMap, masks=None) -> None:
    """Save a map and its masks as those of a run that has restored none."""
    kept.hold(density, masks)
    kept.save()


def restored(folder, key: str, *, with_masks: bool = False):
    """Return an empty map that a checkpoint was asked to fill, and its masks."""
    density = DensityMap(GRID, 100, 50)
    with checkpoint(folder, key, 10) as kept:
        masks = MaskStore(GRID, 100, path=kept.masks_path) if with_masks else None
        kept.restore(density, masks)
        masks_read = [] if masks is None else [masks.mask(0, column) for column in range(4)]
        if masks is not None:
            masks.__exit__()
        assert kept.restored_tiles == density.known_tiles()
    return density, masks_read


@pytest.mark.parametrize("with_masks", [False, True])
def test_a_map_comes_back_as_it_was_and_what_could_not_be_read_is_tried_again(tmp_path, with_masks):
    with checkpoint(tmp_path, "key", 10) as kept:
        masks = MaskStore(GRID, 100, path=kept.masks_path) if with_masks else None
        wanted = half_measured(masks)
        save(kept, wanted, masks)
        if masks is not None:
            wanted_masks = [masks.mask(0, column) for column in range(4)]
            masks.feed(Measured(GRID.tile(0, 2), ONES, ONES))  # after the saving: cut off again
            masks.__exit__()
    density, masks_read = restored(tmp_path, "key", with_masks=with_masks)
    wanted.status[1, 1] = Status.NO_TISSUE
    for name in ("outlined_px", "valid_px", "status"):
        np.testing.assert_array_equal(getattr(density, name), getattr(wanted, name))
    if with_masks:
        np.testing.assert_array_equal(masks_read, wanted_masks)


def test_another_key_finds_nothing(tmp_path):
    with checkpoint(tmp_path, "key", 10) as kept:
        save(kept, half_measured())
    density, _ = restored(tmp_path, "other")
    assert density.known_tiles() == 0


@pytest.mark.parametrize("length", [0, 10, 400])
def test_an_archive_cut_short_counts_as_none(tmp_path, length):
    with checkpoint(tmp_path, "key", 10) as kept:
        save(kept, half_measured())
    archive = tmp_path / FOLDER / "key.npz"
    archive.write_bytes(archive.read_bytes()[:length])
    density, _ = restored(tmp_path, "key")
    assert density.known_tiles() == 0


def test_an_array_whose_header_does_not_end_counts_as_none(tmp_path):
    with checkpoint(tmp_path, "key", 10) as kept:
        save(kept, half_measured())
    header = b"{'descr': '<i8', 'fortran_order': False, 'shape': (3, 6, 8),NaN".ljust(117) + b"\n"
    array = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + bytes(1152)
    with zipfile.ZipFile(tmp_path / FOLDER / "key.npz", "w") as archive:
        for name in ("outlined_px", "valid_px", "status", "places"):
            archive.writestr(f"{name}.npy", array)
    density, _ = restored(tmp_path, "key")
    assert density.known_tiles() == 0


def test_masks_cut_short_count_as_none(tmp_path):
    with (
        checkpoint(tmp_path, "key", 10) as kept,
        MaskStore(GRID, 100, path=kept.masks_path) as masks,
    ):
        save(kept, half_measured(masks), masks)
    (tmp_path / FOLDER / "key.masks").write_bytes(b"")
    density, _ = restored(tmp_path, "key", with_masks=True)
    assert density.known_tiles() == 0


def test_a_map_of_another_grid_counts_as_none(tmp_path):
    with checkpoint(tmp_path, "key", 10) as kept:
        save(kept, DensityMap(GRID, 100, 25))
    density, _ = restored(tmp_path, "key")
    assert density.known_tiles() == 0


def test_it_is_saved_when_it_is_due_and_not_before(tmp_path):
    archive = tmp_path / FOLDER / "key.npz"
    with checkpoint(tmp_path, "key", 1000) as kept:
        kept.hold(half_measured())
        kept.feed(BLURRED)
        assert not archive.exists()
    with checkpoint(tmp_path, "key", 0.001) as kept:
        time.sleep(0.002)
        kept.hold(half_measured())
        kept.feed(BLURRED)
        assert archive.exists()


def test_a_run_at_its_end_leaves_nothing(tmp_path):
    with (
        checkpoint(tmp_path, "key", 10) as kept,
        MaskStore(GRID, 100, path=kept.masks_path) as masks,
    ):
        save(kept, half_measured(masks), masks)
        kept.finished = True
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_removed_spoils_no_run(tmp_path):
    with checkpoint(tmp_path, "key", 10) as kept:
        (tmp_path / FOLDER / "key.npz").mkdir()  # as a file that another program holds open
        kept.finished = True


def spoil(kept, error: GlioError) -> None:
    save(kept, half_measured())
    raise error


def test_a_damaged_slide_leaves_nothing(tmp_path):
    with pytest.raises(DamagedSlideError), checkpoint(tmp_path, "key", 10) as kept:
        spoil(kept, DamagedSlideError("damaged"))
    assert list(tmp_path.iterdir()) == []


def test_any_other_error_leaves_what_was_saved(tmp_path):
    with pytest.raises(GlioError), checkpoint(tmp_path, "key", 10) as kept:
        spoil(kept, GlioError("disk full"))
    assert (tmp_path / FOLDER / "key.npz").exists()


def test_of_two_runs_at_once_one_keeps_nothing(tmp_path):
    with checkpoint(tmp_path, "key", 10) as kept:
        save(kept, half_measured())
        with checkpoint(tmp_path, "key", 10) as other:
            assert other is None
    assert (tmp_path / FOLDER / "key.npz").exists()


def test_a_folder_that_cannot_be_written_keeps_nothing(tmp_path):
    (tmp_path / FOLDER).write_text("in the way")
    with checkpoint(tmp_path, "key", 10) as kept:
        assert kept is None


def test_what_was_left_long_ago_is_removed(tmp_path):
    home = tmp_path / FOLDER
    home.mkdir()
    for name, age_s in (("old.npz", STALE_S + 60), ("new.npz", 60), (".key.x.npz", 0)):
        (home / name).touch()
        os.utime(home / name, (time.time() - age_s,) * 2)
    with checkpoint(tmp_path, "key", 10):
        pass
    assert [path.name for path in home.iterdir()] == ["new.npz"]


@pytest.mark.skipif(sys.platform == "win32", reason="no limit of file size for a full disk")
def test_a_full_disk_is_no_error_and_keeps_the_earlier_archive(tmp_path):
    program = f"""
import resource, signal, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_checkpoint import *
folder = Path({str(tmp_path)!r})
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
with checkpoint(folder, "key", 10) as kept:
    save(kept, half_measured())
    resource.setrlimit(resource.RLIMIT_FSIZE, (500, 500))
    save(kept, DensityMap(GRID, 100, 50))
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
    density, _ = restored(tmp_path, "key")
    assert density.known_tiles() == 5
