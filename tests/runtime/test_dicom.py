"""DICOM outputs are sound, lie on their slide, and name a patient only where that is wanted."""

from __future__ import annotations

import dataclasses
import shutil
import struct
import subprocess
from pathlib import Path

import numpy as np
import pytest

import runs
import slides
from gliorun import job, writers
from gliorun.errors import GlioError
from gliorun.findings.nuclei import find_nuclei
from gliorun.findings.outline import simple_outlines_l0
from gliorun.measuring.masks import MaskStore
from gliorun.measuring.tile import LeftOut, Status
from gliorun.model import shipped
from gliorun.plan import Plan, made_with
from gliorun.reading.dicomheader import dicom_header
from gliorun.reading.scale import Scale
from gliorun.reading.slide import Slide
from gliorun.settings import Settings
from gliorun.writers import Result

pydicom = pytest.importorskip("pydicom")
highdicom = pytest.importorskip("highdicom")

from pydicom.dataset import Dataset  # noqa: E402

FRAME_UID, SPECIMEN_UID, STUDY_UID = "1.2.3.4", "1.2.3.5", "1.2.3.6"
ORIGIN_MM, ORIENTATION = (21.5, 40.25), [0, -1, 0, -1, 0, 0]
PATIENT = {"PatientName": "Doe^Jane", "PatientID": "P-77", "PatientBirthDate": "19500102",
           "PatientSex": "F", "StudyID": "S-4711", "AccessionNumber": "A-0815",
           "StudyDate": "20260102", "StudyTime": "101112", "ReferringPhysicianName": "House^G",
           "ContainerIdentifier": "B26-1234-1"}  # fmt: skip
SPECIMEN_NAME = "B26-1234-1-A"
TOLERATED = (
    "would be needed to build DICOMDIR",  # without a patient there is nothing to list
    "<99GLIORUN>",  # a scheme of our own, as its name begins with 99
    "(0x0008,0x010",  # within the code of the next
    "Container",  # the specimen of annotations, which the validator's table of 2022 lacks
    "Specimen",
    "Standard Extended SOP Class",
)


