"""The script of the guide for QuPath is Groovy, and names the files that gliorun writes."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from gliorun import writers
from guides import ROOT

PARSE = """
def unit = new org.codehaus.groovy.control.CompilationUnit()
unit.addSource(new File(args[0]))
unit.compile(org.codehaus.groovy.control.Phases.CONVERSION)
println "parsed"
"""


def script() -> str:
    text = (ROOT / "runtime" / "GUIDE.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```groovy\n(.*?)```", text, re.S)
    return str(block)


def test_the_script_loads_every_kind_of_geojson():
    named = set(re.findall(r'"(\.[a-z.]*geojson)"', script()))
    assert named == {suffix for suffix in writers.WRITERS if suffix.endswith(".geojson")}


@pytest.mark.release
@pytest.mark.parametrize("broken", [False, True])
def test_the_script_is_groovy(tmp_path, broken):
    java = shutil.which("java")
    if shutil.which("groovy") is None or java is None:
        pytest.skip("no groovy here, or no java")
    home = {**os.environ, "JAVA_HOME": str(Path(java).resolve().parent.parent)}
    (tmp_path / "parse.groovy").write_text(PARSE)
    text = script().replace("as Set", "as as") if broken else script()
    (tmp_path / "load.groovy").write_text(text, encoding="utf-8")
    done = subprocess.run(
        ["groovy", tmp_path / "parse.groovy", tmp_path / "load.groovy"],
        env=home, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert ("parsed" in done.stdout) is not broken, done.stderr
