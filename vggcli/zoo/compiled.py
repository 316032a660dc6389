"""The compiled kernels of `winograd.c`: found where the package was built with a C compiler, and run on as many threads as
torch uses. Not in the paper.

No torch is imported here, so that `vgg --version` can say which instruction set it is for.
"""

import ctypes
import os
import struct
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from vggcli.errors import MachineError, UsageError

INTERFACE = 3  # of winograd.c; both are raised with every change of what is passed between the two files
_Pointer, _Size = ctypes.c_void_p, ctypes.c_int64


def _record(name: str, pointers: str, sizes: str) -> type[ctypes.Structure]:
    """A record of winograd.c: its pointers, then its numbers."""
    fields = [(one, _Pointer) for one in pointers.split()] + [(one, _Size) for one in sizes.split()]
    return type(name, (ctypes.Structure,), {"_fields_": fields})


Convolution = _record(
    "Convolution",
    "maps filters bias result scratch",
    "images height width channels outputs relu pool block panels scratch_size threads task",
)
Gradient = _record(
    "Gradient", "maps gradients matrix result scratch", "images height width channels outputs chunk task done"
)
Packing = _record("Packing", "weights matrix filters", "channels outputs channel_step output_step down across task")
Linear = _record(
    "Linear", "maps weights bias result scratch", "rows depth outputs band group scratch_size threads task"
)
_FUNCTIONS = ("convolve", "convolve_few", "pack", "filter_gradient", "linear")


class _KernelSet(ctypes.Structure):
    _fields_ = [
        ("name", ctypes.c_char_p),
        *((name, _Size) for name in ("lanes", "sums", "panel")),
        *((name, _Pointer) for name in _FUNCTIONS),
    ]


@dataclass(frozen=True, eq=False)
class Kernels:
    """The functions for one instruction set. `lanes` are the floats of a vector, `sums` the vectors that are in registers
    and `panel` those of a row of them. Each function takes a record, and many threads may call it with the same one."""

    name: str
    lanes: int
    sums: int
    panel: int
    convolve: Callable[[Any], None]
    convolve_few: Callable[[Any], None]
    pack: Callable[[Any], None]
    filter_gradient: Callable[[Any], None]
    linear: Callable[[Any], None]


@cache
def kernel_sets() -> tuple[Kernels, ...]:
    """Those that this processor can run, the widest first; none where the package was built without a C compiler, for
    another system, or from another state of its source."""
    found = find_spec("vggcli.zoo._winograd")
    if found is None or found.origin is None:
        return ()
    try:
        if not _is_whole(Path(found.origin)):
            return ()
        library = ctypes.CDLL(found.origin)
        interface = _Size.in_dll(library, "interface").value
    except (OSError, ValueError):
        return ()
    if interface != INTERFACE:
        return ()
    library.kernel_set.restype, library.kernel_set.argtypes = ctypes.POINTER(_KernelSet), [_Size]
    return tuple(_sets(library))


def _is_whole(library: Path) -> bool:
    """Whether an ELF library, as Linux has them, is as long as its header says: using one that is cut short kills the
    process. Of other formats, True."""
    with library.open("rb") as file:
        header = file.read(64)
    if not header.startswith(b"\x7fELF\x02\x01"):
        return True
    offset, (size, count) = (
        struct.unpack_from("<Q", header.ljust(64), 40)[0],
        struct.unpack_from("<HH", header.ljust(64), 58),
    )
    return bool(library.stat().st_size >= offset + size * count)


def _sets(library: ctypes.CDLL) -> Iterator[Kernels]:
    index = 0
    while kernels := library.kernel_set(index):
        one = kernels.contents
        prototype = ctypes.CFUNCTYPE(None, _Pointer)  # a call of it releases Python's lock
        functions = {name: prototype(getattr(one, name)) for name in _FUNCTIONS}
        yield Kernels(one.name.decode(), one.lanes, one.sums, one.panel, **functions)
        index += 1


_in_use: list[Kernels | None] = []  # chosen at the first convolution, or by `choose`


def choose(way: str | None) -> None:
    """Let 3x3 convolutions in float32 on a CPU be "compiled" or by "torch" from now on; None picks what is there.

    Raises UsageError for another name, MachineError where the compiled kernels are not there.
    """
    if way not in (None, "compiled", "torch"):
        raise UsageError(f"VGG_CONVOLUTION is {way!r}; give compiled or torch, or leave it out")
    found = () if way == "torch" else kernel_sets()
    if way == "compiled" and not found:
        raise MachineError(
            "VGG_CONVOLUTION asks for the compiled convolution, which this installation does not have, or has of another "
            "state of the source; install a C compiler, then vggcli again, or leave it out"
        )
    _in_use[:] = [found[0] if found else None]


def kernels_in_use() -> Kernels | None:
    """The compiled kernels that convolutions in float32 on a CPU use; None where PyTorch computes them."""
    if not _in_use:
        choose(None)
    return _in_use[0]


def run_on_threads(work: Callable[[Any], None], record: ctypes.Structure, threads: int, keep: Sequence[object]) -> None:
    """Call `work` with `record` in `threads` threads, this one among them, until all have returned. They are those torch
    computes with, whose idle waiting would slow others down, or where these cannot be reached Python's own. `keep` holds
    the memory that the record points to, until all are done with it, even where an exception ends the wait."""
    address, parallel = ctypes.addressof(record), _torch_threads()
    if threads == 1:
        work(address)
    elif parallel is not None:
        parallel(ctypes.cast(work, _Pointer), address, threads, 0)  # type: ignore[arg-type]
    else:
        others = [_pool(threads - 1).submit(_held, work, record, keep) for _ in range(threads - 1)]
        work(address)
        for other in others:
            other.result()


@cache
def _torch_threads() -> Callable[..., None] | None:
    """GNU OpenMP's function that runs another in all threads of a team, of the very library that torch has loaded: it is
    found among what torch's own library needs. None where torch was built with another OpenMP."""
    torch = find_spec("torch")
    assert torch is not None and torch.origin is not None
    try:
        parallel: Any = ctypes.CDLL(str(Path(torch.origin).parent / "lib" / "libtorch_cpu.so")).GOMP_parallel
    except (OSError, AttributeError):
        return None
    parallel.restype, parallel.argtypes = None, [_Pointer, _Pointer, ctypes.c_uint, ctypes.c_uint]
    return parallel  # type: ignore[no-any-return]


def _held(work: Callable[[Any], None], record: ctypes.Structure, keep: Sequence[object]) -> None:
    work(ctypes.addressof(record))


_pools: dict[tuple[int, int], ThreadPoolExecutor] = {}  # by process, since threads do not outlive a fork, and size


def _pool(threads: int) -> ThreadPoolExecutor:
    key = (os.getpid(), threads)
    if key not in _pools:
        _pools.clear()
        _pools[key] = ThreadPoolExecutor(threads, "vgg-convolution")
    return _pools[key]