def slide_header() -> Dataset:
    """Return what a scanner's DICOM says besides the pixels."""
    header = Dataset()
    for name, value in PATIENT.items():
        setattr(header, name, value)
    header.StudyInstanceUID, header.FrameOfReferenceUID = STUDY_UID, FRAME_UID
    header.ImageOrientationSlide = ORIENTATION
    origin, specimen = Dataset(), Dataset()
    origin.XOffsetInSlideCoordinateSystem, origin.YOffsetInSlideCoordinateSystem = ORIGIN_MM
    specimen.SpecimenIdentifier, specimen.SpecimenUID = SPECIMEN_NAME, SPECIMEN_UID
    header.TotalPixelMatrixOriginSequence = [origin]
    header.SpecimenDescriptionSequence = [specimen]
    return header


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A folder with a DICOM slide, of 960 x 720 px."""
    folder = tmp_path_factory.mktemp("dicom")
    slides.dicom(folder / "case 7", slides.all_tissue(960, 720), header=slide_header())
    return folder


def run_of(path: Path, *, keep_patient: bool) -> Result:
    """Measure a slide, leave its first tile out and take its header over."""
    result = runs.dark_run(path, Settings(cell_px=240, threads=1))
    density = result.density
    density.nucleus_px[:2, :2] = density.valid_px[:2, :2] = 0
    density.feed(LeftOut(density.grid.tile(0, 0), Status.FOLD))
    with Slide(path) as slide:
        header = dicom_header(slide.properties, keep_patient=keep_patient)
    return dataclasses.replace(
        result, warnings=("ünclear",), run={"started_at": "2026-11-30T12:00:01Z"}, dicom=header
    )


@pytest.fixture(scope="module")
def kept(folder) -> Result:
    return run_of(folder / "case 7", keep_patient=True)


@pytest.fixture(scope="module")
def unnamed(kept) -> Result:
    header = dataclasses.replace(kept.dicom, patient={})
    return dataclasses.replace(kept, dicom=header)


@pytest.fixture(scope="module")
def foreign(small_slide) -> Result:
    """A run of a slide that is not DICOM."""
    return run_of(small_slide.path, keep_patient=True)


def write(result: Result, folder: Path) -> tuple[Path, Path]:
    paths = [folder / "a.dcm", folder / "a.nuclei.dcm"]
    writers.write(paths, result, writers.Appearance())
    return paths[0], paths[1]


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="no dciodvfy (dicom3tools)")
@pytest.mark.parametrize("run", ["kept", "unnamed", "foreign"])
def test_the_validator_finds_no_error(run, tmp_path, request):
    for path in write(request.getfixturevalue(run), tmp_path):
        done = subprocess.run(["dciodvfy", path], capture_output=True, text=True, check=False)
        lines = (done.stdout + done.stderr).splitlines()
        iod, *_ = [line for line in lines if " - " not in line]
        assert iod == (
            "ParametricMap" if path.name == "a.dcm" else "MicroscopyBulkSimpleAnnotations"
        )
        complaints = [line for line in lines if line.startswith(("Error", "Warning"))]
        assert [c for c in complaints if not any(word in c for word in TOLERATED)] == []
        assert done.returncode == 0


def test_pixels_are_the_density_in_percent_and_nan_without_a_value(unnamed, tmp_path):
    image = pydicom.dcmread(write(unnamed, tmp_path)[0])
    percent = (100 * unnamed.density.density).astype(np.float32)
    np.testing.assert_array_equal(image.pixel_array, percent)
    assert np.isnan(image.pixel_array[:2, :2]).all()
    assert np.nanmax(image.pixel_array) > 1
    (mapping,) = image.SharedFunctionalGroupsSequence[0].RealWorldValueMappingSequence
    (unit,) = mapping.MeasurementUnitsCodeSequence
    assert (unit.CodeValue, unit.CodingSchemeDesignator) == ("%", "UCUM")
    assert (mapping.RealWorldValueSlope, mapping.RealWorldValueIntercept) == (1, 0)
    (groups,) = image.PerFrameFunctionalGroupsSequence
    assert groups.FrameContentSequence[0].FrameComments.startswith("Warning: ünclear. Research use")


def test_highdicom_reads_the_map_where_it_lies_on_the_slide(kept, folder, tmp_path):
    path, _ = write(kept, tmp_path)
    image = highdicom.imread(path)
    read = image.get_total_pixel_matrix(apply_real_world_transform=True)
    np.testing.assert_allclose(read, 100 * kept.density.density, rtol=1e-6)
    slide = pydicom.dcmread(folder / "case 7" / "level0.dcm", stop_before_pixels=True)
    assert image.FrameOfReferenceUID == slide.FrameOfReferenceUID == FRAME_UID
    to_slide, to_map = (
        highdicom.spatial.ImageToReferenceTransformer.for_image(i, for_total_pixel_matrix=True)
        for i in (slide, image)
    )
    corners_cell = np.array([[0, 0], [1, 0], [0, 1], [4, 3], [2.5, 0.25]])
    np.testing.assert_allclose(to_map(corners_cell), to_slide(corners_cell * 240), atol=1e-8)


def test_other_readers_show_the_map(foreign, tmp_path):
    if shutil.which("dicomtonifti") is None:
        pytest.skip("no dicomtonifti (vtk-dicom-tools)")
    path, _ = write(foreign, tmp_path)
    command = ["dicomtonifti", "-o", tmp_path / "a.nii", path]
    subprocess.run(command, capture_output=True, check=True)
    content = (tmp_path / "a.nii").read_bytes()
    columns, rows = struct.unpack_from("<2h", content, 42)
    (start,) = struct.unpack_from("<f", content, 108)
    shown = np.frombuffer(content[int(start) :], "<f4", rows * columns).reshape(rows, columns)
    percent = (100 * foreign.density.density).astype(np.float32)
    np.testing.assert_array_equal(shown[::-1, ::-1], percent)  # NIfTI counts x and y the other way
    assert struct.unpack_from("<2f", content, 80) == pytest.approx((0.06, 0.06))  # mm


def test_nuclei_lie_on_the_slide_with_their_areas(kept, folder, tmp_path):
    _, path = write(kept, tmp_path)
    (group,) = highdicom.ann.annread(path).get_annotation_groups()
    outlines_mm = group.get_graphic_data(coordinate_type="3D")
    _, areas_um2, _ = group.get_measurements()
    nuclei = list(find_nuclei(kept.masks, kept.scale))
    assert len(outlines_mm) == len(nuclei) > 50
    np.testing.assert_allclose(areas_um2[:, 0], [n.area_um2 for n in nuclei], rtol=1e-6)
    slide = pydicom.dcmread(folder / "case 7" / "level0.dcm", stop_before_pixels=True)
    to_slide = highdicom.spatial.ImageToReferenceTransformer.for_image(
        slide, for_total_pixel_matrix=True
    )
    for ours_mm, nucleus in zip(outlines_mm, nuclei, strict=True):
        outer_l0, *_ = simple_outlines_l0(nucleus)
        np.testing.assert_allclose(ours_mm, to_slide(outer_l0[:-1]), atol=1e-5)  # a 25th of a px


def test_a_slide_without_nuclei_has_an_empty_group(kept, tmp_path):
    none = MaskStore(kept.density.grid, 480)
    _, path = write(dataclasses.replace(kept, masks=none), tmp_path)
    (group,) = pydicom.dcmread(path).AnnotationGroupSequence
    assert group.NumberOfAnnotations == 0


def test_outputs_of_a_slide_share_their_frame_and_another_slide_has_another(
    foreign, kept, tmp_path, small_slide
):
    coarse = run_of(small_slide.path, keep_patient=False)
    made = dataclasses.replace(coarse, run={"started_at": "2026-12-24T12:00:00Z"})
    first, nuclei = (pydicom.dcmread(path) for path in write(foreign, tmp_path))
    later, _ = (pydicom.dcmread(path) for path in write(made, tmp_path))
    same = {i.FrameOfReferenceUID for i in (first, nuclei, later)}
    assert len(same) == 1
    assert first.StudyInstanceUID == later.StudyInstanceUID
    assert first.SOPInstanceUID != later.SOPInstanceUID
    typed = dataclasses.replace(kept, scale=Scale(0.5, 0.5, "--mpp"))
    retyped = pydicom.dcmread(write(typed, tmp_path)[0])
    assert retyped.FrameOfReferenceUID not in {*same, FRAME_UID}  # the slide's says another size


def test_the_same_run_gives_the_same_bytes(unnamed, tmp_path):
    before = [path.read_bytes() for path in write(unnamed, tmp_path)]
    assert [path.read_bytes() for path in write(unnamed, tmp_path)] == before


def test_the_patient_is_named_only_where_that_was_wanted(kept, unnamed, tmp_path):
    for path in write(unnamed, tmp_path):
        content = path.read_bytes()
        for text in (*PATIENT.values(), SPECIMEN_NAME, STUDY_UID):
            if len(text) > 1:
                assert text.encode() not in content, text
        left = pydicom.dcmread(path)
        assert (left.PatientName, left.PatientID, left.PatientSex) == ("", "", "")
        assert left.PatientIdentityRemoved == "YES"
        assert left.FrameOfReferenceUID == FRAME_UID
        assert left.SpecimenDescriptionSequence[0].SpecimenUID == SPECIMEN_UID
    for path in write(kept, tmp_path):
        named = pydicom.dcmread(path)
        assert {name: str(named[name].value) for name in PATIENT} == PATIENT
        assert named.StudyInstanceUID == STUDY_UID
        assert named.SpecimenDescriptionSequence[0].SpecimenIdentifier == SPECIMEN_NAME
        assert "PatientIdentityRemoved" not in named
        (series,) = named.ReferencedSeriesSequence
        (image,) = series.ReferencedInstanceSequence
        assert image.ReferencedSOPInstanceUID == kept.dicom.sop_instance_uid


def test_a_missing_library_is_one_line_before_the_work(tmp_path, monkeypatch):
    monkeypatch.setattr(writers, "find_spec", {"pydicom": None}.__getitem__)
    with pytest.raises(GlioError, match=r"a\.dcm: needs pydicom; pip install 'gliorun\[dicom\]'"):
        writers.check_outputs([tmp_path / "a.dcm"])


def test_a_run_names_the_patient_only_with_keep_patient(folder, tmp_path):
    for wanted in (False, True):
        plan = Plan([tmp_path / "a.dcm"], shipped.DEFAULT_MODEL, Settings(), keep_patient=wanted)
        job.run(folder / "case 7", plan, quiet=True)
        image = pydicom.dcmread(tmp_path / "a.dcm")
        assert str(image.PatientName) == ("Doe^Jane" if wanted else "")
        assert image.FrameOfReferenceUID == FRAME_UID
    without = dataclasses.replace(plan, keep_patient=False)
    assert made_with(plan) != made_with(without)  # so a folder is measured anew


@pytest.mark.parametrize(
    ("name", "text"),
    [("StudyDate", "2026-13-45"), ("PatientID", "x" * 90), ("StudyInstanceUID", "1.2.x")],
)
def test_a_header_that_is_no_dicom_is_one_line_that_does_not_show_it(kept, tmp_path, name, text):
    wrong = dataclasses.replace(kept.dicom, patient={**kept.dicom.patient, name: text})
    with pytest.raises(GlioError, match=f"case 7: its {name} is not as DICOM allows") as refusal:
        write(dataclasses.replace(kept, dicom=wrong), tmp_path)
    assert text not in str(refusal.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("FrameOfReferenceUID", "here"),
        ("ImageOrientationSlide[2]", "nan"),
        ("SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].PixelSpacing[0]", "0"),
        ("TotalPixelMatrixOriginSequence[0].XOffsetInSlideCoordinateSystem", None),
    ],
)
def test_a_slide_that_does_not_say_where_it_lies_gets_a_frame_of_its_own(folder, name, text):
    with Slide(folder / "case 7") as slide:
        properties = dict(slide.properties)
    assert dicom_header(properties, keep_patient=False).frame.uid == FRAME_UID
    properties.pop(f"dicom.{name}")
    if text is not None:
        properties[f"dicom.{name}"] = text
    assert dicom_header(properties, keep_patient=False).frame is None
