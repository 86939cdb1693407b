"""Check whether this workstation is fit to run gliorun, and say what to do if not.

Heavy libraries are imported only in their own checks, as a failing import is a finding too.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from packaging.requirements import Requirement
from packaging.version import Version

from gliobench.machine import Machine, describe, this_machine
from gliorun.errors import GlioError

if TYPE_CHECKING:
    from gliorun.model.engine import Engine

OK, WARNING, FAULT = "ok", "warning", "FAULT"

LEAST_OPENSLIDE = Version("4.0.1")
"""Least version of the OpenSlide library; older ones have two CVEs."""
LEAST_MEMORY_GB, GOOD_MEMORY_GB = 3.5, 7.5
LEAST_DISK_GB, GOOD_DISK_GB = 0.5, 5.0
GOLDEN_GIGAPIXELS, GOLDEN_TISSUE_SHARE = 0.02, 0.5
GOLDEN_ERROR_POINTS, GOLDEN_CORRELATION = 4.0, 0.95
"""The model was not trained on drawn tissue; wrong kernels or damaged weights differ far more."""
GOLDEN_RUNS = 3
TILES_A_100MM2 = 6944


@dataclass(frozen=True, slots=True)
class Check:
    """One thing looked at: `verdict` is "ok", "warning" or "FAULT"; `advice` says the way out."""

    name: str
    verdict: str
    found: str
    advice: str = ""


@dataclass(frozen=True, slots=True)
class DoctorFigures:
    """What `gliobench doctor` found; `minutes_a_100mm2` is None if nothing could be run."""

    checks: tuple[Check, ...]
    minutes_a_100mm2: float | None

    @property
    def fit(self) -> bool:
        """Whether gliorun can run here."""
        return all(check.verdict != FAULT for check in self.checks)


def examine(model: Path | None, say: Callable[[str], None]) -> DoctorFigures:
    """Check everything that gliorun needs, with a given model or the shipped one."""
    machine = this_machine()
    say("versions, processor, memory, disk, caches")
    checks = [
        *check_versions(metadata.requires("gliorun") or [], metadata.version),
        check_openslide(openslide_version()),
        check_processor(machine),
        check_memory(machine.memory_gb),
        check_disk(Path(tempfile.gettempdir())),
        check_cache(cache_folder()),
    ]
    say("golden tiles")
    golden, minutes = check_model(model)
    return DoctorFigures((*checks, *golden), minutes)


def check_versions(
    requirements: Sequence[str], installed: Callable[[str], str]
) -> Generator[Check]:
    """Compare the installed versions, Python included, with those that the package needs."""
    for text in requirements:
        wanted = Requirement(text)
        if wanted.marker is not None and not wanted.marker.evaluate({"extra": ""}):
            continue
        try:
            installed_version = installed(wanted.name)
        except metadata.PackageNotFoundError:
            installed_version = ""
        if installed_version and wanted.specifier.contains(installed_version, prereleases=True):
            yield Check(wanted.name, OK, f"{installed_version} ({wanted.specifier})")
        else:
            yield Check(
                wanted.name,
                FAULT,
                f"{installed_version or 'not installed'}, needs {wanted.specifier}",
                f"pip install '{text.split(';')[0].strip()}'",
            )


def openslide_version() -> str:
    """Return the version of the loaded OpenSlide library, or why it cannot be loaded."""
    try:
        import openslide
    except (ImportError, OSError) as error:  # the library was not found
        return str(error)
    return str(openslide.__library_version__)


def check_openslide(version: str) -> Check:
    """Judge the version of the OpenSlide library, which a system may provide."""
    advice = "pip install -U openslide-bin"
    if not version[:1].isdigit():
        return Check("OpenSlide library", FAULT, f"cannot be loaded: {version}", advice)
    if Version(version) >= LEAST_OPENSLIDE:
        return Check("OpenSlide library", OK, version)
    return Check(
        "OpenSlide library",
        FAULT,
        f"{version}, needs {LEAST_OPENSLIDE}: older ones have known holes (CVE)",
        advice,
    )


def check_processor(machine: Machine) -> Check:
    """Judge the instruction sets: without AVX2 it is slow, without VNNI INT8 gains less."""
    sets = machine.instruction_sets
    processor = describe(machine)
    if not sets:
        return Check(
            "processor", OK, f"{processor}; this system does not tell its instruction sets"
        )
    if not {"avx2", "asimd"} & set(sets):
        return Check(
            "processor", WARNING, processor, "no AVX2: expect it to be several times slower"
        )
    if not {"avx_vnni", "avx512_vnni", "amx_int8", "asimddp", "i8mm"} & set(sets):
        return Check(
            "processor", WARNING, processor, "no VNNI: INT8 is hardly faster than FP32 here"
        )
    return Check("processor", OK, processor)


def check_memory(size_gb: float) -> Check:
    """Judge the memory of the machine."""
    memory = f"{size_gb:.1f} GB"
    if size_gb < LEAST_MEMORY_GB:
        return Check("memory", FAULT, memory, "a job takes up to 1 GB; 4 GB is the least")
    if size_gb < GOOD_MEMORY_GB:
        return Check("memory", WARNING, memory, "8 GB leaves room for a viewer beside it")
    return Check("memory", OK, memory)


def check_disk(folder: Path) -> Check:
    """Judge the folder for temporary files, which holds the nucleus masks of a whole slide."""
    try:
        with tempfile.TemporaryFile(dir=folder) as stream:
            stream.write(b"gliorun")
        free = shutil.disk_usage(folder).free
    except OSError as error:
        return Check(
            "temporary files", FAULT, f"{folder}: cannot be written ({error.strerror})",
            "set TMPDIR (Windows: TEMP) to a folder that can be",
        )  # fmt: skip
    free_space = f"{free / 1e9:.1f} GB free in {folder}"
    if free < LEAST_DISK_GB * 1e9:
        return Check("temporary files", FAULT, free_space, f"make {LEAST_DISK_GB:g} GB free")
    if free < GOOD_DISK_GB * 1e9:
        return Check("temporary files", WARNING, free_space, "masks of a large slide may not fit")
    return Check("temporary files", OK, free_space)


def cache_folder() -> Path | None:
    """Return the folder of compiled kernels, or None."""
    try:
        from gliorun.measuring import kernels
    except ImportError:
        return None
    folder = getattr(getattr(kernels.normalise, "stats", None), "cache_path", None)
    return None if folder is None else Path(folder)


def check_cache(folder: Path | None) -> Check:
    """Judge the folder of compiled kernels; without one they are compiled at every start."""
    advice = "every start takes longer; set NUMBA_CACHE_DIR to a folder that can be written"
    if folder is None:
        return Check("compiled kernels", WARNING, "no folder can be written", advice)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        fault = f"{folder}: cannot be written ({error.strerror})"
        return Check("compiled kernels", WARNING, fault, advice)
    return Check("compiled kernels", OK, str(folder))


def check_model(model: Path | None) -> tuple[list[Check], float | None]:
    """Run a drawn slide with known densities through the model, and estimate the speed.

    The whole way is checked: OpenSlide decodes it, the kernels normalise it, OpenVINO segments
    it, and every run must give the same.
    """
    try:
        with tempfile.TemporaryDirectory(prefix="gliobench-") as folder:
            return _run_golden(model, Path(folder) / "golden.svs")
    except (GlioError, ImportError, OSError) as error:
        advice = "install gliorun again, or convert the model again if it is your own"
        return [Check("golden tiles", FAULT, str(error), advice)], None


def _run_golden(model: Path | None, path: Path) -> tuple[list[Check], float | None]:
    import numpy as np

    from gliobench import giant
    from gliobench.truth import against_cells, read_cells
    from gliorun.measuring.survey import survey
    from gliorun.model.engine import EXACT, open_model
    from gliorun.model.shipped import DEFAULT_MODEL
    from gliorun.pipeline import measure
    from gliorun.reading.slide import Slide
    from gliorun.settings import Settings

    begun = time.perf_counter()
    engine = open_model(model or DEFAULT_MODEL, EXACT)
    opened_s = time.perf_counter() - begun
    giant.write_giant(path, giant.GiantSpec(GOLDEN_GIGAPIXELS, GOLDEN_TISSUE_SHARE))
    maps, rates = [], []
    for _ in range(GOLDEN_RUNS):
        clock = _Clock()
        with Slide(path) as slide:
            surveyed = survey(slide, engine.card, Settings())
            density = surveyed.empty_map()
            measure(surveyed, engine.predict, surveyed.chosen, [density, clock])
        maps.append(density)
        rates.append(clock.tiles_s)
    first = maps[0]
    cells = [
        (first.cell_box(row, column), float(first.density_of_tile[row, column]))
        for row, column in np.ndindex(first.density.shape)
        if np.isfinite(first.density[row, column])
    ]
    comparison = against_cells(cells, read_cells(giant.truth_path(path)))
    same = all(
        np.array_equal(density_map.density, first.density, equal_nan=True) for density_map in maps
    )
    text = (
        f"{engine.card.name}, {engine.card.precision}: {comparison.cells} tiles, "
        f"{comparison.mean_error_points:.2f} points from what was drawn (up to "
        f"{GOLDEN_ERROR_POINTS:g} is usual), correlation {comparison.correlation:.3f}, "
        f"ready in {opened_s:.1f} s"
    )
    check = judge_golden(text, comparison.mean_error_points, comparison.correlation, same)
    return [check_certificate(engine), check], TILES_A_100MM2 / float(np.median(rates)) / 60


def check_certificate(engine: Engine) -> Check:
    """Judge whether this machine gives the masks of the model's certificate, and with what."""
    from gliorun.model import golden

    comparison = golden.compare(engine)
    if comparison is None:
        return Check(
            "certificate",
            WARNING,
            f"{engine.card.name} has none, as it was made by an earlier version",
            "convert the model again, so that machines can be certified",
        )
    layers = engine.kernels()
    kernels = ", ".join(f"{name} in {count} layers" for name, count in layers.items())
    text = f"masks of {engine.card.name}: {comparison}; computed with {kernels or 'not stated'}"
    if comparison.agrees:
        return Check("certificate", OK, text)
    return Check(
        "certificate",
        FAULT,
        text,
        "do not trust results of this machine: update openvino, and have its memory tested",
    )


