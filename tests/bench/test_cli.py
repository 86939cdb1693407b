"""gliobench as it is typed."""

import json
import shutil
import subprocess
import sys

import pytest

import typed
from gliobench import backends
from gliobench.cli import run
from gliorun.errors import GlioError
from gliorun.model.shipped import DEFAULT_MODEL


def gliobench(*arguments):
    return typed.here(run, *arguments)


def test_a_folder_converted_from_another_model_is_refused(tmp_path):
    for name in ("fp32", "int8"):
        for suffix in (".xml", ".bin"):
            shutil.copy(DEFAULT_MODEL.with_suffix(suffix), tmp_path / f"{name}{suffix}")
    other = tmp_path / "other.keras"
    other.write_bytes(b"another model")
    result = gliobench("compare", other, "--converted", tmp_path)
    assert result.returncode == 1
    assert "was not converted from" in result.stderr.splitlines()[-1]


def test_a_further_model_of_another_tile_is_refused(tmp_path):
    with pytest.raises(GlioError, match="takes tiles of 480 px, the others of 64 px"):
        backends.further_backend(DEFAULT_MODEL, 64)


def test_a_model_of_ones_own_without_its_conversion_is_one_line(tmp_path):
    result = gliobench("compare", tmp_path / "mine.keras")
    assert result.returncode == 2
    assert result.stderr.splitlines()[-1].endswith("a model of your own needs --converted")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("speed", "--tune", "--budget", 5), "budget is 5 s; it must be at least 30"),
        (("speed", "--tune", "--keras", "x.keras"), "--tune compares gliorun with itself"),
        (("speed", "--budget", 5), "budget is 5 s; it must be at least 30"),
        (("speed", "none.svs", "--mpp", 9), "mpp is 9 µm per pixel; it must lie from"),
        (("giant", "a.svs", "--gigapixels", 99), "gigapixels is 99; it must lie from"),
        (("accuracy", "none", "--split", "test"), "split is 'test'; known: val, train"),
        (("untrained", "nope=1"), "nope=1: no such setting; known, as name=value:"),
        (("report",), "report needs at least one JSON file"),
    ],
)
def test_values_without_sense_are_wrong_usage(words, said):
    result = gliobench(*words)
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr.splitlines()[-1].startswith(f"gliobench: {said}")


def test_where_figures_cannot_be_written_is_said_before_measuring(tmp_path):
    for command in ("compare", "speed", "doctor"):
        result = gliobench(command, "--json", tmp_path / "none" / "a.json")
        assert result.returncode == 1
        assert "no such folder to write into" in result.stderr
        assert len(result.stderr.strip().splitlines()) == 1


def test_a_slide_that_is_none_is_one_line(tmp_path):
    result = gliobench("speed", tmp_path / "none.svs")
    assert result.returncode == 1
    said = f"gliobench: {tmp_path / 'none.svs'}: no such file; check its name"
    assert result.stderr.splitlines()[-1].startswith(said)


def test_report_prints_its_schema_and_names_a_file_that_is_none(tmp_path):
    schema = gliobench("report", "--schema")
    assert schema.returncode == 0
    assert len(json.loads(schema.stdout)["oneOf"]) == 5
    result = gliobench("report", tmp_path / "none.json")
    assert result.returncode == 1
    said = "cannot be read (No such file or directory); check its name"
    assert result.stderr == f"gliobench: {tmp_path / 'none.json'}: {said}\n"


def test_giant_writes_a_slide_and_says_what_it_holds(tmp_path):
    result = gliobench("giant", tmp_path / "a.svs", "--gigapixels", 0.01, "--tissue", 0.5)
    assert result.returncode == 0
    assert "3840 x 2400 px, 20 of 40 tiles are tissue" in result.stdout
    assert (tmp_path / "a.truth.csv").is_file()


def test_a_missing_model_is_one_line(tmp_path):
    result = gliobench("compare", tmp_path / "none.keras", "--converted", tmp_path)
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1] == (
        f"gliobench: {tmp_path / 'none.keras'}: no such file; check its name"
    )


def test_a_missing_map_is_one_line_in_a_process_of_its_own(tmp_path):
    words = [sys.executable, "-c", "from gliobench.cli import run; run()", "truth"]
    result = subprocess.run(
        [*words, tmp_path / "none.csv", tmp_path / "none.png"],
        capture_output=True, text=True, check=False, timeout=600,
    )  # fmt: skip
    assert result.returncode == 1
    assert result.stderr.startswith("gliobench: ")
    assert len(result.stderr.strip().splitlines()) == 1
