"""Small real slides, sound ones and ones named for their defect."""

from __future__ import annotations

import struct
from collections.abc import Container, Generator, Iterable
from dataclasses import dataclass
from pathlib import Path

import imagecodecs
import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import JPEGBaseline8Bit, VLWholeSlideMicroscopyImageStorage, generate_uid

from gliorun import demo

Pixels = NDArray[np.uint8]
GLASS = 245
JPEG_TILE_PX = 256
SUBSAMPLING = {"444": (1, 1), "422": (2, 1), "420": (2, 2)}
"""Pixels along x and y that share a colour."""


@dataclass(frozen=True, slots=True, eq=False)
class Drawn:
    """A slide on disk and what was drawn on it."""

    path: Path
    tissue: demo.SyntheticTissue


def drawn(path: Path, width: int, height: int, *, seed: int = 0, levels: int = 2) -> Drawn:
    """Write an oval of synthetic tissue on glass, with the density of the demo slide."""
    tissue = demo.draw_tissue(demo.demo_density(height, width), seed)
    demo.write_slide(path, tissue.pixels, levels=levels)
    return Drawn(path, tissue)


def all_tissue(width: int, height: int, *, density: float = 0.1, seed: int = 0) -> Pixels:
    """Return tissue that fills its (height, width, 3) px; for `demo.write_slide`."""
    wanted = np.full((height, width), density, dtype=np.float32)
    return demo.draw_tissue(wanted, seed).pixels


def glass(width: int, height: int) -> Pixels:
    """Return glass with a little grey noise, (height, width, 3)."""
    noise = np.random.default_rng(0).integers(-2, 3, (height, width, 1))
    return np.repeat(GLASS + noise, 3, axis=-1).astype(np.uint8)


def section_with_holes(strength: float = 1.0) -> tuple[Pixels, NDArray[np.bool_]]:
    """Return 0.7 x 0.7 mm of tissue at 0.5 µm/px with round holes of 25 to 70 µm, and the holes.

    It is stained unevenly, by 0.45 to 1 of the full `strength`.
    """
    side, random = 1400, np.random.default_rng(2)
    y, x = np.mgrid[0:side, 0:side].astype(np.float32)
    holes = np.zeros((side, side), np.bool_)
    while holes.mean() < 0.2:
        radius, left, top = random.uniform([25, 0, 0], [70, side, side])
        holes |= (x - left) ** 2 + (y - top) ** 2 < radius**2
    uneven = strength * (0.725 + 0.275 * np.sin(x / 90) * np.sin(y / 70))
    tissue = 248 * (all_tissue(side, side) / 248) ** uneven[..., None]
    pixels = np.where(holes[..., None], glass(side, side), np.rint(tissue).clip(0, 255))
    return pixels.astype(np.uint8), holes


def text_file(path: Path) -> Path:
    """Write a text file under a slide's name."""
    path.write_text("this is no slide\n" * 100)
    return path


def truncated(path: Path, whole: Path, share: float = 0.5) -> Path:
    """Write the first `share` of the bytes of a whole slide."""
    content = whole.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    return path


