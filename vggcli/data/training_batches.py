"""Training views from image files to micro-batches on the device, and the colour statistics of a training set.

Shapes: N images, H and W pixels, C = 3 channels in the order RGB.
"""

from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from vggcli.boxes import Region, share_inside, to_view
from vggcli.choices import Decode
from vggcli.colour import ColourStatistics, pixel_moments
from vggcli.data.decode import ImageError, read_image
from vggcli.data.decode_on_device import CodedJpeg, coded_jpeg, cropped_on_device, device_views, prepared_ahead, stacked
from vggcli.data.sources import ImageSet
from vggcli.data.test_views import rescaled_size
from vggcli.data.to_device import on_device
from vggcli.data.training_views import Pixels, box_share, draw_view, drawn_box, training_pixels, view_generator
from vggcli.data.workers import chunked, loaded
from vggcli.progress import Progress, silent
from vggcli.ranks import share_of

DECODED_AHEAD = 2  # micro-batches whose views a device makes ahead
STATISTICS_IMAGES = 10_000  # at most, evenly spaced in the training set, for its colour statistics
LEARNT_SHARE = 0.5  # of a box that is in the view, at least; OverFeat's choice, the paper does not say
STATISTICS_SIDE = 128  # pixels of the shorter side of these, at most


@dataclass(frozen=True)
class Position:
    """A micro-batch of a step of an epoch: the rows `start` to `stop` of the step's `size` images, of which `done` are done
    with it. Where several processes share a step, these count the others' micro-batches at the same time too, and `start`
    to `stop` may be empty."""

    epoch: int
    step: int
    start: int
    stop: int
    size: int
    done: int

    @property
    def is_empty(self) -> bool:
        return self.start == self.stop

    @property
    def ends_step(self) -> bool:
        return self.done == self.size


@dataclass(frozen=True)
class TrainingBatch:
    """A micro-batch of training views: uint8 [N, crop, crop, 3], labels int64 [N], flips bool [N] and colour shifts
    float32 [N, 3] in 0 to 255; where boxes are learnt, the box of each view float32 [N, 4] (cxcywh in the view's frame)
    and whether at least half of it is in the view, bool [N], without which it is not learnt from."""

    images_NHWC: Tensor
    labels_N: Tensor
    flips_N: Tensor
    shifts_NC: Tensor
    boxes_N4: Tensor | None = None
    learnt_N: Tensor | None = None

    def map(self, function: Callable[[Tensor], Tensor]) -> "TrainingBatch":
        """The batch with `function` applied to its tensors except the flips, which stay on the host."""
        names = ("images_NHWC", "labels_N", "shifts_NC", "boxes_N4", "learnt_N")
        return replace(self, **{name: function(one) for name in names if (one := getattr(self, name)) is not None})


def empty_batch(crop: int, boxes: bool, device: torch.device) -> TrainingBatch:
    """A micro-batch without an image, for a process that has none while others have one."""
    images, flips = torch.empty(0, crop, crop, 3, dtype=torch.uint8, device=device), torch.empty(0, dtype=torch.bool)
    labels, shifts = torch.empty(0, dtype=torch.int64, device=device), torch.empty(0, 3, device=device)
    if not boxes:
        return TrainingBatch(images, labels, flips, shifts)
    return TrainingBatch(images, labels, flips, shifts, torch.empty(0, 4, device=device), flips.to(device))


