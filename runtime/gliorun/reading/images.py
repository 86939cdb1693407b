"""Image files that people hand over: tiles, labels, masks."""

from __future__ import annotations

from PIL import Image

NO_IMAGE = (OSError, ValueError, SyntaxError, Image.DecompressionBombError)
"""What pillow raises of a file that is no image, is damaged, or would not fit into memory."""
