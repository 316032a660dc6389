"""How the library reports what it does: notes to a logger, and progress to a function that its caller passes in."""

import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

LOG = logging.getLogger("vggcli")  # DEBUG: progress; INFO: what was picked or left out, or is odd
# Called with a title, a total and its unit ("images"); gives a context manager to call with how many more are done.
Progress = Callable[[str, int, str], AbstractContextManager[Callable[[int], None]]]


@contextmanager
def silent(title: str, total: int, unit: str) -> Iterator[Callable[[int], None]]:
    """A `Progress` that shows nothing."""
    yield lambda more: None
