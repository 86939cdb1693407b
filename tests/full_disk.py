"""A limit on the size of files stands for a full disk: both end in a failing write."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

import pytest


@contextmanager
def files_up_to(size: int) -> Generator[None]:
    """Let no file of this process grow above `size` bytes; skips where there is no such limit."""
    resource = pytest.importorskip("resource", reason="no limit of file size on this system")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
