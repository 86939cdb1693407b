"""What can go wrong that is not a bug."""

from __future__ import annotations


class GlioError(Exception):
    """A fault the user can act on; its message is one line that names the way out."""


class TileReadError(GlioError):
    """One tile could not be read; the slide goes on without it."""


class DamagedSlideError(GlioError):
    """A slide holds too little that can be measured; there is no use in going on with it."""


class StalledError(GlioError):
    """An inference does not come back; the process cannot be trusted to end by itself."""
