"""The front door for programs: open a model, measure a slide, take arrays, write outputs.

`gliorun` itself has all that is named here; it imports this module once one of the names is used.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gliorun import writers
from gliorun.defaults import HOT_SPOT_MM2, HOT_SPOTS
from gliorun.errors import GlioError, UsageError
from gliorun.findings.hotspots import HotSpot, check_fields
from gliorun.measuring.density import CLASS_EDGES, CLASS_NAMES, DensityMap, classify
from gliorun.measuring.survey import survey
from gliorun.measuring.tile import Status
from gliorun.model import calibration, engine, shipped
from gliorun.model.calibration import Calibration
from gliorun.model.card import ModelCard
from gliorun.model.engine import Compute, Engine
from gliorun.plan import check_model, check_sources_stay, sources_of
from gliorun.qualitylimits import QualityLimits
from gliorun.reading.scale import Scale
from gliorun.reading.slide import Slide
from gliorun.settings import Settings
from gliorun.sliderun import SlideRun, Stopwatch, in_regions, mask_store
from gliorun.writers import Appearance

if TYPE_CHECKING:
    from gliorun.findings.regions import RegionDifference, RegionResult

__all__ = [
    "CLASS_EDGES",
    "CLASS_NAMES",
    "Appearance",
    "Calibration",
    "Compute",
    "Engine",
    "GlioError",
    "HotSpot",
    "ModelCard",
    "QualityLimits",
    "Scale",
    "Settings",
    "SlideMap",
    "Status",
    "measure",
    "open_model",
    "read_calibration",
]

AnyPath = str | os.PathLike[str]


class SlideMap:
    """The density map of one slide: arrays of its cells, (rows, columns), and what they say.

    Each array is made when it is asked for; keep it in a variable. With `measure(nuclei=True)` the
    masks of the nuclei lie in a temporary file until `close`, or until the map is forgotten; as a
    context manager the map closes itself. All but `write` of nuclei works on a closed map.
    """

    def __init__(self, result: writers.Result, sources: list[Path], held: ExitStack) -> None:
        self._result = result
        self._sources = sources
        self._held = held

    def __enter__(self) -> SlideMap:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Remove the masks of the nuclei, if there are any."""
        self._held.close()
        self._result = replace(self._result, masks=None)

    @property
    def density(self) -> NDArray[np.float64]:
        """Nucleus area / tissue area of each cell, (rows, columns), 0 to 1; NaN has no value.

        With `Settings(density="tile")` it is of the valid area, as `density_of_tile` always is.
        """
        return self._map.density

    @property
    def density_of_tile(self) -> NDArray[np.float64]:
        """Nucleus area / valid area of each cell, as in the paper; glass lowers it at the rim."""
        return self._map.density_of_tile

    @property
    def density_low(self) -> NDArray[np.float64]:
        """The density by an outline about a pixel inside that of each nucleus."""
        return self._map.density_low

    @property
    def density_high(self) -> NDArray[np.float64]:
        """The density by an outline about a pixel outside that of each nucleus."""
        return self._map.density_high

    @property
    def classes(self) -> NDArray[np.int8]:
        """Index in `CLASS_NAMES` of each cell, (rows, columns); -1 where there is no value."""
        return classify(self._map.density)

    @property
    def status(self) -> NDArray[np.uint8]:
        """What became of each cell, (rows, columns): a value of `Status`."""
        return self._map.cell_status

    @property
    def nucleus_px(self) -> NDArray[np.int64]:
        """Pixels of nucleus in each cell, (rows, columns), in model px."""
        return self._map.nucleus_px.copy()

    @property
    def valid_px(self) -> NDArray[np.int64]:
        """Pixels of each measured cell that are valid, (rows, columns), in model px.

        They lie inside the slide and are not transparent.
        """
        return self._map.valid_px.copy()

    @property
    def tissue_share(self) -> NDArray[np.float64]:
        """Share of each cell's valid area that is tissue, (rows, columns), 0 to 1."""
        return self._map.tissue_share.copy()

    @property
    def nuclei(self) -> NDArray[np.int64] | None:
        """Nuclei whose centre lies in each cell, (rows, columns); None if they were not counted."""
        counts = self._result.counts
        return None if counts is None else counts.per_cell.copy()

    @property
    def column_edges_l0(self) -> NDArray[np.float64]:
        """Left edge of each column, then the right edge of the last, (columns + 1,), level-0 px.

        They count from the top left of the whole scan area; the last may lie outside the slide.
        """
        return self._map.cell_edges_l0[0]

    @property
    def row_edges_l0(self) -> NDArray[np.float64]:
        """Upper edge of each row, then the lower edge of the last, (rows + 1,), level-0 px."""
        return self._map.cell_edges_l0[1]

    @property
    def mean_density(self) -> float:
        """Nucleus area / tissue area over all cells with a value, 0 to 1; NaN if there is none."""
        return self._map.mean_density()

    @property
    def mean_band(self) -> tuple[float, float]:
        """The mean density by the inner and by the outer outline of each nucleus, 0 to 1."""
        return self._map.mean_band()

    @property
    def class_shares(self) -> NDArray[np.float64]:
        """Share of the measured tissue in each of the classes, (6,), 0 to 1."""
        return self._map.class_shares()

    @property
    def hot_spots(self) -> tuple[HotSpot, ...]:
        """The densest fields, the densest first, in level-0 px."""
        return self._result.hot_spots

    @property
    def regions(self) -> tuple[RegionResult, ...]:
        """What was measured in each region, if `Settings.regions` names some."""
        return self._result.regions

    @property
    def region_differences(self) -> tuple[RegionDifference, ...]:
        """How regions that do not overlap differ in density, pair by pair."""
        return self._result.differences

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is doubtful about this map; do not read it without."""
        return self._result.warnings

    @property
    def scale(self) -> Scale:
        """Micrometres per level-0 px, and where they come from."""
        return self._result.scale

    @property
    def model(self) -> ModelCard:
        """The card of the model that it was measured with."""
        return self._result.card

    @property
    def record(self) -> dict[str, Any]:
        """The run record, as plain JSON values: what a `.json` output holds."""
        return self._result.run

    def write(self, *outputs: AnyPath, appearance: Appearance | None = None) -> None:
        """Write outputs, whose suffixes say what, as `--out` does; all are replaced, or none.

        `appearance` is how figures are drawn.

        Raises
        ------
        UsageError
            A suffix is unknown, a file is named twice or is one that was read, or the output needs
            the masks of nuclei, which this map does not have.
        GlioError
            A file cannot be written.
        """
        paths = [Path(output) for output in outputs]
        check_sources_stay(paths, self._sources)
        writers.check_outputs(paths)
        for path in paths:
            if writers.suffix_of(path) == writers.REGIONS and not self._result.regions:
                raise UsageError(f"{path}: is of regions; measure with Settings(regions=FILE)")
        if self._result.masks is None:
            for path in paths:
                if writers.suffix_of(path) in writers.MASK_SUFFIXES:
                    raise UsageError(
                        f"{path}: needs the masks of nuclei; measure with nuclei=True, and write "
                        "before the map is closed"
                    )
        writers.write(paths, self._result, appearance or Appearance())

    @property
    def _map(self) -> DensityMap:
        return self._result.density


def open_model(model: AnyPath | None = None, compute: Compute | None = None) -> Engine:
    """Read and compile a model; it serves one slide after another.

    Parameters
    ----------
    model : str or path, optional
        "student" (the default), "reference", or an IR (.xml) of `glioexport convert`.
    compute : Compute, optional
        On what and how it runs.

    Raises
    ------
    GlioError
        It cannot be used.
    """
    path = shipped.model_path(None if model is None else Path(model))
    return engine.open_model(path, compute or Compute())


def read_calibration(path: AnyPath) -> Calibration:
    """Read what `glioexport calibrate` made, for `Settings(calibration=…)`.

    Raises
    ------
    GlioError
        It is missing, damaged, or no calibration.
    """
    return calibration.read(Path(path))


def measure(
    slide: AnyPath,
    model: Engine | None = None,
    settings: Settings | None = None,
    *,
    nuclei: bool = False,
    hot_spots: int = HOT_SPOTS,
    hot_spot_mm2: float = HOT_SPOT_MM2,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> SlideMap:
    """Measure the nucleus density of a slide, as the command does, but for its checkpoints.

    Parameters
    ----------
    slide : str or path
        In any format that OpenSlide reads, or a field as PNG, JPEG, BMP or TIFF.
    model : Engine, optional
        As `open_model` gives it; the default model is opened for this slide alone.
    settings : Settings, optional
        Scale, side of a cell, tissue mask, regions, quality, threads, memory.
    nuclei : bool
        Whether nuclei are counted, and their masks kept for `.nuclei.geojson`, `.mask.ome.tif`.
    hot_spots, hot_spot_mm2 : int, float
        How many of the densest fields to find, and the area of each.
    progress : callable
        Called with tiles done and tiles in all, before the first tile and after each.

    Raises
    ------
    GlioError
        The slide or the model cannot be used; its message names the way out.
    """
    check_fields(hot_spots, hot_spot_mm2)
    path, settings = Path(slide), settings or Settings()
    watch = Stopwatch()
    with Slide(path, cache_mb=settings.cache_mb) as opened, ExitStack() as held:
        model = model or open_model()
        check_model(model.card, settings)
        watch.lap("open")
        surveyed = survey(opened, model.card, settings)
        masks = held.enter_context(mask_store(surveyed)) if nuclei else None
        density = surveyed.fine_map()
        regions = in_regions(surveyed, density)
        slide_run = SlideRun(surveyed, model, density, masks, None, watch, regions)
        warnings, stain = slide_run.measure(progress)
        spots = slide_run.hot_spots(hot_spot_mm2, hot_spots)
        evidence = slide_run.evidence(spots, stain)  # a report may be written later
        fields = hot_spots, hot_spot_mm2
        result = slide_run.result(warnings, spots, evidence, fields=fields, counts_nuclei=nuclei)
        return SlideMap(result, sources_of(path, settings), held.pop_all())
