"""A real slide as DICOM, made by a converter that is not ours, is measured as the slide itself."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from gliorun import job
from gliorun.model import shipped
from gliorun.plan import Plan
from gliorun.settings import Settings

pytestmark = pytest.mark.release
MOSAIC = "gbm40_mosaic_aperio_style.svs"


@pytest.fixture(scope="module")
def converted(shared_slides, tmp_path_factory) -> Path:
    pytest.importorskip("wsidicomizer", exc_type=(ImportError, OSError))
    folder = tmp_path_factory.mktemp("converted") / "mosaic"
    command = [Path(sys.executable).with_name("wsidicomizer"), "-i", shared_slides / MOSAIC]
    done = subprocess.run(
        [*command, "-o", folder], capture_output=True, text=True, timeout=300, check=False
    )
    if "turbojpeg" in done.stderr:
        pytest.skip("wsidicomizer finds no libturbojpeg here")
    assert done.returncode == 0, done.stderr
    return folder


def cells(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as lines:
        table = list(csv.DictReader(lines))
    return [{name: cell[name] for name in cell if not name.startswith("nuclei")} for cell in table]


def test_the_mosaic_as_dicom_has_the_densities_of_the_mosaic(converted, shared_slides, tmp_path):
    pydicom = pytest.importorskip("pydicom")
    wsidicom = pytest.importorskip("wsidicom")
    tables = {}
    for slide, names in (
        (shared_slides / MOSAIC, ["svs.csv"]),
        (converted, ["dicom.csv", "a.dcm", "a.nuclei.dcm"]),
    ):
        outputs = [tmp_path / name for name in names]
        job.run(slide, Plan(outputs, shipped.DEFAULT_MODEL, Settings()), quiet=True)
        tables[slide] = cells(outputs[0])
    assert tables[converted] == tables[shared_slides / MOSAIC]
    with wsidicom.WsiDicom.open(converted) as slide:
        frame = slide.uids.frame_of_reference
    image = pydicom.dcmread(tmp_path / "a.dcm")
    assert image.FrameOfReferenceUID == frame
    annotations = wsidicom.graphical_annotations.AnnotationInstance
    (opened,) = annotations.open([tmp_path / "a.nuclei.dcm"])
    (nuclei,) = opened.groups
    assert len(nuclei.annotations) > 4000
    areas_um2 = [nucleus.measurements[0].value for nucleus in nuclei.annotations]
    assert 20 < np.median(areas_um2) < 80
