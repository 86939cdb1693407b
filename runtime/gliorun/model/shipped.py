"""The models that ship with gliorun, and the versions that a result depends on."""

from __future__ import annotations

from functools import cache
from importlib.metadata import version
from pathlib import Path

from gliorun import __version__
from gliorun.errors import GlioError
from gliorun.model.card import ModelCard, sha256_of
from gliorun.reading.files import is_folder

MODELS = Path(__file__).parents[1] / "models"
"""Folder of the models that ship with gliorun."""
DEFAULT_MODEL = MODELS / "student.xml"
REFERENCE_MODEL = MODELS / "reference.xml"

INT8 = "int8.xml"
"""The file that stands for a folder of `glioexport convert`."""
LIBRARIES = ("openvino", "openslide-python", "openslide-bin", "simplejpeg", "numba", "numpy")


def models() -> dict[str, Path]:
    """Return the IRs of the shipped models, by name."""
    return {path.stem: path for path in sorted(MODELS.glob("*.xml"))}


def model_path(named: Path | None) -> Path:
    """Return the IR that `--model` names: a file, a folder with one, or a model that ships.

    Raises
    ------
    GlioError
        No shipped model has that name, and it is not a file name; or a folder holds none.
    """
    if named is None:
        return DEFAULT_MODEL
    names = models()
    if str(named) in names:
        return names[str(named)]
    if is_folder(named):
        return _int8_of(named)
    if not named.suffix:
        raise GlioError(f"{named}: no such model; pass a file (.xml) or {' or '.join(names)}")
    return named


def _int8_of(folder: Path) -> Path:
    """Return the INT8 model in a folder that `glioexport convert` wrote."""
    path = folder / INT8
    if not path.is_file():
        raise GlioError(f"{folder}: no {INT8} in this folder; name one of 'glioexport convert'")
    return path


def name_of(card: ModelCard) -> str:
    """Return the name by which users choose a model, or of one of their own what its card says."""
    return next((name for name in models() if _weights(name) == card.weights_sha256), card.name)


@cache
def _weights(name: str) -> str:
    return sha256_of(models()[name].with_suffix(".bin"))


def versions() -> str:
    """Return one line: gliorun's version, its model's hash, and the versions of its libraries."""
    weights = _weights(DEFAULT_MODEL.stem)
    libraries = ", ".join(f"{name} {version(name)}" for name in LIBRARIES)
    return f"gliorun {__version__} (model {DEFAULT_MODEL.stem} {weights[:12]}, {libraries})"
