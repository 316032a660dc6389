"""What is taken where nobody says: the user's folders and the number of processes. Only this file and the command line read
the environment."""

import os
import sys
from pathlib import Path

from vggcli.errors import MachineError
from vggcli.places import Places

OWN_FILES, WORKER_FILES = 16, 6  # open at once: by this process, and for each that decodes


def user_places() -> Places:
    """The folder `runs` here, the user's cache for this program, and the data that $VGG_DATA names."""
    base = os.environ.get("XDG_CACHE_HOME") or os.environ.get("LOCALAPPDATA")
    return Places(
        Path("runs"), (Path(base) if base else Path.home() / ".cache") / "vgg", os.environ.get("VGG_DATA") or None
    )


def worker_count(workers: int | None) -> int:
    """`workers`, or one for each core this process may use, but no more than open files allow. Raises MachineError where
    these do not allow `workers`."""
    allowed = allowed_workers()
    if workers is None:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        return min(cores, allowed)
    if workers > allowed:
        raise MachineError(
            f"{workers} workers need {OWN_FILES + workers * WORKER_FILES} open files, and the limit is below that; "
            f"raise it with `ulimit -n`, or give at most {allowed}",
            "workers",
        )
    return workers


def allowed_workers() -> int:
    """How many decoding processes the limit of open files (`ulimit -n`) allows."""
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return sys.maxsize
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return sys.maxsize if limit == resource.RLIM_INFINITY else max(0, limit - OWN_FILES) // WORKER_FILES
