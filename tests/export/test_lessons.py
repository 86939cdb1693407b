"""Which tiles teach and which validate, and how masks compare with the labels."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from glioexport.dataset import load_tiles, read_index
from glioexport.lessons import choose, compare_by_set
from gliorun.errors import GlioError

from .small import read_rows, write_index, write_tiles


def test_masks_are_compared_set_by_set(small_tiles: Path) -> None:
    tiles = load_tiles(read_index(small_tiles), {}, None)
    renamed = [
        replace(tile, entry=replace(tile.entry, set="b" if i == 0 else "a"))
        for i, tile in enumerate(tiles)
    ]
    found = compare_by_set(
        renamed, lambda tile: tile.nuclei if tile.entry.set == "a" else 1 - tile.nuclei
    )
    assert found["a"].images == 5
    assert found["a"].dice == 1
    assert found["b"].dice == 0


@pytest.mark.parametrize("split", ["train", "val"])
def test_names_a_split_without_tiles(small_tiles: Path, tmp_path: Path, split: str) -> None:
    rows = [row for row in read_rows(small_tiles) if row["split"] != split]
    for row in rows:
        row["image"], row["label"] = (str(small_tiles / row[k]) for k in ("image", "label"))
    write_index(tmp_path, rows)
    with pytest.raises(GlioError, match="needs tiles of the split train and of the split val"):
        choose(tmp_path)


def test_tiles_of_bare_glass_are_a_fault_the_user_can_act_on(tmp_path: Path) -> None:
    write_tiles(tmp_path)
    for number in range(6):
        Image.new("RGB", (160, 96), "white").save(tmp_path / "images" / f"{number}.png")
    with pytest.raises(GlioError, match="tissue"):
        choose(tmp_path)


def test_a_set_to_hold_out_that_is_not_there_is_named(small_tiles: Path) -> None:
    with pytest.raises(GlioError, match="elsewhere"):
        choose(small_tiles, ["elsewhere"])
