"""DataTables, which sorts, filters and searches the tables of a page, out of its package."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Library:
    """A JavaScript module that exports DataTable, and its style sheet, as text for a page."""

    script: str
    css: str


@cache
def data_tables() -> Library:
    """Return DataTables with its extensions, as the package itables brings it.

    The package itself is not imported.
    """
    spec = find_spec("itables")
    if spec is None or spec.origin is None:  # it is a dependency of gliorun
        raise ModuleNotFoundError("No module named 'itables'", name="itables")
    folder = Path(spec.origin).parent / "html"
    script, css = (
        (folder / name).read_text(encoding="utf-8") for name in ("dt_bundle.js", "dt_bundle.css")
    )
    return Library(script.replace("</script", "<\\/script"), css.replace("</style", "<\\/style"))
