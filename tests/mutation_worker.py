"""Measures the slides named on stdin, one after another; a process of its own, as it may die.

For each slide one line of JSON: what came of it, and the densities, tile by tile.
"""

from __future__ import annotations

import hashlib
import json
import sys
import traceback
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from gliorun.errors import GlioError
from gliorun.reading.slide import Slide
from gliorun.settings import Settings
from runs import CARD, is_dark, measured_slide

SETTINGS = Settings(threads=2, quality=None, max_bad_tiles=0.5)


def dark(tiles):
    for tile in tiles:
        yield tile, is_dark(tile.pixels)


def outcome(path: Path) -> dict[str, object]:
    try:
        with Slide(path) as slide:
            scale = slide.scale()
            density = measured_slide(path, CARD, dark, SETTINGS).density
            pixels = [
                hashlib.sha256(slide.read(spec, 480)).hexdigest()  # a sum may stay by chance
                if density.status[spec.row, spec.column] == 1
                else None
                for spec in density.grid
            ]
    except GlioError as error:
        return {"outcome": "refused", "why": str(error)}
    except Exception:
        return {"outcome": "bug", "why": traceback.format_exc()}
    return {
        "outcome": "measured",
        "why": "",
        "size": density.grid.size_l0,
        "scale": (scale.x_mpp, scale.y_mpp),
        "status": density.status.ravel().tolist(),
        "nuclei": density.nucleus_px.ravel().tolist(),
        "pixels": pixels,
    }


if __name__ == "__main__":
    for line in sys.stdin:
        print(json.dumps(outcome(Path(line.strip()))), flush=True)