def with_bad_jpeg(path: Path, whole: Path, tiles: Iterable[tuple[int, int]]) -> Path:
    """Copy a slide and overwrite (column, row) JPEG tiles of level 0 with bytes of no JPEG."""
    content = bytearray(whole.read_bytes())
    with tifffile.TiffFile(whole) as slide:
        page = slide.pages[0]
        columns = -(-page.imagewidth // page.tilewidth)
        for column, row in tiles:
            index = row * columns + column
            start, length = page.dataoffsets[index], page.databytecounts[index]
            content[start : start + length] = b"\x55" * length
    path.write_bytes(content)
    return path


def looped(path: Path, levels: int) -> Path:
    """Write a slide whose last image names the first one as the next."""
    demo.write_slide(path, all_tissue(600, 400), levels=levels)
    with tifffile.TiffFile(path) as slide:
        first, last = slide.pages[0].offset, slide.pages[-1].offset
    content = bytearray(path.read_bytes())
    (entries,) = struct.unpack_from("<H", content, last)
    struct.pack_into("<I", content, last + 2 + 12 * entries, first)
    path.write_bytes(content)
    return path


def tiled_tiff(path: Path, pixels: Pixels, compression: str | None, **more: object) -> Path:
    """Write a TIFF of tiles that are compressed in any way tifffile knows, at 0.25 µm/px."""
    tifffile.imwrite(
        path,
        pixels,
        tile=(JPEG_TILE_PX, JPEG_TILE_PX),
        photometric="rgb",
        compression=compression,
        compressionargs={"level": 40} if compression == "aperio_jp2000_rgb" else None,
        resolution=(4e4, 4e4),
        resolutionunit="CENTIMETER",
        metadata=None,
        **more,
    )
    return path


def strips(path: Path, pixels: Pixels, **more: object) -> Path:
    """Write a TIFF without tiles, at 0.25 µm/px."""
    tifffile.imwrite(
        path,
        pixels,
        photometric="rgb",
        rowsperstrip=32,
        resolution=(4e4, 4e4),
        resolutionunit="CENTIMETER",
        metadata=None,
        **more,
    )
    return path


def ndpi(path: Path, pixels: Pixels, focal_plane_nm: int) -> Path:
    """Write a slide as Hamamatsu scanners do, of one JPEG in one focal plane."""
    tags = [(65420, "I", 1, 1, True), (65421, "f", 1, 40.0, True)]
    tifffile.imwrite(
        path,
        pixels,
        photometric="ycbcr",
        compression="jpeg",
        rowsperstrip=len(pixels),
        resolution=(4e4, 4e4),
        resolutionunit="CENTIMETER",
        metadata=None,
        extratags=[*tags, (65424, "i", 1, focal_plane_nm, True)],
    )
    return path


def ventana(path: Path, pixels: Pixels) -> Path:
    """Write a slide as Ventana scanners do, but without the record of its scanned regions."""
    xml = b'<?xml version="1.0"?><iScan ScanRes="0.25" Magnification="40"/>'
    return tiled_tiff(
        path,
        pixels,
        "jpeg",
        description="level=0 mag=40 quality=90",
        extratags=[(700, "B", len(xml), xml, True)],
    )


def non_square(path: Path, pixels: Pixels, x_mpp: float, y_mpp: float) -> Path:
    """Write a plain tiled TIFF whose pixels are not square."""
    tifffile.imwrite(
        path,
        pixels,
        tile=(JPEG_TILE_PX, JPEG_TILE_PX),
        photometric="rgb",
        resolution=(1e4 / x_mpp, 1e4 / y_mpp),
        resolutionunit="CENTIMETER",
        metadata=None,
    )
    return path


def dicom(folder: Path, pixels: Pixels, mpp: float = 0.25, header: Dataset | None = None) -> Path:
    """Write a DICOM slide of one level, tiled in JPEG, into a folder that is made.

    `header` holds further elements, such as a patient, a specimen or a place on the glass.
    """
    height, width, _ = pixels.shape
    image = Dataset()
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    image.SOPClassUID = image.file_meta.MediaStorageSOPClassUID = VLWholeSlideMicroscopyImageStorage
    image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    image.StudyInstanceUID, image.SeriesInstanceUID = generate_uid(), generate_uid()
    image.Modality, image.ImageType = "SM", ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
    image.SamplesPerPixel, image.PhotometricInterpretation = 3, "YBR_FULL_422"
    image.BitsAllocated, image.BitsStored, image.HighBit = 8, 8, 7
    image.PlanarConfiguration = image.PixelRepresentation = 0
    image.Rows = image.Columns = JPEG_TILE_PX
    image.TotalPixelMatrixColumns, image.TotalPixelMatrixRows = width, height
    image.DimensionOrganizationType = "TILED_FULL"
    image.ImagedVolumeWidth, image.ImagedVolumeHeight = width * mpp / 1000, height * mpp / 1000
    measures, shared = Dataset(), Dataset()
    measures.PixelSpacing, measures.SliceThickness = [mpp / 1000, mpp / 1000], 0.001
    shared.PixelMeasuresSequence = [measures]
    image.SharedFunctionalGroupsSequence = [shared]
    tiles = _tiles(pixels, (JPEG_TILE_PX, JPEG_TILE_PX))
    frames = [_jpeg(tile, "YCbCr", "422", 90) for tile in tiles]
    image.NumberOfFrames, image.PixelData = len(frames), encapsulate(frames)
    image.update(header or {})
    folder.mkdir()
    image.save_as(folder / "level0.dcm", enforce_file_format=True)
    return folder


def jpeg_tiff(
    path: Path,
    pixels: Pixels,
    *,
    tile_px: tuple[int, int] = (256, 256),
    space: str = "YCbCr",
    subsampling: str = "420",
    tables: bool = False,
    big: bool = False,
    quality: int = 90,
    mpp: float | None = None,
    missing: Container[int] = (),
) -> Path:
    """Write a generic TIFF of JPEG tiles (width, height), in the ways that scanners do.

    With `tables` the tiles hold neither their tables, which the TIFF holds once, nor a marker
    that tells their colour space. The `missing` tiles, counted in reading order, are transparent.
    """
    encoded = [_jpeg(tile, space, subsampling, quality) for tile in _tiles(pixels, tile_px)]
    encoded = [b"" if number in missing else jpeg for number, jpeg in enumerate(encoded)]
    if tables:
        parts = [_without_tables(jpeg) for jpeg in encoded]
        encoded = [jpeg for jpeg, _ in parts]
    tifffile.imwrite(
        path,
        iter(encoded),
        bigtiff=big,
        shape=pixels.shape,
        dtype=np.uint8,
        tile=tile_px[::-1],
        photometric="rgb" if space == "RGB" else "ycbcr",
        compression="jpeg",
        compressionargs={"outcolorspace": space.lower()},
        jpegtables=parts[0][1] if tables else None,
        subsampling=None if space == "RGB" else SUBSAMPLING[subsampling],
        resolution=None if mpp is None else (1e4 / mpp, 1e4 / mpp),
        resolutionunit=None if mpp is None else "CENTIMETER",
        metadata=None,
    )
    return path


def sparse(path: Path, pixels: Pixels, scanned: tuple[int, int, int, int], mpp: float) -> Path:
    """Write a TIFF of JPEG tiles; only those within left, top, right, bottom px are there."""
    left, top, right, bottom = (side // JPEG_TILE_PX for side in scanned)
    down, across = (-(-side // JPEG_TILE_PX) for side in pixels.shape[:2])
    missing = [
        row * across + column
        for row in range(down)
        for column in range(across)
        if not (top <= row < bottom and left <= column < right)
    ]
    return jpeg_tiff(path, pixels, space="RGB", subsampling="444", mpp=mpp, missing=missing)


def on_glass(path: Path, section: Pixels, side_px: int, mpp: float) -> Path:
    """Write a section in the middle of a square of glass of any size, at full and an eighth size.

    Tiles of nothing but glass share the bytes that are encoded once, so a large one is soon made.
    """
    tile_px = 512
    blank = np.full((tile_px, tile_px, 3), GLASS, np.uint8)
    glass = _jpeg(blank, "YCbCr", "444", 90)

    def tiles(part: Pixels, side: int, corner: int) -> Generator[bytes]:
        end = corner + len(part)
        for top in range(0, side, tile_px):
            for left in range(0, side, tile_px):
                if min(top, left) + tile_px <= corner or max(top, left) >= end:
                    yield glass
                    continue
                tile = blank.copy()
                rows, columns = (
                    slice(max(corner - start, 0), max(end - start, 0)) for start in (top, left)
                )
                ours = tile[rows, columns]
                y, x = max(top - corner, 0), max(left - corner, 0)
                ours[:] = part[y : y + ours.shape[0], x : x + ours.shape[1]]
                yield _jpeg(tile, "YCbCr", "444", 90)

    corner = (side_px - len(section)) // 16 * 8
    with tifffile.TiffWriter(path) as slide:
        for shrink in (1, 8):
            side = side_px // shrink
            part = np.asarray(Image.fromarray(section).reduce(shrink))
            slide.write(
                tiles(part, side, corner // shrink),
                shape=(side, side, 3),
                dtype=np.uint8,
                tile=(tile_px, tile_px),
                photometric="ycbcr",
                compression="jpeg",
                compressionargs={"outcolorspace": "ycbcr"},
                subsampling=(1, 1),
                resolution=(1e4 / mpp, 1e4 / mpp),
                resolutionunit="CENTIMETER",
                subfiletype=int(shrink > 1),
                metadata=None,
            )
    return path


def _tiles(pixels: Pixels, tile_px: tuple[int, int]) -> Generator[Pixels]:
    """Yield the tiles of an image row by row; those at its border are filled up."""
    width, height = tile_px
    rest = [(0, -pixels.shape[0] % height), (0, -pixels.shape[1] % width), (0, 0)]
    filled = np.pad(pixels, rest, mode="edge")
    for top in range(0, filled.shape[0], height):
        for left in range(0, filled.shape[1], width):
            yield filled[top : top + height, left : left + width]


def _jpeg(tile: Pixels, space: str, subsampling: str, quality: int) -> bytes:
    return bytes(
        imagecodecs.jpeg8_encode(
            np.ascontiguousarray(tile),
            level=quality,
            colorspace="RGB",
            outcolorspace=space.upper(),
            subsampling=subsampling,
        )
    )


def _without_tables(jpeg: bytes) -> tuple[bytes, bytes]:
    """Split a JPEG into one without quantisation and Huffman tables and one of nothing else."""
    start, place = b"\xff\xd8", 2
    rest, tables = start, start
    while jpeg[place + 1] != 0xDA:  # the scan
        marker = jpeg[place + 1]
        end = place + 2 + int.from_bytes(jpeg[place + 2 : place + 4], "big")
        if marker in (0xC4, 0xDB):
            tables += jpeg[place:end]
        elif not 0xE0 <= marker <= 0xEF:
            rest += jpeg[place:end]
        place = end
    return rest + jpeg[place:], tables + b"\xff\xd9"


def mrxs(
    path: Path, pixels: Pixels, *, before: tuple[int, int] = (0, 0), after: tuple[int, int] = (0, 0)
) -> Path:
    """Write a slide as 3DHISTECH scanners do: a small file, and a folder of its name beside it.

    The layout is that which OpenSlide's own reader of this format expects; one level. `before` and
    `after` are (columns, rows) of tiles of the scan area that were not scanned.
    """
    height, width = (side // JPEG_TILE_PX * JPEG_TILE_PX for side in pixels.shape[:2])
    across = width // JPEG_TILE_PX
    columns = before[0] + across + after[0]
    rows = before[1] + height // JPEG_TILE_PX + after[1]
    folder, slide_id, data, places = path.with_suffix(""), "0123456789ABCDEF", b"", b""
    tiles = list(_tiles(pixels[:height, :width], (JPEG_TILE_PX, JPEG_TILE_PX)))
    for k, tile in enumerate(tiles):
        row, column = divmod(k, across)
        number = (before[1] + row) * columns + before[0] + column
        encoded = _jpeg(tile, "YCbCr", "420", 90)
        places += struct.pack("<4i", number, len(data), len(encoded), 0)
        data += encoded
    head = b"01.02" + slide_id.encode()
    at = len(head) + 8  # after the pointers to the hierarchical and the other records
    index = head + struct.pack("<7i", at, at, at + 4, 0, at + 12, len(tiles), 0) + places
    folder.mkdir()
    (folder / "Data0000.dat").write_bytes(data)
    (folder / "Index.dat").write_bytes(index)
    (folder / "Slidedat.ini").write_text(
        f"[GENERAL]\nSLIDE_ID = {slide_id}\nIMAGENUMBER_X = {columns}\nIMAGENUMBER_Y = {rows}\n"
        "OBJECTIVE_MAGNIFICATION = 40\n"
        "[HIERARCHICAL]\nHIER_COUNT = 1\nNONHIER_COUNT = 0\nINDEXFILE = Index.dat\n"
        "HIER_0_NAME = Slide zoom level\nHIER_0_COUNT = 1\nHIER_0_VAL_0_SECTION = LEVEL_0\n"
        "[DATAFILE]\nFILE_COUNT = 1\nFILE_0 = Data0000.dat\n"
        "[LEVEL_0]\nOVERLAP_X = 0\nOVERLAP_Y = 0\nMICROMETER_PER_PIXEL_X = 0.25\n"
        "MICROMETER_PER_PIXEL_Y = 0.25\nIMAGE_FILL_COLOR_BGR = 16777215\n"
        f"DIGITIZER_WIDTH = {JPEG_TILE_PX}\nDIGITIZER_HEIGHT = {JPEG_TILE_PX}\n"
        "IMAGE_FORMAT = JPEG\nIMAGE_CONCAT_FACTOR = 0\n"
    )
    path.write_bytes(b"")
    return path
