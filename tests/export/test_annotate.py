"""Annotate, correct, train: nothing a person did is lost, nothing a machine guessed is truth."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from glioexport.annotate import Source, annotate, take_corrections
from glioexport.dataset import load_tiles, read_index, read_nuclei
from glioexport.nuclei_geojson import to_geojson
from gliorun import demo
from gliorun.errors import GlioError
from gliorun.findings.agreement import dice

SIZE = (150, 230)
LAB = Source("lab", "p7", "CC0", 0.25)
OTHER = Source("other", "", "unknown", 0.25)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Folder of two drawn tiles, a.png and b.tif, and a file that is no image."""
    folder = tmp_path / "tiles"
    folder.mkdir()
    for name, seed in (("a.png", 1), ("b.tif", 2)):
        Image.fromarray(tissue(seed).pixels).save(folder / name)
    (folder / "notes.txt").write_text("two tiles", encoding="utf-8")
    return folder


@pytest.fixture
def annotated(images: Path, tmp_path: Path) -> Path:
    """Folder with the candidates of both tiles."""
    annotate([images], tmp_path / "out", LAB, overwrite=False, say=quiet)
    return tmp_path / "out"


def tissue(seed: int) -> demo.SyntheticTissue:
    return demo.draw_tissue(np.full(SIZE, 0.25, np.float32), seed)


def quiet(line: str) -> None:
    """Say nothing."""


def correct(paths: list[Path], out: Path, **options: Any) -> int:
    plain = {"split": "train", "further_classes": (), "overwrite": False, "say": quiet}
    return take_corrections(paths, out, **(plain | options))


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as lines:
        return list(csv.DictReader(lines))


def pixels_of(path: Path) -> NDArray[np.int32]:
    return np.asarray(Image.open(path)).astype(np.int32)


def edit(path: Path, change: Callable[[list[dict[str, Any]]], None]) -> None:
    """Change the features of a GeoJSON file in place, and write them as an array."""
    value = json.loads(path.read_text(encoding="utf-8"))
    features = value if isinstance(value, list) else value["features"]
    change(features)
    path.write_text(json.dumps(features), encoding="utf-8")


def rectangle(left: float, top: float, right: float, bottom: float) -> dict[str, Any]:
    """Return an object that a person drew: no class."""
    ring = [[left, top], [right, top], [right, bottom], [left, bottom], [left, top]]
    geometry = {"type": "Polygon", "coordinates": [ring]}
    return {"type": "Feature", "geometry": geometry, "properties": {"objectType": "annotation"}}


