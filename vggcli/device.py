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
    """The device called `name`. Raises UsageError for an unknown name, MachineError for a device that is not there."""
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda", torch.cuda.current_device())
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    kind, _, index = name.partition(":")
    if kind not in ("cpu", "cuda", "mps") or (index and not (index.isdecimal() and kind == "cuda")):
        raise UsageError(f"there is no device {name!r}; give auto, cpu, cuda, cuda:1 or mps")
    if kind == "cuda" and int(index or 0) >= (count := torch.cuda.device_count()):
        raise MachineError(f"there is no device {name}: this machine has {count} CUDA device(s); try auto", "device")
    if kind == "mps" and not torch.backends.mps.is_available():
        raise MachineError("there is no device mps on this machine; try auto", "device")
    return torch.device(kind, int(index or 0)) if kind == "cuda" else torch.device(kind)


def ready_device(name: str) -> torch.device:
    """As `pick_device`; where it is the CPU, this process is also told to keep the memory that it frees."""
    device = pick_device(name)
    if device.type == "cpu":
        keep_freed_memory()
    return device


def pick_dtype(precision: Precision, device: torch.device) -> torch.dtype:
    """The dtype of a precision: `auto` is bfloat16 on a CUDA device that supports it, float32 elsewhere."""
    if precision != "auto":
        return _DTYPES[precision]
    fast = device.type == "cuda" and torch.cuda.is_bf16_supported()
    return torch.bfloat16 if fast else torch.float32


def autocast(device: torch.device, dtype: torch.dtype) -> contextlib.AbstractContextManager[object]:
    """Autocast to `dtype`; for float32 the same context manager, disabled."""
    return torch.autocast(device.type, dtype=None if dtype == torch.float32 else dtype, enabled=dtype != torch.float32)


def keep_freed_memory() -> None:
    """Let glibc keep the memory of freed tensors for the next ones, for a process that runs networks on a CPU. By default
    large blocks go back to the system, which clears them page by page when they are asked for again: that takes a fifth
    of the time of a forward pass, and more on large images. Does nothing with another C library."""
    if sys.platform == "linux" and hasattr(ctypes.CDLL(None), "mallopt"):
        library = ctypes.CDLL(None)
        library.mallopt(M_MMAP_MAX, 0)
        library.mallopt(M_TRIM_THRESHOLD, -1)
