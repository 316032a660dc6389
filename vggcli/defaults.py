"""Defaults from the user's environment variables and the machine, for which only this file and the command line ask."""

import os
import sys
from pathlib import Path

from vggcli.errors import MachineError
from vggcli.places import Places

OWN_FILES, WORKER_FILES = 16, 6  # files that are open at once: in this process, and for each worker


def user_places() -> Places:
    """The folder `runs` in the current folder, this program's cache in the user's, and the data that $VGG_DATA names."""
    base = os.environ.get("XDG_CACHE_HOME") or os.environ.get("LOCALAPPDATA") or Path.home() / ".cache"
    return Places(Path("runs"), Path(base) / "vgg", os.environ.get("VGG_DATA") or None)


def convolution() -> str | None:
    """How $VGG_CONVOLUTION says that 3x3 convolutions are computed: compiled or torch; None where it does not say."""
    return os.environ.get("VGG_CONVOLUTION") or None


def worker_count(workers: int | None, processes: int = 1) -> int:
    """`workers`, or where it is None one for each core, of which this process has its share of so many `processes`, as far
    as the limit of open files allows. Raises MachineError where that limit does not allow `workers`."""
    try:
        import resource

        limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        allowed = sys.maxsize if limit == resource.RLIM_INFINITY else max(0, limit - OWN_FILES) // WORKER_FILES
    except ImportError:  # Windows has no such limit
        allowed = sys.maxsize
    if workers is None:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        return min(max(1, cores // processes), allowed)
    if workers > allowed:
        advice = f"raise it with `ulimit -n`, or use at most {allowed} workers"
        files = OWN_FILES + workers * WORKER_FILES
        raise MachineError(f"{workers} workers need {files} open files, more than the limit; {advice}", "workers")
    return workers
