"""The house is as its plan says; what the runtime may not import is seen in a fresh process."""

from __future__ import annotations

import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest

import gliorun

FOREIGN = (
    "tensorflow", "keras", "onnx", "tf2onnx", "nncf", "onnxruntime", "skimage",
    "glioexport", "gliobench",
)  # fmt: skip
RUNTIME = Path(__file__).resolve().parent.parent / "runtime"
MODULES = sorted(m.name for m in pkgutil.walk_packages(gliorun.__path__, "gliorun."))


def imported_by(statement: str) -> set[str]:
    """Return the top-level packages in `sys.modules` after `statement` in a fresh process."""
    ending = "import sys; print('\\n'.join({n.split('.')[0] for n in sys.modules}))"
    done = subprocess.run(
        [sys.executable, "-c", f"{statement}\n{ending}"],
        capture_output=True, text=True, check=True, timeout=120,
    )  # fmt: skip
    return set(done.stdout.split())


def test_the_runtime_imports_no_training_or_conversion_library_nor_the_other_rooms():
    imported = imported_by(f"import {', '.join(MODULES)}")
    assert {"gliorun", "openvino", "openslide", "numba"} <= imported  # all was imported
    assert not imported.intersection(FOREIGN)


@pytest.mark.parametrize(
    ("module", "heavy"),
    [
        ("gliorun.pipeline", {"openvino", "matplotlib"}),
        ("gliorun.model.engine", {"openslide", "matplotlib"}),
        ("gliorun.demo", {"openvino", "matplotlib", "numba", "openslide"}),
        ("gliorun.job", {"bokeh"}),
        ("gliorun.batch.command", {"distributed", "dask", "bokeh"}),
        ("gliorun.batch.watch", {"openvino", "distributed", "matplotlib"}),
        ("gliorun.batch.ledger", {"openvino", "openslide", "distributed", "matplotlib"}),
        ("gliorun.cli", {"openvino", "matplotlib", "numba", "openslide", "numpy"}),
    ],
)
def test_a_module_does_not_bring_the_heavy_library_of_another(module, heavy):
    assert not imported_by(f"import {module}").intersection(heavy)


def test_the_functions_on_the_way_of_a_tile_exist() -> None:
    text = (RUNTIME / "ARCHITECTURE.md").read_text(encoding="utf-8")
    way = text.partition("## A tile's way")[2].split("```")[1]
    names = set(re.findall(r"\b[a-z]+(?:_[a-z]+)+\b", way))
    code = "".join(path.read_text("utf-8") for path in (RUNTIME / "gliorun").rglob("*.py"))
    assert names
    assert {name for name in names if f"def {name}(" not in code} == set()