def everything(folder: Path) -> dict[Path, bytes]:
    return {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_writes_labels_geojson_and_a_line_for_every_tile(images: Path, tmp_path: Path) -> None:
    said: list[str] = []
    out = tmp_path / "deep" / "out"
    total = annotate([images], out, LAB, overwrite=False, say=said.append)
    first, second = table(out / "candidates.csv")
    assert total == int(first["nuclei"]) + int(second["nuclei"]) > 20
    labels = pixels_of(out / "candidates" / "a.png")
    assert Image.open(out / "candidates" / "a.png").mode == "I;16"
    features = json.loads((out / "candidates" / "a.geojson").read_text(encoding="utf-8"))[
        "features"
    ]
    assert len(features) == labels.max() == int(first["nuclei"])
    assert first == {
        "set": "lab",
        "id": "a",
        "patient": "p7",
        "licence": "CC0",
        "image": str(images / "a.png"),
        "label": "candidates/a.png",
        "mpp_nominal": "0.25",
        "width": "230",
        "height": "150",
        "nuclei": str(labels.max()),
        "nucleus_area_fraction": f"{(labels > 0).mean():.4f}",
    }
    assert said[0].startswith(f"a: {labels.max()} nuclei, ")
    assert [line[:2] for line in said] == ["a:", "b:"]


def test_candidates_agree_with_what_was_drawn(annotated: Path) -> None:
    for name, seed in (("a", 1), ("b", 2)):
        nuclei = read_nuclei(annotated / "candidates" / f"{name}.png")
        assert dice(nuclei, tissue(seed).nuclei) > 0.8


def test_candidates_are_not_ground_truth(annotated: Path) -> None:
    with pytest.raises(GlioError, match=r"no index\.csv"):
        read_index(annotated)
    assert not (annotated / "labels").exists()


def test_a_tile_has_the_same_candidates_whatever_comes_with_it(
    images: Path, annotated: Path, tmp_path: Path
) -> None:
    alone = tmp_path / "alone"
    annotate([images / "b.tif"], alone, OTHER, overwrite=False, say=quiet)
    annotate([images], tmp_path / "both", OTHER, overwrite=False, say=quiet)
    ours, theirs = (folder / "candidates" / "b.png" for folder in (alone, tmp_path / "both"))
    assert ours.read_bytes() == theirs.read_bytes()


def test_what_was_not_corrected_comes_back_as_the_candidates(annotated: Path) -> None:
    total = correct([annotated / "candidates"], annotated)
    for name in "ab":
        labels = pixels_of(annotated / "labels" / f"{name}.png")
        np.testing.assert_array_equal(labels, pixels_of(annotated / "candidates" / f"{name}.png"))
        total -= int(labels.max())
    assert total == 0


def test_corrections_become_labels_that_training_reads(annotated: Path, tmp_path: Path) -> None:
    corrected = tmp_path / "from-qupath" / "a.geojson"
    corrected.parent.mkdir()
    shutil.copy(annotated / "candidates" / "a.geojson", corrected)

    def change(features: list[dict[str, Any]]) -> None:
        features[2]["properties"]["classification"] = {"name": "Ignore*", "color": [0, 0, 0]}
        del features[0]
        features.append(rectangle(-5, 140, 10, 200))

    edit(corrected, change)
    said: list[str] = []
    correct([corrected], annotated, split="val", say=said.append)
    candidates = pixels_of(annotated / "candidates" / "a.png")
    wanted = (candidates > 0) & (candidates != 1) & (candidates != 3)
    wanted[140:, :10] = True
    (entry,) = read_index(annotated)
    np.testing.assert_array_equal(read_nuclei(entry.label), wanted)
    assert (entry.set, entry.id, entry.patient, entry.licence) == ("lab", "a", "p7", "CC0")
    assert (entry.split, entry.mpp) == ("val", 0.25)
    (tile,) = load_tiles([entry], {}, None)
    np.testing.assert_array_equal(tile.nuclei, wanted)
    np.testing.assert_array_equal(tile.pixels, tissue(1).pixels)
    (row,) = table(annotated / "index.csv")
    assert row["nucleus_area_fraction"] == f"{wanted.mean():.4f}"
    assert said[0].startswith(f"a: {row['nuclei']} nuclei, ")
    assert said[0].endswith("; ignored: 1 of class Ignore*")


def test_what_is_ignored_is_told_in_one_line_whatever_its_name(annotated: Path) -> None:
    def change(features: list[dict[str, Any]]) -> None:
        features[0]["properties"]["classification"] = {"name": "a\nglioexport: \x1b[31mb"}
        features[1]["properties"]["classification"] = {"name": "z" * 5000}
        features[2]["geometry"]["coordinates"] = []

    edit(annotated / "candidates" / "a.geojson", change)
    said: list[str] = []
    correct([annotated / "candidates" / "a.geojson"], annotated, say=said.append)
    (line,) = said
    assert line.isprintable()
    assert len(line) < 300
    assert "1 of class a\\nglioexport" in line
    assert "1 without an outline (empty)" in line


def test_tiles_are_added_to_an_index_whose_lines_and_columns_stay(annotated: Path) -> None:
    correct([annotated / "candidates" / "a.geojson"], annotated)
    (first,) = table(annotated / "index.csv")
    other = first | {"set": "elsewhere", "organ": "brain"}
    with (annotated / "index.csv").open("w", newline="", encoding="utf-8-sig") as lines:
        writer = csv.DictWriter(lines, other.keys())
        writer.writeheader()
        writer.writerow(other)
    correct([annotated / "candidates" / "b.geojson"], annotated, split="val")
    rows = table(annotated / "index.csv")
    assert rows[0] == other
    assert [(r["id"], r["set"], r["split"], r["organ"]) for r in rows] == [
        ("a", "elsewhere", "train", "brain"),
        ("b", "lab", "val", ""),
    ]


def test_a_correction_may_be_named_after_the_file_of_the_image(annotated: Path) -> None:
    shutil.move(annotated / "candidates" / "b.geojson", annotated / "b.tif.geojson")
    assert correct([annotated / "b.tif.geojson"], annotated) > 0
    assert (annotated / "labels" / "b.png").is_file()


def test_a_folder_that_holds_its_images_can_be_moved(images: Path, tmp_path: Path) -> None:
    annotate([images], images, LAB, overwrite=False, say=quiet)
    correct([images / "candidates"], images)
    assert [row["image"] for row in table(images / "index.csv")] == ["a.png", "b.tif"]
    moved = shutil.move(images, tmp_path / "elsewhere")
    assert len(read_index(Path(moved))) == 2


def test_images_beside_the_folder_are_named_from_it_and_others_from_the_root(
    images: Path, annotated: Path, tmp_path: Path
) -> None:
    assert {Path(r["image"]).parent for r in table(annotated / "candidates.csv")} == {
        Path("../tiles")
    }
    far = tmp_path / "far" / "away"
    annotate([images / "a.png"], far, LAB, overwrite=False, say=quiet)
    (row,) = table(far / "candidates.csv")
    assert row["image"] == (images / "a.png").as_posix()


def test_candidates_that_may_have_been_corrected_are_not_written_again(
    images: Path, annotated: Path
) -> None:
    (annotated / "candidates" / "a.geojson").unlink()
    before = everything(annotated)
    with pytest.raises(GlioError, match=r"b\.geojson: exists.*pass --overwrite"):
        annotate([images], annotated, LAB, overwrite=False, say=quiet)
    assert everything(annotated) == before


def test_overwriting_candidates_leaves_ground_truth_alone(images: Path, annotated: Path) -> None:
    edit(annotated / "candidates" / "a.geojson", lambda features: features.clear())
    correct([annotated / "candidates" / "a.geojson"], annotated)
    truth = {p: p.read_bytes() for p in (annotated / "labels" / "a.png", annotated / "index.csv")}
    annotate([images], annotated, OTHER, overwrite=True, say=quiet)
    assert json.loads((annotated / "candidates" / "a.geojson").read_bytes())["features"]
    assert [row["set"] for row in table(annotated / "candidates.csv")] == ["other", "other"]
    assert {p: p.read_bytes() for p in truth} == truth


def test_ground_truth_is_replaced_only_when_asked(annotated: Path) -> None:
    path = annotated / "candidates" / "a.geojson"
    correct([path], annotated)
    edit(path, lambda features: features.clear())
    before = everything(annotated)
    with pytest.raises(GlioError, match=r"a\.png: is ground truth already; pass --overwrite"):
        correct([path], annotated)
    assert everything(annotated) == before
    assert correct([path], annotated, split="val", overwrite=True) == 0
    (row,) = table(annotated / "index.csv")
    assert (row["split"], row["nuclei"]) == ("val", "0")
    assert not pixels_of(annotated / "labels" / "a.png").any()


def test_one_bad_correction_keeps_the_others_from_being_written(annotated: Path) -> None:
    (annotated / "candidates" / "b.geojson").write_text("{", encoding="utf-8")
    before = everything(annotated)
    with pytest.raises(GlioError, match=r"b\.geojson: not GeoJSON"):
        correct([annotated / "candidates"], annotated)
    assert everything(annotated) == before


def test_an_empty_tile_has_no_candidates(tmp_path: Path) -> None:
    for name, colour in (("white", (243, 243, 243, 255)), ("clear", (0, 0, 0, 0))):
        Image.new("RGBA", (90, 60), colour).save(tmp_path / f"{name}.png")
        noise = np.random.default_rng(0).integers(238, 248, (60, 90, 3)).astype(np.uint8)
    Image.fromarray(noise).save(tmp_path / "noisy.png")
    assert annotate([tmp_path], tmp_path, LAB, overwrite=False, say=quiet) == 0
    assert correct([tmp_path / "candidates"], tmp_path) == 0
    assert [e.id for e in read_index(tmp_path)] == ["clear", "noisy", "white"]


def grey(path: Path) -> None:
    Image.new("L", (90, 60)).save(path)


def deep(path: Path) -> None:
    Image.fromarray(np.zeros((60, 90), np.uint16)).save(path)


def text(path: Path) -> None:
    path.write_text("no image", encoding="utf-8")


def cut_short(path: Path) -> None:
    Image.fromarray(tissue(1).pixels).save(path)
    path.write_bytes(path.read_bytes()[:-5000])


def long(path: Path) -> None:
    Image.new("RGB", (5001, 3)).save(path)


def a_folder(path: Path) -> None:
    path.mkdir()


def nothing(path: Path) -> None:
    """Leave it missing."""


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (grey, "pixels are L; save it as 8-bit RGB"),
        (deep, "pixels are I;16; save it as 8-bit RGB"),
        (text, "cannot be read as an image"),
        (cut_short, "cannot be read as an image"),
        (long, "5001 × 3 px; cut tiles of at most 5000"),
        (a_folder, "holds no .png, .jpg, .jpeg, .tif, .tiff"),
        (nothing, "no such file or folder"),
    ],
)
def test_names_an_image_that_cannot_be_used_and_writes_nothing(
    make: Callable[[Path], None], message: str, images: Path, tmp_path: Path
) -> None:
    path = tmp_path / "c.png"
    make(path)
    with pytest.raises(GlioError, match=message) as caught:
        annotate([images, path], tmp_path / "out", LAB, overwrite=False, say=quiet)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)
    assert not everything(tmp_path / "out")


