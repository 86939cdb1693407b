"""What a calibration is worth: drawn fairly, judged on the other tiles, told as it is."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from gliobench.calibration import (
    Source,
    _choices,
    _judge_set,
    as_values,
    calibrated_level,
    draw,
    markdown,
)
from glioexport.unbiased import Field, errors_of

OWN = 128


def fields(count, bias_px, noise_px=0.0, seed=0):
    """Return fields of 10,000 px: 2,000 px of nucleus, and pixels of every level about `OWN`.

    With a level of `OWN` they are measured `bias_px` too large, give or take `noise_px`; a level
    more takes 10 px off.
    """
    random = np.random.default_rng(seed)
    made = []
    for number in range(count):
        inside, outside = np.zeros(256, np.int64), np.zeros(256, np.int64)
        inside[255] = 2000 - 640
        inside[OWN - 64 : OWN] = 10
        outside[OWN : OWN + 64] = 10
        wrong = round(bias_px + noise_px * random.standard_normal())
        outside[OWN + 64] += max(0, wrong)
        made.append(Field(f"{number}", inside, outside))
        outside[0] = 10_000 - inside.sum() - outside.sum()
    return made


def test_all_choices_are_taken_where_they_are_few_and_else_as_many_as_asked():
    assert [tuple(choice) for choice in _choices(4, 3, 50)] == [
        (0, 1, 2), (0, 1, 3), (0, 2, 3), (1, 2, 3),
    ]  # fmt: skip
    drawn = [tuple(choice) for choice in _choices(20, 5, 50)]
    assert len(drawn) == 50
    assert all(len(set(choice)) == 5 for choice in drawn)
    assert len(set(drawn)) > 40
    assert drawn == [tuple(choice) for choice in _choices(20, 5, 50)]


def test_a_bias_that_all_tiles_share_is_mended_on_those_that_had_no_say():
    source = _judge_set("m", "s", fields(12, 300), OWN, (3, 5, 10, 12), 20)
    assert (source.tiles, [d.fields for d in source.drawn]) == (12, [3, 5, 10])
    for drawn in source.drawn:
        assert drawn.accepted == 1
        assert drawn.worse == 0
        assert drawn.error_before[0] == pytest.approx(source.error)
        assert drawn.error_after[0] < 0.1 < drawn.error_before[0]
        assert drawn.bias_after[0] < 0.1


def test_what_would_be_refused_counts_with_the_model_s_own_level():
    some = fields(9, 0)  # nothing to mend
    errors = errors_of(some)
    assert abs(errors[:, OWN].mean()) == pytest.approx(0)
    source = _judge_set("m", "s", some, OWN, (3,), 20)
    (drawn,) = source.drawn
    assert drawn.accepted == 0
    assert drawn.error_after == drawn.error_before
    assert drawn.levels == (OWN, OWN, OWN)
    assert calibrated_level(some[:3], OWN) is None


def test_a_set_of_one_tile_has_a_line_without_draws():
    source = _judge_set("m", "s", fields(1, 300), OWN, (3, 5), 20)
    assert source.drawn == []
    assert math.isnan(source.scatter)
    assert "| m | s | 1 | – |" in markdown([source])
    assert json.loads(json.dumps(as_values([source])))["sources"][0]["scatter"] is None


def test_table_and_picture_hold_every_source():
    sources = [
        _judge_set("m", name, fields(12, 300, 60, seed), OWN, (3, 5), 20)
        for seed, name in enumerate(("near", "far"))
    ]
    lines = markdown(sources).splitlines()
    assert len(lines) == 2 + 4
    panels = draw(sources).axes
    assert [panel.get_title() for panel in panels] == ["near (12)", "far (12)"]
    highest = max(source.drawn[0].error_before[2] for source in sources)
    assert panels[0].get_ylim()[1] >= highest
    assert isinstance(sources[0], Source)
