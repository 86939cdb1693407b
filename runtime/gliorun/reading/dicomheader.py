"""What a DICOM slide says of itself that a DICOM output must say as well."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from gliorun.reading.scale import VENDOR

DICOM_VENDOR = "dicom"
"""Vendor of DICOM slides, by OpenSlide's name."""
PATIENT = (
    "PatientName",
    "PatientID",
    "IssuerOfPatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyInstanceUID",
    "StudyID",
    "StudyDate",
    "StudyTime",
    "AccessionNumber",
    "ReferringPhysicianName",
    "ContainerIdentifier",
)
"""Elements that name a patient, or lead to one in the hospital's records."""
SPECIMEN = "SpecimenDescriptionSequence[0]."
SPECIMEN_OF_PATIENT = "SpecimenIdentifier"
ORIGIN = "TotalPixelMatrixOriginSequence[0]."
OFFSETS = ("XOffsetInSlideCoordinateSystem", "YOffsetInSlideCoordinateSystem")
SPACING = "SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].PixelSpacing"


UID = re.compile(r"(0|[1-9]\d*)(\.(0|[1-9]\d*))+")
LONGEST_UID = 64


@dataclass(frozen=True, slots=True)
class SlideFrame:
    """Where the pixels of a slide lie in a frame of reference.

    Parameters
    ----------
    uid : str
        Of the frame of reference.
    origin_mm : (float, float)
        x and y of the centre of the first px of level 0.
    along_rows, along_columns : (float, float, float)
        Direction in which columns, and rows, are counted.
    spacing_mm : (float, float)
        Between columns, and between rows, of level 0.
    """

    uid: str
    origin_mm: tuple[float, float]
    along_rows: tuple[float, float, float]
    along_columns: tuple[float, float, float]
    spacing_mm: tuple[float, float]


@dataclass(frozen=True, slots=True)
class DicomHeader:
    """The header of a DICOM slide, as far as outputs take it over.

    Parameters
    ----------
    sop_class_uid, sop_instance_uid, study_uid, series_uid : str
        Of the image of level 0.
    frame : SlideFrame or None
        None if the slide does not say where it lies.
    specimen_uid : str
        Empty if it names none.
    patient : dict of str to str
        Values of `PATIENT` and `SPECIMEN_OF_PATIENT` by name; empty if they must not be kept.
    """

    sop_class_uid: str
    sop_instance_uid: str
    study_uid: str
    series_uid: str
    frame: SlideFrame | None = None
    specimen_uid: str = ""
    patient: dict[str, str] = field(default_factory=dict)


def dicom_header(properties: Mapping[str, str], *, keep_patient: bool) -> DicomHeader | None:
    """Return the header of a slide from its properties by OpenSlide; None if it is not DICOM."""
    if properties.get(VENDOR) != DICOM_VENDOR:
        return None

    def value(name: str) -> str:
        return properties.get(f"{DICOM_VENDOR}.{name}", "")

    patient = {}
    if keep_patient:
        patient = {name: value(name) for name in PATIENT}
        patient[SPECIMEN_OF_PATIENT] = value(SPECIMEN + SPECIMEN_OF_PATIENT)
    return DicomHeader(
        value("SOPClassUID"),
        value("SOPInstanceUID"),
        value("StudyInstanceUID"),
        value("SeriesInstanceUID"),
        _frame(properties),
        _sound(value(SPECIMEN + "SpecimenUID")),
        {name: text for name, text in patient.items() if text},
    )


def _sound(uid: str) -> str:
    """Return an identifier, or nothing if it is none."""
    return uid if len(uid) <= LONGEST_UID and UID.fullmatch(uid) else ""


def _frame(properties: Mapping[str, str]) -> SlideFrame | None:
    """Return the frame of a slide, or None if one of its numbers is missing or none."""

    def number(name: str) -> float:
        return float(properties[f"{DICOM_VENDOR}.{name}"])

    try:
        uid = _sound(properties[f"{DICOM_VENDOR}.FrameOfReferenceUID"])
        x_mm, y_mm = (number(ORIGIN + name) for name in OFFSETS)
        cosines = [number(f"ImageOrientationSlide[{place}]") for place in range(6)]
        between_rows, between_columns = (number(f"{SPACING}[{place}]") for place in (0, 1))
    except (KeyError, ValueError):
        return None
    numbers = (x_mm, y_mm, *cosines, between_rows, between_columns)
    if not uid or not all(map(math.isfinite, numbers)) or min(between_rows, between_columns) <= 0:
        return None
    along_rows, along_columns = (
        (cosines[start], cosines[start + 1], cosines[start + 2]) for start in (0, 3)
    )
    spacing_mm = between_columns, between_rows
    return SlideFrame(uid, (x_mm, y_mm), along_rows, along_columns, spacing_mm)
