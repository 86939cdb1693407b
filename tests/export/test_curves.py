"""Learning curves are drawn from what a training writes down."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from glioexport.curves import draw_curves

HEADER = "epoch,loss,dice a,dice b,density error a,density error b,seconds\n"


def test_draws_one_line_a_set(tmp_path: Path) -> None:
    history, path = tmp_path / "history.csv", tmp_path / "curves.png"
    history.write_text(
        HEADER + "1,0.5,0.6,0.4,3.0,5.0,1\n2,0.3,0.8,0.6,1.0,2.5,1\n", encoding="utf-8"
    )
    draw_curves(history, path)
    with Image.open(path) as picture:
        pixels = np.asarray(picture.convert("RGB")).astype(int)
    for colour in ((31, 119, 180), (255, 127, 14)):  # the first two of matplotlib
        assert (np.abs(pixels - colour).max(axis=-1) < 8).sum() > 200


def test_one_epoch_is_enough(tmp_path: Path) -> None:
    history, path = tmp_path / "history.csv", tmp_path / "curves.png"
    history.write_text(HEADER + "1,0.5,0.6,0.4,3.0,5.0,1\n", encoding="utf-8")
    draw_curves(history, path)
    assert path.stat().st_size > 1000
