"""Worker processes that decode, and the way of their batches to the device: pinned memory and a copy stream on CUDA.

Workers send uint8 pixels and nothing else that is large; the floating-point work is done on the device, a batch at a time.
"""

import ctypes
import os
import signal
import sys
import warnings
from collections.abc import Generator, Iterable, Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from vggcli.data.decode import ImageError


def loaded(dataset: Dataset[Any], batches: Iterable[Any], workers: int) -> Generator[Any, None, None]:
    """What `dataset` makes of each of `batches`, in order, computed ahead by `workers` processes. To be closed where it
    is used: an error's traceback would keep the processes until the interpreter takes things apart, in any order."""
    if workers:
        _give_back_freed_memory()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch has an opinion on more workers than cores; the user asked for them
        loader = DataLoader(
            dataset,
            batch_sampler=batches,
            collate_fn=_as_is,
            num_workers=workers,
            worker_init_fn=_start_worker,
            prefetch_factor=4 if workers else None,
        )
        iterator = iter(loader)
    yield from iterator


def _as_is(batch: Any) -> Any:
    return batch


def _give_back_freed_memory() -> None:
    """What glibc keeps of freed memory, back to the system: once workers are forked, it would be copied page by page
    when it is used again, which takes far longer than to ask for it anew."""
    if sys.platform == "linux" and hasattr(ctypes.CDLL(None), "malloc_trim"):
        ctypes.CDLL(None).malloc_trim(0)


def _start_worker(worker: int) -> None:
    """Ctrl-C is for the main process, which saves first; on a busy machine the network has precedence."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # not what the main process does about it
    if hasattr(os, "nice"):
        os.nice(10)


def on_device(batches: Iterable[Any], device: torch.device) -> Iterator[Any]:
    """The batches with their tensors on `device`, one ahead of the consumer. On CUDA each is pinned and copied on a
    stream of its own while the one before it is computed; elsewhere the same path runs without a stream."""
    stream = torch.cuda.Stream(device) if device.type == "cuda" else None

    def send(batch: Any) -> tuple[Any, torch.cuda.Event | None]:
        if isinstance(batch, ImageError):
            return batch, None
        if stream is None:
            return batch.map(lambda tensor: tensor.to(device)), None
        with torch.cuda.stream(stream):
            return batch.map(lambda tensor: tensor.pin_memory().to(device, non_blocking=True)), stream.record_event()

    def arrived(batch: Any, copied: torch.cuda.Event | None) -> Any:
        if copied is not None:
            current = torch.cuda.current_stream(device)
            current.wait_event(copied)
            batch.map(lambda tensor: tensor.record_stream(current) or tensor)
        return batch

    ahead: tuple[Any, torch.cuda.Event | None] | None = None
    for batch in batches:
        sent = send(batch)
        if ahead is not None:
            yield arrived(*ahead)
        ahead = sent
    if ahead is not None:
        yield arrived(*ahead)
