"""Every kernel equals its slow twin, compiled and as plain Python."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import naive
from gliorun.measuring import kernels

SHAPES = [(1, 1), (7, 13), (40, 24), (33, 57)]
Kernel = Callable[..., None]


@pytest.fixture(params=["compiled", "plain"])
def way(request: pytest.FixtureRequest) -> Callable[[Any], Kernel]:
    """Return a kernel as numba compiled it, or as the Python it was written in."""
    # with NUMBA_DISABLE_JIT=1 a kernel is its own plain function
    return lambda k: getattr(k, "py_func", k) if request.param == "plain" else k


def random_rgba(shape: tuple[int, int]) -> NDArray[np.uint8]:
    random = np.random.default_rng(shape[0])
    rgba = random.integers(0, 256, (*shape, 4), dtype=np.uint8)
    rgba[..., 3] = random.choice([0, 127, 128, 255], shape)
    return rgba


@pytest.mark.parametrize("shape", SHAPES)
def test_count_levels_adds_what_its_twin_counts(way, shape):
    rgba = random_rgba(shape)
    nuclei = np.random.default_rng(2).integers(0, 3, shape, dtype=np.uint8)
    counts = np.full((64, 3, 256), 5, dtype=np.int64)
    way(kernels.count_levels)(rgba, nuclei, 2, counts)
    np.testing.assert_array_equal(counts, 5 + naive.count_levels(rgba, nuclei >= 2))


@pytest.mark.parametrize("shape", SHAPES)
def test_normalise_fills_what_its_twin_returns(way, shape):
    rgba = random_rgba(shape)
    table = np.random.default_rng(1).integers(0, 256, (3, 256), dtype=np.uint8)
    out, valid = np.full((*shape, 3), 77, np.uint8), np.full(shape, 77, np.uint8)
    way(kernels.normalise)(rgba, table, out, valid)
    wanted_out, wanted_valid = naive.normalise(rgba, table)
    np.testing.assert_array_equal(out, wanted_out)
    np.testing.assert_array_equal(valid, wanted_valid)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("cell_px", [1, 8, 100])
def test_count_nuclei_counts_what_its_twin_counts(way, shape, cell_px):
    random = np.random.default_rng(2)
    levels = random.choice([0, 1, 99, 100, 101, 254, 255], shape).astype(np.uint8)
    valid = random.choice([0, 1, 255], shape).astype(np.uint8)
    outlines = (255, 100, 1)
    wanted_nucleus, wanted_valid = naive.count_nuclei(levels, valid, outlines, cell_px)
    nucleus_px, valid_px = np.full_like(wanted_nucleus, 3), np.full_like(wanted_valid, 4)
    way(kernels.count_nuclei)(levels, valid, outlines, cell_px, nucleus_px, valid_px)
    np.testing.assert_array_equal(nucleus_px, wanted_nucleus)
    np.testing.assert_array_equal(valid_px, wanted_valid)


def test_kernels_read_arrays_that_are_not_writable_or_contiguous():
    rgba = random_rgba((20, 30))[::2, ::3]
    rgba.flags.writeable = False
    counts = np.zeros((64, 3, 256), dtype=np.int64)
    nuclei = np.zeros(rgba.shape[:2], np.uint8)
    kernels.count_levels(rgba, nuclei, 1, counts)
    np.testing.assert_array_equal(counts, naive.count_levels(rgba, nuclei))
