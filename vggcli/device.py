"""Where a network runs and in which precision."""

import contextlib
import ctypes
import sys

import torch

from vggcli.choices import Precision
from vggcli.errors import MachineError, UsageError

PRECISIONS: tuple[Precision, ...] = ("auto", "fp32", "bf16", "fp16")
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of glibc's malloc.h
_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def pick_device(name: str) -> torch.device:
    """The device that `auto`, `cpu`, `cuda`, `cuda:1` or `mps` means. Raises MachineError where it is not there."""
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda", torch.cuda.current_device())
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    kind, _, index = name.partition(":")
    if kind not in ("cpu", "cuda", "mps") or (index and not index.isdecimal()) or (index and kind != "cuda"):
        raise UsageError(f"there is no device {name!r}; give auto, cpu, cuda, cuda:1 or mps")
    if kind == "cuda" and int(index or 0) >= torch.cuda.device_count():
        count = torch.cuda.device_count()
        raise MachineError(f"there is no device {name}: this machine has {count} CUDA device(s); try --device auto")
    if kind == "mps" and not torch.backends.mps.is_available():
        raise MachineError("there is no device mps on this machine; try --device auto")
    return torch.device(kind, int(index or 0)) if kind == "cuda" else torch.device(kind)


def compute_device(name: str) -> torch.device:
    """As `pick_device`, with this process made ready for work there."""
    device = pick_device(name)
    if device.type == "cpu":
        keep_freed_memory()
    return device


def pick_dtype(precision: Precision, device: torch.device) -> torch.dtype:
    """The type of the heavy arithmetic: `auto` is bfloat16 on a CUDA device that has it, float32 elsewhere."""
    if precision != "auto":
        return _DTYPES[precision]
    fast = device.type == "cuda" and torch.cuda.is_bf16_supported()
    return torch.bfloat16 if fast else torch.float32


def autocast(device: torch.device, dtype: torch.dtype) -> contextlib.AbstractContextManager[object]:
    """Heavy arithmetic in `dtype`; for float32 the same path, switched off."""
    return torch.autocast(device.type, dtype=None if dtype == torch.float32 else dtype, enabled=dtype != torch.float32)


def keep_freed_memory() -> None:
    """For a process whose work is networks on a CPU: let glibc keep the memory of large tensors that are freed for the next
    ones. By default it goes back to the system, which clears it page by page when it is asked for again: a fifth of
    the time of a forward pass, and more on large images. Does nothing where the C library is another."""
    if sys.platform == "linux" and hasattr(ctypes.CDLL(None), "mallopt"):
        library = ctypes.CDLL(None)
        library.mallopt(M_MMAP_MAX, 0)
        library.mallopt(M_TRIM_THRESHOLD, -1)
