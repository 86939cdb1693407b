"""gliobench as it is typed."""

import re
import shutil
import subprocess
import sys

import pytest

from gliobench import backends


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
def test_compare_ranks_the_reference_with_every_backend_on_synthetic_tissue(converted):
    result = gliobench("compare", "--converted", converted, "--count", 3, "--rounds", 2)
    assert result.returncode == 0, result.stderr
    rows = re.findall(r"^\| (\w[^|]*) \| .* \| (\d\.\d{4}) \|", result.stdout, re.MULTILINE)
    assert [name for name, _ in rows] == [
        "Keras predict",
        "ONNX Runtime",
        "OpenVINO FP32",
        "OpenVINO INT8",
        "student, INT8",
    ]
    assert all(float(dice) > 0.95 for _, dice in rows[:-1])
    assert 0.8 < float(rows[-1][1]) < 1  # synthetic tissue, which it was not taught on
    assert "cores" in result.stdout.splitlines()[0]


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
