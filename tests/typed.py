"""Type a command in this process: a process of its own takes seconds to import its libraries."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from subprocess import CompletedProcess


def here(command: Callable[[], None], *words: object) -> CompletedProcess[str]:
    """Run a command, as `gliorun.cli.run`, with these words; a bug raises what it raises."""
    out, err, before, code = StringIO(), StringIO(), sys.argv, 0
    sys.argv = [command.__module__.partition(".")[0], *map(str, words)]
    try:
        with redirect_stdout(out), redirect_stderr(err):
            command()
    except SystemExit as left:
        code = int(left.code or 0)
    finally:
        sys.argv = before
    return CompletedProcess(words, code, out.getvalue(), err.getvalue())
