"""The HTML pages: one template file a page, filled with escaped values."""

from __future__ import annotations

from functools import cache
from importlib import resources
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined


def render(file: str, /, **values: Any) -> str:
    """Return a page of this folder filled with values; all text in them is escaped.

    A value that the template names and that is missing is an error.
    """
    return _environment().get_template(file).render(**values)


def part(file: str) -> bytes:
    """Return a script or style of this folder as it is."""
    return resources.files(__name__).joinpath(file).read_bytes()


@cache
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("gliorun", "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
