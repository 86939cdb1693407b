"""Fixtures of the export: labelled tiles drawn on the spot, one small network converted once."""

from __future__ import annotations

from pathlib import Path

import pytest

from .small import Converted, convert_small, write_tiles


@pytest.fixture(scope="session")
def small_tiles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of six drawn tiles with their labels: four to train on, two to validate on."""
    return write_tiles(tmp_path_factory.mktemp("tiles"))


@pytest.fixture(scope="session")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Converted:
    """A small network of random weights and everything that it was converted to."""
    return convert_small(tmp_path_factory.mktemp("small"))
