"""Explain why OpenSlide does not open a file, and what helps."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from gliorun.reading.files import FOLDER_BESIDE
from gliorun.reading.images import NO_IMAGE
from gliorun.reading.tiff import APERIO_JPEG_2000, directories

DICOM_MARK_AT, DICOM_MARK = 128, b"DICM"
SAVE_AGAIN = (
    "save it with JPEG tiles in the program that wrote it, or with "
    "'vips tiffsave IN OUT.tif --tile --pyramid --compression jpeg'"
)
COMPRESSIONS: dict[int | None, str] = {
    **dict.fromkeys((34712, *APERIO_JPEG_2000), "JPEG 2000"),
    **dict.fromkeys((50001, 34927), "WebP"),
    **dict.fromkeys((50002, 52546), "JPEG XL"),
    **dict.fromkeys((34934, 22610), "JPEG XR"),
    34887: "LERC",
    34925: "LZMA",
    34933: "PNG",
}
"""Compressions that OpenSlide does not read in a TIFF; JPEG 2000 only in that of Aperio."""
PICTURES = ("GIF", "JPEG2000", "PPM", "WEBP")
"""Formats of images, by pillow's names, that are not measured but that a field may be saved in."""
UNKNOWN_REGIONS = (
    "a Ventana slide that does not say where its scanned regions lie; export it again from the "
    "scanner's program"
)
SIGNS = (
    ("Missing or inconsistent region metadata", UNKNOWN_REGIONS),
    ("No pyramid levels in slide", UNKNOWN_REGIONS),
    (
        "Couldn't find any pyramid levels",
        "an NDPI without the focal plane 0, the only one that OpenSlide reads; export one plane "
        "from Hamamatsu's NDP.view",
    ),
    (
        "Couldn't get image flavor",
        "DICOM without the image type that OpenSlide needs; name another",
    ),
    (
        "No pyramid levels found",
        "DICOM of no slide, such as a label or an overview; name another",
    ),
    (
        "Unsupported transfer syntax",
        "DICOM compressed in a way that OpenSlide does not read; convert it to DICOM of JPEG",
    ),
)
"""Messages of OpenSlide, and for each what is wrong with the file and what helps."""


def why_unknown(path: Path) -> str:
    """Describe a file whose format OpenSlide does not know."""
    suffix = path.suffix.lower()
    if suffix == FOLDER_BESIDE and not path.with_suffix("").is_dir():
        return f"the folder {path.stem} with its pixels is not beside it; copy it there"
    if suffix == FOLDER_BESIDE and path.suffix != suffix:
        return f"OpenSlide wants this suffix in small letters; rename it to {path.stem}{suffix}"
    if not path.stat().st_size:
        return "is empty; copy it again"
    if is_dicom(path):
        return "DICOM that is of no whole slide, or damaged; if it is of one, copy it again"
    picture = _picture_format(path)
    if picture is not None:
        return f"an image of the format {picture}, which is not measured; save it as PNG"
    return "not a slide that OpenSlide can read, or damaged; if it is one, copy it again"


def _picture_format(path: Path) -> str | None:
    """Return the format of an image, one of `PICTURES`, or None if it is none of them."""
    try:
        with Image.open(path, formats=PICTURES) as image:
            return image.format
    except NO_IMAGE:
        return None


def why_not_opened(path: Path, said: str) -> str:
    """Describe the fault of a file that OpenSlide recognises; `said` is its message."""
    if "TIFF compression" in said:
        compression = next((image.compression for image in directories(path)), None)
        if compression in COMPRESSIONS:
            return f"holds {COMPRESSIONS[compression]}, which OpenSlide does not read; {SAVE_AGAIN}"
        return f"damaged, or of a kind that OpenSlide does not read ({said}); {SAVE_AGAIN}"
    for sign, reason in SIGNS:
        if sign in said:
            return f"{reason} ({said})"
    return f"damaged or truncated ({said}); copy it again"


def is_dicom(path: Path) -> bool:
    """Tell whether a file is DICOM, whether of a slide or not."""
    with path.open("rb") as file:
        file.seek(DICOM_MARK_AT)
        return file.read(len(DICOM_MARK)) == DICOM_MARK
