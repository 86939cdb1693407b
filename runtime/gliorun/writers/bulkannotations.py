"""nuclei.dcm: every nucleus as DICOM Microscopy Bulk Simple Annotations, in mm on the slide."""

from __future__ import annotations

from array import array
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import MicroscopyBulkSimpleAnnotationsStorage

from gliorun import __version__
from gliorun.errors import GlioError
from gliorun.findings.outline import simple_outlines_l0
from gliorun.writers.dicom import (
    Code,
    frame_of,
    new_instance,
    point_mm,
    referenced_image,
    remarks,
    save,
    uid_of,
)
from gliorun.writers.result import Result

NUCLEUS = Code("84640000", "SCT", "Nucleus")
STRUCTURE = Code("91723000", "SCT", "Anatomical structure")
NETWORK = Code("123109", "DCM", "Artificial Intelligence")
AREA = Code("42798000", "SCT", "Area")
SQUARE_UM = Code("um2", "UCUM", "square micrometer")
FLOAT_BYTES = 4
MOST_BYTES = 2**32 - 2
"""The longest value that DICOM can hold."""


def write_nuclei(path: Path, result: Result) -> None:
    """Write each nucleus once, from top to bottom: its outer outline in mm, and its area in µm².

    Outlines are simplified as in `nuclei.geojson`. These annotations know no holes, so an outline
    may surround more than the area, which is that of the mask.

    Raises
    ------
    ValueError
        The run kept no masks.
    GlioError
        There are too many nuclei for one file, or a value of the slide's header is no DICOM.
    """
    if result.masks is None:
        raise ValueError(f"{path}: needs the masks of the run")
    instance = new_instance(result, MicroscopyBulkSimpleAnnotationsStorage, "ANN", "Nuclei")
    instance.AnnotationCoordinateType = "3D"
    if images := referenced_image(result.dicom):
        instance.ReferencedImageSequence = images
    instance.AnnotationGroupSequence = [_group(path, result, str(instance.SOPInstanceUID))]
    save(instance, path)


def _group(path: Path, result: Result, uid: str) -> Dataset:
    corners_mm, starts, areas_um2 = _nuclei(result)
    if len(corners_mm) > MOST_BYTES:
        raise GlioError(f"{path}: holds too many nuclei for DICOM; write .nuclei.parquet instead")
    group = Dataset()
    group.AnnotationGroupNumber, group.AnnotationGroupUID = 1, uid_of("nuclei", uid)
    group.AnnotationGroupLabel = "Nuclei"
    group.AnnotationGroupDescription = remarks(result)
    group.AnnotationGroupGenerationType = "AUTOMATIC"
    algorithm = Dataset()
    algorithm.AlgorithmFamilyCodeSequence = NETWORK.item()
    algorithm.AlgorithmName = f"gliorun, model {result.card.name}"[:64]
    algorithm.AlgorithmVersion = f"{__version__}, {result.card.weights_sha256[:12]}"
    group.AnnotationGroupAlgorithmIdentificationSequence = [algorithm]
    group.AnnotationPropertyCategoryCodeSequence = STRUCTURE.item()
    group.AnnotationPropertyTypeCodeSequence = NUCLEUS.item()
    group.NumberOfAnnotations = len(areas_um2)
    group.AnnotationAppliesToAllOpticalPaths = "YES"
    group.AnnotationAppliesToAllZPlanes = "YES"
    group.GraphicType = "POLYGON"
    group.CommonZCoordinateValue = 0.0
    group.PointCoordinatesData = corners_mm
    group.LongPrimitivePointIndexList = starts.astype("<u4").tobytes()
    values = Dataset()
    values.FloatingPointValues = areas_um2.astype("<f4").tobytes()
    area = Dataset()
    area.ConceptNameCodeSequence, area.MeasurementUnitsCodeSequence = AREA.item(), SQUARE_UM.item()
    area.MeasurementValuesSequence = [values]
    group.MeasurementsSequence = [area]
    return group


def _nuclei(result: Result) -> tuple[bytes, NDArray[np.int64], NDArray[np.float32]]:
    """Return x, y of all corners as floats of 4 bytes in mm; where each nucleus begins; areas, µm².

    Beginnings count numbers, not corners, and from 1. A nucleus takes about 200 bytes, so that
    corners are kept as bytes from the first on.
    """
    frame = frame_of(result)
    corner = point_mm(frame, 0, 0)
    per_px = np.stack([point_mm(frame, 1, 0) - corner, point_mm(frame, 0, 1) - corner])[:, :2]
    corners_mm, starts, areas = bytearray(), array("q"), array("d")
    for nucleus in result.nuclei():
        starts.append(len(corners_mm) // FLOAT_BYTES + 1)
        areas.append(nucleus.area_um2)
        outer_l0, *_ = simple_outlines_l0(nucleus)
        corners_mm += (outer_l0[:-1] @ per_px + corner[:2]).astype("<f4").tobytes()
    return bytes(corners_mm), np.array(starts, np.int64), np.array(areas, np.float32)
