"""Tiles that are not fit are discarded with a reason; nothing of the user's is touched."""

from __future__ import annotations

import csv
import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from conftest import SHARP_SETS
from glioexport.clean import clean, summary
from glioexport.dataset import read_index
from gliorun import demo
from gliorun.errors import GlioError
from gliorun.qualitylimits import QualityLimits

from .small import read_rows, write_index, write_tiles

LIMITS = QualityLimits()
SIDE = 256


def tissue(seed: int = 0) -> NDArray[np.uint8]:
    return demo.draw_tissue(np.full((SIDE, SIDE), 0.15, np.float32), seed).pixels


def out_of_focus(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.asarray(Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(7)))


def inked(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.where(np.arange(SIDE)[None, :, None] < 100, np.uint8([20, 40, 160]), pixels)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Images of two sound tiles and of one for every defect, without an index."""
    data = tmp_path / "images"
    data.mkdir()
    for name, pixels in {
        "b sound.png": tissue(),
        "a blurred.png": out_of_focus(tissue(1)),
        "c inked.jpg": inked(tissue(2)),
        "d glass.tif": np.full((SIDE, SIDE, 3), 244, np.uint8),
        "e sound.jpeg": tissue(3),
        "f one pixel.png": tissue()[:1, :1],
    }.items():
        Image.fromarray(pixels).save(data / name)
    (data / "g broken.png").write_bytes((data / "b sound.png").read_bytes()[:3000])
    (data / "notes.txt").write_text("no image", encoding="utf-8")
    return data


@pytest.fixture
def labelled(tmp_path: Path) -> Path:
    """Labelled tiles with an index.csv, of which tiles 1 and 4 are out of focus."""
    data = tmp_path / "data"
    data.mkdir()
    write_tiles(data, (SIDE, SIDE))
    for number in (1, 4):
        path = data / "images" / f"{number}.png"
        Image.fromarray(out_of_focus(np.asarray(Image.open(path)))).save(path)
    return data


def table(out: Path) -> list[dict[str, str]]:
    with (out / "clean.csv").open(newline="", encoding="utf-8") as lines:
        return list(csv.DictReader(lines))


def fingerprint(folder: Path) -> dict[str, str]:
    return {
        str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


def test_every_image_of_a_folder_is_judged_with_its_reason(folder: Path, tmp_path: Path) -> None:
    judged = clean(folder, tmp_path / "deep" / "out", LIMITS)
    rows = table(tmp_path / "deep" / "out")
    assert [(row["image"], row["decision"], row["reason"]) for row in rows] == [
        ("a blurred.png", "discarded", "blurred"),
        ("b sound.png", "kept", ""),
        ("c inked.jpg", "discarded", "pen"),
        ("d glass.tif", "discarded", "blank"),
        ("e sound.jpeg", "kept", ""),
        ("f one pixel.png", "discarded", "blank"),
        ("g broken.png", "discarded", "unreadable"),
    ]
    assert summary(judged) == "2 of 7 images kept (2 blank, 1 blurred, 1 pen, 1 unreadable)"
    assert not (tmp_path / "deep" / "out" / "index.csv").exists()


def test_every_score_stands_in_the_table_and_none_where_it_cannot_be_told(
    folder: Path, tmp_path: Path
) -> None:
    judged = clean(folder, tmp_path / "out", LIMITS)
    rows = table(tmp_path / "out")
    names = ["pen", "red", "grey", "tissue", "fold", "edge_px"]
    assert list(rows[0]) == ["image", "decision", "reason", *names]
    for row, one in zip(rows, judged, strict=True):
        for name in names:
            score = getattr(one.quality.scores, name)
            assert row[name] == ("" if np.isnan(score) else f"{score:.4f}")
    assert float(rows[0]["edge_px"]) > LIMITS.max_edge_px > float(rows[1]["edge_px"])
    assert {rows[6][name] for name in names} == {""}


def test_a_sound_set_is_kept_whole(small_tiles: Path, tmp_path: Path) -> None:
    judged = clean(small_tiles, tmp_path / "out", LIMITS)
    assert summary(judged) == "6 of 6 images kept"
    assert [e.id for e in read_index(tmp_path / "out")] == list("012345")


def test_the_new_index_holds_the_kept_lines_and_leads_to_the_same_files(
    labelled: Path, tmp_path: Path
) -> None:
    out = tmp_path / "else" / "where"
    clean(labelled, out, LIMITS)
    before = {entry.id: entry for entry in read_index(labelled)}
    after = read_index(out)
    assert [entry.id for entry in after] == ["0", "2", "3", "5"]
    for entry in after:
        was = before[entry.id]
        assert entry.image.samefile(was.image)
        assert entry.label.samefile(was.label)
        assert (entry.patient, entry.split, entry.mpp) == (was.patient, was.split, was.mpp)
        assert not Path(
            next(r["image"] for r in read_rows(out) if r["id"] == entry.id)
        ).is_absolute()


def test_index_and_images_can_be_moved_together(labelled: Path, tmp_path: Path) -> None:
    clean(labelled, labelled / "clean", LIMITS)
    moved = labelled.rename(tmp_path / "moved")
    assert len(read_index(moved / "clean")) == 4


def test_further_columns_and_their_order_are_kept(labelled: Path, tmp_path: Path) -> None:
    rows = [
        {"note": f"n, {row['id']}", **row, "mpp_nominal": "0.25"} for row in read_rows(labelled)
    ]
    write_index(labelled, rows)
    clean(labelled, tmp_path / "out", LIMITS)
    kept_rows = read_rows(tmp_path / "out")
    assert list(kept_rows[0]) == list(rows[0])
    assert [row["note"] for row in kept_rows] == ["n, 0", "n, 2", "n, 3", "n, 5"]


@pytest.mark.skipif(os.name == "nt", reason="symbolic links need rights on Windows")
def test_paths_hold_through_symbolic_links(labelled: Path, tmp_path: Path) -> None:
    real = tmp_path / "a" / "b" / "c"
    real.mkdir(parents=True)
    (tmp_path / "link").symlink_to(real)
    (tmp_path / "data-link").symlink_to(labelled)
    clean(tmp_path / "data-link", tmp_path / "link", LIMITS)
    assert len(read_index(tmp_path / "link")) == len(read_index(real)) == 4


def test_a_relative_folder_is_read_and_written(
    labelled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    clean(Path("data"), Path("out"), LIMITS)
    assert [row["image"] for row in table(tmp_path / "out")][:2] == ["images/0.png", "images/1.png"]
    assert len(read_index(Path("out"))) == 4


def test_nothing_of_the_user_s_is_changed(labelled: Path, tmp_path: Path) -> None:
    before = fingerprint(labelled)
    clean(labelled, tmp_path / "out", LIMITS)
    assert fingerprint(labelled) == before


def test_cleaning_again_replaces_its_own_files_and_gives_the_same(
    labelled: Path, tmp_path: Path
) -> None:
    clean(labelled, tmp_path / "out", QualityLimits(max_edge_px=100))
    assert len(read_index(tmp_path / "out")) == 6
    clean(labelled, tmp_path / "out", LIMITS)
    first = fingerprint(tmp_path / "out")
    clean(labelled, tmp_path / "out", LIMITS)
    assert fingerprint(tmp_path / "out") == first
    assert set(first) == {"clean.csv", "index.csv"}


def test_the_images_own_folder_is_refused_as_out(labelled: Path) -> None:
    before = fingerprint(labelled)
    with pytest.raises(GlioError, match="is the folder of the images; pass another"):
        clean(labelled, labelled / "images" / "..", LIMITS)
    assert fingerprint(labelled) == before


def test_an_index_of_another_origin_is_not_overwritten(labelled: Path, tmp_path: Path) -> None:
    other = write_tiles(tmp_path)
    before = (other / "index.csv").read_bytes()
    with pytest.raises(GlioError, match=r"holds an index\.csv that is not of a cleaning"):
        clean(labelled, other, LIMITS)
    assert (other / "index.csv").read_bytes() == before
    assert not (other / "clean.csv").exists()


def test_folds_are_told_by_the_other_images_of_a_patient(labelled: Path, tmp_path: Path) -> None:
    path = labelled / "images" / "0.png"
    pixels = np.asarray(Image.open(path)).astype(float) / 255
    double = (255 * pixels * np.rot90(pixels, 2)).astype(np.uint8)
    Image.fromarray(double).save(path)
    rows = [{**row, "patient": "p"} for row in read_rows(labelled)]
    write_index(labelled, rows)
    clean(labelled, tmp_path / "together", LIMITS)
    assert table(tmp_path / "together")[0]["reason"] == "fold"
    write_index(labelled, [{**row, "patient": ""} for row in rows])
    clean(labelled, tmp_path / "alone", LIMITS)
    assert table(tmp_path / "alone")[0]["reason"] != "fold"


def test_an_image_of_a_coarser_scale_is_not_blurred(folder: Path, tmp_path: Path) -> None:
    """At 20x its pixels are looked at as they are."""
    for file in folder.iterdir():
        if file.name != "b sound.png":
            file.unlink()
    big = demo.draw_tissue(np.full((2 * SIDE, 2 * SIDE), 0.15, np.float32)).pixels
    half = Image.fromarray(big).resize((SIDE, SIDE), Image.Resampling.BOX)
    half.save(folder / "b sound.png")
    (coarse,) = clean(folder, tmp_path / "out", LIMITS, mpp=0.5)
    (fine,) = clean(folder, tmp_path / "out", LIMITS)
    assert coarse.kept
    assert coarse.quality.scores.edge_px > fine.quality.scores.edge_px


def test_a_folder_without_images_is_named(tmp_path: Path) -> None:
    with pytest.raises(GlioError, match="no such folder of images"):
        clean(tmp_path / "none", tmp_path / "out", LIMITS)
    (tmp_path / "empty").mkdir()
    with pytest.raises(GlioError, match="holds no image"):
        clean(tmp_path / "empty", tmp_path / "out", LIMITS)
    assert not (tmp_path / "out").exists()


def test_an_index_without_a_line_is_named(labelled: Path, tmp_path: Path) -> None:
    header = (labelled / "index.csv").read_text(encoding="utf-8").splitlines()[0]
    (labelled / "index.csv").write_text(header + "\n", encoding="utf-8")
    with pytest.raises(GlioError, match=r"index\.csv: names no image"):
        clean(labelled, tmp_path / "out", LIMITS)


@pytest.mark.parametrize("mpp", [0, -1, float("nan"), float("inf")])
def test_a_scale_without_sense_is_refused(folder: Path, tmp_path: Path, mpp: float) -> None:
    with pytest.raises(GlioError, match="mpp is"):
        clean(folder, tmp_path / "out", LIMITS, mpp=mpp)


def test_a_file_as_out_is_one_fault(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file", encoding="utf-8")
    with pytest.raises(GlioError, match="out"):
        clean(folder, tmp_path / "out", LIMITS)
    assert (tmp_path / "out").read_text(encoding="utf-8") == "a file"


def test_a_folder_of_nothing_fit_leaves_an_index_without_lines(
    labelled: Path, tmp_path: Path
) -> None:
    judged = clean(labelled, tmp_path / "out", QualityLimits(max_edge_px=0))
    assert summary(judged) == "0 of 6 images kept (6 blurred)"
    assert read_index(tmp_path / "out") == []


@pytest.mark.release
def test_of_the_labelled_tiles_hardly_any_is_discarded(shared_data: Path, tmp_path: Path) -> None:
    """They are good, those of the pale laboratory and those of the grey scanner too."""
    rows = read_rows(shared_data)
    for row in rows:
        row["image"], row["label"] = (str(shared_data / row[k]) for k in ("image", "label"))
    write_index(tmp_path, rows)
    judged = clean(tmp_path, tmp_path / "out", LIMITS)
    discarded = [one.entry for one in judged if not one.kept]
    assert not [entry.id for entry in discarded if entry.set in SHARP_SETS]
    assert len(discarded) <= 0.01 * len(rows)
    assert len(read_index(tmp_path / "out")) == len(rows) - len(discarded)


def test_cleaning_loads_no_training_library(folder: Path, tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path\n"
        "from glioexport.clean import clean; from gliorun.qualitylimits import QualityLimits\n"
        f"data, out = Path({str(folder)!r}), Path({str(tmp_path / 'out')!r})\n"
        "clean(data, out, QualityLimits())\n"
        "print(sorted({'tensorflow', 'keras', 'openvino', 'onnx'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout.strip() == "[]"
