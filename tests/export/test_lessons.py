"""Which tiles teach and which validate, and how masks compare with the labels."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from glioexport.dataset import LabelledTile, in_runtime_colour, load_tiles, read_index
from glioexport.lessons import (
    choose,
    compare_by_set,
    intended_use,
    otsu_baseline,
    validate,
)
from gliorun.errors import GlioError
from gliorun.measuring import colour
from gliorun.model.stainstatistic import StainStatistic

from .small import read_rows, write_index, write_tiles


def test_masks_are_compared_set_by_set(small_tiles: Path) -> None:
    tiles = load_tiles(read_index(small_tiles), {}, None)
    renamed = [
        replace(tile, entry=replace(tile.entry, set="b" if i == 0 else "a"))
        for i, tile in enumerate(tiles)
    ]
    agreed = compare_by_set(
        renamed, lambda tile: tile.nuclei if tile.entry.set == "a" else 1 - tile.nuclei
    )
    assert agreed["a"].images == 5
    assert agreed["a"].dice == 1
    assert agreed["b"].dice == 0


@pytest.mark.parametrize("factor", [2, 0.9])
def test_the_baseline_finds_the_same_nuclei_in_tiles_of_another_scale(
    small_tiles: Path, tmp_path: Path, factor: float
) -> None:
    rows = read_rows(small_tiles)
    for row in rows:
        for kind, how in (("image", Image.Resampling.BICUBIC), ("label", Image.Resampling.NEAREST)):
            drawn = Image.open(small_tiles / row[kind])
            path = tmp_path / f"{kind}{row['id']}.png"
            drawn.resize((round(160 * factor), round(96 * factor)), how).save(path)
            row[kind] = path.name
        row["mpp_nominal"] = str(0.25 / factor)
    write_index(tmp_path, rows)
    said: list[str] = []
    (ours, theirs) = (
        otsu_baseline(load_tiles(read_index(folder), {}, None), said.append)["drawn"]
        for folder in (small_tiles, tmp_path)
    )
    assert ours.dice > 0.85
    assert theirs.dice == pytest.approx(ours.dice, abs=0.03)
    assert theirs.density_bias_points == pytest.approx(ours.density_bias_points, abs=1)
    assert said == [f"haematoxylin Otsu on drawn: Dice {one.dice:.3f}" for one in (ours, theirs)]


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


def test_a_card_gets_intervals_by_patient_and_the_worst_tiles(small_tiles: Path) -> None:
    tiles = load_tiles(read_index(small_tiles), {}, None)
    broken = tiles[3].entry.id

    def segment(tile: LabelledTile) -> NDArray[np.uint8]:
        return np.zeros_like(tile.nuclei) if tile.entry.id == broken else tile.nuclei

    report = validate(tiles, segment)["drawn"]
    plain = compare_by_set(tiles, segment)["drawn"]
    assert {name: report[name] for name in asdict(plain)} == asdict(plain)
    assert report["dice"] == pytest.approx(5 / 6)
    low, high = report["intervals"]["dice"]
    assert (low, high) == (0.5, 1)  # three patients of two tiles, one tile of one missed
    assert report["intervals"]["density_bias_points"][1] == 0
    assert len(report["worst"]) == 5
    worst = report["worst"][0]
    assert (worst["id"], worst["dice"]) == (broken, 0)
    assert worst["density_bias_points"] < 0
    json.dumps(report, allow_nan=False)  # plain values


def test_a_single_tile_has_no_interval(small_tiles: Path) -> None:
    tiles = load_tiles(read_index(small_tiles)[:1], {}, None)
    assert validate(tiles, lambda tile: tile.nuclei)["drawn"]["intervals"] is None


@pytest.mark.parametrize(
    ("licence", "commercial"),
    [
        ("CC0", True),
        ("CC BY 4.0", True),
        ("CC BY-SA 4.0", True),
        ("CC BY-NC-SA 4.0", False),
        ("CC BY-NC 4.0", False),
        ("unknown (annotations); TCGA open access (images)", False),
        ("", False),
    ],
)
def test_a_model_may_be_used_for_no_more_than_its_tiles(licence: str, commercial: bool) -> None:
    use = intended_use([{"set": "a", "licence": "CC0"}, {"set": "b", "licence": licence}])
    assert use.endswith("; not a medical device.")
    assert ("non-commercial" not in use) == commercial


@pytest.mark.parametrize("source", [{}, {"set": "older"}, "older"])
def test_a_source_without_a_licence_is_not_free(source: object) -> None:
    assert "non-commercial" in intended_use([{"set": "a", "licence": "CC0"}, source])


def test_in_the_runtimes_colour_the_network_says_where_the_ground_is(small_tiles: Path) -> None:
    """The tiles of a slide are measured together, and what is not nucleus meets the target."""
    tiles = load_tiles(read_index(small_tiles), {}, None)
    target = StainStatistic((0.4, 0.9, 0.4))
    shown = in_runtime_colour(tiles, target, lambda image: (image[..., 0] < 80).astype(np.uint8))
    assert [tile.entry for tile in shown] == [tile.entry for tile in tiles]
    counts = colour.empty_levels()
    for tile in shown[:2]:  # of one slide
        opaque = np.full(tile.nuclei.shape, 255, np.uint8)
        colour.add_levels(np.dstack([tile.pixels, opaque]), counts, tile.nuclei)
    measured = colour.measure(counts)
    assert measured is not None
    np.testing.assert_allclose(measured.ground, target.ground, atol=0.05)
