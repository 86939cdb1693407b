"""Make a safe file name of the name of a slide, whatever the system."""

from __future__ import annotations

LONGEST, LONGEST_BYTES = 64, 192
"""Longer names are cut. Windows limits a path to 260 characters, and the name occurs in it twice;
other systems limit a name to 255 bytes, and our longest suffix adds 25."""
DEVICES = frozenset(
    ["con", "prn", "aux", "nul", "conin$", "conout$"]
    + [f"{port}{number}" for port in ("com", "lpt") for number in "0123456789¹²³"]
)
"""Device names on Windows, which no file may have, whatever its suffix."""
DOUBLE = (".evidence", ".mask", ".nuclei", ".ome", ".qc", ".regions", ".thumb", ".tissue")
"""Endings of a name that would turn one output into another, as `a.mask` does with `.ome.tif`."""


def file_name(title: str) -> str:
    """Return a safe file name: printable, no formula, no device name, no misleading ending."""
    name = "".join(c if c.isprintable() and c not in '<>:"/\\|?*' else "_" for c in title)
    name = name[:LONGEST].encode()[:LONGEST_BYTES].decode(errors="ignore")
    name = name.rstrip(". ") or "slide"
    device = name.partition(".")[0].rstrip(" ").lower() in DEVICES
    if device or name.startswith(("=", "+", "-", "@", ".")):
        name = f"_{name}"
    if name.lower().endswith(DOUBLE):
        name += "_"
    return name
