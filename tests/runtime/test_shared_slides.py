"""Real slides beside the checkout; skipped where they are absent."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

import runs
from gliorun.errors import GlioError
from gliorun.model.engine import Engine, open_model
from gliorun.model.shipped import DEFAULT_MODEL
from gliorun.settings import Settings
from gliorun.writers.result import Result

CELL_PX = 120
BOUNDS = ((480, 0.03, 0.85), (120, 0.04, 0.85))
"""Side of a square in px, its mean absolute error, the correlation with the truth.

Measured 0.013 and 0.950, 0.018 and 0.956, on tiles of which the network saw some in training.
"""


@pytest.fixture(scope="module")
def engine() -> Engine:
    return open_model(DEFAULT_MODEL)


def run(path, engine: Engine, settings: Settings) -> Result:
    return runs.measured_slide(path, engine.card, engine.predict, settings)


def in_tissue(left: int, top: int, side: int) -> bool:
    """Tell whether a square lies wholly inside the 8 × 5 tiles within the 512-px grey margin."""
    return left >= 512 and left + side <= 4608 and top >= 512 and top + side <= 3072


@pytest.mark.release
def test_the_mosaic_s_map_agrees_with_the_truth(shared_slides, engine):
    measured = run(
        shared_slides / "gbm40_mosaic_aperio_style.svs", engine, Settings(cell_px=CELL_PX)
    )
    with Image.open(shared_slides / "gbm40_mosaic_truth_mask.png") as image:
        truth = np.asarray(image) != 0
    cells = measured.density.density
    for cell_px, worst_error, least_correlation in BOUNDS:
        n = cell_px // CELL_PX
        pairs = []
        for row in range(3584 // cell_px):
            for column in range(5120 // cell_px):
                top, left = row * cell_px, column * cell_px
                if in_tissue(left, top, cell_px):
                    ours = cells[row * n : (row + 1) * n, column * n : (column + 1) * n].mean()
                    theirs = truth[top : top + cell_px, left : left + cell_px].mean()
                    pairs.append((ours, theirs))
        ours, theirs = np.array(pairs).T
        assert not np.isnan(ours).any()
        assert np.abs(ours - theirs).mean() < worst_error
        assert np.corrcoef(ours, theirs)[0, 1] > least_correlation


@pytest.mark.release
def test_the_grey_margin_of_the_mosaic_is_not_measured(shared_slides, engine):
    measured = run(shared_slides / "gbm40_mosaic_aperio_style.svs", engine, Settings())
    status = measured.density.status
    assert not status[0].any()
    assert not status[:, 0].any()
    assert (status[2:6, 2:9] == 1).all()


def test_a_real_20x_slide_is_measured_with_a_warning(shared_slides, engine):
    measured = run(shared_slides / "CMU-1-Small-Region.svs", engine, Settings())
    assert measured.scale.source == "slide"
    assert measured.scale.x_mpp == pytest.approx(0.499)
    assert measured.density.grid.tile_l0[0] == pytest.approx(240.5, abs=0.1)
    assert measured.density.measured_tiles() > 30
    assert 0 < measured.density.mean_density() < 0.5
    coarse, folds = measured.warnings  # the skin's dense horn is taken for a fold
    assert "coarser than the model's 0.25" in coarse
    assert folds == "1 of 63 tiles not fit to be measured (1 fold): no value there"


def test_a_real_slide_without_a_scale_is_refused_and_runs_once_told(shared_slides, engine):
    path = shared_slides / "tcga-cr-7395-01a-01-ts1.svs"
    with pytest.raises(GlioError, match="no micrometres per pixel; pass --mpp"):
        run(path, engine, Settings())
    measured = run(path, engine, Settings(mpp=0.25))
    assert measured.scale.source == "--mpp"
    assert measured.density.measured_tiles() > 10
    # At its right edge tissue is 1.4 times as dense as elsewhere: too little for a fold. It is in
    # truth sixteen times as coarse, so that no nucleus is to be seen.
    (warning,) = measured.warnings
    assert warning.startswith("hardly any nucleus found")


def test_a_real_slide_too_coarse_for_nuclei_is_refused(shared_slides, engine):
    with pytest.raises(GlioError, match="2 µm/px is too coarse to see nuclei"):
        run(shared_slides / "C3L-00601-26_from_dzi.tif", engine, Settings())
