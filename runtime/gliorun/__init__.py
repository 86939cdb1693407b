"""Whole-slide nucleus density of brain glioma, on the CPU."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("gliorun")
except PackageNotFoundError:  # run from a source tree that is not installed
    __version__ = "0+unknown"
