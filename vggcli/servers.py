"""Servers that are asked within a time limit, whatever part of the network is slow."""

import queue
import threading
from collections.abc import Callable
from typing import Any, TypeVar

_T = TypeVar("_T")


def within(seconds: float, ask: Callable[[], _T]) -> _T:
    """What `ask` returns or raises, within `seconds`: in a thread of its own, because looking up a name keeps to no time
    limit. Raises TimeoutError where there is nothing by then; the thread is left to end by itself."""
    answers: queue.Queue[tuple[Any, Exception | None]] = queue.Queue()

    def answer() -> None:
        try:
            answers.put((ask(), None))
        except Exception as error:  # handed to the thread that waits
            answers.put((None, error))

    threading.Thread(target=answer, daemon=True).start()
    try:
        found, error = answers.get(timeout=seconds)
    except queue.Empty:
        raise TimeoutError("no answer") from None
    if error is not None:
        raise error
    return found  # type: ignore[no-any-return]
