"""The models that ship with gliorun, and the versions that a result depends on."""

from __future__ import annotations

import hashlib
from importlib.metadata import version
from pathlib import Path

from gliorun import __version__

MODELS = Path(__file__).parents[1] / "models"
"""Folder of the models that ship with gliorun."""
MODEL = MODELS / "student.xml"
"""The default model."""

LIBRARIES = ("openvino", "openslide-python", "openslide-bin", "simplejpeg", "numba", "numpy")


def models() -> dict[str, Path]:
    """Return the IRs of the shipped models, by name."""
    return {path.stem: path for path in sorted(MODELS.glob("*.xml"))}


def versions() -> str:
    """Return one line: gliorun's version, its model's hash, and the versions of its libraries."""
    weights = hashlib.sha256(MODEL.with_suffix(".bin").read_bytes()).hexdigest()
    libraries = ", ".join(f"{name} {version(name)}" for name in LIBRARIES)
    return f"gliorun {__version__} (model {MODEL.stem} {weights[:12]}, {libraries})"
