"""What a result depends on changes the key of its checkpoint and its record, and nothing else."""

from __future__ import annotations

import shutil
import struct
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image

import slides
from gliorun import identity, job
from gliorun.errors import GlioError
from gliorun.model import shipped
from gliorun.model.calibration import Calibration
from gliorun.model.engine import Compute
from gliorun.model.outlines import Outlines
from gliorun.plan import Plan, made_with, open_engine, settled
from gliorun.qualitylimits import QualityLimits
from gliorun.reading.files import files_of
from gliorun.settings import Settings
from gliorun.writers import Appearance

SIZE_PX = (1800, 1300)
F32 = Compute(precision="f32")


def test_equal_parts_have_equal_keys():
    one, same, other = ({"b": number} for number in (1, 1, 2))
    assert identity.key_of("a", one) == identity.key_of("a", same) != identity.key_of("a", other)


def mirax(folder: Path, pixels: np.ndarray) -> Path:
    """Write a MIRAX slide of two levels; the coarse one, which OpenSlide hashes, shows nothing."""
    folder.mkdir()
    slide = slides.mrxs(folder / "a.mrxs", pixels)
    inside, side = folder / "a", slides.JPEG_TILE_PX
    Image.new("RGB", (side, side), (230, 230, 230)).save(inside / "coarse.jpg")
    size = (inside / "coarse.jpg").rename(inside / "Data0001.dat").stat().st_size
    columns, rows = SIZE_PX[0] // side, SIZE_PX[1] // side
    images = [y * columns + x for y in range(0, rows, 2) for x in range(0, columns, 2)]
    coarse = b"".join(struct.pack("<4i", image, 0, size, 1) for image in images)
    index = (inside / "Index.dat").read_bytes()
    at = index.index(b"0123456789ABCDEF") + 24  # after the pointers to both kinds of records
    fine = index[at + 20 :]
    lists = at + 8, at + 24 + len(fine)  # of the images of each level
    index = index[:at] + struct.pack("<2i", *lists)
    for where, entries in zip(lists, (fine, coarse), strict=True):
        index += struct.pack("<4i", 0, where + 8, len(entries) // 16, 0) + entries
    (inside / "Index.dat").write_bytes(index)
    slidedat = (inside / "Slidedat.ini").read_text()
    level = slidedat[slidedat.index("[LEVEL_0]") :].replace("LEVEL_0", "LEVEL_1")
    slidedat = slidedat.replace(
        "HIER_0_COUNT = 1", "HIER_0_COUNT = 2\nHIER_0_VAL_1_SECTION = LEVEL_1"
    )
    slidedat = slidedat.replace("FILE_COUNT = 1", "FILE_COUNT = 2\nFILE_1 = Data0001.dat")
    (inside / "Slidedat.ini").write_text(slidedat + level.replace("FACTOR = 0", "FACTOR = 1"))
    return slide


def dicom(folder: Path, pixels: np.ndarray) -> Path:
    """Write a DICOM slide of two levels; the coarse one comes first and shows nothing."""
    coarse = np.full((SIZE_PX[1] // 4, SIZE_PX[0] // 4, 3), 230, np.uint8)
    slides.dicom(folder, coarse, mpp=1.0)
    slides.dicom(folder / "fine", pixels)
    for name, file, kind in (
        ("a.dcm", folder / "level0.dcm", ["DERIVED", "PRIMARY", "VOLUME", "RESAMPLED"]),
        ("b.dcm", folder / "fine" / "level0.dcm", ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]),
    ):
        image = pydicom.dcmread(file)
        image.ImageType = kind
        image.StudyInstanceUID, image.SeriesInstanceUID = "1.2.3.4", "1.2.3.5"
        image.save_as(folder / name)
        file.unlink()
    (folder / "fine").rmdir()
    return folder


def exchange(ours: Path, theirs: Path, stays: Path) -> None:
    """Replace all files of a folder by those of another, but one."""
    for file in theirs.rglob("*"):
        target = ours / file.relative_to(theirs)
        if file.is_file() and target != stays:
            shutil.copy2(file, target)


def stop(done: int, total: int, bottleneck: str) -> None:
    if done == 4:
        raise KeyboardInterrupt


@pytest.mark.parametrize("write", [mirax, dicom])
def test_a_slide_whose_companion_files_were_exchanged_is_measured_anew(tmp_path, write):
    """It is stopped after four tiles; the file that it is opened by stays as it was."""
    ours, theirs = (tmp_path / name for name in ("ours", "theirs"))
    slide = write(ours, slides.all_tissue(*SIZE_PX, density=0.05))
    other = write(theirs, slides.all_tissue(*SIZE_PX, density=0.3))
    plan = Plan([tmp_path / "a.csv"], shipped.DEFAULT_MODEL, Settings())
    engine = open_engine(plan)
    with pytest.raises(KeyboardInterrupt):
        job.measure(slide, plan, lambda: engine, stop)
    exchange(ours, theirs, stays=files_of(slide)[0])
    run = job.measure(slide, plan, lambda: engine).run
    assert run["resumed_tiles"] == 0
    assert run["density"] == job.measure(other, plan, lambda: engine).run["density"]


def keys(plan: Plan) -> tuple[str, identity.Values]:
    """Return what tells a map, and what tells all outputs, from those of other plans."""
    compute = settled(plan).compute
    return identity.key_of(identity.of_map(plan.model, compute, plan.settings)), made_with(plan)


PLAN = Plan([], shipped.DEFAULT_MODEL, Settings(), F32)
CHANGES_NOTHING = {"threads": 3, "memory_mb": 64}
CHANGES = {
    "mpp": 0.5,
    "cell_px": 240,
    "density": "tile",
    "max_bad_tiles": 0.1,
    "quality": QualityLimits(max_pen=0.5),
    "tissue_mask": "mask.png",
    "calibration": Calibration("here", "student", "ab" * 32, Outlines(150, 130, 110), "2026-11-30"),
    "regions": "regions.geojson",
}


def test_every_setting_is_known_to_change_a_result_or_not():
    assert {field.name for field in fields(Settings)} == set(CHANGES) | set(CHANGES_NOTHING)


@pytest.mark.parametrize("name", CHANGES)
def test_a_setting_that_changes_a_result_changes_key_and_record(tmp_path, name):
    value = CHANGES[name]
    if name == "tissue_mask":
        Image.new("L", (10, 10), 255).save(value := tmp_path / "mask.png")
    if name == "regions":
        (value := tmp_path / "regions.geojson").write_text("[]")
    changed = replace(PLAN, settings=replace(PLAN.settings, **{name: value}))
    assert all(one != other for one, other in zip(keys(PLAN), keys(changed), strict=True))


@pytest.mark.parametrize("name", CHANGES_NOTHING)
def test_a_setting_that_changes_no_byte_changes_neither(name):
    changed = replace(PLAN, settings=replace(PLAN.settings, **{name: CHANGES_NOTHING[name]}))
    assert keys(PLAN) == keys(changed)


@pytest.mark.parametrize(
    "change", [{"appearance": Appearance(overlay=True)}, {"hot_spots": 2}, {"counts": True}]
)
def test_what_is_shown_of_a_map_changes_the_record_and_not_the_key(change):
    (key, record), (same_key, other_record) = keys(PLAN), keys(replace(PLAN, **change))
    assert key == same_key
    assert record != other_record


def test_the_content_of_a_mask_counts_and_not_its_name(tmp_path):
    def of_mask(name: str, level: int) -> identity.Values:
        Image.new("L", (10, 10), level).save(mask := tmp_path / name)
        return identity.of_map(shipped.DEFAULT_MODEL, F32, Settings(tissue_mask=mask))

    assert of_mask("a.png", 255) == of_mask("b.png", 255) != of_mask("a.png", 1)


def test_a_precision_left_to_the_machine_is_kept_as_what_it_came_to():
    auto = replace(PLAN, compute=Compute(precision="auto"))
    assert made_with(auto)["device"] == "CPU f32"  # as the model is INT8
    assert keys(auto) == keys(PLAN)


def test_machines_with_bf16_and_without_do_not_share_a_result_of_a_float_model():
    card = replace(open_engine(PLAN).card, precision="FP32")
    auto = Compute(precision="auto")
    devices = [
        identity.of_map(shipped.DEFAULT_MODEL, auto.settled(card, able), Settings())["device"]
        for able in (["FP32", "BF16"], ["FP32"])
    ]
    assert devices == ["CPU bf16", "CPU f32"]


def test_a_slide_without_one_of_its_files_is_one_line(tmp_path):
    with pytest.raises(GlioError, match=r"a\.svs: cannot be read \(No such file"):
        identity.of_slide(tmp_path / "a.svs")
