"""The workflows of the public host: they run nothing that this tree does not run itself."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from guides import ROOT

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
STEP = ROOT / ".ci" / "step"
RUN_ELSEWHERE = {"tests": ".ci/run", "soak": ".ci/run", "wheels": "tests/test_distribution.py",
                 "wheel": ".ci/step"}  # fmt: skip
"""Steps whose own command `.ci/run` does not type, and where the same is done: `release` builds and
installs the wheel as `wheel` does."""


def jobs() -> Iterator[tuple[str, dict[str, Any]]]:
    for path in WORKFLOWS:
        for name, job in yaml.safe_load(path.read_text("utf-8"))["jobs"].items():
            yield f"{path.stem}: {name}", job


def steps() -> Iterator[dict[str, Any]]:
    for _, job in jobs():
        yield from job["steps"]


def known_steps() -> set[str]:
    return set(re.findall(r"^  ([a-z]+)\)$", STEP.read_text("utf-8"), re.M))


def test_every_command_is_a_step_of_this_tree():
    commands = [step["run"] for step in steps() if "run" in step]
    assert len(commands) > 5
    used = set()
    for command in commands:
        called = re.fullmatch(r'\.ci/step ([a-z]+)( "\$[A-Z]+")*', command)
        assert called is not None, command
        used.add(called.group(1))
    assert used == known_steps()


def test_every_step_is_run_here_too():
    everything = (ROOT / ".ci" / "run").read_text("utf-8")
    here = set(re.findall(r"^\.ci/step ([a-z]+)", everything, re.M))
    assert here | set(RUN_ELSEWHERE) == known_steps()
    assert "pytest" in everything
    assert '-m "soak or release"' in everything


def test_foreign_actions_are_named_by_their_content_and_no_token_is_kept():
    for step in steps():
        if "uses" in step:
            assert re.fullmatch(r"actions/[a-z-]+@[0-9a-f]{40}", step["uses"]), step
        if step.get("uses", "").startswith("actions/checkout@"):
            assert step["with"]["persist-credentials"] is False


def test_a_job_may_write_nothing_but_its_provenance_and_ends():
    for name, job in jobs():
        assert job["timeout-minutes"] <= 120, name
        rights = {right for right, value in job["permissions"].items() if value == "write"}
        allowed = {"id-token", "attestations"} if name.startswith("release") else set()
        assert rights <= allowed, name


def test_pythons_and_systems_are_those_that_the_guide_promises():
    matrices = {name: job["strategy"]["matrix"] for name, job in jobs() if "strategy" in job}
    tried = matrices["checks: tests"]
    assert {"ubuntu-latest", "windows-latest"} == set(tried["system"])
    assert tried["python"] == ["3.10", "3.11", "3.12", "3.13"]
    for name in ("checks: runtime", "release: wheels"):
        assert matrices[name]["python"] == [*tried["python"], "3.14"]


@pytest.mark.skipif(sys.platform == "win32", reason="another bash may come first there")
@pytest.mark.parametrize("word", ["", "nothing"])
def test_an_unknown_step_lists_the_known(word):
    done = subprocess.run(
        ["bash", STEP, *word.split()], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert all(f".ci/step {name}" in done.stderr or f"| {name}" in done.stderr
               for name in known_steps())  # fmt: skip
