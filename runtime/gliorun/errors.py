"""What can go wrong that is not a bug."""

from __future__ import annotations


class GlioError(Exception):
    """A fault the user can act on; its message is one line that names the way out."""


class UsageError(GlioError):
    """What was typed is wrong: a value out of range, unknown, named twice or at odds with others.

    A file, folder, slide, model or machine that is missing, cannot be used or does not say enough
    is no such fault, though another word may be the way out. Commands exit with 2, not with 1.
    """


class TileReadError(GlioError):
    """One tile could not be read; the slide goes on without it."""


class DamagedSlideError(GlioError):
    """A slide holds too little that can be measured; there is no use in going on with it."""


class StalledError(GlioError):
    """An inference does not come back; the process cannot be trusted to end by itself."""
