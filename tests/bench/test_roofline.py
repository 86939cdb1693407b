"""Operations of a network, counted by hand, and a peak that can be measured."""

import numpy as np
import openvino as ov
import pytest
from openvino import opset13 as ops

from gliobench.roofline import convolutions, gmac, gmac_of, open_peaks, products
from gliorun.model.shipped import DEFAULT_MODEL


def model_of(build, *shape):
    image = ops.parameter(list(shape), np.float32)
    return ov.Model([build(image)], [image])


def weights(*shape):
    return ops.constant(np.ones(shape, dtype=np.float32))


def test_a_strided_convolution_counts_its_output():
    model = model_of(
        lambda x: ops.convolution(x, weights(5, 3, 3, 3), [2, 2], [1, 1], [1, 1], [1, 1]),
        1, 3, 16, 8,
    )  # fmt: skip
    assert gmac(model) * 1e9 == 5 * 3 * 9 * 8 * 4


def test_a_transposed_convolution_counts_its_input():
    model = model_of(
        lambda x: ops.convolution_backprop_data(x, weights(6, 4, 2, 2), [2, 2]), 1, 6, 10, 7
    )
    assert gmac(model) * 1e9 == 6 * 4 * 4 * 10 * 7


def test_a_matrix_product_counts_rows_columns_and_depth():
    model = model_of(lambda x: ops.matmul(x, weights(7, 11), False, False), 3, 7)
    assert gmac(model) * 1e9 == 3 * 7 * 11
    turned = model_of(lambda x: ops.matmul(x, weights(7, 11), True, False), 7, 3)
    assert gmac(turned) * 1e9 == 3 * 7 * 11


@pytest.mark.parametrize("quantised", [False, True])
def test_what_the_peak_is_measured_with_has_the_operations_it_says(quantised):
    assert gmac(convolutions(quantised)) == pytest.approx(6 * 64**2 * 128**2 * 9 / 1e9)
    assert gmac(products(quantised)) == pytest.approx(2 * 1024**3 / 1e9)


def test_the_shipped_model_is_counted():
    assert 0.1 < gmac_of(DEFAULT_MODEL) < 200


def test_a_peak_is_measured():
    assert open_peaks()("FP32", 0.1) > 1
