"""Whole-slide nucleus density of brain glioma, on the CPU.

For programs: `open_model` once, `measure` each slide, read the arrays of its `SlideMap`, `write`.
What the user can act on is a `GlioError`.
"""

import sys
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from gliorun.errors import GlioError as GlioError

if TYPE_CHECKING:
    from gliorun.api import *  # noqa: F403 (its `__all__` is the list)

try:
    __version__ = version("gliorun")
except PackageNotFoundError:  # run from a source tree that is not installed
    __version__ = "0+unknown"

# Nothing reports home: OpenVINO and NNCF use a silent stub where this package cannot be imported.
sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]

if not TYPE_CHECKING:  # a type checker would take any name for one that is there

    def __getattr__(name: str) -> Any:
        """Import the libraries that measure once they are asked for: it takes a second."""
        if name != "__all__" and (name.startswith("__") or find_spec(f"{__name__}.{name}")):
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from gliorun import api

        names = [*api.__all__, "__version__"]
        if name == "__all__":
            return names
        if name not in names:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(api, name)

    def __dir__() -> list[str]:
        return sorted({*globals(), *__getattr__("__all__")})
