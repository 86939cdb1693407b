"""Load TensorFlow without what its libraries report of themselves while they load."""

from __future__ import annotations

import os
import sys
from collections.abc import Generator
from contextlib import contextmanager
from tempfile import TemporaryFile

STDERR = 2
"""The file descriptor: the libraries write past Python's `sys.stderr`."""


def load_tensorflow() -> None:
    """Import Keras with TensorFlow; what it writes while it loads is shown only if it fails."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    if "tensorflow" in sys.modules:
        return
    with _held_back():
        import keras
        import tensorflow  # noqa: F401  Keras may be set to another backend

        keras.ops.zeros(1)  # the first operation reports the processor


@contextmanager
def _held_back() -> Generator[None]:
    """Write the standard error stream to a file, and show that if the block raises."""
    sys.stderr.flush()
    with TemporaryFile() as text:
        kept = os.dup(STDERR)
        os.dup2(text.fileno(), STDERR)
        try:
            yield
        except BaseException:
            text.seek(0)
            os.write(kept, text.read())
            raise
        finally:
            sys.stderr.flush()
            os.dup2(kept, STDERR)
            os.close(kept)
