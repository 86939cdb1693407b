"""What gliobench measured, as JSON that another machine can read; dataclasses are its schema."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from gliobench.machine import Machine, this_machine, versions
from gliorun.atomic import replacing
from gliorun.errors import GlioError

FORMAT = 1
DISAGREES = "✗ disagrees"
"""Marks in a table what did not give the reference's results; it is shown in red."""
T = TypeVar("T")


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
    try:
        return msgspec.convert(values, schema_type)
    except (msgspec.ValidationError, UnicodeError) as error:  # JSON may hold half a character
        raise GlioError(f"{where}: {error}; measure again") from error


def schema(kinds: dict[str, type]) -> dict[str, Any]:
    """Return the JSON Schema of documents whose figures are of these dataclasses, by kind."""
    (_, *figures), definitions = msgspec.json.schema_components(
        (Envelope, *kinds.values()), ref_template="#/$defs/{name}"
    )
    envelope = definitions.pop("Envelope")
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
                    "figures": of_kind,
                },
                "required": [*envelope["required"], "figures"],
            }
            for name, of_kind in zip(kinds, figures, strict=True)
        ],
        "$defs": definitions,
    }
