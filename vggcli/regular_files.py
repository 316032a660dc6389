"""Checks that a path is a regular file before it is opened: a FIFO would wait forever, a device may have side effects."""

import re
import stat
from pathlib import Path

from vggcli.errors import UsageError, VGGError

KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a FIFO"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def need_local(given: Path | str) -> None:
    """Raises UsageError for a URL, also one with a slash lost in being made a path."""
    scheme = re.match(r"([a-z][a-z0-9+]+):/+(?=.)", str(given), re.IGNORECASE)
    if scheme:
        url = f"{scheme[1]}://{str(given)[scheme.end() :]}"
        raise UsageError(f"{url} is a URL, and those are not read; download it first, and name the file or folder")


def irregular(path: Path | str) -> str | None:
    """What `path` is, such as "a FIFO", if it exists and is not a regular file (links are followed); otherwise None."""
    try:
        mode = Path(path).stat().st_mode
    except (OSError, ValueError):
        return None
    return None if stat.S_ISREG(mode) else next((name for holds, name in KINDS if holds(mode)), "something else")


def need_regular(path: Path | str, error: type[VGGError]) -> None:
    """Raises `error` if `path` exists and is not a regular file."""
    kind = irregular(path)
    if kind is not None:
        raise error(f"{path} is {kind}, not a regular file, so it is not opened; name a file instead")
