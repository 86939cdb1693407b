"""Describe this machine, without which no speed can be judged."""

from __future__ import annotations

import os
import platform
import re
import sys
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil

from gliorun import __version__
from gliorun.processors import processors

LIBRARIES = (
    "openvino", "openslide-python", "openslide-bin", "numba", "numpy", "tensorflow-cpu",
    "tensorflow", "keras", "onnxruntime", "scikit-image", "pillow",
)  # fmt: skip
KNOWN_SETS = (
    "avx2", "f16c", "avx512f", "avx_vnni", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8",
    "asimd", "asimddp", "i8mm", "bf16",
)  # fmt: skip
"""Instruction sets that determine how fast a network runs, by their names in Linux."""
CPUINFO = Path("/proc/cpuinfo")
STATUS = Path("/proc/self/status")
DEVICES = Path("/sys/devices")


@dataclass(frozen=True, slots=True)
class Machine:
    """A computer, as far as speed depends on it.

    `instruction_sets` is empty where the system does not tell. `core_types` counts the cores of
    each kind on a processor that mixes them, else it is empty. `load`, the mean number of running
    processes over the last minute, is None where it cannot be known.
    """

    processor: str
    instruction_sets: tuple[str, ...]
    cores: int
    core_types: dict[str, int]
    memory_gb: float
    load: float | None
    system: str
    python: str


def this_machine() -> Machine:
    """Return the machine that this runs on."""
    facts = _cpuinfo()
    flags = facts.get("flags", facts.get("Features", "")).split()
    return Machine(
        processor=facts.get("model name") or platform.processor() or platform.machine(),
        instruction_sets=tuple(name for name in KNOWN_SETS if name in flags),
        cores=processors(),
        core_types=_core_types(),
        memory_gb=round(psutil.virtual_memory().total / 1e9, 1),
        load=round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        system=platform.system(),
        python=platform.python_version(),
    )


def versions() -> dict[str, str]:
    """Return the version of gliorun and of each library that is installed."""
    versions_by_name = {"gliorun": __version__}
    for name in LIBRARIES:
        try:
            versions_by_name[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions_by_name


def describe(machine: Machine | None = None) -> str:
    """Return a machine, this one by default, in one line."""
    described = machine or this_machine()
    sets = f" ({', '.join(described.instruction_sets)})" if described.instruction_sets else ""
    kinds = ", ".join(f"{count} {core_type}" for core_type, count in described.core_types.items())
    return (
        f"{described.processor}{sets}, {described.cores} cores{kinds and f' ({kinds})'}, "
        f"{described.memory_gb:.0f} GB, {described.system}, Python {described.python}"
    )


def noise(machine: Machine) -> str:
    """Return a note if other programs ran; our own work is about one process per core."""
    if machine.load is None or machine.load <= 1.5 * machine.cores + 1:
        return ""
    return (
        f"Other programs ran meanwhile (load {machine.load:.1f} on {machine.cores} cores): compare "
        "CPU seconds; tiles/s are too low, and a ratio of them may be wrong by a factor of two."
    )


def peak_memory_bytes() -> int | None:
    """Return the peak memory of this process in bytes; None if it is unknown.

    Linux counts the parent's memory into `ru_maxrss` of a process it has started, but not into
    VmHWM.
    """
    if STATUS.is_file():
        line = re.search(r"^VmHWM:\s*(\d+) kB", STATUS.read_text(encoding="utf-8"), re.MULTILINE)
        return None if line is None else int(line[1]) * 1024
    if sys.platform == "win32":
        return int(psutil.Process().memory_info().peak_wset)
    if sys.platform != "darwin":
        return None
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _cpuinfo() -> dict[str, str]:
    if not CPUINFO.is_file():
        return {}
    lines = CPUINFO.read_text(encoding="utf-8").splitlines()
    facts = dict(line.split(":", 1) for line in lines if ":" in line)
    return {key.strip(): value.strip() for key, value in facts.items()}


def may_be_hybrid() -> bool:
    """Tell whether the processor has, or on Windows may have, cores of two kinds."""
    return bool(_core_types()) or sys.platform == "win32"


def _core_types() -> dict[str, int]:
    """Return the number of performance and efficient cores of a hybrid processor, on Linux."""
    counts = {}
    for core_type, folder in (("performance", "cpu_core"), ("efficient", "cpu_atom")):
        listed = DEVICES / folder / "cpus"
        if listed.is_file():
            counts[core_type] = _count(listed.read_text(encoding="ascii"))
    return counts


def _count(ranges: str) -> int:
    """Return how many numbers a list such as "0-3,8" contains."""
    ends = [part.split("-") for part in ranges.strip().split(",") if part]
    return sum(int(end[-1]) - int(end[0]) + 1 for end in ends)
