"""What is to be made of a slide: the outputs, and the model and settings for them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

from gliorun import identity, writers
from gliorun.defaults import CHECKPOINT_S, HOT_SPOT_MM2, HOT_SPOTS
from gliorun.errors import GlioError, UsageError
from gliorun.findings.hotspots import check_fields
from gliorun.measuring.density import check_cells
from gliorun.measuring.survey import outlines_of
from gliorun.model.card import ModelCard
from gliorun.model.engine import Compute, Engine, compute_here, open_model
from gliorun.settings import Settings


@dataclass(frozen=True, slots=True)
class Plan:
    """The outputs to write, and the model and settings for them.

    Hot spots are `hot_spots` square fields of `hot_spot_mm2` each. A checkpoint is saved every
    `checkpoint_s` seconds, or never if that is 0. It is deleted once the outputs are in place,
    unless `keeps_checkpoint` is set because the caller still has to move them. With `keep_patient`
    DICOM outputs name the patient and the study of a DICOM slide. With `counts`, nuclei are
    counted whatever the outputs are. With `hides_names` outputs call the slide by a hash.
    """

    outputs: list[Path]
    model: Path
    settings: Settings
    compute: Compute = field(default_factory=Compute)
    appearance: writers.Appearance = field(default_factory=writers.Appearance)
    hot_spots: int = HOT_SPOTS
    hot_spot_mm2: float = HOT_SPOT_MM2
    checkpoint_s: float = CHECKPOINT_S
    keeps_checkpoint: bool = False
    keep_patient: bool = False
    counts: bool = False
    hides_names: bool = False

    def __post_init__(self) -> None:
        if self.hides_names and self.keep_patient:
            raise UsageError("--names hash hides who it is, --keep-patient tells; give one of them")
        check_fields(self.hot_spots, self.hot_spot_mm2)
        if not self.checkpoint_s >= 0:
            raise UsageError(f"checkpoint is {self.checkpoint_s:g} s; it must be 0 (none) or more")

    @property
    def keeps_masks(self) -> bool:
        """Whether an output needs the masks of the whole slide."""
        return self.counts or any(
            writers.suffix_of(output) in writers.MASK_SUFFIXES for output in self.outputs
        )

    @property
    def shows_evidence(self) -> bool:
        """Whether an output shows tiles with what was counted."""
        return any(writers.suffix_of(out) in writers.EVIDENCE_SUFFIXES for out in self.outputs)

    @property
    def counts_nuclei(self) -> bool:
        """Whether nuclei are counted: if that was asked for, or if an output needs it."""
        return self.counts or any(
            writers.suffix_of(output) in writers.COUNTING_SUFFIXES for output in self.outputs
        )


def settled(plan: Plan) -> Plan:
    """Return the plan with the precision that its model has on this machine.

    Raises
    ------
    GlioError
        The model cannot be read.
    """
    return replace(plan, compute=compute_here(plan.model, plan.compute))


def made_with(plan: Plan) -> identity.Values:
    """Return everything besides the slide that the outputs of a plan depend on.

    Raises
    ------
    GlioError
        The model cannot be read.
    """
    of_map = identity.of_map(plan.model, settled(plan).compute, plan.settings)
    return identity.of_outputs(
        of_map,
        plan.appearance,
        plan.hot_spots,
        plan.hot_spot_mm2,
        plan.keep_patient,
        counts=plan.counts,
        hides_names=plan.hides_names,
    )


def open_engine(plan: Plan) -> Engine:
    """Read and compile the model of a plan; the engine is reused from slide to slide.

    Raises
    ------
    UsageError
        The cells of the plan do not divide the tiles of the model.
    GlioError
        The model cannot be used.
    """
    engine = open_model(plan.model, plan.compute)
    try:
        check_model(engine.card, plan.settings)  # fail before a slide is opened
    except UsageError:
        raise
    except GlioError as error:
        raise GlioError(f"{plan.model}: {error}") from error
    return engine


def check_model(card: ModelCard, settings: Settings) -> None:
    """Refuse a model that cannot be used with some settings.

    Raises
    ------
    UsageError
        The cells do not divide the tiles of the model.
    GlioError
        The calibration is of another model, or levels of outlines are not known.
    """
    check_cells(settings.cell_px, card.tile_px)
    outlines_of(card, settings)


def sources_of(path: Path, settings: Settings) -> list[Path]:
    """Return the files that a run reads."""
    given = settings.tissue_mask, settings.regions
    return [path, *(file for file in given if file is not None)]


def check_sources_stay(outputs: list[Path], sources: list[Path]) -> None:
    """Refuse an output that would take the place of what is read.

    Raises
    ------
    UsageError
        One would.
    """
    for output in outputs:
        for source in sources:
            try:
                is_same = output.samefile(source)
            except OSError:  # missing or unreachable: reported when it is opened
                continue
            if is_same:
                raise UsageError(f"{output}: is read by this run; name another file to write")


def check_regions(outputs: list[Path], settings: Settings) -> None:
    """Refuse a table of regions where none are given.

    Raises
    ------
    UsageError
        None are.
    """
    for output in outputs:
        if writers.suffix_of(output) == writers.REGIONS and settings.regions is None:
            raise UsageError(f"{output}: is of regions; pass --regions, or name another output")
