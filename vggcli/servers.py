"""A time limit for requests to servers, whatever part of the network is slow."""

import queue
import threading
from collections.abc import Callable
from typing import Any, TypeVar

_T = TypeVar("_T")


def within(seconds: float, ask: Callable[[], _T]) -> _T:
    """What `ask` returns or raises, in a thread of its own, because looking up a host name has no time limit. Raises
    TimeoutError if there is no answer within `seconds`; the thread is then left to end by itself."""
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
