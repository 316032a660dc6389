"""Files that must not change: checks that read a whole file, done only once as long as it stays the same, and reading that
ends in an error where it does not."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache, wraps
from pathlib import Path
from typing import TypeVar

from vggcli.errors import WeightsError
from vggcli.files import file_sha256

_T = TypeVar("_T")
SETTLED = 2.0  # seconds after which any change of a file shows in its time, on any file system


def once(check: Callable[[Path], _T]) -> Callable[[Path], _T]:
    """`check`, whose result for a file is kept until its size, time or inode changes; errors are not kept."""

    @lru_cache
    def kept(path: Path, _stamp: tuple[int, ...]) -> _T:
        return check(path)

    @wraps(check)
    def checked(path: Path) -> _T:
        if time.time() - path.stat().st_mtime < SETTLED:
            return check(path)
        return kept(path, _stamp(path))

    return checked


def _stamp(path: Path) -> tuple[int, ...]:
    """What any change of a file, or another file in its place, changes; empty where there is none."""
    try:
        about = path.stat()
    except FileNotFoundError:
        return ()
    return about.st_dev, about.st_ino, about.st_size, about.st_mtime_ns


@contextmanager
def unchanged(path: Path) -> Iterator[None]:
    """Raises WeightsError where the file is written to, or another takes its place, before the block ends."""
    before = _stamp(path)
    yield
    if _stamp(path) != before:
        raise WeightsError(f"{path} has changed while it was read; try again when it is finished")


weights_sha256 = once(file_sha256)
