"""How long work says how far it has come: whoever asks for it brings a way to show that, or nothing is shown."""

import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

LOG = logging.getLogger("vggcli")  # what the library notes while it works
# A title, a total and what it counts (such as "images"), to a context that is called with how many more are done.
Progress = Callable[[str, int, str], AbstractContextManager[Callable[[int], None]]]


@contextmanager
def silent(title: str, total: int, unit: str) -> Iterator[Callable[[int], None]]:
    """A `Progress` that shows nothing."""
    yield lambda more: None
