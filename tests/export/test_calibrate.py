"""Calibrate the shipped model to drawn tissue, whose labels are tighter than its outlines."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from glioexport.calibrate import Calibrated, by_field, calibrate, report
from gliorun import demo
from gliorun.errors import GlioError, UsageError
from gliorun.model import calibration
from gliorun.model.shipped import DEFAULT_MODEL

from .small import write_index

FIELDS = 3


def quiet(line: str) -> None:
    """Say nothing."""


def drawn_fields(folder: Path, *, bare: bool = False) -> Path:
    """Write fields of drawn tissue, whose nuclei the model outlines too wide, or label none."""
    rows = []
    for number in range(FIELDS):
        tissue = demo.draw_tissue(np.full((240, 240), 0.1 + 0.08 * number, np.float32), number)
        label = np.zeros_like(tissue.nuclei) if bare else tissue.nuclei
        Image.fromarray(tissue.pixels).save(folder / f"{number}.png")
        Image.fromarray(label * 255).save(folder / f"{number}-label.png")
        rows.append(
            {
                "set": "lab", "id": f"field {number}", "patient": f"p{number}", "split": "train",
                "licence": "CC0", "image": f"{number}.png", "label": f"{number}-label.png",
            }
        )  # fmt: skip
    write_index(folder, rows)
    return folder


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Calibrated, Path]:
    folder = drawn_fields(tmp_path_factory.mktemp("lab"))
    out = folder / "lab.json"
    return calibrate(folder, out, model=DEFAULT_MODEL, by="me", say=quiet), out


def test_tight_labels_raise_the_level_and_take_the_bias_away(made: tuple[Calibrated, Path]):
    calibrated, _ = made
    result = calibrated.fit
    assert result.level > calibrated.own_level == 128
    assert result.before.density_bias_points > 1
    assert abs(result.after.density_bias_points) < 0.3
    assert result.left_out.density_error_points < result.before.density_error_points


def test_the_file_is_read_back_and_holds_the_figures(made: tuple[Calibrated, Path]):
    calibrated, out = made
    assert calibration.read(out) == calibrated.calibration
    assert calibrated.calibration.name == "lab"
    assert calibrated.calibration.by == "me"
    outlines = calibrated.calibration.outlines
    assert outlines.outer < outlines.nucleus == calibrated.fit.level < outlines.inner
    values = json.loads(out.read_text(encoding="utf-8"))
    assert values["fields"] == by_field(calibrated)
    assert values["figures"]["own_level"] == 128
    low, high = values["figures"]["bias_interval_points"]
    assert low < high
    picture = Image.open(out.with_suffix(".png"))
    assert picture.width > 1000


def test_the_table_names_every_field_and_both_levels(made: tuple[Calibrated, Path]):
    calibrated, _ = made
    text = report(calibrated)
    for number in range(FIELDS):
        assert f"| field {number} | " in text
    assert "the model's own level 128" in text
    assert f"| level {calibrated.fit.level} |" in text
    assert "(95 %)" in text


def test_fields_without_nuclei_are_refused_and_nothing_is_written(tmp_path: Path):
    folder = drawn_fields(tmp_path, bare=True)
    before = sorted(folder.iterdir())
    with pytest.raises(GlioError, match="no field has a labelled nucleus"):
        calibrate(folder, folder / "lab.json", model=DEFAULT_MODEL, say=quiet)
    assert sorted(folder.iterdir()) == before


def test_what_is_wrong_is_said_before_fields_are_measured(tmp_path: Path):
    folder = drawn_fields(tmp_path)
    out = folder / "lab.json"

    def refused(error: type[GlioError], said: str, to: Path = out, **more: object) -> None:
        with pytest.raises(error, match=said):
            calibrate(folder, to, model=DEFAULT_MODEL, say=pytest.fail, **more)  # type: ignore[arg-type]

    refused(UsageError, "ends in .json", folder / "lab.txt")
    refused(GlioError, "no such folder", folder / "none" / "lab.json")
    refused(GlioError, "at least 3 labelled fields, not 0|no tile of split val", split="val")
    refused(UsageError, "no set other", sets=["other"])
    refused(GlioError, "1 to 60 printable", name="\n")
