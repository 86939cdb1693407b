"""Fixtures that several tests share; `naive` and `slides` become importable."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import slides  # noqa: E402
from browsers import browser  # noqa: E402, F401

SHARED = HERE.parent.parent / "shared"
SHARP_SETS = ("emory_gbm40", "tcga_kong36", "monuseg", "monusac", "kumar_prostate", "tnbc_curie")
"""The labelled sets, 149 tiles, that the measures of quality were set by: every tile is kept."""
LONGEST_FIRST = (
    "test_documents.py", "test_distribution.py", "test_convert.py", "test_train.py",
    "test_mutations.py", "test_week.py", "test_suite.py", "test_html.py", "test_container.py",
    "test_kill.py", "test_accuracy.py", "test_distil.py", "test_cluster.py", "test_hovernet.py",
)  # fmt: skip
"""Files that take minutes in the long part."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the longest files, so that no core waits for another's last one."""
    places = {name: place for place, name in enumerate(LONGEST_FIRST)}
    items.sort(key=lambda item: places.get(item.path.name, len(places)))


def _shared(folder: str) -> Path:
    path = SHARED / folder
    if not path.is_dir():
        pytest.skip(f"{path} is absent")
    return path


@pytest.fixture(scope="session")
def shared_slides() -> Path:
    """Folder of real slides beside the checkout; skips where it is absent."""
    return _shared("slides")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of annotated images beside the checkout; skips where it is absent."""
    return _shared("data")


@pytest.fixture(scope="session")
def small_slide(tmp_path_factory: pytest.TempPathFactory) -> slides.Drawn:
    """An oval of tissue on 1800 × 1300 px at 0.25 µm/px: 4 × 3 tiles, 11 with tissue."""
    return slides.drawn(tmp_path_factory.mktemp("slides") / "small.svs", 1800, 1300)
