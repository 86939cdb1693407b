"""density.dcm: the map as a DICOM Parametric Map, one px a cell, in %."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.tag import Tag
from pydicom.uid import ParametricMapStorage

from gliorun.measuring.density import CLASS_EDGES, DensityMap
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

PERCENT = Code("%", "UCUM", "Percent")
QUANTITY = Code("246205007", "SCT", "Quantity")
NUCLEUS_DENSITY = Code("nucleus-density", "99GLIORUN", "Nucleus area / tissue area")
DENSITY_OF_TILE = Code("nucleus-density-of-tile", "99GLIORUN", "Nucleus area / valid area")
SOURCE = Code("121322", "DCM", "Source image for image processing operation")
SEGMENTATION = Code("113076", "DCM", "Segmentation")
THICKNESS_MM = 0.005
"""Nominal, as the thickness of a section is not known."""
WINDOW = 25.0
"""Width in % of the grey levels that a viewer shows at first: it covers the six classes."""
IMAGE_TYPE = ["DERIVED", "PRIMARY", "VOLUME", "NONE"]


def write_density(path: Path, result: Result) -> None:
    """Write the density in % as 32-bit floats, one frame; NaN is "no value".

    The map lies in the frame of reference of the slide, so that a viewer can lay it over it. Pixels
    are cells: their spacing is that of the cells, and the first position is the centre of the
    first cell.

    Raises
    ------
    GlioError
        A value of the slide's header, which was to be kept, is no DICOM.
    """
    percent = (100 * result.density.density).astype(np.float32)
    instance = new_instance(result, ParametricMapStorage, "OT", "Nucleus density")
    instance.ContentQualification = "RESEARCH"
    instance.ImageType = IMAGE_TYPE
    instance.BurnedInAnnotation = instance.RecognizableVisualFeatures = "NO"
    instance.LossyImageCompression = "00"
    instance.PresentationLUTShape = "IDENTITY"
    instance.DerivationDescription = "Nuclei segmented by a network, their area summed in cells"
    instance.AcquisitionContextSequence = []
    _add_pixels(instance, percent)
    _add_place(instance, result)
    instance.SharedFunctionalGroupsSequence = [_shared(result)]
    save(instance, path)


def _add_pixels(instance: Dataset, percent: NDArray[np.float32]) -> None:
    instance.Rows, instance.Columns = percent.shape
    instance.SamplesPerPixel, instance.NumberOfFrames = 1, 1
    instance.PhotometricInterpretation = "MONOCHROME2"
    instance.BitsAllocated = 32
    instance.FloatPixelData = percent.astype("<f4").tobytes()


def _add_place(instance: Dataset, result: Result) -> None:
    """Say where the only frame lies: in the matrix of all, and on the slide."""
    frame, (width_l0, height_l0) = frame_of(result), result.density.cell_l0
    first = point_mm(frame, width_l0 / 2, height_l0 / 2)
    instance.ImageOrientationSlide = [*frame.along_rows, *frame.along_columns]
    origin = Dataset()
    origin.XOffsetInSlideCoordinateSystem, origin.YOffsetInSlideCoordinateSystem = _ds(first[:2])
    origin.ZOffsetInSlideCoordinateSystem = 0
    instance.TotalPixelMatrixOriginSequence = [origin]
    instance.TotalPixelMatrixColumns, instance.TotalPixelMatrixRows = (
        instance.Columns,
        instance.Rows,
    )
    instance.TotalPixelMatrixFocalPlanes = 1
    place = Dataset()
    place.XOffsetInSlideCoordinateSystem, place.YOffsetInSlideCoordinateSystem = _ds(first[:2])
    place.ZOffsetInSlideCoordinateSystem = 0
    place.ColumnPositionInTotalImagePixelMatrix = place.RowPositionInTotalImagePixelMatrix = 1
    content = Dataset()
    content.FrameComments = remarks(result)
    content.DimensionIndexValues = [1, 1]
    groups = Dataset()
    groups.FrameContentSequence, groups.PlanePositionSlideSequence = [content], [place]
    instance.PerFrameFunctionalGroupsSequence = [groups]
    _add_dimensions(instance)


def _add_dimensions(instance: Dataset) -> None:
    uid = uid_of("dimensions", instance.SOPInstanceUID)
    organisation = Dataset()
    organisation.DimensionOrganizationUID = uid
    instance.DimensionOrganizationSequence = [organisation]
    instance.DimensionOrganizationType = "TILED_SPARSE"
    indices = []
    for name in ("RowPositionInTotalImagePixelMatrix", "ColumnPositionInTotalImagePixelMatrix"):
        index = Dataset()
        index.DimensionOrganizationUID = uid
        index.DimensionIndexPointer = Tag(name)
        index.FunctionalGroupPointer = Tag("PlanePositionSlideSequence")
        index.DimensionDescriptionLabel = name
        indices.append(index)
    instance.DimensionIndexSequence = indices


def _shared(result: Result) -> Dataset:
    """Return what is true of all frames: size, type, meaning and grey levels of the pixels."""
    frame, (width_l0, height_l0) = frame_of(result), result.density.cell_l0
    measures = Dataset()
    measures.PixelSpacing = _ds((height_l0 * frame.spacing_mm[1], width_l0 * frame.spacing_mm[0]))
    measures.SliceThickness = THICKNESS_MM
    frame_type = Dataset()
    frame_type.FrameType = IMAGE_TYPE
    window = Dataset()
    window.WindowCenter, window.WindowWidth = WINDOW / 2, WINDOW
    unchanged = Dataset()
    unchanged.RescaleIntercept, unchanged.RescaleSlope, unchanged.RescaleType = 0, 1, "US"
    shared = Dataset()
    shared.PixelMeasuresSequence = [measures]
    shared.ParametricMapFrameTypeSequence, shared.FrameVOILUTSequence = [frame_type], [window]
    shared.PixelValueTransformationSequence = [unchanged]
    shared.RealWorldValueMappingSequence = [_mapping(result.density)]
    if images := referenced_image(result.dicom):
        images[0].PurposeOfReferenceCodeSequence = SOURCE.item()
        derivation = Dataset()
        derivation.DerivationCodeSequence = SEGMENTATION.item()
        derivation.SourceImageSequence = images
        shared.DerivationImageSequence = [derivation]
    return shared


def _mapping(density: DensityMap) -> Dataset:
    """Return what a pixel's value means: it is the density in % already."""
    quantity = Dataset()
    quantity.ValueType = "CODE"
    quantity.ConceptNameCodeSequence = QUANTITY.item()
    code = NUCLEUS_DENSITY if density.per_tissue else DENSITY_OF_TILE
    quantity.ConceptCodeSequence = code.item()
    mapping = Dataset()
    mapping.LUTExplanation, mapping.LUTLabel = "Nucleus density in %; NaN: no value", "DENSITY"
    mapping.MeasurementUnitsCodeSequence = PERCENT.item()
    mapping.QuantityDefinitionSequence = [quantity]
    mapping.RealWorldValueSlope, mapping.RealWorldValueIntercept = 1.0, 0.0
    mapping.DoubleFloatRealWorldValueFirstValueMapped = 100 * CLASS_EDGES[0]
    mapping.DoubleFloatRealWorldValueLastValueMapped = 100 * CLASS_EDGES[-1]
    return mapping


def _ds(numbers: Iterable[float]) -> list[str]:
    """Return numbers as the decimal strings of DICOM, of at most 16 characters."""
    return [f"{number:.10g}"[:16] for number in numbers]
