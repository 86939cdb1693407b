"""What gliobench measured, as JSON that another machine can read; dataclasses are its schema."""

from __future__ import annotations

import json
import types
import typing
from dataclasses import MISSING, asdict, dataclass, fields, is_dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, TypeVar

from gliobench.machine import Machine, this_machine, versions
from gliorun.atomic import replacing
from gliorun.errors import GlioError

FORMAT = 1
DISAGREES = "✗ disagrees"
"""Marks in a table what did not give the reference's results; it is shown in red."""
T = TypeVar("T")
JSON_NAMES = {int: "integer", float: "number", str: "string", bool: "boolean"}


@dataclass(frozen=True, slots=True)
class Envelope:
    """What every document has beside its figures.

    `format` is of the schema, `kind` the command that made the document, `made` when (ISO 8601,
    UTC), `machine` where, and `versions` with which libraries.
    """

    format: int
    kind: str
    made: str
    machine: Machine
    versions: dict[str, str]


def seal(kind: str) -> Envelope:
    """Return the envelope of figures made here and now."""
    made = datetime.now(timezone.utc).isoformat(timespec="seconds")
    return Envelope(FORMAT, kind, made, this_machine(), versions())


def as_values(envelope: Envelope, figures: Any) -> dict[str, Any]:
    """Return an envelope and a dataclass of figures as plain JSON values."""
    return {**asdict(envelope), "figures": asdict(figures)}


def write(path: Path, values: dict[str, Any]) -> None:
    """Write values as strict JSON in UTF-8, whole or not at all."""
    write_text(path, json.dumps(values, indent=1, ensure_ascii=False, allow_nan=False))


def write_text(path: Path, text: str) -> None:
    """Write text in UTF-8, whole or not at all."""
    with replacing(path) as partial:
        partial.write_text(text + "\n", encoding="utf-8", newline="\n")


def load(path: Path) -> tuple[Envelope, dict[str, Any]]:
    """Read a document: its envelope, and all of its values.

    Raises
    ------
    GlioError
        The file is missing, no JSON, not of gliobench or of another format.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise GlioError(f"{path}: cannot be read ({error.strerror}); check its name") from error
    except (ValueError, RecursionError) as error:
        raise GlioError(f"{path}: not JSON ({error}); pass what --json wrote") from error
    if not isinstance(values, dict) or "kind" not in values or "format" not in values:
        raise GlioError(f"{path}: not written by gliobench; pass what --json wrote")
    if values["format"] != FORMAT:
        raise GlioError(
            f"{path}: is of format {values['format']!r}, known is {FORMAT}; "
            "measure again with this version"
        )
    return read(Envelope, values, str(path)), values


def read(schema_type: type[T], values: Any, where: str) -> T:
    """Build a dataclass from JSON values; entries it does not know are passed over.

    Raises
    ------
    GlioError
        An entry is missing or of another type.
    """
    built = _read(schema_type, values, where)
    assert isinstance(built, schema_type)
    return built


def _read(schema_type: Any, value: Any, where: str) -> Any:
    origin, inner = typing.get_origin(schema_type), typing.get_args(schema_type)
    if schema_type is Any:
        return value
    if origin in (types.UnionType, typing.Union):
        some = next(item for item in inner if item is not type(None))
        return None if value is None else _read(some, value, where)
    if is_dataclass(schema_type):
        return _read_fields(schema_type, value, where)
    if origin is tuple and isinstance(value, list):
        return tuple(_read(inner[0], item, f"{where}[{n}]") for n, item in enumerate(value))
    if origin is dict and isinstance(value, dict):
        return {key: _read(inner[1], item, f"{where}.{key}") for key, item in value.items()}
    if schema_type is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if (
        origin is None
        and isinstance(value, schema_type)
        and isinstance(value, bool) == (schema_type is bool)
    ):
        return value
    raise GlioError(f"{where}: is {str(value)[:40]!r}, not {_schema(schema_type)}; measure again")


def _read_fields(schema_type: Any, value: Any, where: str) -> Any:
    if not isinstance(value, dict):
        raise GlioError(
            f"{where}: is {str(value)[:40]!r}, not the entries of {schema_type.__name__}; "
            "measure again"
        )
    hints = typing.get_type_hints(schema_type)
    values_by_name = {}
    for field in fields(schema_type):
        if field.name in value:
            place = f"{where}: {field.name}" if ": " not in where else f"{where}.{field.name}"
            values_by_name[field.name] = _read(hints[field.name], value[field.name], place)
        elif field.default is MISSING and field.default_factory is MISSING:
            raise GlioError(f"{where}: has no entry {field.name!r}; measure again")
    return schema_type(**values_by_name)


def schema(kinds: dict[str, type]) -> dict[str, Any]:
    """Return the JSON Schema of documents whose figures are of these dataclasses, by kind."""
    envelope = _schema(Envelope)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "gliobench document",
        "oneOf": [
            {
                **envelope,
                "title": name,
                "properties": {
                    **envelope["properties"],
                    "format": {"const": FORMAT},
                    "kind": {"const": name},
                    "figures": _schema(figures),
                },
                "required": [*envelope["required"], "figures"],
            }
            for name, figures in kinds.items()
        ],
    }


def _schema(schema_type: Any) -> dict[str, Any]:
    origin, inner = typing.get_origin(schema_type), typing.get_args(schema_type)
    if schema_type is Any:
        return {}
    if origin in (types.UnionType, typing.Union):
        return {"anyOf": [_schema(one) for one in inner]}
    if schema_type is type(None):
        return {"type": "null"}
    if origin is tuple:
        return {"type": "array", "items": _schema(inner[0])}
    if origin is dict:
        return {"type": "object", "additionalProperties": _schema(inner[1])}
    if is_dataclass(schema_type):
        hints = typing.get_type_hints(schema_type)
        return {
            "type": "object",
            "description": " ".join((schema_type.__doc__ or "").split()),
            "properties": {field.name: _schema(hints[field.name]) for field in fields(schema_type)},
            "required": [
                field.name
                for field in fields(schema_type)
                if field.default is MISSING and field.default_factory is MISSING
            ],
        }
    return {"type": JSON_NAMES[schema_type]}
