"""Nuclei are counted as gliorun does, and errors are told against what was labelled."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from gliobench import count
from gliobench.cli import app
from gliorun import demo


def discs(*places: tuple[int, int, int], side: int = 200) -> np.ndarray:
    """Return a label image of discs of (y, x, radius); later ones lie on top."""
    y, x = np.mgrid[:side, :side]
    labels = np.zeros((side, side), np.uint16)
    for name, (at_y, at_x, radius) in enumerate(places, start=1):
        labels[np.hypot(y - at_y, x - at_x) <= radius] = name
    return labels


PLACES = ((40, 40, 12), (40, 61, 12), (120, 40, 10), (120, 100, 2))


def test_labels_that_touch_are_several_and_specks_none():
    assert count.labelled_nuclei(discs(*PLACES), 0.25) == (3, 2, 0)


def test_a_label_that_is_a_clump_would_be_cut():
    clump = (discs(*PLACES) > 0).astype(np.uint16)
    clump[120:, :] *= 2
    assert count.labelled_nuclei(clump, 0.25) == (2, 2, 1)


def test_shapes_and_nuclei_are_those_of_gliorun():
    assert count.count_nuclei(discs(*PLACES)[:150].astype(np.uint8)) == (2, 3)


def test_errors_are_means_over_tiles_and_biases_of_the_set():
    tiles = [
        count.TileCount("a", "1", 10, 8, 0, 5, 11),
        count.TileCount("a", "2", 30, 30, 1, 30, 27),
        count.TileCount("a", "3", 0, 0, 0, 3, 3),
        count.TileCount("a", "4", 20, 20, 5, 20, 30),
    ]
    errors, of_clumps = count.summarise("m", tiles)
    assert (of_clumps.set, of_clumps.tiles, of_clumps.cut) == ("a, labels are clumps", 1, 25)
    assert (errors.tiles, errors.labelled) == (2, 40)
    assert errors.touching == pytest.approx(5)
    assert (errors.error_of_shapes, errors.bias_of_shapes) == pytest.approx((25, -12.5))
    assert (errors.error_of_nuclei, errors.bias_of_nuclei) == pytest.approx((10, -5))
    assert (
        "| m | a | 2 | 40 | 5 % | 2.5 % | 25.0 % | -12.5 % | 10.0 % | -5.0 % |"
        in count.markdown([errors])
    )


def test_the_command_counts_the_tiles_of_a_folder(tmp_path):
    tissue = demo.draw_tissue(np.full((240, 240), 0.15, np.float32), seed=4)
    Image.fromarray(tissue.pixels).save(tmp_path / "image.png")
    Image.fromarray(tissue.nuclei * 255).save(tmp_path / "label.png")
    (tmp_path / "index.csv").write_text(
        "set,id,patient,split,licence,image,label\ndrawn,1,,val,CC0,image.png,label.png\n"
    )
    arguments = ["count", str(tmp_path), "otsu", "--json", str(tmp_path / "count.json")]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    (tile,) = json.loads((tmp_path / "count.json").read_text())["figures"]["tiles"]
    assert tile["labelled"] == tile["apart"] > 5
    assert tile["split"] >= tile["shapes"] > 5
