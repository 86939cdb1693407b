"""What is said about a model that is not in its file; checked before Keras is loaded."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from glioexport.shape import UnetShape
from gliorun.changes import named_value
from gliorun.errors import GlioError, UsageError

OUTPUTS = ("softmax", "sigmoid", "logits")
PIXEL_RANGES = {"0..255": (1.0, 0.0), "0..1": (1 / 255, 0.0), "-1..1": (1 / 127.5, -1.0)}
"""Pixel ranges that a network may expect, with the factor and offset that map 0 to 255 to each."""
WEIGHTS_SUFFIX = ".weights.h5"
H5_SUFFIXES = (".h5", ".hdf5")
SAVED_MODEL_INSTEAD = "export it with model.export('folder') and convert that folder"


@dataclass(frozen=True, slots=True)
class Description:
    """Information about a model that is not in its file.

    Parameters
    ----------
    custom : Path or None
        Python file that defines the model's own layers; it is executed.
    trust_h5 : bool
        Load a whole model from `.h5`.
    unet : tuple of str
        Settings of `UnetShape`, "name=value", that weights alone belong to.
    tile_px : int or None
        Side of the input, for a model that leaves it open.
    output : str or None
        One of `OUTPUTS`, for a model that does not say.
    pixel_range : str
        One of `PIXEL_RANGES`.
    """

    custom: Path | None = None
    trust_h5: bool = False
    unet: tuple[str, ...] = ()
    tile_px: int | None = None
    output: str | None = None
    pixel_range: str = "0..255"

    def __post_init__(self) -> None:
        if self.output is not None and self.output not in OUTPUTS:
            raise UsageError(f"output is {self.output!r}; known: {', '.join(OUTPUTS)}")
        if self.pixel_range not in PIXEL_RANGES:
            raise UsageError(
                f"pixel range is {self.pixel_range!r}; known: {', '.join(PIXEL_RANGES)}"
            )


def check_described(path: Path, description: Description) -> str:
    """Return what kind of file a model is, one of those of `kind_of`.

    Raises
    ------
    GlioError
        There is no such file, what is said about it does not fit, or it may not be loaded.
    """
    if not path.exists():
        raise GlioError(f"{path}: no such file; check its name")
    format_name = kind_of(path)
    if description.unet and format_name != "weights":
        raise UsageError(f"{path}: holds its own architecture; --unet is for NAME{WEIGHTS_SUFFIX}")
    if description.custom and format_name in ("SavedModel", "weights"):
        raise UsageError(f"{path}: needs no --custom; leave it out")
    if format_name == "weights":
        unet_shape(description.unet, description.tile_px)
    if format_name == "h5" and not description.trust_h5:
        raise GlioError(
            f"{path}: .h5 gets round Keras' safe loading and can run code (CVE-2025-9905); save it "
            "with model.save('name.keras'), or pass --trust-h5 if you made the file yourself"
        )
    return format_name


def unet_shape(changes: Iterable[str], tile_px: int | None = None) -> UnetShape:
    """Return the shape of our U-net with some changed settings, each "name=value".

    Raises
    ------
    UsageError
        There is no such setting, or its value does not fit.
    """
    shape = UnetShape()
    values: dict[str, Any] = {}
    if tile_px is not None:
        values = {"height_px": tile_px, "width_px": tile_px}
    try:
        values |= (named_value(change, asdict(shape)) for change in changes)
        return replace(shape, **values)
    except (UsageError, ValueError) as error:
        raise UsageError(f"--unet: {error}") from error


def kind_of(path: Path) -> str:
    """Return what a model file is, by its name: "SavedModel", "weights", "h5" or "keras".

    Raises
    ------
    GlioError
        It is none of them.
    """
    if path.is_dir():
        if (path / "saved_model.pb").is_file():
            return "SavedModel"
        raise GlioError(f"{path}: no saved_model.pb in this folder; {SAVED_MODEL_INSTEAD}")
    if path.name.endswith(WEIGHTS_SUFFIX):
        return "weights"
    if path.suffix in H5_SUFFIXES:
        return "h5"
    if path.suffix == ".keras":
        return "keras"
    raise GlioError(
        f"{path}: not a .keras file, a SavedModel's folder, NAME{WEIGHTS_SUFFIX} or .h5; "
        "save the model with model.save('name.keras')"
    )
