"""The command line: a fault is one line and exit code 1, a bug keeps its traceback."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from .small import write_tiles


def glioexport(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run glioexport as the installed command does."""
    return subprocess.run(
        [sys.executable, "-c", "from glioexport.cli import run; run()", *map(str, arguments)],
        cwd=cwd,
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )


def own_lines(stderr: str) -> list[str]:
    """Return what we said: TensorFlow's loader logs to the same stream."""
    noise = ("WARNING: All log messages", "I0000", "W0000", "E0000")
    return [line for line in stderr.splitlines() if line and not line.startswith(noise)]


def test_training_on_a_missing_folder_is_one_line_and_writes_nothing(tmp_path: Path) -> None:
    done = glioexport("train", "none", "--out", "out", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stdout == ""
    assert own_lines(done.stderr) == [
        "glioexport: none: no index.csv; pass the folder of the labelled tiles"
    ]
    assert list(tmp_path.iterdir()) == []


def test_converting_a_missing_file_is_one_line_and_writes_nothing(tmp_path: Path) -> None:
    done = glioexport("convert", "none.keras", "--out", "out", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stdout == ""
    assert own_lines(done.stderr) == ["glioexport: none.keras: no such file"]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "wrong",
    [
        ("--recipe", "unknown"),
        ("--filters", "0"),
        ("--epochs", "0"),
        ("--precision", "float99"),
        ("--seed", "-1"),
    ],
)
def test_an_option_out_of_range_is_refused_without_a_traceback(
    tmp_path: Path, wrong: tuple[str, str]
) -> None:
    data = tmp_path / "data"
    data.mkdir()
    done = glioexport("train", write_tiles(data), "--out", tmp_path / "out", *wrong, cwd=tmp_path)
    assert done.returncode in (1, 2)
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


def test_help_names_both_commands_without_loading_tensorflow(tmp_path: Path) -> None:
    check = (
        "import sys\nfrom glioexport.cli import run\n"
        "try:\n    run()\nexcept SystemExit as end:\n    code = end.code\n"
        "assert not {'tensorflow', 'keras', 'openvino'} & set(sys.modules)\n"
        "raise SystemExit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", check, "--help"],
        cwd=tmp_path, capture_output=True, text=True, encoding="utf-8", check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "train" in done.stdout
    assert "convert" in done.stdout
