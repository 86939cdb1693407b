"""gliobench speed --tune: what is tried, what counts as faster, and what is recommended."""

from dataclasses import replace

import pytest

from gliobench import tune
from gliobench.tune import Choice, Trial, TuneFigures, choices_of, tune_markdown
from gliobench.ways import Run, Target
from gliorun.errors import GlioError
from gliorun.model.engine import EXACT
from gliorun.model.shipped import DEFAULT_MODEL
from gliorun.processors import processors


def options_of(cores: int, *, hybrid: bool) -> list[str]:
    return [choice.options for of_one in choices_of(cores, hybrid=hybrid) for choice in of_one]


def test_the_defaults_are_not_tried_twice_and_no_number_is_nothing():
    assert options_of(1, hybrid=False) == ["--streams 1"]
    assert options_of(2, hybrid=False) == [
        "--threads 2", "--streams 1", "--streams 2", "--network-threads 1",
    ]  # fmt: skip
    assert options_of(16, hybrid=True) == [
        "--threads 1", "--threads 4", "--threads 16", "--streams 1", "--streams 8", "--streams 16",
        "--network-threads 15", "--cores performance",
    ]  # fmt: skip


def test_changes_join():
    one = Choice(threads=3).joined(Choice(compute=replace(EXACT, streams=2)))
    assert one.joined(Choice(compute=replace(EXACT, cores="performance"))) == Choice(
        3, replace(EXACT, streams=2, cores="performance")
    )
    assert one.options == "--threads 3 --streams 2"
    assert Choice().options == ""


def test_faster_is_faster_in_every_round_and_by_enough():
    def trial(*ratios: float) -> Trial:
        return Trial("", ratios, ratios, ratios)

    assert trial(1.05, 1.03, 1.2).is_faster
    assert not trial(1.5, 0.99, 1.5).is_faster
    assert not trial(1.01, 1.005, 1.01).is_faster


def test_other_densities_are_no_faster_way():
    default = [Run(1, 1.0, 1.0, 0.0, {(0, 0): 0.1})]
    assert tune._trial("x", [Run(1, 0.5, 1.0, 0.0, {(0, 0): 0.1})], default).ratios == (2.0,)
    with pytest.raises(GlioError, match=r"--streams 2: the densities differ by 10.00 points"):
        tune._trial("--streams 2", [Run(1, 0.5, 1.0, 0.0, {(0, 0): 0.2})], default)


def figures_of(ratios: tuple[float, ...], cores_used: float) -> TuneFigures:
    """Return figures of a search in which some options had these ratios, twice."""
    cpu_s = cores_used * processors() / 10
    trials = tuple(
        Trial(options, (10.0, 10.0), (cpu_s, cpu_s), of_one)
        for options, of_one in (("", (1.0, 1.0)), ("--streams 2", ratios))
    )
    model = tune.open_model(DEFAULT_MODEL).card
    target = Target(DEFAULT_MODEL, DEFAULT_MODEL)
    return tune._figures(target, model, (4, 2), trials, trials[1])


def test_only_what_was_faster_again_on_a_quiet_machine_is_recommended():
    faster = figures_of((1.1, 1.2), 0.95)
    assert faster.options == "--streams 2"
    assert "`gliorun SLIDE --streams 2`, 1.15 (1.10–1.20) × the defaults" in tune_markdown(faster)
    luck = figures_of((0.9, 1.2), 0.95)
    assert luck.options == ""
    assert "leave the defaults" in tune_markdown(luck)
    busy = figures_of((1.1, 1.2), 0.5)
    assert busy.options == ""
    assert "gliorun had 50% of the processors at most" in tune_markdown(busy)


@pytest.mark.release
def test_a_search_measures_every_setting_on_the_same_tiles(small_slide):
    target = Target(small_slide.path, DEFAULT_MODEL)
    figures = tune.tune(target, rounds=1, budget_s=30, say=lambda line: None)
    assert [trial.options for trial in figures.trials[1:]] == [
        choice.options
        for of_one in choices_of(processors(), hybrid=tune.may_be_hybrid())
        for choice in of_one
    ]
    assert figures.trials[0].ratios == (1.0,)
    assert all(speed > 0 for trial in figures.trials for speed in trial.tiles_s)
