"""Whether a path is a regular file, asked before anything is opened: to open a FIFO waits for ever, and to open a device
may do something. Any room may ask."""

import stat
from pathlib import Path

from vggcli.errors import VGGError

KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a FIFO"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def irregular(path: Path | str) -> str | None:
    """What is at `path` where that is there and no regular file ("a FIFO"), links followed; else None."""
    try:
        mode = Path(path).stat().st_mode
    except (OSError, ValueError):
        return None
    return None if stat.S_ISREG(mode) else next((name for holds, name in KINDS if holds(mode)), "no file")


def need_regular(path: Path | str, error: type[VGGError]) -> None:
    """Raises `error` where something is at `path` that is no regular file; what is not there is for the caller to say."""
    kind = irregular(path)
    if kind is not None:
        raise error(f"{path} is {kind}, not a regular file, so it is not opened; give a file")
