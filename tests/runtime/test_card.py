"""The model card comes back as it went, or not at all."""

from __future__ import annotations

import json

import pytest

from gliorun.errors import GlioError
from gliorun.model.card import EVEN_LEVEL, FORMAT, ModelCard
from gliorun.model.outlines import Outlines
from gliorun.model.stainstatistic import StainStatistic

CARD = ModelCard(
    name="nucleus",
    tile_px=480,
    mpp=0.25,
    colour_target=StainStatistic((0.4, 0.7, 0.3)),
    training={"data": ["µ-set"], "licences": {"a": "CC0"}},
    source_sha256="ab" * 32,
    weights_sha256="cd" * 32,
    precision="INT8",
    parity={"dice": 0.99},
)


@pytest.mark.parametrize("card", [CARD, ModelCard("bare", 256, 0.5, None)])
def test_a_card_comes_back_as_it_went(card):
    assert ModelCard.from_json(card.to_json()) == card


def test_the_same_card_gives_the_same_text():
    assert CARD.to_json() == ModelCard.from_json(CARD.to_json()).to_json()


@pytest.mark.parametrize(
    "text",
    ["", "no json", "[]", "3", "null", "{}", '{"format": 2}', '{"format": 1, "name": "x"}'],
)
def test_damaged_text_is_refused(text):
    with pytest.raises(GlioError, match="model card"):
        ModelCard.from_json(text)


def altered(**entries: object) -> str:
    return json.dumps({**json.loads(CARD.to_json()), **entries})


def test_another_format_says_to_convert_again():
    with pytest.raises(GlioError, match=f"not of format {FORMAT}; convert the model again"):
        ModelCard.from_json(altered(format=FORMAT + 1))


def test_an_entry_of_a_later_time_is_named():
    with pytest.raises(GlioError, match="unknown entries colour_of_the_sky"):
        ModelCard.from_json(altered(colour_of_the_sky="grey"))


@pytest.mark.parametrize(
    "entries",
    [
        {"mpp": 0},
        {"mpp": 40},
        {"mpp": "fine"},
        {"mpp": float("nan")},
        {"tile_px": 8},
        {"tile_px": None},
        {"colour_target": {"median": [1, 2], "high": [1, 2, 3]}},
        {"colour_target": [1, 2, 3]},
    ],
)
def test_values_without_sense_are_refused(entries):
    with pytest.raises(GlioError, match="model card"):
        ModelCard.from_json(altered(**entries))


@pytest.mark.parametrize("level", [0, 256, "high"])
def test_a_level_that_no_pixel_or_every_pixel_reaches_is_refused(level):
    text = json.dumps({**json.loads(CARD.to_json()), "nucleus_level": level})
    with pytest.raises(GlioError, match=r"nucleus_level|cannot be read"):
        ModelCard.from_json(text)


def test_a_card_of_the_first_round_says_to_convert_again():
    text = json.dumps({**json.loads(CARD.to_json()), "format": 2})
    with pytest.raises(GlioError, match="convert the model again"):
        ModelCard.from_json(text)


def test_the_levels_of_the_band_go_around_that_of_the_nuclei():
    card = ModelCard.from_json(altered(inner_level=150, outer_level=110))
    assert card.outlines == Outlines(150, EVEN_LEVEL, 110)
    for levels in ({"inner_level": 120}, {"outer_level": 130}, {"outer_level": 0}):
        text = altered(**{"inner_level": 150, "outer_level": 110, **levels})
        with pytest.raises(GlioError, match="none above the one before it"):
            ModelCard.from_json(text)


def test_a_card_without_a_band_is_read_but_says_to_convert_again_where_it_is_needed():
    """A network's own levels tell how far apart outlines lie; no others can stand for them."""
    for card in (CARD, ModelCard.from_json(altered(inner_level=150))):
        with pytest.raises(GlioError, match=r"'nucleus'.* convert the model again"):
            _ = card.outlines
