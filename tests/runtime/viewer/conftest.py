"""The default model, compiled once for all tests of the viewer."""

from __future__ import annotations

import pytest

from gliorun.model.engine import Compute, Engine, open_model
from gliorun.model.shipped import DEFAULT_MODEL


@pytest.fixture(scope="session")
def engine() -> Engine:
    return open_model(DEFAULT_MODEL, Compute())


@pytest.fixture(scope="session")
def card(engine):
    return engine.card
