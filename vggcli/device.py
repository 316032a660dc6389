"""Where a network runs and in which precision."""

import ctypes
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from vggcli.choices import Precision
from vggcli.errors import MachineError, UsageError

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of glibc's malloc.h
AMPERE = (8, 0)  # the first compute capability with bfloat16 and TF32
_HALVES = {"bf16": torch.bfloat16, "fp16": torch.float16}


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
    if kind == "cuda":
        return torch.device(kind, int(index) if index else torch.cuda.current_device())
    return torch.device(kind)


def ready_device(name: str) -> torch.device:
    """As `pick_device`; where it is the CPU, this process is also told to keep the memory that it frees."""
    device = pick_device(name)
    if device.type == "cpu":
        keep_freed_memory()
    return device


def pick_precision(precision: Precision, device: torch.device) -> Precision:
    """What a precision is on `device`: `auto` is bf16 on a CUDA device from Ampere on and fp32 elsewhere; `tf32` is fp32
    where there is no TF32."""
    ampere = device.type == "cuda" and torch.cuda.get_device_capability(device) >= AMPERE
    if precision == "auto":
        return "bf16" if ampere else "fp32"
    return "fp32" if precision == "tf32" and not ampere else precision


@contextmanager
def computing(device: torch.device, precision: Precision, fixed: bool = False) -> Iterator[None]:
    """What a forward pass runs in: `products`, and with bf16 or fp16 autocast to it. A backward pass runs in `products`
    alone."""
    half = _HALVES.get(precision)
    with products(precision, fixed), torch.autocast(device.type, half, enabled=half is not None):
        yield


def low_precision(maps: Tensor) -> torch.dtype | None:
    """The dtype that autocast asks for on the CPU, for maps that are there; else None."""
    asked = maps.device.type == "cpu" and torch.is_autocast_enabled("cpu")
    return torch.get_autocast_dtype("cpu") if asked else None


@contextmanager
def products(precision: Precision, fixed: bool = False) -> Iterator[None]:
    """How CUDA computes convolutions and matrix products of float32: with `tf32` in TF32, whose fractions have 10 bits,
    else in float32 throughout. PyTorch's own default is TF32 for convolutions and float32 for matrix products.

    cuDNN takes algorithms that give the same bits every time, by the shapes alone; with `fixed` (few shapes, each many
    times) the fastest of them as measured, and another process may then measure another. What the process had set is
    set again at the end."""
    cudnn = torch.backends.cudnn
    before = cudnn.benchmark, cudnn.deterministic
    cudnn.benchmark, cudnn.deterministic = fixed, True
    try:
        with _tf32(precision == "tf32"):
            yield
    finally:
        cudnn.benchmark, cudnn.deterministic = before


@contextmanager
def _tf32(allowed: bool) -> Iterator[None]:
    """Allow or forbid TF32 by PyTorch's older switches and by the newer ones, which then agree: parts of torch.compile read
    the older ones, and fail where they do not."""
    backends: Any = torch.backends
    places = (backends.cudnn, backends.cudnn.conv, backends.cuda.matmul, backends.mkldnn.matmul)
    values = [place.fp32_precision for place in places]
    with _without_warnings():
        older = _older(torch.get_float32_matmul_precision, "highest"), _older(lambda: backends.cudnn.allow_tf32, True)
        backends.cudnn.allow_tf32 = backends.cuda.matmul.allow_tf32 = allowed
    if not allowed:
        backends.cudnn.fp32_precision = "ieee"
    try:
        yield
    finally:
        with _without_warnings():
            torch.set_float32_matmul_precision(older[0])
            backends.cudnn.allow_tf32 = older[1]
        for place, value in zip(places, values, strict=True):
            place.fp32_precision = "none"
            if place.fp32_precision != value:  # which it does not follow from a wider setting
                place.fp32_precision = value


@contextmanager
def _without_warnings() -> Iterator[None]:
    """For the older switches, of which some versions of PyTorch warn."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _older(read: Callable[[], Any], default: Any) -> Any:
    """What an older switch says; where a newer one was set, and it cannot be read, its `default`."""
    try:
        return read()
    except RuntimeError:
        return default


def keep_freed_memory() -> None:
    """Let glibc keep the memory of freed tensors for the next ones, for a process that runs networks on a CPU. By default
    large blocks go back to the system, which clears them page by page when they are asked for again: that takes a fifth
    of the time of a forward pass, and more on large images. Does nothing with another C library."""
    if sys.platform == "linux" and hasattr(ctypes.CDLL(None), "mallopt"):
        library = ctypes.CDLL(None)
        library.mallopt(M_MMAP_MAX, 0)
        library.mallopt(M_TRIM_THRESHOLD, -1)
