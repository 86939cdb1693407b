"""The command that tries slides again, as one would type it."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Again:
    """How to run the same command on some slides alone.

    Parameters
    ----------
    options : tuple of str
        What was typed besides the slides, such as "--cell-px", "120"; paths are absolute.
    """

    options: tuple[str, ...] = ()

    def command(self, slides: Iterable[str]) -> str:
        """Return the line to type; empty if it is not known how the slides were measured."""
        if not self.options:
            return ""
        return " ".join(quoted(word) for word in ("gliorun", *slides, *self.options))


def quoted(word: str) -> str:
    """Return a word as one types it on this system."""
    if os.name != "nt":
        return shlex.quote(word)
    return f'"{word}"' if not word or set(word) & set(" &()[]{}^=;!'+,`~") else word
