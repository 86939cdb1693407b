"""gliobench as it is typed."""

import shutil
import subprocess
import sys

import pytest

from gliobench import backends, document
from gliobench.compare import CompareFigures


def gliobench(*arguments):
    return subprocess.run(
        [sys.executable, "-c", "from gliobench.cli import run; run()", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )


@pytest.fixture(scope="module")
def converted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bench") / "converted"
    backends.convert_reference(folder, None, lambda line: None)
    return folder


@pytest.mark.slow
def test_compare_puts_every_backend_beside_the_reference_on_synthetic_tissue(converted, tmp_path):
    json_path, pictures = tmp_path / "compare.json", tmp_path / "pictures"
    result = gliobench(
        "compare", "--converted", converted, "--count", 2, "--rounds", 2,
        "--model", converted / "int8.xml", "--json", json_path, "--pictures", pictures,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    _, values = document.load(json_path)
    found = document.read(CompareFigures, values["figures"], "compare.json")
    names = [row.name for row in found.rows]
    assert names[0] == "Keras predict"
    assert {"ONNX Runtime", "OpenVINO FP32", "OpenVINO BF16", "OpenVINO INT8"} <= set(names)
    assert "Keras XLA" in names or any("XLA" in why for why in found.left_out)
    assert names[-1].endswith("converted/int8.xml, INT8")
    for row in found.rows:
        assert f"| {row.name}" in result.stdout
        assert len(row.tiles_s) == 2
        assert row.agreement.dice > 0.95
        assert row.start_s > 0
        assert row.gmac == found.rows[-1].gmac > 1
    assert "cores" in result.stdout.splitlines()[0]
    assert "Measured peak of one core" in result.stdout
    assert (pictures / "compare.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_a_folder_converted_from_another_model_is_refused(converted, tmp_path):
    other = tmp_path / "other.keras"
    shutil.copy(backends.reference_model(), other)
    with other.open("ab") as stream:
        stream.write(b"\0")  # still a zip, another hash
    result = gliobench("compare", other, "--converted", converted)
    assert result.returncode == 1
    assert "was not converted from" in result.stderr.splitlines()[-1]


def test_a_missing_model_is_one_line(tmp_path):
    result = gliobench("compare", tmp_path / "none.keras", "--converted", tmp_path)
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1] == f"gliobench: {tmp_path / 'none.keras'}: no such file"


def test_a_missing_map_is_one_line(tmp_path):
    result = gliobench("truth", tmp_path / "none.csv", tmp_path / "none.png")
    assert result.returncode == 1
    assert result.stderr.startswith("gliobench: ")
    assert len(result.stderr.strip().splitlines()) == 1
