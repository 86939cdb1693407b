"""What OpenSlide does not check: whether the tiles of a TIFF make up the size that it claims."""

from __future__ import annotations

import math
from pathlib import Path

import tifffile

from gliorun.errors import GlioError

OFFSETS, COUNTS = 324, 325
MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def check_tiles(path: Path) -> None:
    """Refuse a TIFF with more or fewer tiles than its width and height need.

    OpenSlide takes the numbers as they stand; with a wrong width every row of tiles would lie
    shifted against the last one. Files of other formats pass.

    Raises
    ------
    GlioError
        An image of the file claims another size than its tiles have.
    """
    with path.open("rb") as file:
        if file.read(4) not in MAGIC:
            return
    try:
        with tifffile.TiffFile(path) as tiff:
            for page in tiff.pages:
                _check_page(path, page)
    except (tifffile.TiffFileError, ValueError, LookupError, TypeError, ArithmeticError):
        return  # so odd that OpenSlide is to say whether it is a slide


def _check_page(path: Path, page: tifffile.TiffPage | tifffile.TiffFrame) -> None:
    if not isinstance(page, tifffile.TiffPage) or not page.is_tiled:
        return
    planes = page.samplesperpixel if page.planarconfig == tifffile.PLANARCONFIG.SEPARATE else 1
    across = math.ceil(page.imagewidth / page.tilewidth)
    down = math.ceil(page.imagelength / page.tilelength)
    tiles = across * down * page.imagedepth * planes
    for code in (OFFSETS, COUNTS):
        if code in page.tags and page.tags[code].count != tiles:
            raise GlioError(
                f"{path}: damaged: {page.imagewidth} x {page.imagelength} px need {tiles} tiles, "
                f"the file lists {page.tags[code].count}; copy it again"
            )
