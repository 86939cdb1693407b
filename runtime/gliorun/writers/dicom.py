"""What DICOM outputs have in common: patient, study, frame of reference, specimen, equipment."""

from __future__ import annotations

import hashlib
import uuid
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.config import RAISE
from pydicom.datadict import dictionary_VR
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian
from pydicom.valuerep import validate_value

from gliorun import __version__
from gliorun.errors import GlioError
from gliorun.reading.dicomheader import PATIENT, SPECIMEN_OF_PATIENT, DicomHeader, SlideFrame
from gliorun.reading.ownmap import IMPLEMENTATION_UID
from gliorun.writers.result import Result

LONG_STRING = 64
"""Most characters of a text of the kind LO."""
NO_PATIENT = "patient and study of the slide left out, new identifiers"
MM_PER_UM = 1e-3


@dataclass(frozen=True, slots=True)
class Code:
    """A coded word: its value in a scheme, and what it means."""

    value: str
    scheme: str
    meaning: str

    def item(self) -> list[Dataset]:
        """Return a code sequence of one item."""
        item = Dataset()
        item.CodeValue, item.CodingSchemeDesignator = self.value, self.scheme
        item.CodeMeaning = self.meaning
        return [item]


def frame_of(result: Result) -> SlideFrame:
    """Return the frame of reference of the slide, or one that is made of what it shows.

    The made one has its origin in the upper left corner of the slide, x along the rows and y along
    the columns. All outputs of a slide share it. A slide whose scale was typed gets a made one:
    its own says something else.
    """
    header, scale = result.dicom, result.scale
    if header is not None and header.frame is not None and scale.source == "slide":
        return header.frame
    spacing_mm = (scale.x_mpp * MM_PER_UM, scale.y_mpp * MM_PER_UM)
    half = spacing_mm[0] / 2, spacing_mm[1] / 2
    uid = uid_of("frame of reference", _picture(result), *map(str, spacing_mm))
    return SlideFrame(uid, half, (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), spacing_mm)


def point_mm(frame: SlideFrame, x_l0: float, y_l0: float) -> NDArray[np.float64]:
    """Return x, y, z of a point in level-0 px from the corner of the slide; (3,) mm."""
    origin = np.array([*frame.origin_mm, 0.0])
    along = (np.array(frame.along_rows), np.array(frame.along_columns))
    x_px, y_px = x_l0 - 0.5, y_l0 - 0.5  # the origin is the centre of the first px
    return np.asarray(
        origin + along[0] * frame.spacing_mm[0] * x_px + along[1] * frame.spacing_mm[1] * y_px
    )


def new_instance(result: Result, sop_class_uid: UID, modality: str, what: str) -> Dataset:
    """Return a data set with all that does not depend on what it holds.

    Patient and study are those of the slide where its header was kept, else empty and new.
    """
    started = _started_at(result)
    measured = hashlib.sha256(result.density.nucleus_px.tobytes()).hexdigest()
    run = (_picture(result), result.card.weights_sha256, measured, started.isoformat())
    instance = Dataset()
    instance.file_meta = FileMetaDataset()
    instance.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    instance.file_meta.ImplementationClassUID = UID(IMPLEMENTATION_UID)
    instance.file_meta.ImplementationVersionName = f"gliorun {__version__}"[:16]
    instance.SpecificCharacterSet = "ISO_IR 192"
    instance.SOPClassUID = sop_class_uid
    instance.SOPInstanceUID = uid_of("instance", what, *run)
    instance.file_meta.MediaStorageSOPClassUID = instance.SOPClassUID
    instance.file_meta.MediaStorageSOPInstanceUID = instance.SOPInstanceUID
    _add_patient_and_study(instance, result)
    instance.Modality = modality
    instance.SeriesInstanceUID = uid_of("series", what, *run)
    instance.SeriesNumber = instance.InstanceNumber = 1
    instance.SeriesDescription = f"{what} of {result.slide_name}"[:LONG_STRING]
    instance.ContentDate, instance.ContentTime = f"{started:%Y%m%d}", f"{started:%H%M%S}"
    instance.TimezoneOffsetFromUTC = "+0000"
    instance.ContentLabel = what.upper().replace(" ", "_")[:16]
    instance.ContentDescription = f"{what} of {result.slide_name}"[:LONG_STRING]
    instance.ContentCreatorName = ""
    _add_equipment(instance, result)
    instance.FrameOfReferenceUID = frame_of(result).uid
    instance.PositionReferenceIndicator = "SLIDE_CORNER"
    _add_specimen(instance, result)
    _add_references(instance, result.dicom)
    return instance


