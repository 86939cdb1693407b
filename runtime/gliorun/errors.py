"""What can go wrong that is not a bug."""

from __future__ import annotations


class GlioError(Exception):
    """A fault the user can act on; its message is one line that names the way out."""


class TileReadError(GlioError):
    """One tile could not be read; the slide goes on without it."""
