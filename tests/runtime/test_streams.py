"""Order, look-ahead, errors and early close of the only threads."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import closing

import pytest

from gliorun.measuring.streams import map_ahead


def our_threads() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name.startswith("map_ahead")]


def test_results_keep_the_order_of_the_items():
    def slow_at_first(item: int) -> int:
        time.sleep(0.02 if item % 4 == 0 else 0)
        return item * 10

    with closing(map_ahead(slow_at_first, range(20), threads=4, ahead=8)) as results:
        assert list(results) == [item * 10 for item in range(20)]


@pytest.mark.parametrize("ahead", [1, 3, 7])
def test_never_takes_more_than_ahead_items_early(ahead):
    taken = 0

    def items() -> Iterator[int]:
        nonlocal taken
        for item in range(30):
            taken += 1
            yield item

    with closing(map_ahead(lambda item: item, items(), threads=2, ahead=ahead)) as results:
        for received in results:
            assert taken <= received + ahead
    assert taken == 30


def test_uses_several_threads_at_once_and_no_more_than_asked():
    meet = threading.Barrier(3, timeout=5)
    names = set()

    def wait_for_the_others(_: int) -> None:
        names.add(threading.current_thread().name)
        meet.wait()

    list(map_ahead(wait_for_the_others, range(9), threads=3, ahead=6))
    assert len(names) == 3


def test_raises_at_the_item_that_failed():
    def fail_at_five(item: int) -> int:
        if item == 5:
            raise KeyError(item)
        return item

    received = []
    with (
        pytest.raises(KeyError, match="5"),
        closing(map_ahead(fail_at_five, range(10), threads=3, ahead=4)) as results,
    ):
        received.extend(iter(results))
    assert received == [0, 1, 2, 3, 4]
    assert our_threads() == []


def test_an_error_of_the_items_surfaces_and_leaves_no_thread():
    def items() -> Iterator[int]:
        yield 1
        raise OSError("source is gone")

    with pytest.raises(OSError, match="source is gone"):
        list(map_ahead(lambda item: item, items(), threads=2, ahead=4))
    assert our_threads() == []


def test_closing_early_cancels_what_waits_and_leaves_no_thread():
    started = []

    def slow(item: int) -> int:
        started.append(item)
        time.sleep(0.05)
        return item

    with closing(map_ahead(slow, range(1000), threads=2, ahead=50)) as results:
        assert next(results) == 0
    assert our_threads() == []
    assert len(started) < 50


def test_no_items_give_no_results():
    assert list(map_ahead(str, [], threads=2, ahead=2)) == []