def judge_golden(text: str, error_points: float, correlation: float, same: bool) -> Check:
    """Judge how far the densities are from those drawn, and whether each run gave the same."""
    close = error_points <= GOLDEN_ERROR_POINTS and correlation >= GOLDEN_CORRELATION
    if close and same:
        return Check("golden tiles", OK, text)
    why = "" if same else "; not the same in every run"
    return Check(
        "golden tiles",
        FAULT,
        text + why,
        f"expected at most {GOLDEN_ERROR_POINTS:g} points and at least {GOLDEN_CORRELATION:g}, "
        "the same in every run: do not trust results of this machine; update openvino",
    )


class _Clock:
    """Tiles/s between the first tile that is done and the last."""

    def __init__(self) -> None:
        self._seen: list[float] = []

    def feed(self, tile: object) -> None:
        self._seen.append(time.perf_counter())

    @property
    def tiles_s(self) -> float:
        return (len(self._seen) - 1) / (self._seen[-1] - self._seen[0])


def doctor_markdown(figures: DoctorFigures) -> str:
    """Return one line per check, and a conclusion."""
    lines = []
    for check in figures.checks:
        lines.append(f"{check.verdict:>7}  {check.name}: {check.found}")
        if check.advice:
            lines.append(f"{'':>7}  → {check.advice}")
    lines.append("")
    if figures.minutes_a_100mm2 is not None:
        lines.append(
            f"A slide with 100 mm² of tissue takes about {figures.minutes_a_100mm2:.1f} min here."
        )
    lines.append("Fit to run gliorun." if figures.fit else "Not fit to run gliorun; see FAULT.")
    return "\n".join(lines)
