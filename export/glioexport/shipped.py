"""The Keras files of the models that ship, from which those of the runtime were converted."""

from __future__ import annotations

from pathlib import Path

WEIGHTS = Path(__file__).parent / "weights"
"""Folder of the `.keras` files and their cards."""
REFERENCE = WEIGHTS / "reference.keras"
