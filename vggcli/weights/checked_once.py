"""Checks that read a whole file, done only once as long as the file does not change."""

import time
from collections.abc import Callable
from functools import lru_cache, wraps
from pathlib import Path
from typing import TypeVar

_T = TypeVar("_T")
SETTLED = 2.0  # seconds after which any change of a file shows in its time, on any file system


def once(check: Callable[[Path], _T]) -> Callable[[Path], _T]:
    """`check`, whose result for a file is kept until its size, time or inode changes; errors are not kept."""

    @lru_cache
    def kept(path: Path, _stamp: tuple[int, ...]) -> _T:
        return check(path)

    @wraps(check)
    def checked(path: Path) -> _T:
        about = path.stat()
        if time.time() - about.st_mtime < SETTLED:
            return check(path)
        return kept(path, (about.st_dev, about.st_ino, about.st_size, about.st_mtime_ns))

    return checked
