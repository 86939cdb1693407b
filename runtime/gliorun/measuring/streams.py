"""The only threads of the pipeline."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

A = TypeVar("A")
B = TypeVar("B")


def map_ahead(
    function: Callable[[A], B], items: Iterable[A], *, threads: int, ahead: int
) -> Generator[B]:
    """Yield `function(item)` for each item, in order, computed up to `ahead` early.

    An error surfaces at its item. Hold the generator with `contextlib.closing`: closing it
    cancels what is pending and waits for the threads.
    """
    with ThreadPoolExecutor(threads, thread_name_prefix="map_ahead") as pool:
        pending: deque[Future[B]] = deque()
        try:
            for item in items:
                pending.append(pool.submit(function, item))
                if len(pending) >= ahead:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()
