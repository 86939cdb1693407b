"""Sparse tiles are made once, from the training tiles, and hold few nuclei."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from glioexport.dataset import load_tiles, read_index
from glioexport.sparse import sparse_tiles
from gliorun.model.stainstatistic import StainStatistic


def test_sparse_tiles_hold_fewer_nuclei_and_are_made_once(
    small_tiles: Path, tmp_path: Path
) -> None:
    entries = read_index(small_tiles)
    said: list[str] = []
    made = sparse_tiles(entries, {}, None, tmp_path / "sparse", said.append)
    assert len(said) == len(entries)
    dense = load_tiles(entries, {}, None)
    nuclei = {tile.entry.id: tile.nuclei.mean() for tile in dense}
    assert made
    for tile in made:
        assert tile.nuclei.mean() < 0.6 * nuclei[tile.entry.id]
        assert set(np.unique(tile.nuclei)) <= {0, 1}
        # nuclei are the dark part in red: where the label has none, hardly any is left
        assert (tile.pixels[..., 0] < 110).mean() < tile.nuclei.mean() + 0.03
    said.clear()
    again = sparse_tiles(entries, {}, None, tmp_path / "sparse", said.append)
    assert not said
    for ours, theirs in zip(again, made, strict=True):
        np.testing.assert_array_equal(ours.pixels, theirs.pixels)
        np.testing.assert_array_equal(ours.nuclei, theirs.nuclei)


def test_sparse_tiles_have_the_colour_of_their_slide(small_tiles: Path, tmp_path: Path) -> None:
    entries = read_index(small_tiles)
    stain = {entry.stain_group: StainStatistic((0.2, 0.6, 0.3)) for entry in entries}
    folder = tmp_path / "sparse"
    plain = sparse_tiles(entries, {}, None, folder, print)
    doubled = sparse_tiles(entries, stain, StainStatistic((0.4, 1.2, 0.6)), folder, print)
    assert doubled[0].pixels.mean() < plain[0].pixels.mean() - 20
