"""Pictures of accuracy open, whatever the masks hold."""

import numpy as np
import pytest
from PIL import Image

from gliobench.accuracy import SetAccuracy, Shown, TileSet
from gliobench.backends import Segmenter
from gliobench.metrics import figures, score
from gliobench.pictures import draw_density, draw_worst, write_pictures
from glioexport.dataset import Entry, LabelledTile
from gliorun.errors import GlioError


def result(name, pairs, of_set="gliomas"):
    """Return a result of (mask, truth) pairs."""
    shown = []
    for number, (mask, truth) in enumerate(pairs):
        entry = Entry(of_set, f"{number}", "", "val", "", None, None)
        pixels = np.full((*truth.shape, 3), 200, np.uint8)
        tile_score = score(entry.id, "", mask, truth)
        shown.append(Shown(LabelledTile(entry, pixels, truth), mask, tile_score))
    scores = [one.score for one in shown]
    return SetAccuracy(
        model=Segmenter(name, lambda image: image),
        tiles=TileSet(of_set, "val"),
        seen="no",
        scores=scores,
        figures=figures(scores),
        to_baseline=None,
        worst=shown[:5],
    )


def half(height=40, width=60):
    mask = np.zeros((height, width), np.uint8)
    mask[:, : width // 2] = 1
    return mask


NONE, ALL = np.zeros((40, 60), np.uint8), np.ones((40, 60), np.uint8)


def test_each_picture_is_written_under_a_plain_name_and_opens(tmp_path):
    pairs = [(half(), half()), (NONE, half()), (ALL, NONE), (NONE, NONE), (half(), ALL)]
    results = [result("run1/model.keras", pairs), result("otsu", pairs[:1])]
    written = write_pictures(tmp_path / "new", results)
    assert sorted(path.name for path in written) == [
        "classes.png", "density.png", "worst-otsu-gliomas-val.png",
        "worst-run1-model.keras-gliomas-val.png",
    ]  # fmt: skip
    assert sorted(written) == sorted((tmp_path / "new").iterdir())
    for path in written:
        with Image.open(path) as image:
            image.load()
            assert min(image.size) > 300


def test_outlines_are_drawn_of_both_masks_where_they_have_an_edge():
    figure = draw_worst(result("a", [(half(), half()[:, ::-1].copy()), (NONE, ALL)]))
    above, plain, below, empty = figure.axes[0], figure.axes[1], *figure.axes[2:4]
    assert [len(axes.collections) for axes in (above, plain)] == [0, 0]
    assert len(below.collections) == 2
    assert len(empty.collections) == 0


def test_density_has_a_row_a_set_and_a_column_a_model():
    results = [result(name, [(half(), half())], of_set) for name in "abc" for of_set in ("s", "t")]
    figure = draw_density(results)
    titles = [axes.get_title() for axes in figure.axes]
    assert titles == [f"{name}, {of_set} val" for of_set in "st" for name in "abc"]
    points = figure.axes[0].collections[0].get_offsets()
    assert np.asarray(points).tolist() == [[50, 50]]


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(GlioError, match="file: cannot be written"):
        write_pictures(tmp_path / "file", [result("a", [(half(), half())])])