def test_two_images_of_one_name_are_refused(images: Path, tmp_path: Path) -> None:
    shutil.copy(images / "a.png", tmp_path / "A.png")
    with pytest.raises(GlioError, match=r"A\.png: has the name of .*a\.png; rename it"):
        annotate([images, tmp_path / "A.png"], tmp_path / "out", LAB, overwrite=False, say=quiet)


def test_names_a_folder_that_cannot_be_made(images: Path, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file", encoding="utf-8")
    with pytest.raises(GlioError, match="out"):
        annotate([images], tmp_path / "out", LAB, overwrite=False, say=quiet)


@pytest.mark.parametrize("mpp", [0, -0.25, 1.01, float("nan")])
def test_refuses_a_scale_that_is_mad(mpp: float) -> None:
    with pytest.raises(GlioError, match="µm per pixel"):
        Source("lab", "p7", "CC0", mpp)


def test_refuses_tiles_of_no_set() -> None:
    with pytest.raises(GlioError, match="pass --set"):
        Source("", "p7", "CC0", 0.25)


def test_the_frame_that_nuclei_were_looked_for_in_is_not_taken_for_one(tmp_path: Path) -> None:
    Image.new("RGB", (300, 280), "white").save(tmp_path / "w.png")
    annotate([tmp_path], tmp_path, LAB, overwrite=False, say=quiet)
    path = tmp_path / "candidates" / "w.geojson"
    edit(path, lambda features: features.append(rectangle(2, 1, 300, 280)))
    with pytest.raises(GlioError, match=r"object from \(2, 1\) has 5196 µm²") as caught:
        correct([path], tmp_path)
    assert "give it a class" in str(caught.value)
    edit(path, lambda features: features[0]["properties"].update(classification="Region*"))
    edit(path, lambda features: features.append(rectangle(20, 10, 40, 30)))
    assert correct([path], tmp_path) == 1


def test_a_geojson_of_another_image_is_refused(annotated: Path) -> None:
    path = annotated / "candidates" / "a.geojson"
    labels = np.zeros((600, 700), np.int32)
    labels[10:20, 10:20], labels[400:410, 500:510] = 1, 2
    path.write_text(to_geojson(labels), encoding="utf-8")
    with pytest.raises(GlioError, match=r"1 of 2 nuclei lie outside the image of 230 × 150 px"):
        correct([path], annotated)


def test_a_few_nuclei_outside_the_image_are_left_out_and_said(annotated: Path) -> None:
    path = annotated / "candidates" / "a.geojson"
    edit(path, lambda features: features.append(rectangle(240, 10, 250, 20)))
    said: list[str] = []
    total = correct([path], annotated, say=said.append)
    assert total == pixels_of(annotated / "candidates" / "a.png").max()
    assert said[0].endswith("; 1 hidden or outside")


def test_names_a_tile_that_was_never_annotated(annotated: Path, tmp_path: Path) -> None:
    path = tmp_path / "z.geojson"
    path.write_text("[]", encoding="utf-8")
    with pytest.raises(GlioError, match=r"z\.geojson: no tile z in .*candidates\.csv"):
        correct([path], annotated)
    with pytest.raises(GlioError, match="run glioexport annotate"):
        correct([path], tmp_path / "nowhere")


def test_names_an_image_that_is_gone(images: Path, annotated: Path) -> None:
    (images / "a.png").unlink()
    with pytest.raises(GlioError, match=r"a\.png: cannot be read as an image"):
        correct([annotated / "candidates"], annotated)


def test_two_corrections_of_one_tile_are_refused(annotated: Path, tmp_path: Path) -> None:
    shutil.copy(annotated / "candidates" / "a.geojson", tmp_path)
    with pytest.raises(GlioError, match="a second GeoJSON of a"):
        correct([annotated / "candidates", tmp_path / "a.geojson"], annotated)


def test_refuses_a_split_that_no_training_takes(annotated: Path) -> None:
    with pytest.raises(GlioError, match="split is 'trian'; known: train, val"):
        correct([annotated / "candidates"], annotated, split="trian")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("mpp_nominal", "scale", "a: could not convert string to float"),
        ("0.25", "25", "a: mpp is 25"),
        ("0.25", "fine", "a: could not convert string to float"),
        ("licence", "license", r"candidates\.csv: no column licence"),
        (",0.25,", ",0.25,,", "tile 1 has not one value for each column"),
        ("lab,a", '"lab,a', r"candidates\.csv: cannot be read as CSV"),
        ("p7", "\udcff", r"candidates\.csv: cannot be read as CSV in UTF-8"),
    ],
)
def test_names_a_table_that_was_damaged(old: str, new: str, message: str, annotated: Path) -> None:
    path = annotated / "candidates.csv"
    content = path.read_text(encoding="utf-8")
    path.write_text(content.replace(old, new), encoding="utf-8", errors="surrogateescape")
    with pytest.raises(GlioError, match=message) as caught:
        correct([annotated / "candidates"], annotated)
    assert "\n" not in str(caught.value)


def test_more_nuclei_than_16_bits_are_refused(
    images: Path, annotated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("glioexport.annotate.MOST_NUCLEI", 5)
    with pytest.raises(GlioError, match=r"a\.geojson: \d+ nuclei are too many for 16 bits"):
        correct([annotated / "candidates"], annotated)
    with pytest.raises(GlioError, match=r"a\.png: \d+ nuclei are too many for 16 bits"):
        annotate([images], tmp_path / "again", LAB, overwrite=False, say=quiet)


def test_the_loop_closes_on_real_tiles(shared_data: Path, tmp_path: Path) -> None:
    tiles = [shared_data / "images" / "tnbc_curie" / "tnbc04_hflipped.png"]
    annotate(tiles, tmp_path / "out", OTHER, overwrite=False, say=quiet)
    correct([tmp_path / "out" / "candidates"], tmp_path / "out")
    (entry,) = read_index(tmp_path / "out")
    assert (
        dice(
            read_nuclei(entry.label),
            read_nuclei(shared_data / "labels" / "tnbc_curie" / "tnbc04_hflipped.png"),
        )
        > 0.8
    )
