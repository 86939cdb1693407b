"""Figures against values worked out by hand."""

import numpy as np
import pytest

from gliobench.metrics import (
    Counts,
    difference,
    figures,
    score,
)


def mask(*pixels, size=10):
    flat = np.zeros(size, np.uint8)
    flat[list(pixels)] = 1
    return flat.reshape(2, -1)


def scored(points, patients=None, truth=20):
    """Return scores of (10, 10) images with `truth` % nucleus, off by `points`."""
    patients = patients or [""] * len(points)
    return [
        score(
            f"image{n}",
            patient,
            mask(*range(truth + point), size=100),
            mask(*range(truth), size=100),
        )
        for n, (point, patient) in enumerate(zip(points, patients, strict=True))
    ]


def test_one_image_worked_out_by_hand():
    tile_score = score("a", "", mask(0, 1, 2, 3), mask(2, 3, 4))
    assert tile_score.counts == Counts(both=2, mask_only=2, truth_only=1, neither=5)
    assert tile_score.counts.accuracy == pytest.approx(0.7)
    assert tile_score.counts.precision == pytest.approx(2 / 4)
    assert tile_score.counts.recall == pytest.approx(2 / 3)
    assert tile_score.counts.f1 == pytest.approx(4 / 7)
    assert tile_score.dice == pytest.approx(4 / 7)
    assert (tile_score.density, tile_score.true_density) == (0.4, 0.3)
    assert tile_score.error_points == pytest.approx(10)
    assert tile_score.same_class  # 30 % and 40 % are both of the highest class


@pytest.mark.parametrize(
    ("ours", "truth", "precision", "recall", "dice"),
    [
        (mask(), mask(), 1, 1, 1),
        (mask(), mask(4), 0, 0, 0),
        (mask(4), mask(), 0, 0, 0),
        (mask(4), mask(5), 0, 0, 0),
    ],
)
def test_a_share_of_nothing_is_one_if_that_is_right_and_else_zero(
    ours, truth, precision, recall, dice
):
    tile_score = score("a", "", ours, truth)
    assert tile_score.counts.precision == precision
    assert tile_score.counts.recall == recall
    assert tile_score.counts.f1 == tile_score.dice == dice


def test_f1_is_dice_on_every_image():
    random = np.random.default_rng(0)
    for density in np.repeat([0, 0.01, 0.2, 1], 50):
        ours, truth = (random.random((2, 5, 7)) < density).astype(np.uint8)
        tile_score = score("a", "", ours, truth)
        assert tile_score.counts.f1 == pytest.approx(tile_score.dice)


def test_all_background_is_accurate_and_worthless():
    set_figures = figures([score("a", "", mask(size=100), mask(0, 1, 2, 3, size=100))])
    assert set_figures.mean.accuracy == 0.96
    assert set_figures.mean.dice == 0


def test_means_are_over_images_and_pooled_values_over_pixels():
    small = score("a", "", mask(0, 1), mask(0))  # precision 1/2, recall 1, Dice 2/3
    large = score("b", "", mask(*range(8), size=30), mask(*range(6, 16), size=30))  # 2/8, 2/10
    set_figures = figures([small, large])
    assert set_figures.images == 2
    assert set_figures.mean.precision == pytest.approx((1 / 2 + 2 / 8) / 2)
    assert set_figures.mean.recall == pytest.approx((1 + 2 / 10) / 2)
    assert set_figures.mean.dice == pytest.approx((2 / 3 + 4 / 18) / 2)
    assert set_figures.mean.accuracy == pytest.approx((9 / 10 + 16 / 30) / 2)
    assert set_figures.pooled.precision == pytest.approx(3 / 10)
    assert set_figures.pooled.recall == pytest.approx(3 / 11)
    assert set_figures.pooled.dice == pytest.approx(6 / 21)
    assert set_figures.pooled.accuracy == pytest.approx(25 / 40)
    assert set_figures.nucleus_share == pytest.approx(11 / 40)


def test_density_errors_worked_out_by_hand():
    set_figures = figures(scored([4, -2, 0, 6]))
    assert set_figures.density_error_points == pytest.approx(3)
    assert set_figures.density_bias_points == pytest.approx(2)
    assert set_figures.density_worst_points == pytest.approx(6)
    assert set_figures.density_p95_points == pytest.approx(
        4 + 0.85 * 2
    )  # between the 3rd and the 4th


def test_rows_of_the_confusion_are_the_true_classes():
    set_figures = figures(scored([0, -1, -5, -20]))  # 20, 19, 15 and 0 % where 20 % is true
    assert set_figures.confusion[5] == (1, 0, 0, 1, 1, 1)
    assert all(row == (0,) * 6 for row in set_figures.confusion[:5])
    assert set_figures.class_agreement == 0.25


def test_nothing_to_sum_up_is_refused():
    with pytest.raises(ValueError, match="nothing"):
        figures([])


def test_the_figures_say_what_was_drawn():
    assert figures(scored([0, 1, 2, 3], ["p", "p", "", ""])).resampled == "3 patients"


def test_images_of_the_only_patient_are_drawn_singly_and_the_figures_say_so():
    scores = scored([1, 2, 3], ["p"] * 3)
    assert figures(scores).resampled == "3 images of one patient"
    assert figures(scored([1, 2])).resampled == "2 images"


def test_one_image_has_no_interval():
    assert figures(scored([1])).intervals is None


def test_equal_images_have_an_interval_of_no_width():
    set_figures = figures(scored([2, 2, 2]))
    assert set_figures.intervals.density_error_points == pytest.approx((2, 2))
    assert set_figures.intervals.class_agreement == (1, 1)


def test_the_same_scores_give_the_same_interval():
    scores = scored([4, -2, 0, 6, 1], ["a", "a", "b", "c", "c"])
    assert figures(scores) == figures(scores)


def test_a_difference_is_taken_image_by_image():
    baseline, better = scored([-18, -10, 0, 8]), scored([-17, -9, 0, 7])
    gain = difference(better, baseline)
    assert gain.density_error_points == pytest.approx(-0.75)
    low, high = gain.density_error_interval
    assert -1.001 < low < high <= 0  # far narrower than the errors themselves, 0 to 18
    assert gain.dice == pytest.approx(
        np.mean([s.dice for s in better]) - np.mean([s.dice for s in baseline])
    )


def test_a_difference_between_other_images_is_refused():
    with pytest.raises(ValueError, match="same images"):
        difference(scored([1, 2]), scored([1]))
