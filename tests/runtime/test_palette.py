"""Colours that stay apart, whoever looks at them."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from skimage.color import deltaE_ciede2000, rgb2lab

from gliorun.errors import GlioError
from gliorun.measuring.density import CLASS_EDGES, classify
from gliorun.writers import palette

# Machado, Oliveira and Fernandes 2009, severity 1, for linear RGB
SEEN_BY = {
    "all cones": np.eye(3),
    "deuteranope": np.array(
        [
            [0.367322, 0.860646, -0.227968],
            [0.280085, 0.672501, 0.047413],
            [-0.011820, 0.042940, 0.968881],
        ]
    ),
    "protanope": np.array(
        [
            [0.152286, 1.052583, -0.204868],
            [0.114503, 0.786281, 0.099216],
            [-0.003882, -0.048116, 1.051998],
        ]
    ),
    "tritanope": np.array(
        [
            [1.255528, -0.076749, -0.178779],
            [-0.078411, 0.930809, 0.147602],
            [0.004733, 0.691367, 0.303900],
        ]
    ),
}


def lab_seen_by(colours: np.ndarray, who: str) -> np.ndarray:
    """Return CIE L*a*b* of (count, 3) uint8 RGB as someone sees them."""
    share = colours / 255
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    seen = np.clip(linear @ SEEN_BY[who].T, 0, 1)
    srgb = np.where(seen <= 0.0031308, seen * 12.92, 1.055 * seen ** (1 / 2.4) - 0.055)
    return rgb2lab(srgb[None])[0]


@pytest.mark.parametrize("who", SEEN_BY)
def test_the_default_classes_stay_apart(who):
    colours = lab_seen_by(palette.rgb(palette.class_colours(palette.DEFAULT)), who)
    for one, other in combinations(range(6), 2):
        assert deltaE_ciede2000(colours[one], colours[other]) >= 18, (one, other)


@pytest.mark.parametrize("who", SEEN_BY)
def test_the_default_classes_stand_off_from_paper_and_from_no_value(who):
    colours = lab_seen_by(palette.rgb(palette.class_colours(palette.DEFAULT)), who)
    grounds = lab_seen_by(palette.rgb(("#ffffff", palette.NO_VALUE)), who)
    for colour in colours:
        for ground in grounds:
            assert deltaE_ciede2000(colour, ground) >= 10


def test_the_default_goes_from_cold_to_hot():
    red, _, blue = palette.rgb(palette.class_colours(palette.DEFAULT)).T.astype(int)
    assert (blue[:3] > red[:3]).all()
    assert (red[3:] > blue[3:]).all()


@pytest.mark.parametrize("who", SEEN_BY)
def test_the_continuous_scale_gets_lighter_all_the_way_up(who):
    colours = palette.scale_colours(np.linspace(0, palette.FULL_SCALE, 33))
    steps = np.diff(lab_seen_by(colours, who)[:, 0])
    assert (steps > 0.5).all()
    assert (steps < 5).all()


def test_past_its_end_the_continuous_scale_stays():
    top = palette.rgb((palette.SCALE[-1],))
    assert (palette.scale_colours(np.array([palette.FULL_SCALE, 0.7, 1.0])) == top).all()


@pytest.mark.parametrize("name", palette.NAMES)
def test_a_palette_has_six_different_colours(name):
    colours = palette.class_colours(name)
    assert len(set(colours)) == len(CLASS_EDGES) - 1
    assert all(len(colour) == 7 and int(colour[1:], 16) >= 0 for colour in colours)


def test_an_unknown_palette_is_refused_with_the_known():
    with pytest.raises(GlioError, match="palette 'x': unknown; known: cold-hot, paper-like, cont"):
        palette.class_colours("x")


@pytest.mark.parametrize("name", ["cold-hot", "paper-like"])
def test_a_cell_has_the_colour_of_its_class_and_no_value_is_clear(name):
    densities = np.array([[0.0, 0.03, 0.05], [0.16, 1.0, np.nan]])
    cells = palette.cell_colours(name, densities)
    colours = palette.rgb(palette.class_colours(name))
    has_value = ~np.isnan(densities)
    assert (cells[has_value][:, :3] == colours[classify(densities)[has_value]]).all()
    assert (cells[..., 3] == np.where(has_value, 255, 0)).all()


def test_a_cell_of_the_continuous_palette_has_the_colour_of_its_density():
    cells = palette.cell_colours("continuous", np.array([[0.0, 0.2, 0.4, np.nan]]))
    assert palette.hexes(cells[0, :3, :3]) == ("#440154", "#21918c", "#fde725")
    assert cells[0, :, 3].tolist() == [255, 255, 255, 0]


def test_colours_laid_over_a_ground_mix_by_their_opacity():
    mixed = palette.over(palette.rgb(("#ff0000",)), palette.rgb(("#0000ff",)), 0.6)
    assert mixed.tolist() == [[153, 0, 102]]
    assert palette.hexes(palette.rgb(("#27479c", "#9b1b20"))) == ("#27479c", "#9b1b20")
