"""The commands of the documents, and a place to type them in."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
GUIDES = ("README.md", "runtime/GUIDE.md", "export/GUIDE.md", "bench/GUIDE.md")


@dataclass(frozen=True, slots=True)
class Block:
    """The commands of one ```sh block, under the mark `<!-- mark -->` if it has one."""

    mark: str
    commands: tuple[str, ...]


def blocks(document: str) -> Iterator[Block]:
    """Find the blocks of a document, their comments taken off and their lines joined."""
    text = (ROOT / document).read_text(encoding="utf-8")
    for mark, lines in re.findall(r"(?:<!-- ([a-z ]+) -->\n)?```sh\n(.*?)```", text, re.S):
        whole = lines.replace("\\\n", " ").splitlines()
        commands = (re.sub(r"(^|\s+)# .*", "", line) for line in whole)
        yield Block(mark, tuple(command for command in commands if command))


def python_examples(document: str) -> list[str]:
    """Return the ```python blocks of a document."""
    text = (ROOT / document).read_text(encoding="utf-8")
    return re.findall(r"```python\n(.*?)```", text, re.S)


def marked(mark: str) -> tuple[str, ...]:
    """Return the commands of the first block with a mark."""
    return next(b.commands for document in GUIDES for b in blocks(document) if b.mark == mark)


def type_in(script: str, folder: Path, env: Mapping[str, str] | None = None, *before: str) -> str:
    """Run commands as a shell does, with the tools installed here; return what they said."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        [*before, "bash", "-euc", script],
        cwd=folder, env=env or {**os.environ, "PATH": path}, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=900, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"{script}\n{done.stdout[-2000:]}{done.stderr[-3000:]}"
    return done.stdout


def need_network() -> None:
    if len(socket.if_nameindex()) < 2:
        pytest.skip("no network to fetch wheels from")


def checkout(folder: Path) -> Path:
    """Copy what a user has who downloaded the project, to install from it."""
    need_network()
    leave = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info", "build", "tests")
    return Path(shutil.copytree(ROOT, folder, ignore=leave))
