"""The errors that are not bugs."""

from __future__ import annotations


class GlioError(Exception):
    """A fault the user can act on; its message is one line that names the way out."""


class UsageError(GlioError):
    """A wrong option or argument: out of range, unknown, repeated or contradicting another.

    A missing or unusable file, folder, slide, model or machine is a plain GlioError, even if
    another option would help. Commands exit with 2 instead of 1.
    """


class TileReadError(GlioError):
    """A tile could not be read; the slide is measured without it."""


class DamagedSlideError(GlioError):
    """A slide has too few measurable tiles, so that its run ends."""


class DiskFullError(GlioError):
    """A disk has no room for a file; a watch waits until it has."""


class StalledError(GlioError):
    """An inference hangs; the process may be unable to end by itself."""
