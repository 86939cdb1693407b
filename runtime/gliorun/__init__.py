"""Whole-slide nucleus density of brain glioma, on the CPU."""

import sys
from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("gliorun")
except PackageNotFoundError:  # run from a source tree that is not installed
    __version__ = "0+unknown"

# Nothing reports home: OpenVINO and NNCF use a silent stub where this package cannot be imported.
sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
