"""The index and its tiles: what is there is read, what is missing is named."""

from __future__ import annotations

import shutil
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from glioexport.checktiles import load_check_tiles
from glioexport.clean import clean
from glioexport.dataset import (
    COLUMNS,
    Entry,
    as_runtime,
    load_tiles,
    read_index,
    read_nuclei,
    read_rgba,
    stain_statistics,
)
from gliorun import demo
from gliorun.errors import GlioError
from gliorun.measuring import colour
from gliorun.model.card import ModelCard
from gliorun.model.stainstatistic import StainStatistic
from gliorun.qualitylimits import QualityLimits

from .small import read_rows, write_index


@pytest.fixture
def tiles(small_tiles: Path, tmp_path: Path) -> Path:
    """Copy of the drawn tiles, free to be damaged."""
    return Path(shutil.copytree(small_tiles, tmp_path / "tiles"))


def test_reads_every_line_with_absolute_paths(small_tiles: Path) -> None:
    entries = read_index(small_tiles)
    assert [e.id for e in entries] == ["0", "1", "2", "3", "4", "5"]
    assert [e.split for e in entries] == ["train"] * 4 + ["val"] * 2
    assert {e.licence for e in entries} == {"CC0"}
    assert entries[3].image == small_tiles / "images" / "3.png"
    assert entries[3].label == small_tiles / "labels" / "3.png"


def test_tiles_of_one_patient_share_a_stain_group_and_others_do_not(small_tiles: Path) -> None:
    groups = [e.stain_group for e in read_index(small_tiles)]
    assert groups == ["drawn/p0"] * 2 + ["drawn/p1"] * 2 + ["drawn/p2"] * 2
    alone = Entry("drawn", "9", "", "train", "", Path(), Path())
    assert alone.stain_group == "drawn/9"


def test_names_a_missing_index(tmp_path: Path) -> None:
    with pytest.raises(GlioError, match=r"no index\.csv") as caught:
        read_index(tmp_path)
    assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize("column", COLUMNS)
def test_names_a_missing_column(tiles: Path, column: str) -> None:
    rows = [{k: v for k, v in row.items() if k != column} for row in read_rows(tiles)]
    write_index(tiles, rows)
    with pytest.raises(GlioError, match=rf"index\.csv: no column {column}; add it$"):
        read_index(tiles)


def test_names_every_missing_column(tiles: Path) -> None:
    write_index(tiles, [{k: row[k] for k in ("set", "id")} for row in read_rows(tiles)])
    with pytest.raises(GlioError, match=r"no column patient, split, licence, image, label; add"):
        read_index(tiles)


def test_an_empty_index_lacks_every_column(tiles: Path) -> None:
    (tiles / "index.csv").write_text("", encoding="utf-8")
    with pytest.raises(GlioError, match="no column set, id"):
        read_index(tiles)


@pytest.mark.parametrize(
    ("encoding", "comma", "said"),
    [
        ("cp1252", ",", r"cannot be read as CSV in UTF-8 \(.*\); save it so \(in Excel as 'CSV UT"),
        ("utf-16", ",", r"cannot be read as CSV in UTF-8 \(.*\); save it so \(in Excel as 'CSV UT"),
        ("utf-8-sig", ";", "has semicolons between its columns; save it with commas$"),
    ],
)
def test_an_index_as_excel_saves_it_is_refused_in_one_line(
    tiles: Path, tmp_path: Path, encoding: str, comma: str, said: str
) -> None:
    index = tiles / "index.csv"
    text = index.read_text(encoding="utf-8").replace("drawn", "Würzburg").replace(",", comma)
    index.write_bytes(text.encode(encoding))
    card = ModelCard("any", 64, 0.25, colour_target=None)
    for read in (
        read_index,
        lambda folder: clean(folder, tmp_path / "out", QualityLimits()),
        lambda folder: load_check_tiles(folder, card),
    ):
        with pytest.raises(GlioError, match=said) as caught:
            read(tiles)
        assert "\n" not in str(caught.value)
        assert str(index) in str(caught.value)


def test_a_name_longer_than_a_disk_takes_is_a_missing_file(tiles: Path) -> None:
    index = tiles / "index.csv"
    index.write_text(
        index.read_text(encoding="utf-8").replace("4.png", "4" * 300 + ".png"), "utf-8"
    )
    with pytest.raises(GlioError, match="which does not exist"):
        read_index(tiles)


