"""Read changes of settings as they are typed: NAME=VALUE."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from gliorun.errors import UsageError


def named_value(change: str, defaults: Mapping[str, Any]) -> tuple[str, Any]:
    """Return the name of a setting and its new value, in the type of its default.

    Raises
    ------
    UsageError
        There is no such setting, or its value has another type.
    """
    name, equals, text = change.partition("=")
    if not equals or name not in defaults:
        names = ", ".join(sorted(defaults))
        raise UsageError(f"{change}: no such setting; known, as name=value: {names}")
    default = defaults[name]
    if isinstance(default, str):
        return name, text
    try:
        value = float(text) if isinstance(default, float) else json.loads(text)
    except ValueError:
        value = None
    if type(value) is not type(default):
        raise UsageError(f"{change}: not of the kind of the default, {json.dumps(default)}")
    return name, value