def save(instance: Dataset, path: Path) -> None:
    """Write a data set as a DICOM file."""
    instance.save_as(path, enforce_file_format=True)


def remarks(result: Result) -> str:
    """Return calibration, warnings and what the model may be used for, as one text."""
    warnings = (f"Warning: {warning}." for warning in result.warnings)
    return " ".join(
        [*result.calibrated, *warnings, f"Research use only. {result.card.intended_use}".strip()]
    )


def _add_patient_and_study(instance: Dataset, result: Result) -> None:
    header = result.dicom
    patient = header.patient if header is not None else {}
    for name, text in patient.items():
        _check(name, text, result.slide_name)
    for name in PATIENT:
        if name not in ("IssuerOfPatientID", "ContainerIdentifier"):
            setattr(instance, name, patient.get(name, ""))
    if "IssuerOfPatientID" in patient:
        instance.IssuerOfPatientID = patient["IssuerOfPatientID"]
    if not instance.StudyInstanceUID:
        instance.StudyInstanceUID = uid_of("study", _picture(result))
    if header is not None and not patient:
        instance.PatientIdentityRemoved = "YES"
        instance.DeidentificationMethod = NO_PATIENT


def _check(name: str, text: str, slide_name: str) -> None:
    """Refuse a value of the slide's header that must not be written; the line does not show it."""
    try:
        validate_value(dictionary_VR(name), text, RAISE)
    except ValueError as error:
        raise GlioError(
            f"{slide_name}: its {name} is not as DICOM allows; leave out --keep-patient, or have "
            "the slide corrected"
        ) from error


def _add_equipment(instance: Dataset, result: Result) -> None:
    model = f"model {result.card.name} {result.card.weights_sha256[:12]}"
    instance.Manufacturer = instance.ManufacturerModelName = "gliorun"
    instance.DeviceSerialNumber = "none"
    instance.SoftwareVersions = [f"gliorun {__version__}", model[:LONG_STRING]]


def _add_specimen(instance: Dataset, result: Result) -> None:
    """Name the specimen: by its UID, and by its texts where the patient was kept."""
    header = result.dicom
    patient = header.patient if header is not None else {}
    name = result.slide_name[:LONG_STRING]
    instance.ContainerIdentifier = patient.get("ContainerIdentifier", name)
    instance.IssuerOfTheContainerIdentifierSequence = []
    instance.ContainerTypeCodeSequence = Code("433466003", "SCT", "Microscope slide").item()
    specimen = Dataset()
    specimen.SpecimenIdentifier = patient.get(SPECIMEN_OF_PATIENT, name)
    specimen.IssuerOfTheSpecimenIdentifierSequence = []
    uid = header.specimen_uid if header is not None else ""
    specimen.SpecimenUID = uid or uid_of("specimen", _picture(result))
    specimen.SpecimenPreparationSequence = []
    instance.SpecimenDescriptionSequence = [specimen]


def referenced_image(header: DicomHeader | None) -> list[Dataset]:
    """Return a reference to the slide's image, or none.

    It is named where patient and study are kept, as a new study would have to name that of the
    slide.
    """
    if header is None or not header.patient:
        return []
    image = Dataset()
    image.ReferencedSOPClassUID = header.sop_class_uid
    image.ReferencedSOPInstanceUID = header.sop_instance_uid
    return [image]


def _add_references(instance: Dataset, header: DicomHeader | None) -> None:
    images = referenced_image(header)
    if header is None or not images:
        return
    series = Dataset()
    series.SeriesInstanceUID = header.series_uid
    series.ReferencedInstanceSequence = images
    instance.ReferencedSeriesSequence = [series]


def _started_at(result: Result) -> datetime:
    started = result.run.get("started_at")
    if started is None:
        raise ValueError(f"{result.slide_name}: the run record does not say when it began")
    return datetime.fromisoformat(started.replace("Z", "+00:00")).astimezone(timezone.utc)


def _picture(result: Result) -> str:
    """Return a hash of what a slide shows, the same in every run of the slide."""
    seen = hashlib.sha256(np.ascontiguousarray(result.overview).tobytes())
    seen.update(str(result.density.grid.size_l0).encode())
    return seen.hexdigest()


def uid_of(*parts: str) -> str:
    """Return a UID that follows from the parts (PS3.5, B.2: from a UUID)."""
    return f"2.25.{uuid.uuid5(uuid.NAMESPACE_OID, ' '.join(('gliorun', *parts))).int}"
