"""Text, numbers and durations as users read them."""

from __future__ import annotations


def plain(text: str) -> str:
    """Return text for one line, with every unprintable character of, say, a file name escaped."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def tiles(number: int) -> str:
    """Return a number of tiles as `1 tile` or `1,234 tiles`."""
    return f"{number:,} tile{'' if number == 1 else 's'}"


def warnings_in_words(number: int) -> str:
    """Return a number of warnings as `1 warning` or `2 warnings`."""
    return f"{number} warning{'' if number == 1 else 's'}"


def duration(seconds: float) -> str:
    """Return a duration as `12 s`, `3 min 5 s` or `2 h 10 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
