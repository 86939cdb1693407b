"""Tiles to check with: cut alike, kept apart, at the card's scale, and of the right stain."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from glioexport.checktiles import CALIBRATION_WINDOWS, COMPARISON_WINDOWS, load_check_tiles
from gliorun import demo
from gliorun.errors import GlioError
from gliorun.model.card import ModelCard

from .small import SIDE, read_rows, write_index

CARD = ModelCard("any", SIDE, 0.25, None)


def save(folder: Path, *images: np.ndarray) -> Path:
    folder.mkdir(exist_ok=True)
    for number, image in enumerate(images):
        Image.fromarray(image).save(folder / f"{number:02}.png")
    return folder


def tissue(seed: int, side: int = 96) -> np.ndarray:
    return demo.draw_tissue(np.full((side, side), 0.2, dtype=np.float32), seed).pixels


def test_index_train_calibrates_and_val_compares(small_tiles: Path) -> None:
    checks = load_check_tiles(small_tiles, CARD)
    # 96 x 160 px give 2 x 3 windows, of which the first four of each tile are taken
    assert (len(checks.calibration), len(checks.comparison)) == (16, 8)
    assert {window.shape for window in checks.calibration} == {(SIDE, SIDE, 3)}
    assert checks.source == small_tiles.name


def test_images_without_an_index_take_turns(small_tiles: Path) -> None:
    checks = load_check_tiles(small_tiles / "images", ModelCard("any", 96, 0.25, None))
    assert (len(checks.calibration), len(checks.comparison)) == (6, 6)
    calibrated = {window.tobytes() for window in checks.calibration}
    assert not calibrated & {window.tobytes() for window in checks.comparison}


def test_synthetic_tiles_are_not_calibrated_and_compared_on_alike() -> None:
    checks = load_check_tiles(None, CARD)
    calibrated = {window.tobytes() for window in checks.calibration}
    assert len(calibrated) == 6
    assert not calibrated & {window.tobytes() for window in checks.comparison}


def test_many_images_give_a_bounded_number_of_windows_from_all_of_them(tmp_path: Path) -> None:
    images = [tissue(0)] * 40 + [tissue(1)] * 40
    checks = load_check_tiles(save(tmp_path / "many", *images), ModelCard("any", 32, 0.25, None))
    assert len(checks.calibration) == CALIBRATION_WINDOWS
    assert len(checks.comparison) == COMPARISON_WINDOWS
    ends = {checks.comparison[0].tobytes(), checks.comparison[-1].tobytes()}
    assert len(ends) == 2


def test_tiles_of_another_scale_are_brought_to_the_cards(small_tiles: Path, tmp_path: Path) -> None:
    rows = [
        {
            **row,
            "image": str(small_tiles / row["image"]),
            "label": str(small_tiles / row["label"]),
            "mpp_nominal": "0.125",
        }
        for row in read_rows(small_tiles)
    ]
    write_index(tmp_path, rows)
    checks = load_check_tiles(tmp_path, CARD)
    # 96 x 160 px become 48 x 80: a row of 2 windows, the missing part of it mirrored
    assert (len(checks.calibration), len(checks.comparison)) == (8, 4)


def test_names_a_folder_that_is_missing_or_empty(tmp_path: Path) -> None:
    with pytest.raises(GlioError, match="none: no such folder"):
        load_check_tiles(tmp_path / "none", CARD)
    with pytest.raises(GlioError, match="at least two images"):
        load_check_tiles(save(tmp_path / "empty"), CARD)
    with pytest.raises(GlioError, match="at least two images"):
        load_check_tiles(save(tmp_path / "one", tissue(0)), CARD)


GREY = np.full((96, 96, 3), 128, dtype=np.uint8)
GREY[:10] = 240  # glass; without any, grey is taken for the glass of a dark scanner
BROWN = np.full((96, 96, 3), (150, 100, 60), dtype=np.uint8)  # diaminobenzidine
FLUORESCENT = np.full((96, 96, 3), (5, 8, 120), dtype=np.uint8)
GLASS = np.full((96, 96, 3), 245, dtype=np.uint8)


@pytest.mark.parametrize("picture", [GREY, BROWN, FLUORESCENT])
def test_pictures_of_another_colour_are_refused_with_the_way_out(
    tmp_path: Path, picture: np.ndarray
) -> None:
    folder = save(tmp_path / "other", picture, picture, picture, tissue(0))
    with pytest.raises(GlioError, match=r"3 have another colour; pass others, or --any-stain"):
        load_check_tiles(folder, CARD)
    assert load_check_tiles(folder, CARD, any_stain=True).calibration


def test_glass_is_refused_as_hardly_any_tissue(tmp_path: Path) -> None:
    folder = save(tmp_path / "glass", GLASS, GLASS, GLASS, tissue(0))
    with pytest.raises(GlioError, match=r"of 4 slides or images 3 hold hardly any tissue"):
        load_check_tiles(folder, CARD)


def test_a_few_other_pictures_among_tissue_are_let_pass(tmp_path: Path) -> None:
    folder = save(tmp_path / "mixed", GREY, GLASS, tissue(0), tissue(1))
    assert load_check_tiles(folder, CARD).calibration


def test_real_tiles_pass_as_haematoxylin_and_eosin(shared_data: Path, tmp_path: Path) -> None:
    rows = [row for row in read_rows(shared_data) if row["set"] in ("tnbc_curie", "tcga_kong36")]
    for row in rows:
        for name in ("image", "label"):
            row[name] = str(shared_data / row[name])
        row["split"] = "val" if row["set"] == "tnbc_curie" else "train"
    write_index(tmp_path, rows)
    checks = load_check_tiles(tmp_path, CARD)
    assert len(checks.comparison) == COMPARISON_WINDOWS
