"""A planted meter that is wrong is called so, and the runtime's own way is what is measured."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from typer.testing import CliRunner

from gliobench import linearity
from gliobench.cli import app
from glioexport.dataset import Entry
from gliorun import demo

SIDE_UM = 50.0


@pytest.fixture(scope="module")
def entry(tmp_path_factory: pytest.TempPathFactory) -> Entry:
    folder = tmp_path_factory.mktemp("tile")
    tissue = demo.draw_tissue(np.full((240, 260), 0.15, np.float32), seed=4)
    Image.fromarray(tissue.pixels).save(folder / "image.png")
    Image.fromarray(tissue.nuclei * 255).save(folder / "label.png")
    return Entry("drawn", "1", "", "val", "CC0", folder / "image.png", folder / "label.png", 0.25)


def dark_share(pixels: NDArray[np.uint8]) -> float:
    """The true density of drawn tissue, nearly: nuclei are dark in red, nothing else is."""
    return float((pixels[:200, :200, 0] < 130).mean())


def right(pixels: NDArray[np.uint8], mpp: float) -> float:
    return dark_share(pixels)


def with_an_offset(pixels: NDArray[np.uint8], mpp: float) -> float:
    return dark_share(pixels) + 0.03


def that_saturates(pixels: NDArray[np.uint8], mpp: float) -> float:
    return math.sqrt(dark_share(pixels)) / 3


def that_looks_beside(pixels: NDArray[np.uint8], mpp: float) -> float:
    """Stretched by what lies on the whole slide, as a percentile does."""
    return dark_share(pixels) + 0.2 * (0.1 - float((pixels[..., 0] < 130).mean()))


def summary(entry: Entry, meter: linearity.Meter) -> linearity.Linearity:
    return linearity.summarise("planted", "drawn", [linearity.respond(entry, meter, SIDE_UM)])


def test_a_meter_that_is_right_is_linear_and_local(entry: Entry) -> None:
    summed_up = summary(entry, right)
    assert (summed_up.tiles, summed_up.left_out, summed_up.without_value) == (1, 0, 0)
    assert summed_up.zero_worst < 0.5
    np.testing.assert_allclose(summed_up.slopes, 1, atol=0.1)
    assert summed_up.drift_worst == 0


def test_an_offset_shows_at_zero(entry: Entry) -> None:
    summed_up = summary(entry, with_an_offset)
    assert summed_up.zero_mean == pytest.approx(3, abs=0.5)
    np.testing.assert_allclose(summed_up.slopes, 1, atol=0.1)


def test_a_meter_that_saturates_has_another_slope_where_nuclei_are_few(entry: Entry) -> None:
    summed_up = summary(entry, that_saturates)
    assert summed_up.slopes[0] == 1
    assert summed_up.slopes[-1] > 1.5
    assert summed_up.sparse_error > 2


def test_a_meter_that_looks_beside_drifts(entry: Entry) -> None:
    summed_up = summary(entry, that_looks_beside)
    assert summed_up.drift_worst > 1
    assert summed_up.drift_mean == summed_up.drift_worst


def test_a_step_without_a_value_is_counted_and_nothing_is_made_up(entry: Entry) -> None:
    summed_up = summary(entry, lambda pixels, mpp: None)
    assert summed_up.without_value == 1
    assert math.isnan(summed_up.zero_mean)
    assert all(math.isnan(slope) for slope in summed_up.slopes)
    assert "–" in linearity.markdown([summed_up])


def test_a_tile_whose_nuclei_cannot_go_is_left_out(entry: Entry, tmp_path: Path) -> None:
    full = tmp_path / "full.png"
    Image.new("L", (260, 240), 255).save(full)
    crowded = Entry("drawn", "2", "", "val", "CC0", entry.image, full, 0.25)
    response = linearity.respond(crowded, right, SIDE_UM)
    assert response is None
    summed_up = linearity.summarise("planted", "drawn", [response])
    assert (summed_up.tiles, summed_up.left_out) == (0, 1)


def test_a_tile_smaller_than_the_models_has_no_locality(entry: Entry) -> None:
    response = linearity.respond(entry, right, 120.0)
    assert response is not None
    assert response.beside == []
    assert math.isnan(response.drift)


def test_true_densities_fall_with_the_nuclei_that_are_kept(entry: Entry) -> None:
    response = linearity.respond(entry, right, SIDE_UM)
    assert response is not None
    label = np.asarray(Image.open(entry.label))[:200, :200] > 0
    assert response.true[0] == pytest.approx(100 * label.mean())
    assert response.true[-1] == 0
    assert sorted(response.true, reverse=True) == response.true


def test_tiles_are_spread_over_each_set(entry: Entry) -> None:
    entries = [replace(entry, set=name, id=str(n)) for name in "ab" for n in range(5)]
    chosen = linearity.choose_evenly(entries, 3)
    assert [(e.set, e.id) for e in chosen] == [(name, n) for name in "ab" for n in "024"]
    assert linearity.choose_evenly(entries, 99) == entries


@pytest.mark.release
def test_the_command_measures_by_the_runtimes_own_way(entry: Entry, tmp_path: Path) -> None:
    drawn = entry.image.parent
    (drawn / "index.csv").write_text(
        "set,id,patient,split,licence,image,label\ndrawn,1,,val,CC0,image.png,label.png\n"
    )
    out = tmp_path / "linearity.json"
    result = CliRunner().invoke(
        app,
        ["linearity", str(drawn), "student", "--tiles-a-set", "1", "--json", str(out),
         "--pictures", str(tmp_path / "pictures")],
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    figures = json.loads(out.read_text(encoding="utf-8"))["figures"]
    (response,) = figures["responses"]["student"]
    assert len(response["true"]) == len(linearity.SHARES)
    assert figures["summaries"][0]["zero_worst"] is not None
    assert (tmp_path / "pictures" / "linearity-student.png").stat().st_size > 10_000
    assert "student" in result.stdout
