"""The limits within which a tile is measured, as users set them."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields, replace

from gliorun.changes import named_value
from gliorun.errors import UsageError


@dataclass(frozen=True, slots=True)
class QualityLimits:
    """Limits within which a tile is measured.

    Shares are of the tile's area inside the slide. Those with a largest value count only what
    fills 12 µm in every direction, so that no nucleus, however dark or blue, counts.

    Parameters
    ----------
    max_pen : float
        Share that is blue, green or black: ink, or the border of a scan.
    max_red : float
        Share that is bright red: ink, or a pool of blood, which has the same colour.
    max_grey : float
        Share that is grey: the rim of a bubble, dirt, the edge of the glass.
    min_tissue : float
        Share that is stained, or pale but not smooth.
    max_fold : float
        Share where tissue lies double.
    max_edge_px : float
        Median width of edges in px of `JUDGED_MPP` or of the slide: 1.9 to 2.7 in focus, 3.5 and
        more under a Gaussian blur of 1 µm.
    """

    max_pen: float = 0.02
    max_red: float = 0.1
    max_grey: float = 0.02
    min_tissue: float = 0.02
    max_fold: float = 0.1
    max_edge_px: float = 3.5

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            high = math.inf if field.name == "max_edge_px" else 1
            if not 0 <= value <= high:  # also refuses NaN
                raise UsageError(f"{field.name} is {value}; it must lie from 0 to {high:g}")

    def varied(self, change: str) -> QualityLimits:
        """Return the limits with one change, "name=value".

        Raises
        ------
        UsageError
            There is no such limit, or its value is out of range.
        """
        name, value = named_value(change, asdict(self))
        return replace(self, **{name: value})
