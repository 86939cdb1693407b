"""The section "Your own laboratory" of the guide, as a new user would type it."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest
from skimage.measure import label

import slides
from glioexport.nuclei_geojson import to_geojson
from guides import marked, type_in


def correct(lab: Path, drawn: slides.Drawn) -> None:
    """Do what a person does in QuPath: draw every nucleus as it is, and save it."""
    (lab / "corrected").mkdir()
    for proposed in (lab / "candidates").glob("*.geojson"):
        x_l0, y_l0 = map(int, proposed.stem.rsplit("-", 2)[1:])
        nuclei = drawn.tissue.nuclei[y_l0 : y_l0 + 480, x_l0 : x_l0 + 480]
        labels = np.asarray(label(nuclei, connectivity=1), np.int32)
        (lab / "corrected" / proposed.name).write_text(to_geojson(labels), encoding="ascii")


@pytest.mark.release
def test_the_commands_calibrate_a_slide_to_its_own_outlines(
    small_slide: slides.Drawn, tmp_path: Path
):
    shutil.copy(small_slide.path, tmp_path / "slide.svs")
    measure, annotate, masks, calibrate, measure_again = marked("own laboratory")
    for line in (measure, annotate):
        type_in(line, tmp_path)
    correct(tmp_path / "lab", small_slide)
    for line in (masks, calibrate, measure_again, f"{measure_again} --out after.csv"):
        type_in(line, tmp_path)
    means = []
    for name in ("density.csv", "after.csv"):
        with (tmp_path / name).open(newline="", encoding="utf-8") as lines:
            means.append(np.mean([float(row["density"]) for row in csv.DictReader(lines)]))
    true = small_slide.tissue.nuclei[: 3 * 480, : 4 * 480].mean()
    assert abs(means[1] - true) < abs(means[0] - true)
    assert (tmp_path / "lab" / "contact.jpg").is_file()
    assert (tmp_path / "lab.png").is_file()
