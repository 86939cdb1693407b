"""Run each contestant in its own process, so that its time, memory and start-up are separate."""

from __future__ import annotations

import multiprocessing
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any, Protocol

from gliobench import machine
from gliorun.errors import GlioError

Opener = Callable[..., Callable[..., Any]]
"""Opens a contestant and returns a function for one turn; module-level, so it can be pickled."""

READY, DONE, FAULT, BUG = "ready", "done", "fault", "bug"
LAST_WORDS_S = 20


@dataclass(frozen=True, slots=True)
class Turn:
    """One turn: its clock time, the CPU time of all threads, and its result."""

    seconds: float
    cpu_s: float
    value: Any


class Contestant(Protocol):
    """An object that can be measured in turns."""

    @property
    def name(self) -> str: ...

    def turn(self, *arguments: Any) -> Turn: ...


def take_turns(
    contestants: Sequence[Contestant],
    rounds: int,
    *arguments: Any,
    say: Callable[[str], None] = lambda line: None,
) -> list[list[Turn]]:
    """Give every contestant one turn per round, and return the turns of each.

    So a drift in the speed of the machine affects all alike.
    """
    turns: list[list[Turn]] = [[] for _ in contestants]
    for number in range(rounds):
        say(f"round {number + 1}/{rounds}")
        for contestant, taken in zip(contestants, turns, strict=True):
            taken.append(contestant.turn(*arguments))
    return turns


class Worker:
    """A contestant in a process of its own, idle between its turns.

    `start_s` is from the start of the process until it is ready: imports, loading, compiling.
    `peak_bytes` is the most memory that it had held at its end, None where it is not told.

    Raises
    ------
    GlioError
        It could not be opened; so may `turn`, when the process ends early.
    """

    def __init__(self, name: str, opener: Opener, *arguments: Any) -> None:
        self.name = name
        self.peak_bytes: int | None = None
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(
            target=_serve, args=(theirs, opener, arguments), daemon=True
        )
        started = time.perf_counter()
        self._process.start()
        theirs.close()
        try:
            self._receive()
        except BaseException:
            self._kill()
            raise
        self.start_s = time.perf_counter() - started

    def turn(self, *arguments: Any) -> Turn:
        """Take one turn."""
        self._send(arguments)
        seconds, cpu_s, value = self._receive()
        return Turn(seconds, cpu_s, value)

    def close(self) -> None:
        """End the process and note its peak of memory."""
        if self._process.is_alive():
            self._send(None)
            self.peak_bytes = self._receive()
        self._process.join(LAST_WORDS_S)
        self._pipe.close()

    def __enter__(self) -> Worker:
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error_type is None:
            self.close()
        else:
            self._kill()

    def _kill(self) -> None:
        self._process.kill()
        self._process.join(LAST_WORDS_S)

    def _send(self, arguments: tuple[Any, ...] | None) -> None:
        try:
            self._pipe.send(arguments)
        except OSError as error:
            raise self._ended() from error

    def _receive(self) -> Any:
        try:
            message_kind, value = self._pipe.recv()
        except (EOFError, ConnectionError) as error:
            raise self._ended() from error
        if message_kind in (FAULT, BUG):  # the process ends after these
            self._kill()
            if message_kind == FAULT:
                raise GlioError(f"{self.name}: {value}")
            raise RuntimeError(f"{self.name}:\n{value}")
        return value

    def _ended(self) -> GlioError:
        self._process.join(LAST_WORDS_S)
        return GlioError(
            f"{self.name}: its process ended ({self._process.exitcode}); was the memory enough?"
        )


def _serve(pipe: Connection, opener: Opener, arguments: tuple[Any, ...]) -> None:
    """Open a contestant and let it take turns until told to end."""
    try:
        take_turn = opener(*arguments)
        pipe.send((READY, None))
        while (wanted := pipe.recv()) is not None:
            started, cpu_started = time.perf_counter(), time.process_time()
            value = take_turn(*wanted)
            seconds, cpu_s = time.perf_counter() - started, time.process_time() - cpu_started
            pipe.send((DONE, (seconds, cpu_s, value)))
        pipe.send((DONE, machine.peak_memory_bytes()))
    except GlioError as error:
        pipe.send((FAULT, str(error)))
    except EOFError:
        pass  # the parent process is gone
    except Exception:
        pipe.send((BUG, traceback.format_exc()))
