"""From image files to batches on the device: decoding in worker processes, pinned memory and a copy stream.

Workers send uint8 pixels and nothing else that is large; the floating-point work is done on the device, a batch at a
time. What a worker cannot decode comes back as an ImageError in place of the image, so the caller decides.

Shapes: N images, H and W pixels, C = 3 channels in the order RGB.
"""

import os
import signal
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from vggcli.data.augment import ColourStatistics, Pixels, pixel_moments, training_pixels, view_generator
from vggcli.data.decode import ImageError, read_image
from vggcli.data.sources import ImageSet
from vggcli.data.views import ViewPlan, rescaled_size, rescaled_views

CHUNK = 16  # images that a worker sends at a time, where the batch is put together later
PENDING_BYTES = 256 << 20  # of test views waiting for others of their shape
STATISTICS_IMAGES = 10_000  # colour statistics of a larger set rest on that many, spread evenly
STATISTICS_SIDE = 128  # pixels of the shorter side they are taken at, at most


@dataclass(frozen=True)
class Position:
    """Where a micro-batch stands: its rows `start` to `stop` of the `size` images of a step of an epoch."""

    epoch: int
    step: int
    start: int
    stop: int
    size: int

    @property
    def ends_step(self) -> bool:
        return self.stop == self.size


@dataclass(frozen=True)
class TrainingBatch:
    """A micro-batch of training views: uint8 [N, crop, crop, 3], labels int64 [N], flips bool [N] and colour shifts
    float32 [N, 3] in 0 to 255."""

    images_NHWC: Tensor
    labels_N: Tensor
    flips_N: Tensor
    shifts_NC: Tensor

    def map(self, function: Callable[[Tensor], Tensor]) -> "TrainingBatch":
        return TrainingBatch(*(function(t) for t in (self.images_NHWC, self.labels_N, self.flips_N, self.shifts_NC)))


@dataclass(frozen=True)
class ViewBatch:
    """Test views of one shape: uint8 [N, H, W, 3], the image each is of, and the index of their scale in the plan."""

    images_NHWC: Tensor
    indices: tuple[int, ...]
    scale_index: int

    def map(self, function: Callable[[Tensor], Tensor]) -> "ViewBatch":
        return ViewBatch(function(self.images_NHWC), self.indices, self.scale_index)


