"""Test views from image files to batches of one shape on the device, whatever the shapes of the images.

What a worker cannot decode comes back as an ImageError in place of the image, so the caller decides.

Shapes: N images, H and W pixels, C = 3 channels in the order RGB.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from vggcli.data.decode import ImageError, Origin, decode_image
from vggcli.data.test_views import ViewPlan, rescaled_views
from vggcli.data.to_device import on_device
from vggcli.data.training_views import Pixels
from vggcli.data.workers import loaded

CHUNK = 16  # images that a worker sends at a time
PENDING_BYTES = 256 << 20  # of views waiting for others of their shape


class Images(Protocol):
    """What views are taken of: any list of images that says where each is."""

    def __len__(self) -> int: ...

    def path(self, index: int) -> Origin: ...


@dataclass(frozen=True)
class ViewBatch:
    """Test views of one shape: uint8 [N, H, W, 3], the image each is of, the index of their scale in the plan, and how
    many of them are the first view of an image that EXIF had turned."""

    images_NHWC: Tensor
    indices: tuple[int, ...]
    scale_index: int
    turned: int = 0

    def map(self, function: Callable[[Tensor], Tensor]) -> "ViewBatch":
        return replace(self, images_NHWC=function(self.images_NHWC))


def test_batches(
    images: Images,
    plan: ViewPlan,
    rows: Callable[[int, int], int],
    workers: int,
    device: torch.device,
    order: Sequence[int] | None = None,
    block: int | None = None,
) -> Iterator[ViewBatch | ImageError]:
    """Every view of every image once, in batches of one shape on `device`: `rows(height, width)` of them, fewer at the
    end or where too many shapes wait. An image that cannot be used comes as its ImageError.

    `order` takes some of the images alone. With `block`, images k*block to (k+1)*block-1 share no batch with others and
    come whole before the next, so that what is made of them depends on nothing else.
    """
    order, block = range(len(images)) if order is None else order, block or max(1, len(images))
    chunks = _chunks(order, block)
    with closing(loaded(_TestViews(images, plan), chunks, workers)) as results:
        yield from on_device(_gathered((item for chunk in results for item in chunk), rows, block), device)


test_batches.__test__ = False  # type: ignore[attr-defined]  # not a test, whatever its name says


def _chunks(order: Sequence[int], block: int) -> list[Sequence[int]]:
    """What a worker sends at a time; never of two blocks."""
    chunks: list[Sequence[int]] = []
    start = 0
    for stop in range(1, len(order) + 1):
        if stop == len(order) or stop - start == CHUNK or order[stop] // block != order[start] // block:
            chunks.append(order[start:stop])
            start = stop
    return chunks


@dataclass(frozen=True)
class _TestViews:
    images: Images
    plan: ViewPlan

    def __call__(self, indices: Sequence[int]) -> list[ViewBatch | ImageError]:
        """The views of some images, those of one scale and shape stacked."""
        groups: dict[tuple[int, tuple[int, ...]], list[tuple[int, Pixels]]] = defaultdict(list)
        results: list[ViewBatch | ImageError] = []
        turned = set()
        for index in indices:
            place = self.images.path(index)
            try:
                image, was_turned = decode_image(place)
                views = rescaled_views(place, image, self.plan)
            except ImageError as error:
                results.append(ImageError(error.path, error.reason, index))
                continue
            turned |= {index} if was_turned else set()
            for scale_index, view in enumerate(views):
                groups[scale_index, view.shape].append((index, view))
        for (scale_index, _), members in groups.items():
            stacked = torch.from_numpy(np.stack([view for _, view in members]))
            those = tuple(index for index, _ in members)
            count = len(turned & set(those)) if scale_index == 0 else 0
            results.append(ViewBatch(stacked, those, scale_index, count))
        return results


def _gathered(
    items: Iterable[ViewBatch | ImageError], rows: Callable[[int, int], int], block: int
) -> Iterator[ViewBatch | ImageError]:
    """Small groups of one shape, joined to batches; memory stays bounded however many shapes there are."""
    waiting: dict[tuple[int, int, int], list[ViewBatch]] = defaultdict(list)
    pending, current = 0, None
    for item in items:
        first = item.index if isinstance(item, ImageError) else item.indices[0]
        assert first is not None
        if first // block != current:
            yield from _emptied(waiting)
            pending, current = 0, first // block
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
    yield from _emptied(waiting)


def _emptied(waiting: dict[tuple[int, int, int], list[ViewBatch]]) -> Iterator[ViewBatch]:
    for groups in waiting.values():
        if groups:
            yield _joined(groups)
    waiting.clear()


def _joined(groups: list[ViewBatch]) -> ViewBatch:
    if len(groups) == 1:
        return groups[0]
    indices = tuple(index for group in groups for index in group.indices)
    images_NHWC = torch.cat([group.images_NHWC for group in groups])
    return ViewBatch(images_NHWC, indices, groups[0].scale_index, sum(group.turned for group in groups))


def _split(batch: ViewBatch, size: int) -> tuple[ViewBatch, ViewBatch]:
    """The first `size` views, and the rest; what was turned is counted with the first."""
    images, indices, scale_index = batch.images_NHWC, batch.indices, batch.scale_index
    return (
        ViewBatch(images[:size], indices[:size], scale_index, batch.turned),
        ViewBatch(images[size:], indices[size:], scale_index),
    )
