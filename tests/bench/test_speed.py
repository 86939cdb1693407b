"""gliobench speed: the same tiles in every way, what fits a budget, what limits a job."""

from dataclasses import replace

import numpy as np
import pytest

from gliobench import speed
from gliobench.speed import bottleneck, density_difference_points, doubling, tiles_within
from gliobench.ways import (
    Middle,
    Run,
    Target,
    middle_of,
    open_job,
    open_network,
    open_stages,
)
from gliorun.errors import GlioError
from gliorun.model.engine import EXACT, open_model
from gliorun.model.shipped import DEFAULT_MODEL
from gliorun.reading.tiles import TileGrid


@pytest.fixture(scope="module")
def target(small_slide):
    return Target(small_slide.path, DEFAULT_MODEL)


def test_job_and_network_alone_find_the_same_densities_in_the_middle(target):
    job, network = open_job(target)(3), open_network(target)(3)
    assert job.tiles == network.tiles == 3
    assert job.densities == network.densities
    assert sum(job.densities.values()) > 0
    assert job.start_s > network.start_s == 0
    assert job.tissue_tiles == 11
    assert job.size_l0 == (1800, 1300)


def test_reading_alone_and_the_start_alone_have_no_masks(target):
    run = open_job(target)
    reading = run(4, None, EXACT, False)
    assert (reading.tiles, reading.densities) == (4, {})
    start = run(0)
    assert (start.tiles, start.densities) == (0, {})
    assert start.start_s > 0
    assert run(None, 2, replace(EXACT, requests=1)).tiles == 11  # the whole slide


def test_every_stage_costs_time(target):
    stages = open_stages(target)(3)
    assert list(stages) == ["read", "quality", "colour", "network", "map"]
    assert all(seconds > 0 for seconds in stages.values())


def test_a_part_of_a_slide_shows_only_the_tissue_in_its_box(target):
    middle = Middle(target, open_model(DEFAULT_MODEL).card)
    with middle.open(1) as part:
        overview = part.overview(600)
    stained = np.ptp(overview[..., :3], axis=-1) > 30
    rows, columns = np.nonzero(stained)
    assert 100 < np.ptp(columns) <= 160
    assert 100 < np.ptp(rows) <= 160  # one tile of 480 px, a third of it on this overview


def test_the_middle_holds_as_many_tiles_as_asked_for_and_all_at_most():
    grid = list(TileGrid((4800, 4800), (480.0, 480.0)))
    for count in (1, 5, 30, 100, 1000):
        left, top, right, bottom = middle_of(grid, count)
        inside = [s for s in grid if left <= s.x_l0 < right and top <= s.y_l0 < bottom]
        assert min(count, 100) <= len(inside) <= max(2 * count + 7, 100)
    assert middle_of(grid, 100) == (0, 0, 4800, 4800)


def test_the_tiles_fit_the_time_but_are_never_too_few():
    assert tiles_within(10, 0.1, 1000) == 100
    assert tiles_within(10, 0.1, 60) == 60
    assert tiles_within(0.1, 0.1, 60) == speed.PILOT_TILES
    assert tiles_within(-5, 0.1, 60) == speed.PILOT_TILES
    assert tiles_within(10, 0.1, 3) == 3


def test_rounds_are_given_up_before_tiles_and_the_first_never():
    pilot = {name: Run(4, 2.0, 1.0, 0.0, {}, tissue_tiles=100) for name in ("gliorun", "network")}
    # 1.25 s a tile and round with reading alone; half of the time is for the rounds
    assert speed._tiles_and_rounds(pilot, 3, 75.0) == (10, 3)
    assert speed._tiles_and_rounds(pilot, 3, 20.0) == (4, 2)
    assert speed._tiles_and_rounds(pilot, 3, -9.0) == (4, 1)


def test_settings_double():
    assert doubling(1) == [1]
    assert doubling(6) == [1, 2, 4]
    assert doubling(8) == [1, 2, 4, 8]


def test_differences_are_points_of_the_same_tiles():
    ours = {(0, 0): 0.10, (1, 0): 0.20}
    assert density_difference_points(ours, {(1, 0): 0.23, (0, 0): 0.09}) == pytest.approx(2)
    assert density_difference_points({}, ours) is None
    with pytest.raises(GlioError, match="the same tiles"):
        density_difference_points(ours, {(0, 0): 0.1})


def test_the_bottleneck_is_the_dearest_stage_or_waiting():
    stages = {"read": 0.01, "network": 0.03}
    assert bottleneck(stages, 0.95, 1.0).startswith("network: 75%")
    assert bottleneck({**stages, "read": 0.09}, 0.95, 1.0).startswith("read: 75%")
    assert bottleneck(stages, 0.5, 1.0).startswith("waiting")
    # other programs took half: the job does as well as the network alone
    assert bottleneck(stages, 0.5, 0.52).startswith("network")


def test_what_disagrees_is_not_ranked():
    runs = [Run(4, 2.0, 1.0, 0.0, {(0, 0): 0.10})]
    close = Run(4, 1.0, 1.0, 0.0, {(0, 0): 0.102})
    far = Run(4, 1.0, 1.0, 0.0, {(0, 0): 0.2})
    way = speed._way("x", [close], runs)
    assert (way.agrees, way.ratios) == (True, (0.5,))
    assert way.density_difference_points == pytest.approx(0.2)
    assert not speed._way("x", [far], runs).agrees
    student = Run(4, 1.0, 1.0, 0.0, {(0, 0): 0.115})
    assert not speed._way(speed.SCRIPT, [student], runs).agrees
    assert speed._way(speed.OTHER_SCRIPT, [student], runs).agrees


def test_a_budget_or_rounds_that_cannot_be_are_refused(target):
    for change, message in (({"budget_s": 29}, "budget is 29 s"), ({"rounds": 0}, "rounds is 0")):
        plan = {"keras_file": None, "rounds": 1, "budget_s": 60, "say": print, **change}
        with pytest.raises(GlioError, match=message):
            speed.measure_speed(target, **plan)
