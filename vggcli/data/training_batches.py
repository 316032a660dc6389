"""Training views from image files to micro-batches on the device, and the colour statistics of a training set.

Shapes: N images, H and W pixels, C = 3 channels in the order RGB.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from vggcli.colour import ColourStatistics, pixel_moments
from vggcli.data.decode import ImageError, read_image
from vggcli.data.sources import ImageSet
from vggcli.data.test_views import rescaled_size
from vggcli.data.to_device import on_device
from vggcli.data.training_views import training_pixels, view_generator
from vggcli.data.workers import loaded
from vggcli.progress import Progress, silent

STATISTICS_IMAGES = 10_000  # colour statistics of a larger set rest on that many, spread evenly
STATISTICS_SIDE = 128  # pixels of the shorter side they are taken at, at most
STATISTICS_CHUNK = 16  # images whose sums a worker sends at a time


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
        """The batch with `function` of its tensors, the flips aside: they stay on the host, which acts on them."""
        images, labels, shifts = (function(tensor) for tensor in (self.images_NHWC, self.labels_N, self.shifts_NC))
        return TrainingBatch(images, labels, self.flips_N, shifts)


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


def tasks(schedule: Schedule, seed: int) -> Iterator[list[tuple[int, int]]]:
    """For each micro-batch of `schedule` the (epoch, image) pairs it uses."""
    epoch, order = -1, list[int]()
    for place in schedule:
        if place.epoch != epoch:
            epoch, order = place.epoch, epoch_order(schedule.images, seed, place.epoch)
        first = place.step * schedule.batch_size
        yield [(epoch, index) for index in order[first + place.start : first + place.stop]]


@dataclass(frozen=True)
class _TrainingViews:
    images: ImageSet
    colour: ColourStatistics
    scale: tuple[int, int]
    crop: int
    seed: int

    def __call__(self, tasks: list[tuple[int, int]]) -> TrainingBatch | ImageError:
        pixels, flips, alphas = [], [], []
        for epoch, index in tasks:
            draw = view_generator(self.seed, epoch, index)
            try:
                image, view = training_pixels(self.images.path(index), draw, self.scale, self.crop)
            except ImageError as error:
                return error
            pixels.append(image)
            flips.append(view.flip)
            alphas.append(view.alphas)
        labels = torch.tensor([self.images.labels[index] for _, index in tasks])
        shifts = torch.from_numpy(self.colour.shifts(alphas)).float()
        return TrainingBatch(torch.from_numpy(np.stack(pixels)), labels, torch.tensor(flips), shifts)


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
    with closing(loaded(views, tasks(schedule, seed), workers)) as batches:
        for batch in on_device(_without_errors(batches), device):
            assert isinstance(batch, TrainingBatch)
            yield batch


def colour_statistics(images: ImageSet, side: int, workers: int, progress: Progress = silent) -> ColourStatistics:
    """Of a training set seen at a shorter side of `side` pixels (at most 128); of a set of over 10,000 images, 10,000
    spread evenly. Raises ImageError at the first image that cannot be used."""
    count = min(len(images), STATISTICS_IMAGES)
    order = [rank * len(images) // count for rank in range(count)]
    chunks = [list(order[first : first + STATISTICS_CHUNK]) for first in range(0, len(order), STATISTICS_CHUNK)]
    total = np.zeros(13)
    moments = loaded(_Moments(images, min(side, STATISTICS_SIDE)), chunks, workers)
    with closing(moments), progress("colour statistics", count, "images") as bar:
        for chunk, one in zip(chunks, _without_errors(moments), strict=True):
            total += one
            bar(len(chunk))
    return ColourStatistics.from_moments(total)


@dataclass(frozen=True)
class _Moments:
    images: ImageSet
    side: int

    def __call__(self, indices: list[int]) -> NDArray[np.float64] | ImageError:
        total = np.zeros(13)
        for index in indices:
            try:
                image = read_image(self.images.path(index), at_least=self.side)
            except ImageError as error:
                return error
            small = image.resize(rescaled_size(image.size, self.side), Image.Resampling.BILINEAR)
            total += pixel_moments(np.asarray(small))
        return total


def _without_errors(items: Iterable[Any]) -> Iterator[Any]:
    for item in items:
        if isinstance(item, ImageError):
            raise item
        yield item
