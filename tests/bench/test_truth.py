"""gliobench truth: a map against the true mask, by hand."""

import zlib

import numpy as np
import pytest
from PIL import Image

from gliobench.truth import (
    against_cells,
    against_truth,
    calibration_of,
    check_calibration,
    read_cells,
    read_mask,
)
from gliorun.errors import GlioError
from gliorun.model.calibration import Calibration
from gliorun.model.outlines import Outlines

HEADER = "minx,miny,width,height,density,class,valid_fraction,status,density_of_tile\n"


@pytest.fixture
def mask():
    mask = np.zeros((10, 20), dtype=bool)
    mask[:5, :10] = True  # half of the left cell, nothing of the right one
    return mask


def test_errors_are_points_of_the_same_pixels(mask):
    comparison = against_truth([((0, 0, 10, 10), 0.4), ((10, 0, 20, 10), 0.02)], mask)
    assert comparison.cells == 2
    assert comparison.mean_error_points == pytest.approx(6)
    assert comparison.bias_points == pytest.approx(-4)
    assert comparison.worst_points == pytest.approx(10)
    assert comparison.correlation == pytest.approx(1)
    assert comparison.class_agreement == 0.5  # 2 % belongs to the second class


def test_cells_without_a_value_and_outside_the_box_are_left_out(tmp_path):
    path = tmp_path / "density.csv"
    path.write_text(
        HEADER
        + "0,0,10,10,0.4,5,1.0,measured,0.3\n10,0,10,10,,,0.0,unreadable,\n"
        + "20,0,10,10,0.1,3,1,measured,0.1\n"
    )
    # of the whole cell, glass at the rim of the tissue included, as the mask's density is
    assert read_cells(path) == [((0, 0, 10, 10), 0.3), ((20, 0, 30, 10), 0.1)]
    assert [box for box, _ in read_cells(path, (5, 0, 30, 10))] == [(20, 0, 30, 10)]


def test_too_few_cells_and_cells_off_the_mask_are_refused(mask):
    with pytest.raises(GlioError, match="fewer than two"):
        against_truth([((0, 0, 10, 10), 0.4)], mask)
    with pytest.raises(GlioError, match="outside the mask"):
        against_truth([((0, 0, 10, 10), 0.4), ((15, 0, 25, 10), 0.4)], mask)


@pytest.mark.parametrize("text", ["", "a,b\n1,2\n", HEADER + "x,0,1,1,0.5,1,1,measured,0.5\n"])
def test_a_file_that_is_no_density_csv_is_refused(tmp_path, text):
    path = tmp_path / "density.csv"
    path.write_text(text)
    if not text:
        assert read_cells(path) == []
        return
    with pytest.raises(GlioError, match=r"not a density\.csv"):
        read_cells(path)


@pytest.mark.parametrize("colours", [None, [255, 255, 255, 200, 0, 0]])
def test_nuclei_are_what_is_above_zero_whatever_its_colour(tmp_path, colours, mask):
    path = tmp_path / "nuclei.png"
    image = Image.fromarray(mask.astype(np.uint8))
    if colours is None:
        image = Image.fromarray(mask[..., None] * np.array([0, 0, 3], np.uint8))
    else:
        image.putpalette(colours)  # white and red, as QuPath exports labels
    image.save(path)
    np.testing.assert_array_equal(read_mask(path), mask)


def test_a_text_file_is_no_mask(tmp_path):
    text = tmp_path / "text.png"
    text.write_text("no picture")
    with pytest.raises(GlioError, match="cannot be read as a mask"):
        read_mask(text)


def test_a_mask_that_is_cut_in_its_header_or_beyond_memory_is_one_line(tmp_path):
    path = tmp_path / "mask.png"
    Image.new("L", (4, 4)).save(path)
    whole = path.read_bytes()
    header = b"IHDR" + whole[16:24]
    cut = len(header[4:]).to_bytes(4, "big") + header + zlib.crc32(header).to_bytes(4, "big")
    size = (200_000).to_bytes(4, "big") * 2
    vast = b"IHDR" + size + whole[24:29]
    for damaged in (
        whole[:8] + cut,
        whole[:12] + vast + zlib.crc32(vast).to_bytes(4, "big") + whole[33:],
    ):
        path.write_bytes(damaged)
        with pytest.raises(GlioError, match="cannot be read as a mask") as caught:
            read_mask(path)
        assert "\n" not in str(caught.value)


def test_cells_are_compared_with_true_cells_of_the_same_place():
    truth = [((0, 0, 10, 10), 0.5), ((10, 0, 20, 10), 0.0), ((20, 0, 30, 10), 0.9)]
    comparison = against_cells([((10, 0, 20, 10), 0.02), ((0, 0, 10, 10), 0.4)], truth)
    assert (comparison.cells, comparison.class_agreement) == (2, 0.5)
    assert comparison.mean_error_points == pytest.approx(6)
    assert comparison.bias_points == pytest.approx(-4)


def test_a_cell_that_the_truth_does_not_have_is_named():
    with pytest.raises(GlioError, match=r"no cell \(0, 0, 5, 5\)"):
        against_cells([((0, 0, 5, 5), 0.4)], [((0, 0, 10, 10), 0.5)])


def test_a_map_of_another_calibration_is_refused(tmp_path):
    lab = Calibration("lab", "student", "ab" * 32, Outlines(150, 140, 130), "2026-11-30")
    table = tmp_path / "density.csv"
    table.write_text('minx,calibration\n0,"lab, level 140"\n', encoding="utf-8")
    assert calibration_of(table) == "lab, level 140"
    check_calibration(table, lab)
    other = Calibration("lab", "student", "ab" * 32, Outlines(150, 139, 130), "2026-11-30")
    with pytest.raises(GlioError, match="calibrated to lab, level 140, not to lab, level 139"):
        check_calibration(table, other)
    table.write_text("minx\n0\n", encoding="utf-8")
    assert calibration_of(table) == ""
    with pytest.raises(GlioError, match="measured without a calibration"):
        check_calibration(table, lab)