@pytest.mark.parametrize("file", ["images/2.png", "labels/4.png"])
def test_names_a_missing_file(tiles: Path, file: str) -> None:
    (tiles / file).unlink()
    with pytest.raises(GlioError, match="which does not exist") as caught:
        read_index(tiles)
    assert str(tiles / file) in str(caught.value)


def test_a_line_that_is_cut_short_is_a_fault_the_user_can_act_on(tiles: Path) -> None:
    with (tiles / "index.csv").open("a", encoding="utf-8") as lines:
        lines.write("drawn,6,p3,train\n")
    with pytest.raises(GlioError, match=r"index\.csv"):
        read_index(tiles)


@pytest.mark.parametrize("read", [read_rgba, read_nuclei])
def test_names_a_file_that_is_not_an_image(tmp_path: Path, read) -> None:
    path = tmp_path / "tile.png"
    path.write_text("no image", encoding="utf-8")
    with pytest.raises(GlioError, match="cannot be read") as caught:
        read(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("read", [read_rgba, read_nuclei])
@pytest.mark.parametrize("kind", ["cut header", "text bomb", "cut pixels", "cut chunk"])
def test_names_a_damaged_image_whatever_pillow_makes_of_it(tmp_path: Path, read, kind: str) -> None:
    path = tmp_path / "tile.png"
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    png = path.read_bytes()
    bomb = b"a\0\0" + zlib.compress(bytes(80_000_000))
    path.write_bytes(
        {
            "cut header": png[:8] + chunk(b"IHDR", png[16:24]),
            "text bomb": png[:33] + chunk(b"zTXt", bomb) + png[33:],
            "cut pixels": png[:2000],
            "cut chunk": png[:40],
        }[kind]
    )
    with pytest.raises(GlioError, match="cannot be read") as caught:
        read(path)
    assert "\n" not in str(caught.value)


def chunk(kind: bytes, content: bytes) -> bytes:
    """Return a chunk of a PNG file."""
    body = kind + content
    return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))


def test_any_label_value_above_zero_is_a_nucleus(tmp_path: Path) -> None:
    label = np.array([[0, 1, 2], [255, 0, 7]], dtype=np.uint8)
    Image.fromarray(label).save(tmp_path / "label.png")
    np.testing.assert_array_equal(read_nuclei(tmp_path / "label.png"), [[0, 1, 1], [1, 0, 1]])


def test_a_label_of_16_bits_counts_its_nuclei(tmp_path: Path) -> None:
    label = np.array([[0, 256], [65535, 0]], dtype=np.uint16)
    Image.fromarray(label).save(tmp_path / "label.png")
    np.testing.assert_array_equal(read_nuclei(tmp_path / "label.png"), [[0, 1], [1, 0]])


def test_a_label_with_a_colour_table_counts_its_indices(tmp_path: Path) -> None:
    label = Image.fromarray(np.array([[0, 1], [2, 0]], dtype=np.uint8))
    label.putpalette([255, 255, 255, 0, 0, 0, 9, 9, 9])
    label.save(tmp_path / "label.png")
    np.testing.assert_array_equal(read_nuclei(tmp_path / "label.png"), [[0, 1], [1, 0]])


