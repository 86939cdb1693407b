"""Names of slides without patient data: a hash of the slide in place of the name of its file."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from gliorun.errors import GlioError
from gliorun.reading.files import fingerprint_of, title
from gliorun.words import plain

DIGITS = 16
HIDDEN = "sha256:"
"""Begin of what stands for the path of a slide; no absolute path begins so."""
ELSEWHERE = "…"
"""Stands for the folder of the slide."""


def hash_name(path: Path) -> str:
    """Return the name of a slide by its content; it stays when the file is renamed or moved.

    Raises
    ------
    GlioError
        A file of the slide cannot be read.
    """
    try:
        return fingerprint_of(path)[:DIGITS]
    except OSError as error:
        raise GlioError(
            f"{path}: cannot be read ({error.strerror or error}); check that it is there"
        ) from error


def token_of(path: Path) -> str:
    """Return what stands for the path of a slide in records, to know it again."""
    return HIDDEN + hashlib.sha256(str(path).encode(errors="surrogatepass")).hexdigest()


def is_hidden(slide: str) -> bool:
    """Tell whether what a record has for a slide is no path."""
    return slide.startswith(HIDDEN)


def without_names(text: str, path: Path, name: str) -> str:
    """Return a text in which `name` stands for a slide's path and file, also without its suffix.

    The folder, which may be called by a patient too, is left out.
    """
    folder = str(path.parent)
    stands_for = {str(path): name, path.name: name, title(path): name, path.stem: name}
    if path.parent != path.parent.parent:
        stands_for[folder] = ELSEWHERE
    spellings = {
        spelling.lower(): instead
        for word, instead in stands_for.items()
        for spelling in (word, repr(word)[1:-1], plain(word))
    }
    longest_first = sorted(spellings, key=len, reverse=True)
    pattern = "|".join(rf"(?<!\w){re.escape(word)}(?!\w)" for word in longest_first)
    # Windows and its programs spell a path in any case
    return re.sub(
        pattern, lambda match: spellings.get(match[0].lower(), name), text, flags=re.IGNORECASE
    )
