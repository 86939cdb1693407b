"""Whole-slide nucleus density of brain glioma, on the CPU.

For programs: `open_model` once, `measure` each slide, read the arrays of its `SlideMap`, `write`.
What the user can act on is a `GlioError`.
"""

import sys
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from gliorun.errors import GlioError

if TYPE_CHECKING:
    from gliorun.api import (
        CLASS_EDGES,
        CLASS_NAMES,
        Appearance,
        Compute,
        Engine,
        HotSpot,
        ModelCard,
        QualityLimits,
        Scale,
        Settings,
        SlideMap,
        Status,
        measure,
        open_model,
    )

__all__ = [
    "CLASS_EDGES",
    "CLASS_NAMES",
    "Appearance",
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
    "__version__",
    "measure",
    "open_model",
]

try:
    __version__ = version("gliorun")
except PackageNotFoundError:  # run from a source tree that is not installed
    __version__ = "0+unknown"

# Nothing reports home: OpenVINO and NNCF use a silent stub where this package cannot be imported.
sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]

if not TYPE_CHECKING:  # a type checker would take any name for one that is there

    def __getattr__(name: str) -> Any:
        """Import the libraries that measure once they are asked for: it takes a second."""
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from gliorun import api

        return getattr(api, name)

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
