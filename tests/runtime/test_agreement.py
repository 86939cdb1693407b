"""Agreement of masks, against figures worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from gliorun.findings.agreement import agreement, dice


def mask(*pixels: int) -> np.ndarray:
    """Return a (2, 5) mask with these flat indices set."""
    flat = np.zeros(10, np.uint8)
    flat[list(pixels)] = 1
    return flat.reshape(2, 5)


def test_dice_is_twice_the_shared_over_the_sum():
    assert dice(mask(0, 1, 2), mask(1, 2, 3, 4, 5)) == 2 * 2 / 8


def test_dice_of_two_empty_masks_is_one_and_of_one_empty_mask_zero():
    assert dice(mask(), mask()) == 1
    assert dice(mask(), mask(3)) == 0


def test_any_value_but_zero_is_a_nucleus():
    assert dice(mask(0, 1) * 255, mask(0, 1)) == 1


def test_figures_of_two_images_worked_out_by_hand():
    agreed = agreement([(mask(0, 1), mask(0)), (mask(5), mask(5, 6, 7, 8))])
    assert agreed.images == 2
    assert agreed.dice == pytest.approx((2 / 3 + 2 / 5) / 2)
    assert agreed.dice_pooled == pytest.approx(2 * 2 / (3 + 5))
    assert agreed.density_error_points == pytest.approx((10 + 30) / 2)
    assert agreed.density_bias_points == pytest.approx((10 - 30) / 2)
    assert agreed.density_worst_points == pytest.approx(30)
    assert agreed.class_agreement == 0.0  # 20 % against 10 %, 10 % against 40 %


def test_masks_of_one_density_class_agree_wherever_their_nuclei_lie():
    agreed = agreement([(mask(0, 1, 2), mask(7, 8, 9))])
    assert agreed.class_agreement == 1
    assert agreed.dice == 0
    assert agreed.density_error_points == 0


def test_raises_without_a_pair():
    with pytest.raises(ValueError, match="nothing to compare"):
        agreement([])
