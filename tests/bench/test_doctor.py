"""gliobench doctor: what it finds on this machine, and on machines with a planted fault."""

import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from importlib import metadata
from pathlib import Path

import pytest

from gliobench import doctor
from gliobench.doctor import (
    FAULT,
    OK,
    WARNING,
    check_cache,
    check_certificate,
    check_disk,
    check_memory,
    check_model,
    check_openslide,
    check_processor,
    check_versions,
    doctor_markdown,
    judge_golden,
)
from gliobench.machine import Machine
from gliorun.model import golden
from gliorun.model.engine import EXACT, open_model
from gliorun.model.shipped import DEFAULT_MODEL


def machine(*sets):
    return Machine("X", sets, 4, {}, 16.0, None, "Linux", "3.11")


def as_typed(*arguments, before=""):
    """Run gliobench in a fresh process; say at its end which heavy packages it imported."""
    code = (
        f"import sys; {before}\n"
        "from gliobench.cli import run\n"
        "try:\n    run()\n"
        "finally:\n"
        "    print({m for m in ('tensorflow', 'keras', 'glioexport') if m in sys.modules})"
    )
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip


@pytest.fixture(scope="module")
def fit_machine(tmp_path_factory):
    path = tmp_path_factory.mktemp("doctor") / "doctor.json"
    return as_typed("doctor", "--json", path), path


def test_this_machine_is_fit_without_tensorflow(fit_machine):
    result, _ = fit_machine
    assert result.returncode == 0, result.stdout + result.stderr
    assert "Fit to run gliorun." in result.stdout
    assert "100 mm² of tissue takes about" in result.stdout
    assert result.stdout.splitlines()[-1] == "set()"


def test_the_findings_are_written(fit_machine):
    _, path = fit_machine
    values = json.loads(path.read_text(encoding="utf-8"))
    assert values["kind"] == "doctor"
    names = [check["name"] for check in values["figures"]["checks"]]
    expected = {"openvino", "numba", "OpenSlide library", "memory", "certificate", "golden tiles"}
    assert expected <= set(names)
    assert values["figures"]["minutes_a_100mm2"] > 0


def test_a_damaged_model_is_not_fit_and_named(tmp_path):
    for name in ("student.xml", "student.bin"):
        shutil.copy(DEFAULT_MODEL.with_name(name), tmp_path)
    content = bytearray((tmp_path / "student.bin").read_bytes())
    content[len(content) // 2] ^= 0xFF
    (tmp_path / "student.bin").write_bytes(content)
    result = as_typed("doctor", "--model", tmp_path / "student.xml")
    assert result.returncode == 1
    assert "FAULT  golden tiles" in result.stdout
    assert "does not match its card" in result.stdout
    assert "Not fit" in result.stdout


def test_a_library_that_cannot_be_imported_is_a_finding():
    result = as_typed("doctor", before="sys.modules['openvino'] = None")
    assert result.returncode == 1
    assert "FAULT  golden tiles: " in result.stdout
    assert "openvino" in result.stdout
    assert "Traceback" not in result.stderr


def test_the_certificate_names_pixels_and_instructions_and_other_masks_are_a_fault():
    engine = open_model(DEFAULT_MODEL, EXACT)
    check = check_certificate(engine)
    assert check.verdict == OK
    assert re.search(r"[0-9]+ of 460,800 px differ .*; computed with \S+ I8 in", check.found)
    engine.card = replace(engine.card, golden_mask=golden.packed(1 - golden.golden_mask(engine)))
    check = check_certificate(engine)
    assert check.verdict == FAULT
    assert "460,800 of 460,800 px differ" in check.found
    engine.card = replace(engine.card, golden_mask="")
    assert check_certificate(engine).verdict == WARNING


@pytest.mark.parametrize("version", ["3.4.1", "4.0.0"])
def test_an_old_openslide_is_a_fault(version):
    check = check_openslide(version)
    assert check.verdict == FAULT
    assert "needs 4.0.1" in check.found
    assert "openslide-bin" in check.advice


def test_openslide_that_is_new_enough_or_cannot_be_loaded():
    assert check_openslide("4.0.1").verdict == OK
    assert check_openslide("4.10.0").verdict == OK
    assert check_openslide("Couldn't locate OpenSlide shared library").verdict == FAULT


def test_versions_below_their_floor_and_missing_ones_are_faults():
    def installed(name):
        try:
            return {"numba": "0.59.1", "openvino": "2026.1.0.dev3"}[name]
        except KeyError:
            raise metadata.PackageNotFoundError(name) from None

    wanted = ["numba>=0.60", "openvino>=2025.0", "rich>=13", 'nncf>=2; extra == "export"']
    checks = list(check_versions(wanted, installed))
    assert [(c.name, c.verdict) for c in checks] == [
        ("numba", FAULT), ("openvino", OK), ("rich", FAULT),
    ]  # fmt: skip
    assert checks[0].found == "0.59.1, needs >=0.60"
    assert checks[2].found.startswith("not installed")
    assert checks[2].advice == "pip install 'rich>=13'"


def test_a_cache_that_cannot_be_written_is_a_warning_with_a_way_out(tmp_path):
    assert check_cache(tmp_path / "new").verdict == OK
    file = tmp_path / "file"
    file.write_text("in the way")
    for folder in (file / "below", None):
        check = check_cache(folder)
        assert check.verdict == WARNING
        assert "NUMBA_CACHE_DIR" in check.advice


def test_a_disk_that_cannot_be_written_or_is_full_is_a_fault(tmp_path, monkeypatch):
    check = check_disk(tmp_path / "none")
    assert check.verdict == FAULT
    assert "TMPDIR" in check.advice
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: shutil._ntuple_diskusage(1, 1, 10**8))
    assert check_disk(tmp_path).verdict == FAULT
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: shutil._ntuple_diskusage(1, 1, 10**9))
    assert check_disk(tmp_path).verdict == WARNING


def test_memory_and_processor_are_judged():
    verdicts = [check_memory(size).verdict for size in (2, 5, 16)]
    assert verdicts == [FAULT, WARNING, OK]
    assert "no AVX2" in check_processor(machine("f16c")).advice
    assert "no VNNI" in check_processor(machine("avx2")).advice
    assert check_processor(machine("avx2", "avx_vnni")).verdict == OK
    assert check_processor(machine("asimd", "asimddp")).verdict == OK
    assert check_processor(machine()).verdict == OK  # a system that does not tell


def test_densities_off_the_golden_ones_or_changing_are_a_fault():
    assert judge_golden("x", 1.8, 0.999, same=True).verdict == OK
    assert judge_golden("x", 4.1, 0.999, same=True).verdict == FAULT
    assert judge_golden("x", 1.8, 0.5, same=True).verdict == FAULT
    assert judge_golden("x", 1.8, float("nan"), same=True).verdict == FAULT
    assert "not the same" in judge_golden("x", 1.8, 0.999, same=False).found


def test_a_missing_model_is_a_finding_and_ends_in_not_fit():
    checks, minutes = check_model(Path("none.xml"))
    assert (checks[0].verdict, minutes) == (FAULT, None)
    text = doctor_markdown(doctor.DoctorFigures(tuple(checks), minutes))
    assert text.endswith("Not fit to run gliorun; see FAULT.")
    assert "takes about" not in text
