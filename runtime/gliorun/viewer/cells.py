"""The map as a page shows it: of a run that goes on, of a result, or of an earlier table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gliorun.measuring.density import DensityMap
from gliorun.viewer.segmenter import message
from gliorun.writers import kinds


@dataclass(frozen=True, slots=True, eq=False)
class Cells:
    """Kind and density of every cell, (rows, columns); densities from 0 to 1, NaN = no value.

    `cell_l0` is the width and height of a cell in level-0 px, `status` that of each cell.
    """

    cell_l0: tuple[float, float]
    status: NDArray[np.uint8]
    density: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    sparse: NDArray[np.bool_]

    @classmethod
    def of(cls, density: DensityMap) -> Cells:
        """Return the cells of a map, of tiles where there are too many to show."""
        shown = kinds.coarse_enough(density)
        return cls(
            shown.cell_l0,
            shown.cell_status,
            shown.density,
            shown.density_low,
            shown.density_high,
            shown.sparse,
        )

    def packed(self) -> bytes:
        """Return the message with which a page draws them: kinds, then densities per mille."""
        cells, _ = kinds.of_cells(self.status, self.density, self.sparse)
        header: dict[str, Any] = {
            "kind": "map",
            "rows": cells.shape[0],
            "columns": cells.shape[1],
            "cell_l0": self.cell_l0,
        }
        densities = (kinds.permille(values) for values in (self.density, self.low, self.high))
        return message(header, *densities, cells)


def names() -> list[str]:
    """Return the name of every kind of cell."""
    nothing = np.zeros((1, 1))
    return kinds.of_cells(nothing.astype(np.uint8), nothing, nothing.astype(np.bool_))[1]
