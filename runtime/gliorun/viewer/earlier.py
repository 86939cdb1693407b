"""Maps that earlier runs have finished, taken over where model, settings and slide are the same."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from gliorun import __version__, identity, writers
from gliorun.errors import GlioError
from gliorun.measuring.density import CLASS_NAMES, SPARSE_SHARE
from gliorun.measuring.survey import Survey
from gliorun.measuring.tile import Status
from gliorun.plan import Plan, settled
from gliorun.settings import Settings
from gliorun.sliderecord import Record
from gliorun.sliderun import SlideRun
from gliorun.viewer.cells import Cells
from gliorun.viewer.session import Earlier, Progress
from gliorun.words import plain

TABLE, RECORD = ".csv", ".json"
SAME_MEAN = 0.001
"""Greatest difference between the mean of a table, whose areas are rounded, and its record."""


def beside(plan: Plan, slide_run: SlideRun) -> Earlier | None:
    """Return the map among the outputs of a plan, if all of them are there and it is the same.

    A record (.json) must be among them, which says what its table (.csv) was made of.
    """
    outputs = {writers.suffix_of(path): path for path in plan.outputs}
    if not {TABLE, RECORD} <= outputs.keys() or not all(path.is_file() for path in plan.outputs):
        return None
    try:
        run = json.loads(outputs[RECORD].read_bytes())
        if not _is_same_run(run, plan, slide_run):
            return None
        cells = cells_of_table(outputs[TABLE], slide_run.surveyed, run["density"]["mean"])
        return Earlier(cells, progress_of(run, run["warnings"], outputs[TABLE].name))
    except (OSError, GlioError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None  # of another version, or damaged: it is measured again


def _is_same_run(run: dict[str, Any], plan: Plan, slide_run: SlideRun) -> bool:
    """Tell whether a run record is of this slide, model, version and settings."""
    surveyed, fields = slide_run.surveyed, {"count": plan.hot_spots, "area_mm2": plan.hot_spot_mm2}
    settings = surveyed.settings
    if settings.tissue_mask is not None or settings.regions is not None:
        return False  # a record names these files, but not what was in them
    wanted = json.loads(json.dumps(asdict(settings)))
    recorded = run["settings"]
    for values in (wanted, recorded):
        for name in ("threads", "memory_mb"):  # no result depends on them
            del values[name]
    weights = run["model"]["weights_sha256"]
    return bool(
        wanted == recorded
        and run["fields"] == fields
        and run["versions"]["gliorun"] == __version__
        and weights == surveyed.card.weights_sha256
        and run["slide"]["fingerprint"] == identity.of_slide(surveyed.slide.path)["fingerprint"]
        and run["compute"].get("precision") == slide_run.engine.choices().get("precision")
    )


@dataclass(frozen=True, slots=True)
class Measured:
    """A slide of a folder of maps, by its record."""

    folder: Path
    record: Record

    @property
    def table(self) -> Path | None:
        """Its density.csv, if it has one."""
        name = self.record.name + TABLE
        return self.folder / name if name in self.record.outputs else None

    def plan(self, plan: Plan) -> Plan:
        """Return a plan with the settings of its run, and without outputs.

        Raises
        ------
        GlioError
            They are those of another version, or not known well enough to give the same outlines.
        """
        try:
            values = dict(self.record.made_with["settings"])
            mask, _ = values.pop("tissue_mask"), values.pop("regions")
            settings = msgspec.convert(values, Settings)
        except (KeyError, TypeError, ValueError) as error:
            raise GlioError(
                f"{self.record.name}: measured by another version; measure it again to see it"
            ) from error
        if mask is not None:
            raise GlioError(
                f"{self.record.name}: measured within a tissue mask, of which the record has no "
                f"name; gliorun {self.record.slide} --tissue-mask FILE --view shows it"
            )
        settings = replace(
            settings, threads=plan.settings.threads, memory_mb=plan.settings.memory_mb
        )
        made_with = self._wanted(identity.of_map(plan.model, settled(plan).compute, settings))
        if made_with != self._wanted(self.record.made_with):
            raise GlioError(
                f"{self.record.name}: measured with another model or version; pass its --model, "
                "or measure it again"
            )
        return replace(plan, outputs=[], settings=settings)

    def _wanted(self, values: dict[str, Any]) -> dict[str, Any]:
        """Return what the levels of a slide depend on: regions choose tiles, but change none."""
        settings = values["settings"] | {"regions": None}
        return {"settings": settings} | {
            name: values.get(name) for name in ("gliorun", "model", "device")
        }

    def find(self, slide_run: SlideRun) -> Earlier | None:
        """Return the map of the record; None if it is not of the slide as it is now.

        Raises
        ------
        GlioError
            The table cannot be read.
        """
        slide = identity.of_slide(slide_run.surveyed.slide.path)
        if self.table is None or slide["fingerprint"] != self.record.fingerprint:
            return None
        figures = self.record.figures
        try:
            cells = cells_of_table(self.table, slide_run.surveyed, figures["density"]["mean"])
            return Earlier(cells, progress_of(figures, self.record.warnings, self.table.name))
        except (KeyError, TypeError, ValueError) as error:
            raise GlioError(
                f"{self.record.name}: its record is damaged ({error!r}); measure it again"
            ) from error


def cells_of_table(path: Path, surveyed: Survey, mean: float | None) -> Cells:
    """Return the cells of a density.csv, whose mean density is known from its record.

    Raises
    ------
    GlioError
        It cannot be read, or is not of this slide and these settings.
    """
    empty = surveyed.empty_map()
    shape, (width, height) = empty.valid_px.shape, empty.cell_l0
    values = {name: np.full(shape, np.nan) for name in ("density", "density_low", "density_high")}
    status, valid, tissue = np.zeros(shape, np.uint8), np.zeros(shape), np.zeros(shape)
    try:
        with path.open(newline="", encoding="utf-8") as lines:
            for line in csv.DictReader(lines):
                x_l0 = int(line["minx"]) + int(line["width"]) / 2
                y_l0 = int(line["miny"]) + int(line["height"]) / 2
                place = int(y_l0 / height), int(x_l0 / width)
                left, top, right, bottom = empty.cell_box(*place)
                if [left, top, right - left, bottom - top] != [
                    int(line[name]) for name in ("minx", "miny", "width", "height")
                ]:
                    raise ValueError(f"a cell at {left}, {top} of another size")
                status[place] = Status[line["status"].upper()]
                valid[place] = float(line["valid_fraction"])
                tissue[place] = valid[place] * float(line["tissue_fraction"])
                if line["density"]:
                    for name, of_map in values.items():
                        of_map[place] = float(line[name])
    except OSError as error:
        raise GlioError(f"{path}: cannot be read ({error.strerror}); measure again") from error
    except (KeyError, ValueError, TypeError, IndexError, csv.Error) as error:
        raise GlioError(f"{path}: not the map of this slide ({error!r}); measure again") from error
    density = values["density"]
    has_value = ~np.isnan(density)
    area = tissue if surveyed.settings.density == "tissue" else valid
    of_cells = float(np.average(density[has_value], weights=area[has_value]))
    if mean is None or abs(of_cells - mean) > SAME_MEAN:
        raise GlioError(f"{path}: its mean is not that of its record; measure again")
    sparse = has_value & (tissue < SPARSE_SHARE)
    return Cells(
        empty.cell_l0, status, density, values["density_low"], values["density_high"], sparse
    )


def progress_of(run: dict[str, Any], warnings: Iterable[str], table: str) -> Progress:
    """Return what a page tells of a finished run, by its record."""
    density, tiles = run["density"], run["tiles"]
    done = sum(number for name, number in tiles.items() if name != Status.NO_TISSUE.name.lower())
    return Progress(
        stage="finished",
        words=f"measured before: {plain(table)}",
        done=done,
        total=done,
        figures={
            "mean": density["mean"],
            "band": [density["mean_low"], density["mean_high"]],
            "class_shares": [density["class_shares"][name] for name in CLASS_NAMES],
        },
        hot_spots=tuple(dict(spot) for spot in run["hot_spots"]),
        warnings=tuple(map(plain, warnings)),
    )
