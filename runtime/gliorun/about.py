"""Versions of what a result depends on."""

from __future__ import annotations

from importlib.metadata import version

from gliorun import __version__

LIBRARIES = ("openvino", "openslide-python", "openslide-bin", "simplejpeg", "numba", "numpy")


def versions() -> str:
    """Return one line with the versions of gliorun and of the libraries it computes with."""
    found = ", ".join(f"{name} {version(name)}" for name in LIBRARIES)
    return f"gliorun {__version__} ({found})"