def steps_an_epoch(images: int, batch_size: int) -> int:
    """Every image is used once an epoch; the last step may hold fewer."""
    return -(-images // batch_size)


@dataclass(frozen=True)
class Schedule:
    """Every micro-batch from epoch and step `start` to the end of the last of `epochs`; can be gone through again."""

    images: int
    batch_size: int
    micro_batch: int
    epochs: int
    start: tuple[int, int] = (0, 0)

    def __iter__(self) -> Iterator[Position]:
        first_epoch, first_step = self.start
        for epoch in range(first_epoch, self.epochs):
            for step in range(first_step if epoch == first_epoch else 0, steps_an_epoch(self.images, self.batch_size)):
                size = min(self.batch_size, self.images - step * self.batch_size)
                for begin in range(0, size, self.micro_batch):
                    yield Position(epoch, step, begin, min(begin + self.micro_batch, size), size)


def epoch_order(images: int, seed: int, epoch: int) -> list[int]:
    """The order of the images in an epoch: a permutation that depends on seed and epoch alone."""
    generator = torch.Generator().manual_seed((seed * 1_000_003 + epoch) % 2**63)
    order: list[int] = torch.randperm(images, generator=generator).tolist()
    return order


class _Tasks:
    """The batch sampler of the training loader: for each micro-batch the (epoch, image) pairs it uses."""

    def __init__(self, schedule: Schedule, seed: int) -> None:
        self.schedule, self.seed = schedule, seed

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        epoch, order = -1, list[int]()
        for place in self.schedule:
            if place.epoch != epoch:
                epoch, order = place.epoch, epoch_order(self.schedule.images, self.seed, place.epoch)
            first = place.step * self.schedule.batch_size
            yield [(epoch, index) for index in order[first + place.start : first + place.stop]]


@dataclass(frozen=True)
class _TrainingViews(Dataset[Any]):
    images: ImageSet
    colour: ColourStatistics
    scale: tuple[int, int]
    crop: int
    seed: int

    def __getitems__(self, tasks: list[tuple[int, int]]) -> TrainingBatch | ImageError:
        pixels, flips, shifts = [], [], []
        for epoch, index in tasks:
            draw = view_generator(self.seed, epoch, index)
            try:
                image, view = training_pixels(self.images.path(index), draw, self.scale, self.crop)
            except ImageError as error:
                return error
            pixels.append(image)
            flips.append(view.flip)
            shifts.append(self.colour.shift(view.alphas))
        labels = torch.tensor([self.images.labels[index] for _, index in tasks])
        return TrainingBatch(torch.from_numpy(np.stack(pixels)), labels, torch.tensor(flips), torch.tensor(shifts))


@dataclass(frozen=True)
class _TestViews(Dataset[Any]):
    images: ImageSet
    plan: ViewPlan

    def __getitems__(self, indices: list[int]) -> list[ViewBatch | ImageError]:
        """The views of some images, those of one scale and shape stacked."""
        groups: dict[tuple[int, tuple[int, ...]], list[tuple[int, Pixels]]] = defaultdict(list)
        results: list[ViewBatch | ImageError] = []
        for index in indices:
            try:
                views = rescaled_views(self.images.path(index), self.plan)
            except ImageError as error:
                results.append(error)
                continue
            for scale_index, view in enumerate(views):
                groups[scale_index, view.shape].append((index, view))
        for (scale_index, _), members in groups.items():
            stacked = torch.from_numpy(np.stack([view for _, view in members]))
            results.append(ViewBatch(stacked, tuple(index for index, _ in members), scale_index))
        return results


@dataclass(frozen=True)
class _Moments(Dataset[Any]):
    images: ImageSet
    side: int

    def __getitems__(self, indices: list[int]) -> NDArray[np.float64] | ImageError:
        total = np.zeros(13)
        for index in indices:
            try:
                image = read_image(self.images.path(index), at_least=self.side)
            except ImageError as error:
                return error
            small = image.resize(rescaled_size(image.size, self.side), Image.Resampling.BILINEAR)
            total += pixel_moments(np.asarray(small))
        return total


def training_batches(
    images: ImageSet,
    colour: ColourStatistics,
    scale: tuple[int, int],
    crop: int,
    seed: int,
    schedule: Schedule,
    workers: int,
    device: torch.device,
) -> Iterator[TrainingBatch]:
    """The micro-batches of `schedule`, in order, on `device`. Workers run ahead over the ends of epochs.

    Raises ImageError at the first image that cannot be used.
    """
    views = _TrainingViews(images, colour, scale, crop, seed)
    loaded = _loaded(views, _Tasks(schedule, seed), workers)
    for batch in _on_device(_without_errors(loaded), device):
        assert isinstance(batch, TrainingBatch)
        yield batch


def test_batches(
    images: ImageSet, plan: ViewPlan, rows: Callable[[int, int], int], workers: int, device: torch.device
) -> Iterator[ViewBatch | ImageError]:
    """Every view of every image once, in batches of one shape on `device`: `rows(height, width)` of them, fewer at the
    end or where too many shapes wait. An image that cannot be used comes as its ImageError."""
    order = range(len(images))
    chunks = [list(order[first : first + CHUNK]) for first in range(0, len(images), CHUNK)]
    loaded = _loaded(_TestViews(images, plan), chunks, workers)
    return _on_device(_gathered((item for chunk in loaded for item in chunk), rows), device)


test_batches.__test__ = False  # type: ignore[attr-defined]  # not a test, whatever its name says


def colour_statistics(images: ImageSet, side: int, workers: int) -> ColourStatistics:
    """Of a training set seen at a shorter side of `side` pixels (at most 128); of a set of over 10,000 images, 10,000
    spread evenly. Raises ImageError at the first image that cannot be used."""
    stride = max(1, len(images) // STATISTICS_IMAGES)
    order = range(0, len(images), stride)
    chunks = [list(order[first : first + CHUNK]) for first in range(0, len(order), CHUNK)]
    loaded = _loaded(_Moments(images, min(side, STATISTICS_SIDE)), chunks, workers)
    return ColourStatistics.from_moments(np.sum(list(_without_errors(loaded)), axis=0))


def _without_errors(items: Iterable[Any]) -> Iterator[Any]:
    for item in items:
        if isinstance(item, ImageError):
            raise item
        yield item


def _loaded(dataset: Dataset[Any], batches: Iterable[Any], workers: int) -> Iterator[Any]:
    """What `dataset` makes of each of `batches`, in order, computed ahead by `workers` processes."""
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


def _start_worker(worker: int) -> None:
    """Ctrl-C is for the main process, which saves first; on a busy machine the network has precedence."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(os, "nice"):
        os.nice(10)


def _gathered(
    items: Iterable[ViewBatch | ImageError], rows: Callable[[int, int], int]
) -> Iterator[ViewBatch | ImageError]:
    """Small groups of one shape, joined to batches; memory stays bounded however many shapes there are."""
    waiting: dict[tuple[int, int, int], list[ViewBatch]] = defaultdict(list)
    pending = 0
    for item in items:
        if isinstance(item, ImageError):
            yield item
            continue
        height, width = item.images_NHWC.shape[1:3]
        key = (item.scale_index, height, width)
        waiting[key].append(item)
        pending += item.images_NHWC.nbytes
        size = max(1, rows(height, width))
        while sum(len(group.indices) for group in waiting[key]) >= size:
            full, rest = _split(_joined(waiting.pop(key)), size)
            pending -= full.images_NHWC.nbytes
            yield full
            if rest.indices:
                waiting[key] = [rest]
        if pending > PENDING_BYTES:
            largest = max(waiting, key=lambda other: sum(group.images_NHWC.nbytes for group in waiting[other]))
            flushed = _joined(waiting.pop(largest))
            pending -= flushed.images_NHWC.nbytes
            yield flushed
    for groups in waiting.values():
        if groups:
            yield _joined(groups)


def _joined(groups: list[ViewBatch]) -> ViewBatch:
    if len(groups) == 1:
        return groups[0]
    indices = tuple(index for group in groups for index in group.indices)
    return ViewBatch(torch.cat([group.images_NHWC for group in groups]), indices, groups[0].scale_index)


def _split(batch: ViewBatch, size: int) -> tuple[ViewBatch, ViewBatch]:
    images, indices, scale_index = batch.images_NHWC, batch.indices, batch.scale_index
    return (
        ViewBatch(images[:size], indices[:size], scale_index),
        ViewBatch(images[size:], indices[size:], scale_index),
    )


def _on_device(batches: Iterable[Any], device: torch.device) -> Iterator[Any]:
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
