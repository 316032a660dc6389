"""Locks on files and folders, which the system lets go of with the process that holds them: none is ever stale.

They are not passed on to processes that are forked. Windows and some network disks have none of this kind.
"""

import os
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_held: set[int] = set()


class Busy(Exception):
    """Somebody else holds the lock."""


def lock(path: Path, create: bool = False) -> int | None:
    """Hold the file or folder at `path` until `let_go` of what is returned, or the end of this process; `create` makes a
    file that is not there, and follows no link. None where the system has no locks. Raises Busy, and OSError where `path`
    cannot be opened."""
    if fcntl is None:
        return None
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW if create else os.O_RDONLY, 0o666)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        raise Busy from None
    except OSError:  # a disk without locks
        os.close(handle)
        return None
    if not _is_at(handle, path):  # whoever held it has removed it since
        os.close(handle)
        return lock(path, create)
    _held.add(handle)
    return handle


def _is_at(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False


def let_go(handle: int | None) -> None:
    """End what `lock` began."""
    if handle in _held:
        _held.discard(handle)
        os.close(handle)


def _forked() -> None:
    """In a child: close what the parent holds, which does not free it, so that it is free when the parent ends."""
    for handle in _held:
        os.close(handle)
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