@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_an_image_and_its_label_are_turned_alike(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    turns = {1: 0, 3: 2, 6: 1}[orientation]
    label = np.zeros((4, 6), np.uint8)
    label[0, 1:3] = 1
    colours = label[..., None] * np.array([30, 60, 90], np.uint8)
    Image.fromarray(np.rot90(label, turns).copy()).save(tmp_path / "label.png", exif=exif)
    Image.fromarray(np.rot90(colours, turns).copy()).save(tmp_path / "tile.png", exif=exif)
    np.testing.assert_array_equal(read_nuclei(tmp_path / "label.png"), label)
    np.testing.assert_array_equal(read_rgba(tmp_path / "tile.png")[..., :3], colours)


def test_without_a_target_the_pixels_stay_as_they_were(small_tiles: Path) -> None:
    entries = read_index(small_tiles)
    for entry, tile in zip(entries, load_tiles(entries, {}, None), strict=True):
        np.testing.assert_array_equal(tile.pixels, np.asarray(Image.open(entry.image)))
        np.testing.assert_array_equal(tile.nuclei, np.asarray(Image.open(entry.label)) > 0)


def test_with_a_target_every_group_meets_it(small_tiles: Path) -> None:
    entries = read_index(small_tiles)
    statistics = stain_statistics(entries)
    assert set(statistics) == {"drawn/p0", "drawn/p1", "drawn/p2"}
    target = StainStatistic((0.3, 0.6, 0.3))
    tiles = load_tiles(entries, statistics, target)
    counts = colour.empty_levels()
    for tile in tiles[:2]:
        opaque = np.full((*tile.nuclei.shape, 1), 255, np.uint8)
        rgba = np.concatenate([tile.pixels, opaque], axis=-1)
        colour.add_levels(rgba, counts, tile.nuclei)
    measured = colour.measure(counts)
    np.testing.assert_allclose(measured.ground, target.ground, atol=0.03)


def test_a_group_with_too_little_tissue_has_no_statistic_and_is_left_alone(tiles: Path) -> None:
    for number in (0, 1):
        Image.new("RGB", (160, 96), "white").save(tiles / "images" / f"{number}.png")
    entries = read_index(tiles)
    statistics = stain_statistics(entries)
    assert set(statistics) == {"drawn/p1", "drawn/p2"}
    (tile, *_) = load_tiles(entries, statistics, statistics["drawn/p1"])
    assert (tile.pixels == 255).all()


def test_names_a_label_of_another_size(tiles: Path) -> None:
    Image.new("L", (90, 160)).save(tiles / "labels" / "1.png")
    entries = read_index(tiles)
    with pytest.raises(GlioError, match=r"\(160, 90\) does not fit the image \(96, 160\)"):
        load_tiles(entries, {}, None)


def test_a_label_in_colour_marks_its_colours(tiles: Path) -> None:
    label = Image.new("RGB", (160, 96))
    label.paste((0, 0, 1), (20, 10, 50, 30))
    label.save(tiles / "labels" / "1.png")
    tile = next(t for t in load_tiles(read_index(tiles), {}, None) if t.entry.label.stem == "1")
    wanted = np.zeros((96, 160), np.uint8)
    wanted[10:30, 20:50] = 1
    np.testing.assert_array_equal(tile.nuclei, wanted)


@pytest.mark.parametrize(("mpp", "factor"), [("0.5", 2.0), ("0.125", 0.5), ("0.252", 1.0)])
def test_tiles_of_another_scale_are_brought_to_the_training_scale(
    small_tiles: Path, tmp_path: Path, mpp: str, factor: float
) -> None:
    rows = read_rows(small_tiles)
    for row in rows:
        row["image"], row["label"] = (str(small_tiles / row[k]) for k in ("image", "label"))
        row["mpp_nominal"] = mpp
    write_index(tmp_path, rows)
    before = load_tiles(read_index(small_tiles), {}, None)[0]
    after = load_tiles(read_index(tmp_path), {}, None)[0]
    assert after.nuclei.shape == tuple(round(side * factor) for side in before.nuclei.shape)
    assert after.pixels.shape[:2] == after.nuclei.shape
    assert after.nuclei.mean() == pytest.approx(before.nuclei.mean(), abs=0.01)


@pytest.mark.parametrize("mpp", ["fine", "0", "-0.25", "nan", "25"])
def test_names_the_tile_whose_scale_is_mad(small_tiles: Path, tmp_path: Path, mpp: str) -> None:
    rows = read_rows(small_tiles)
    for row in rows:
        row["image"], row["label"] = (str(small_tiles / row[k]) for k in ("image", "label"))
        row["mpp_nominal"] = mpp
    write_index(tmp_path, rows)
    with pytest.raises(GlioError, match="mpp_nominal of 0"):
        read_index(tmp_path)


def test_as_the_runtime_the_ground_meets_the_target() -> None:
    target = StainStatistic((0.4, 0.9, 0.4))

    def dark(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return (image[..., 0] < 110).astype(np.uint8)

    image = demo.draw_tissue(np.full((160, 240), 0.2, np.float32)).pixels
    (moved,) = as_runtime([image], dark, target)
    counts = colour.empty_levels()
    opaque = np.full(moved.shape[:2], 255, np.uint8)
    colour.add_levels(np.dstack([moved, opaque]), counts, dark(moved))
    np.testing.assert_allclose(colour.measure(counts).ground, target.ground, atol=0.03)
    np.testing.assert_array_equal(as_runtime([image], dark, None)[0], image)
