"""Locks on files and folders. The system releases them when the process that holds them ends, so none is ever stale.

Forked processes do not inherit them. Windows and some network disks do not support them.
"""

import os
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_held: set[int] = set()


class Busy(Exception):
    """Another process holds the lock."""


def lock(path: Path, create: bool = False) -> int | None:
    """Lock the file or folder at `path` until `let_go` is called with the handle that this returns, or this process ends;
    None where locks are not supported. `create` makes a missing file and does not follow a link. Raises Busy where another
    process holds the lock, and OSError where `path` cannot be opened."""
    if fcntl is None:
        return None
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW if create else os.O_RDONLY, 0o666)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        raise Busy from None
    except OSError:  # a disk that does not support locks
        os.close(handle)
        return None
    try:
        there = os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        there = False
    if not there:  # the process that held it has removed it meanwhile
        os.close(handle)
        return lock(path, create)
    _held.add(handle)
    return handle


def let_go(handle: int | None) -> None:
    """Release the lock whose handle `lock` returned."""
    if handle in _held:
        _held.discard(handle)
        os.close(handle)


def _forked() -> None:
    """In a forked process: close its copies of the locks' handles, so that the locks end with the parent process."""
    for handle in _held:
        os.close(handle)
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
