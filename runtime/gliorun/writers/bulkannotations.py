"""nuclei.dcm: every nucleus as DICOM Microscopy Bulk Simple Annotations, in mm on the slide."""

from __future__ import annotations

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
)
from gliorun.writers.result import Result

NUCLEUS = Code("84640000", "SCT", "Nucleus")
STRUCTURE = Code("91723000", "SCT", "Anatomical structure")
NETWORK = Code("123109", "DCM", "Artificial Intelligence")
AREA = Code("42798000", "SCT", "Area")
SQUARE_UM = Code("um2", "UCUM", "square micrometer")
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
    corners_mm, first, areas_um2 = _nuclei(result)
    if corners_mm.nbytes > MOST_BYTES:
        raise GlioError(f"{path}: holds too many nuclei for DICOM; write .nuclei.parquet instead")
    group = Dataset()
    group.AnnotationGroupNumber, group.AnnotationGroupUID = 1, f"{uid[:62]}.1"
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
    group.PointCoordinatesData = corners_mm.astype("<f4").tobytes()
    group.LongPrimitivePointIndexList = (first + 1).astype("<u4").tobytes()
    values = Dataset()
    values.FloatingPointValues = areas_um2.astype("<f4").tobytes()
    area = Dataset()
    area.ConceptNameCodeSequence, area.MeasurementUnitsCodeSequence = AREA.item(), SQUARE_UM.item()
    area.MeasurementValuesSequence = [values]
    group.MeasurementsSequence = [area]
    return group


def _nuclei(
    result: Result,
) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.float32]]:
    """Return x, y of all corners, (N, 2) mm; the first number of each nucleus; areas in µm²."""
    assert result.masks is not None
    frame = frame_of(result)
    corner = point_mm(frame, 0, 0)
    per_px = np.stack([point_mm(frame, 1, 0) - corner, point_mm(frame, 0, 1) - corner])[:, :2]
    outlines, areas = [np.empty((0, 2), np.float32)], []
    for nucleus in result.nuclei():
        outer_l0, *_ = simple_outlines_l0(nucleus)
        outlines.append((outer_l0[:-1] @ per_px + corner[:2]).astype(np.float32))
        areas.append(nucleus.area_um2)
    ends = 2 * np.cumsum([len(outline) for outline in outlines])
    return np.concatenate(outlines), ends[:-1], np.array(areas, np.float32)
