"""Read image files that users provide: tiles, labels, masks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageOps
from PIL.TiffImagePlugin import TiffImageFile

NO_IMAGE = (OSError, ValueError, SyntaxError, Image.DecompressionBombError)
"""The errors of pillow for a file that is no image, is damaged, or does not fit into memory."""
PHOTOMETRIC, ZERO_IS_WHITE = 262, 0
"""The tag of a TIFF that says what 0 stands for, and its value for white."""
COLOURS = ("RGB", "RGBA", "RGBX", "LA", "PA")
"""Multi-channel modes of pillow that keep the file's values unchanged."""


def open_upright(path: Path) -> Image.Image:
    """Read an image, turned as its EXIF orientation says.

    It is opened as a stream: pillow maps a TIFF that it opens by name into memory, and scrambles
    it if its orientation exchanges rows and columns.

    Raises
    ------
    NO_IMAGE
        The file cannot be read as an image.
    """
    with path.open("rb") as stream, Image.open(stream) as image:
        return ImageOps.exif_transpose(image)


def read_labels(path: Path) -> NDArray[Any]:
    """Read the labels of an image, (H, W): a mask, a label image or probabilities.

    They are the values of its one channel, of any type; of several channels the largest of the
    colours; of an image with a colour table the index, not the colour. What is wholly transparent
    is 0.

    Raises
    ------
    NO_IMAGE
        The file cannot be read as an image.
    """
    with path.open("rb") as stream, Image.open(stream) as opened:
        if len(opened.getbands()) > 1 and ";16" in str(opened.tile):
            raise ValueError("16 bits in several channels; save it in one channel, or with 8 bits")
        image = ImageOps.exif_transpose(opened)
        if _is_shown_inverted(opened):
            image = ImageChops.invert(image.convert("L"))
    if len(image.getbands()) > 1 and image.mode not in COLOURS:
        image = image.convert("RGB")  # in these modes 0 is not black
    labels = np.asarray(image)
    if labels.ndim == 3:
        colours = labels[..., : len(image.mode.removesuffix("A").removesuffix("X"))]
        labels = colours.max(axis=-1)
    if image.has_transparency_data:
        alpha = np.asarray(image.convert("RGBA"))[..., 3]
        labels = np.where(alpha > 0, labels, 0)
    return labels


def _is_shown_inverted(image: Image.Image) -> bool:
    """Tell whether pillow gives a TIFF's values inverted, as in its file 0 stands for white."""
    tags = image.tag_v2 if isinstance(image, TiffImageFile) else {}
    return image.mode in ("1", "L") and tags.get(PHOTOMETRIC) == ZERO_IS_WHITE


def read_mask(path: Path) -> NDArray[np.bool_]:
    """Read a mask image as (H, W) bool: True where its label is above 0.

    Raises
    ------
    NO_IMAGE
        The file cannot be read as an image.
    """
    return np.asarray(read_labels(path) > 0)