def steps_an_epoch(images: int, batch_size: int) -> int:
    """The number of steps; every image is used once in an epoch, and the last step may have fewer images."""
    return -(-images // batch_size)


@dataclass(frozen=True)
class Schedule:
    """Every micro-batch from the epoch and step `start` to the end of the last of `epochs`; can be iterated repeatedly. Of
    `world` processes each has one at a time, of `micro_batch` images or fewer, and this is the one of `rank`: the rows that
    all of them have at one time are consecutive, and dealt evenly."""

    images: int
    batch_size: int
    micro_batch: int
    epochs: int
    start: tuple[int, int] = (0, 0)
    rank: int = 0
    world: int = 1

    def __iter__(self) -> Iterator[Position]:
        first_epoch, first_step = self.start
        for epoch in range(first_epoch, self.epochs):
            for step in range(first_step if epoch == first_epoch else 0, steps_an_epoch(self.images, self.batch_size)):
                size = min(self.batch_size, self.images - step * self.batch_size)
                for begin in range(0, size, self.micro_batch * self.world):
                    end = min(begin + self.micro_batch * self.world, size)
                    mine = share_of(end - begin, self.rank, self.world)
                    yield Position(epoch, step, begin + mine.start, begin + mine.stop, size, end)


def epoch_order(images: int, seed: int, epoch: int) -> Tensor:
    """The order of the images in an epoch, int64: a permutation that depends only on seed and epoch."""
    generator = torch.Generator().manual_seed((seed * 1_000_003 + epoch) % 2**63)
    return torch.randperm(images, generator=generator)


def tasks(schedule: Schedule, seed: int) -> Iterator[list[tuple[int, int]]]:
    """The (epoch, image index) pairs of each micro-batch of `schedule`; empty lists are left out."""
    epoch, order = -1, torch.empty(0)
    for place in schedule:
        if place.epoch != epoch:
            epoch, order = place.epoch, epoch_order(schedule.images, seed, place.epoch)
        first = place.step * schedule.batch_size
        if not place.is_empty:
            yield [(epoch, index) for index in order[first + place.start : first + place.stop].tolist()]


@dataclass(frozen=True)
class _Coded:
    """A micro-batch whose views a device makes: for each of its `tasks` the JPEG, or a view where there is none, and the
    region of the view; and the `batch` without them."""

    tasks: list[tuple[int, int]]
    sources: list[CodedJpeg | Pixels]
    regions: list[Region]
    batch: TrainingBatch


def _training_batch(
    images: ImageSet,
    colour: ColourStatistics,
    scale: tuple[int, int],
    crop: int,
    seed: int,
    decode: Decode,
    tasks: list[tuple[int, int]],
) -> TrainingBatch | _Coded | ImageError:
    sources, views, boxes = list[CodedJpeg | Pixels](), [], []
    for epoch, index in tasks:
        path, draw = images.path(index), view_generator(seed, epoch, index)
        try:
            if decode == "gpu" and (jpeg := coded_jpeg(path, at_least=scale[1])) is not None:
                sources.append(jpeg)
                views.append(draw_view(draw, jpeg.reduced, scale, crop))
            else:
                pixels, view = training_pixels(path, draw, scale, crop)
                sources.append(pixels)
                views.append(view)
        except ImageError as error:
            return error
        if images.sizes:
            boxes.append(box_share(drawn_box(images.own_boxes(index), seed, epoch, index), images.sizes[index]))
    labels = torch.tensor([images.labels[index] for _, index in tasks])
    shifts = torch.from_numpy(colour.shifts([view.alphas for view in views])).float()
    flips_N, regions = torch.tensor([view.flip for view in views]), [view.region for view in views]
    batch = TrainingBatch(torch.empty(0, dtype=torch.uint8), labels, flips_N, shifts)
    if images.sizes:
        boxes_N4 = to_view(torch.tensor(boxes), torch.tensor(regions), flips_N)
        batch = replace(batch, boxes_N4=boxes_N4, learnt_N=share_inside(boxes_N4) >= LEARNT_SHARE)
    if decode == "gpu":
        return _Coded(tasks, sources, regions, batch)
    return replace(batch, images_NHWC=torch.from_numpy(np.stack(cast("list[Pixels]", sources))))


def _finished(
    images: ImageSet,
    scale: tuple[int, int],
    crop: int,
    seed: int,
    device: torch.device,
    coded: _Coded | ImageError,
) -> list[TrainingBatch | ImageError]:
    """The micro-batch on `device`; a JPEG that it refuses is read here."""
    if isinstance(coded, ImageError):
        return [coded]
    places = [place for place, source in enumerate(coded.sources) if isinstance(source, CodedJpeg)]
    regions = [coded.regions[place] for place in places]
    jpegs = [source for source in coded.sources if isinstance(source, CodedJpeg)]
    made = device_views(jpegs, device, lambda image_CHW, place: cropped_on_device(image_CHW, regions[place], crop))
    views: list[Pixels | Tensor] = []
    for (epoch, index), source in zip(coded.tasks, coded.sources, strict=True):
        view = next(made) if isinstance(source, CodedJpeg) else source
        try:
            draw = view_generator(seed, epoch, index)
            views.append(training_pixels(images.path(index), draw, scale, crop)[0] if view is None else view)
        except ImageError as error:
            return [error]
    return [replace(coded.batch.map(lambda tensor: tensor.to(device)), images_NHWC=stacked(views, device))]


def training_batches(
    images: ImageSet,
    colour: ColourStatistics,
    scale: tuple[int, int],
    crop: int,
    seed: int,
    schedule: Schedule,
    workers: int,
    device: torch.device,
    decode: Decode = "cpu",
) -> Generator[TrainingBatch, None, None]:
    """The micro-batches of `schedule` on `device`; of images with checked boxes, the boxes of the views too. With `decode`
    "gpu", JPEGs are decoded and resampled there (which a CPU can do too). Raises ImageError at the first image that cannot
    be used."""
    work = partial(_training_batch, images, colour, scale, crop, seed, decode)
    with closing(loaded(work, tasks(schedule, seed), workers)) as results:
        if decode == "gpu":
            finish = partial(_finished, images, scale, crop, seed, device)
            with closing(prepared_ahead(results, finish, device, DECODED_AHEAD)) as batches:
                yield from _without_errors(batches)
        else:
            yield from on_device(_without_errors(results), device)


def colour_statistics(images: ImageSet, side: int, workers: int, progress: Progress = silent) -> ColourStatistics:
    """The colour statistics of a training set, rescaled to a shorter side of `side` pixels (at most 128); of more than
    10,000 images, 10,000 evenly spaced ones are used. Raises ImageError at the first image that cannot be used."""
    count, total = min(len(images), STATISTICS_IMAGES), np.zeros(13)
    chunks = list(chunked(rank * len(images) // count for rank in range(count)))
    sums = loaded(partial(_moments, images, min(side, STATISTICS_SIDE)), chunks, workers)
    with closing(sums), progress("colour statistics", count, "images") as bar:
        for chunk, one in zip(chunks, _without_errors(sums), strict=True):
            total += one
            bar(len(chunk))
    return ColourStatistics.from_moments(total)


def _moments(images: ImageSet, side: int, indices: list[int]) -> NDArray[np.float64] | ImageError:
    total = np.zeros(13)
    for index in indices:
        try:
            image = read_image(images.path(index), at_least=side)
        except ImageError as error:
            return error
        small = image.resize(rescaled_size(image.size, side), Image.Resampling.BILINEAR)
        total += pixel_moments(np.asarray(small))
    return total


def _without_errors(items: Iterable[Any]) -> Iterator[Any]:
    for item in items:
        if isinstance(item, ImageError):
            raise item
        yield item
