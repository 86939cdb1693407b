"""Intervals against samples of known truth."""

import numpy as np
import pytest

from gliorun.findings.bootstrap import clusters, intervals_of_means


def test_images_of_a_patient_are_drawn_together_and_those_of_none_alone():
    drawn_with = clusters([("p", "1"), ("p", "2"), ("", "3"), ("", "4")])
    assert drawn_with[0] == drawn_with[1]
    assert len(set(drawn_with)) == 3


def test_an_image_named_like_a_patient_is_not_drawn_with_them():
    assert len(set(clusters([("image1", "image0"), ("", "image1")]))) == 2


def test_images_of_the_only_patient_are_drawn_singly():
    assert len(set(clusters([("p", "1"), ("p", "2"), ("p", "3")]))) == 3


def test_a_single_cluster_has_no_interval():
    assert intervals_of_means(np.ones((3, 2)), ["a", "a", "a"]) is None


def test_two_images_are_drawn_as_two_coins():
    (interval,) = intervals_of_means(np.array([[0.0], [1.0]]), ["a", "b"])
    assert interval == (0, 1)  # both the same in half of the draws


def test_a_patient_weighs_by_its_images():
    values = np.array([[1.0], [1.0], [1.0], [0.0]])
    (interval,) = intervals_of_means(np.tile(values, (50, 1)), np.repeat(range(100), 2).tolist())
    assert interval[0] < 0.75 < interval[1]
    assert interval[1] - interval[0] < 0.12


def test_patients_who_differ_widen_the_interval():
    random = np.random.default_rng(3)
    patient = np.repeat(np.arange(10), 8)
    values = (random.normal(0, 1, 10)[patient] + random.normal(0, 0.1, 80))[:, None]
    (together,) = intervals_of_means(values, patient.tolist())
    (singly,) = intervals_of_means(values, list(range(80)))
    assert together[1] - together[0] > 2 * (singly[1] - singly[0])


@pytest.mark.parametrize("images_each", [1, 4])
def test_intervals_hold_the_true_mean_about_as_often_as_they_say(images_each):
    random = np.random.default_rng(5)
    patient = np.repeat(np.arange(40), images_each)
    held = 0
    for _ in range(200):
        values = random.normal(0.8, 0.1, 40)[patient] + random.normal(0, 0.05, patient.size)
        (interval,) = intervals_of_means(values[:, None], patient.tolist())
        held += interval[0] <= 0.8 <= interval[1]
    assert 0.89 <= held / 200 <= 0.99
