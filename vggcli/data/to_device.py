"""Copies batches to the device, one ahead of their consumer: with pinned memory and a copy stream on CUDA."""

import itertools
from collections.abc import Iterable, Iterator
from typing import Any

import torch

from vggcli.data.decode import ImageError


def on_device(batches: Iterable[Any], device: torch.device) -> Iterator[Any]:
    """The batches with their tensors on `device`, one ahead of the consumer. On CUDA each batch is pinned and copied on a
    stream of its own while the previous one is used, elsewhere without one. ImageErrors are passed on unchanged."""
    stream = torch.cuda.Stream(device) if device.type == "cuda" else None

    def send(batch: Any) -> tuple[Any, torch.cuda.Event | None]:
        if isinstance(batch, ImageError):
            return batch, None
        if stream is None:
            return batch.map(lambda tensor: tensor.to(device)), None
        with torch.cuda.stream(stream):
            return batch.map(lambda tensor: tensor.pin_memory().to(device, non_blocking=True)), stream.record_event()

    ahead = None
    for sent in itertools.chain(map(send, batches), (None,)):
        if ahead is not None:
            yield arrived(*ahead, device)
        ahead = sent


def arrived(batch: Any, copied: torch.cuda.Event | None, device: torch.device) -> Any:
    """A batch that another stream put on `device`, once the current stream waits for the event after that."""
    if copied is not None:
        current = torch.cuda.current_stream(device)
        current.wait_event(copied)
        batch.map(lambda tensor: tensor.record_stream(current) or tensor)
    return batch
