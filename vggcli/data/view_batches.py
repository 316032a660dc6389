"""Test views from image files to batches of one shape on the device, whatever the shapes of the images.

What a worker cannot decode comes back as an ImageError in place of the image, so the caller decides.

Shapes: N images, H and W pixels, C = 3 channels in the order RGB.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from vggcli.data.augment import Pixels
from vggcli.data.decode import ImageError
from vggcli.data.sources import ImageSet
from vggcli.data.views import ViewPlan, rescaled_views
from vggcli.data.workers import loaded, on_device

CHUNK = 16  # images that a worker sends at a time
PENDING_BYTES = 256 << 20  # of views waiting for others of their shape


@dataclass(frozen=True)
class ViewBatch:
    """Test views of one shape: uint8 [N, H, W, 3], the image each is of, and the index of their scale in the plan."""

    images_NHWC: Tensor
    indices: tuple[int, ...]
    scale_index: int

    def map(self, function: Callable[[Tensor], Tensor]) -> "ViewBatch":
        return ViewBatch(function(self.images_NHWC), self.indices, self.scale_index)


def test_batches(
    images: ImageSet, plan: ViewPlan, rows: Callable[[int, int], int], workers: int, device: torch.device
) -> Iterator[ViewBatch | ImageError]:
    """Every view of every image once, in batches of one shape on `device`: `rows(height, width)` of them, fewer at the
    end or where too many shapes wait. An image that cannot be used comes as its ImageError."""
    order = range(len(images))
    chunks = [list(order[first : first + CHUNK]) for first in range(0, len(images), CHUNK)]
    results = loaded(_TestViews(images, plan), chunks, workers)
    return on_device(_gathered((item for chunk in results for item in chunk), rows), device)


test_batches.__test__ = False  # type: ignore[attr-defined]  # not a test, whatever its name says


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
