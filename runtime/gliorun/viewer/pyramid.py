"""The slide as pictures for a page: an overview, and tiles at every zoom from it to level 0."""

from __future__ import annotations

import io
import math
import threading
from collections import OrderedDict
from collections.abc import Callable

import numpy as np
from PIL import Image

from gliorun.errors import GlioError
from gliorun.measuring.survey import Survey
from gliorun.reading.slide import Rgba
from gliorun.reading.tiles import TileGrid

SIDE_PX = 512
"""Side of a picture."""
MOST_DECODED = 8.0
"""Most px of the file along the side of one px: a slide without smaller copies of itself is shown
from the overview until a picture takes no more than 16 million px of it."""
CACHE_BYTES = 40 << 20
"""Most bytes of pictures that are kept."""
QUALITY = 88


class Pyramid:
    """Pictures of a slide; zoom z shows 2 ** z px of level 0 as one, along the finer axis."""

    side_px = SIDE_PX

    def __init__(self, surveyed: Survey) -> None:
        slide, scale = surveyed.slide, surveyed.scale
        finest_mpp = min(scale.x_mpp, scale.y_mpp)
        self._slide = slide
        self._px_l0 = finest_mpp / scale.x_mpp, finest_mpp / scale.y_mpp
        self.overview = jpeg(surveyed.overview)
        longest = max(side / of_px for side, of_px in zip(slide.size_l0, self._px_l0, strict=True))
        coarsest = max(0, math.ceil(math.log2(longest / SIDE_PX)))
        self.zooms = tuple(
            zoom
            for zoom in range(coarsest + 1)
            if slide.px_decoded(2**zoom * max(self._px_l0)) <= MOST_DECODED
        )
        """The zooms of which there are pictures; a coarser one is shown from the overview."""
        self._grids = {zoom: self._grid(zoom) for zoom in self.zooms}
        self._kept: OrderedDict[tuple[int, int, int], bytes] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def _grid(self, zoom: int) -> TileGrid:
        width, height = (SIDE_PX * 2**zoom * of_px for of_px in self._px_l0)
        return TileGrid(self._slide.size_l0, (width, height))

    def picture(
        self,
        zoom: int,
        column: int,
        row: int,
        is_wanted: Callable[[], bool] = lambda: True,
    ) -> bytes | None:
        """Return a JPEG of `SIDE_PX` px a side; None if there is none, or it is no longer wanted.

        Raises
        ------
        GlioError
            The slide cannot be read there.
        """
        grid = self._grids.get(zoom)
        if grid is None or column >= grid.columns or row >= grid.rows or not is_wanted():
            return None
        place = zoom, column, row
        with self._lock:
            if place in self._kept:
                self._kept.move_to_end(place)
                return self._kept[place]
        try:
            picture = jpeg(self._slide.read(grid.tile(column, row), SIDE_PX))
        except GlioError as error:
            raise GlioError(
                why_not_read(self._slide.path.exists(), self._slide.path.name)
            ) from error
        with self._lock:
            if place not in self._kept:
                self._kept[place] = picture
                self._bytes += len(picture)
            while self._bytes > CACHE_BYTES:
                self._bytes -= len(self._kept.popitem(last=False)[1])
        return picture


def why_not_read(is_there: bool, name: str) -> str:
    """Return the sentence for a slide of which a part cannot be read."""
    if is_there:
        return f"{name}: a part of the slide cannot be read; the file is damaged, copy it again"
    return f"{name}: the slide is no longer where it was; put it back, or close this page"


def jpeg(rgba: Rgba) -> bytes:
    """Return (H, W, 4) uint8 straight RGBA on white as a JPEG."""
    image = Image.fromarray(rgba)
    if np.any(rgba[..., 3] != 255):
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    stream = io.BytesIO()
    image.convert("RGB").save(stream, "JPEG", quality=QUALITY)
    return stream.getvalue()
