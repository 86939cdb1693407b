"""Read an exported field of a slide: one image without tiles, held whole in memory."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageOps, UnidentifiedImageError

from gliorun.errors import GlioError
from gliorun.reading.images import NO_IMAGE
from gliorun.reading.jpegtiles import decoded_rgb
from gliorun.reading.scale import MPP_RANGE
from gliorun.reading.tiff import LAYOUTS, has_strips

LARGEST_PX = 2**27
"""Pixels above which an image is refused, as its four bytes a pixel would not fit into every
memory: half a gigabyte, 2.9 mm a side at 0.25 µm/px."""
FORMATS = ("PNG", "JPEG", "BMP", "TIFF")
COLOUR_MODES = {"RGB": "RGB", "RGBA": "RGBA", "P": "RGBA", "PA": "RGBA", "L": "RGB", "LA": "RGBA",
                "1": "RGB", "YCbCr": "RGB"}  # fmt: skip
"""The mode to which each of pillow's modes is converted; alpha is kept."""
ORIENTATION, FIRST_ON_ITS_SIDE = 274, 5
"""The orientation tag of TIFF and EXIF, and its values that swap width and height."""
UM_PER_INCH = 25_400


@dataclass(frozen=True, slots=True, eq=False)
class Field:
    """An image upright in RGB or RGBA, its format in lower case, and µm/px (x, y) if it says so."""

    image: Image.Image
    format: str
    mpp: tuple[float, float] | None


def read_field(path: Path) -> Field | None:
    """Read an image without tiles whole; None if the file is not such an image.

    Raises
    ------
    GlioError
        The image is too large, damaged, or not in 8-bit colour.
    OSError
        It cannot be read from its disk.
    """
    with path.open("rb") as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pillow warns where we refuse
        is_tiff = file.read(4) in LAYOUTS
        if is_tiff and not has_strips(path):  # a damaged slide, which pillow must not read
            return None
        try:
            image = Image.open(file, formats=FORMATS)
            _check(path, image)
            return _upright(path, image)
        except UnidentifiedImageError as error:
            if not is_tiff:
                return None
            raise _unread(path, "damaged, or its pixels are not of 8 bits") from error
        except Image.DecompressionBombError as error:
            raise GlioError(f"{path}: too many pixels; {_way_out()}") from error
        except NO_IMAGE as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise
            raise GlioError(f"{path}: damaged or truncated ({error}); copy it again") from error


def _check(path: Path, image: Image.Image) -> None:
    if image.width * image.height > LARGEST_PX:
        raise GlioError(f"{path}: {image.width} x {image.height} px are too many; {_way_out()}")
    if image.mode not in COLOUR_MODES:
        raise _unread(path, f"its pixels are {image.mode}")


def _way_out() -> str:
    return (
        f"an image without tiles is read whole, up to {LARGEST_PX / 1e6:.0f} million px; save it "
        "with tiles, for example with "
        "'vips tiffsave IN OUT.tif --tile --pyramid --compression jpeg'"
    )


def _unread(path: Path, why: str) -> GlioError:
    return GlioError(f"{path}: an image that is not read ({why}); save it as PNG, 8-bit RGB")


def _upright(path: Path, image: Image.Image) -> Field:
    """Decode an image and turn it by its orientation tag."""
    orientation = image.getexif().get(ORIENTATION, 1)
    mpp = _stated_mpp(image)
    image_format = str(image.format).lower()
    if image.format in ("JPEG", "MPO"):  # pillow hides some damage, which is refused here
        pixels = Image.fromarray(decoded_rgb(path.read_bytes()))
        pixels.getexif()[ORIENTATION] = orientation
    else:
        pixels = image
    ImageOps.exif_transpose(
        pixels, in_place=True
    )  # this loads the pixels; pillow turns a TIFF itself
    if mpp is not None and orientation >= FIRST_ON_ITS_SIDE:
        mpp = mpp[::-1]
    mode = COLOUR_MODES[pixels.mode]
    return Field(pixels if pixels.mode == mode else pixels.convert(mode), image_format, mpp)


def _stated_mpp(image: Image.Image) -> tuple[float, float] | None:
    """Return µm/px if the stated resolution is that of a microscope, not of a printer."""
    try:
        x_mpp, y_mpp = (UM_PER_INCH / float(dots) for dots in image.info["dpi"])
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        return None
    low, high = MPP_RANGE
    return (x_mpp, y_mpp) if low <= x_mpp <= high and low <= y_mpp <= high else None
