"""Runs commands as a user whom the rights of files hold: root gives that up for good.

It reads a JSON list of commands, each a list of words, and writes what came of each: exit code,
stdout and stderr. In one process, as the imports take longer than the commands.
"""

from __future__ import annotations

import contextlib
import ctypes
import io
import json
import os
import sys

PR_CAPBSET_DROP = 24
OVERRIDES = (1, 2)
"""CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH of Linux."""


def give_up_rights() -> None:
    """Begin this program anew without root's way past the rights of files."""
    libc = ctypes.CDLL(None, use_errno=True)
    for right in OVERRIDES:
        if libc.prctl(PR_CAPBSET_DROP, right, 0, 0, 0):
            raise OSError(ctypes.get_errno(), "root cannot give up its rights here")
    os.execv(sys.executable, [sys.executable, __file__, "held"])


def outcome(words: list[str]) -> tuple[int, str, str]:
    """Run a command."""
    from glioexport import cli as export
    from gliorun import cli as runtime

    program, *arguments = words
    sys.argv = [program, *arguments]
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            {"gliorun": runtime, "glioexport": export}[program].run()
            code = 0
        except SystemExit as left:
            code = int(left.code or 0)
    return code, out.getvalue(), err.getvalue()


if __name__ == "__main__":
    if os.geteuid() == 0 and "held" not in sys.argv:
        give_up_rights()
    json.dump([outcome(words) for words in json.load(sys.stdin)], sys.__stdout__)
