"""From a slide and its map to labelled fields, which the calibration sees as gliorun does."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import slides
from glioexport import annotate as candidates
from glioexport.calibrate import measure_fields
from glioexport.dataset import read_index, read_nuclei
from gliorun import job
from gliorun.errors import GlioError
from gliorun.model.engine import EXACT, Engine, open_model
from gliorun.model.shipped import DEFAULT_MODEL
from gliorun.plan import Plan
from gliorun.settings import Settings

COUNT = 4
SOURCE = candidates.Source("lab", "", "CC0", 0.25)


def quiet(line: str) -> None:
    """Say nothing."""


@pytest.fixture(scope="module")
def engine() -> Engine:
    return open_model(DEFAULT_MODEL, EXACT)


@pytest.fixture(scope="module")
def annotated(
    small_slide: slides.Drawn, engine: Engine, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Folder with the fields of a slide, and its map beside them."""
    out = tmp_path_factory.mktemp("annotated")
    table = out / "density.csv"
    job.run(small_slide.path, Plan([table], DEFAULT_MODEL, Settings()), quiet=True)
    annotate(small_slide.path, out, engine, candidates.Asked(table, COUNT, (), None))
    return out


def annotate(slide: Path, out: Path, engine: Engine, asked: candidates.Asked) -> None:
    images, source = candidates.cut_fields(
        slide, out, engine, asked, SOURCE, mpp=None, overwrite=False
    )
    candidates.annotate(
        images, out, source, outline=candidates.by_network(engine), overwrite=False, say=quiet
    )


def test_fields_taken_as_they_are_have_the_densities_of_the_map(annotated: Path, engine: Engine):
    candidates.take_corrections(
        [annotated / "candidates"], annotated, split="val", further_classes=(), overwrite=False,
        say=quiet,
    )  # fmt: skip
    entries = read_index(annotated)
    assert [entry.patient for entry in entries] == ["small"] * COUNT
    with (annotated / "density.csv").open(newline="", encoding="utf-8") as lines:
        density_at = {
            (row["minx"], row["miny"]): row["density_of_tile"] for row in csv.DictReader(lines)
        }
    for entry, field in zip(entries, measure_fields(entries, engine, quiet), strict=True):
        corner = tuple(entry.id.rsplit("-", 2)[1:])
        assert field.densities()[engine.card.nucleus_level] == pytest.approx(
            float(density_at[corner]), abs=1e-6
        )
        # labels lose but the specks
        assert field.true_density == pytest.approx(float(density_at[corner]), abs=2e-3)


def test_the_sheet_shows_every_field(annotated: Path):
    sheet = Image.open(annotated / "contact.jpg")
    assert sheet.width > 600
    red, green, blue = np.moveaxis(np.asarray(sheet.convert("RGB")).astype(int), 2, 0)
    yellow = (red > blue + 20) & (green > blue + 20)
    assert yellow.sum() > 1000


def test_touching_nuclei_are_parted(annotated: Path, small_slide: slides.Drawn):
    for path in (annotated / "candidates").glob("*.png"):
        labels = np.asarray(Image.open(path))
        x_l0, y_l0 = map(int, path.stem.rsplit("-", 2)[1:])
        drawn = small_slide.tissue.nuclei[y_l0 : y_l0 + 480, x_l0 : x_l0 + 480]
        both = ((labels > 0) & (drawn > 0)).sum()
        assert 2 * both / ((labels > 0).sum() + drawn.sum()) > 0.8
        assert np.bincount(labels.ravel())[1:].max() < 3000 / 0.25**2


def test_a_field_that_may_have_been_corrected_is_not_cut_again(
    annotated: Path, small_slide: slides.Drawn, engine: Engine
):
    asked = candidates.Asked(annotated / "density.csv", COUNT, (), None)
    with pytest.raises(GlioError, match="may have been corrected"):
        annotate(small_slide.path, annotated, engine, asked)


def test_a_stain_that_is_none_is_refused(annotated: Path, tmp_path: Path):
    text = (annotated / "candidates.csv").read_text(encoding="utf-8")
    head, line, *_ = text.splitlines()
    columns = head.split(",")
    values = dict(zip(columns, line.split(","), strict=True)) | {"split": "val"}
    image = annotated / values["image"]
    values["image"] = values["label"] = str(image)
    for ground, white in (
        ("1 2", "1 1 1"),
        ("nan 1 1", "1 1 1"),
        ("1 1 1", "0 1 1"),
        ("", "1 1 1"),
    ):
        values |= {"ground": ground, "white": white}
        with (tmp_path / "index.csv").open("w", newline="", encoding="utf-8") as lines:
            writer = csv.DictWriter(lines, list(values))
            writer.writeheader()
            writer.writerow(values)
        with pytest.raises(GlioError, match="no stain; annotate the slide again"):
            read_index(tmp_path)
    assert read_nuclei(image).any()
