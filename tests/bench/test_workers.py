"""Contestants take turns, each in its own process, and their faults come back."""

import os
import time

import pytest

from gliobench.workers import Turn, Worker, take_turns
from gliorun.errors import GlioError


class Noted:
    """A contestant that notes when it is its turn."""

    def __init__(self, name, calls):
        self.name = name
        self.calls = calls

    def turn(self, *arguments):
        self.calls.append((self.name, *arguments))
        return Turn(len(self.calls), 0.0, self.name)


def open_adder(first):
    held = [bytearray(80_000_000)]  # memory of its own

    def add(second):
        ends = time.process_time() + 0.2
        while time.process_time() < ends:
            pass
        return first + second, os.getpid(), len(held)

    return add


def open_never():
    raise GlioError("there is no model")


def open_faulty():
    def fail(kind):
        if kind == "fault":
            raise GlioError("the tile is damaged")
        if kind == "bug":
            raise ZeroDivisionError
        os._exit(9)

    return fail


def test_contestants_take_turns_round_by_round():
    calls, said = [], []
    turns = take_turns([Noted(name, calls) for name in "abc"], 2, 7, say=said.append)
    assert calls == [("a", 7), ("b", 7), ("c", 7)] * 2
    assert [[turn.seconds for turn in of_one] for of_one in turns] == [[1, 4], [2, 5], [3, 6]]
    assert said == ["round 1/2", "round 2/2"]


def test_a_worker_computes_elsewhere_and_tells_what_it_took():
    with Worker("adder", open_adder, 2) as worker:
        turn = worker.turn(3)
    total, process, _ = turn.value
    assert total == 5
    assert process != os.getpid()
    assert turn.cpu_s >= 0.2  # its own clock, burned in the turn
    assert turn.seconds >= 0.1
    assert worker.start_s > 0
    assert worker.peak_bytes is None or worker.peak_bytes > 80e6


def test_a_worker_that_cannot_be_opened_says_why():
    with pytest.raises(GlioError, match="mine: there is no model"):
        Worker("mine", open_never)


@pytest.mark.parametrize(
    ("kind", "error", "message"),
    [
        ("fault", GlioError, "mine: the tile is damaged"),
        ("bug", RuntimeError, "ZeroDivisionError"),
        ("killed", GlioError, r"mine: its process ended \(9\)"),
    ],
)
def test_what_goes_wrong_in_a_worker_comes_back(kind, error, message):
    with pytest.raises(error, match=message), Worker("mine", open_faulty) as worker:
        worker.turn(kind)
    assert not worker._process.is_alive()
