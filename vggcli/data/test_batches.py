"""Test views from image files to batches of one shape on the device, whatever the shapes of the images.

An image that a worker cannot decode is returned as its ImageError, so that the caller decides what to do.

Shapes: N images, H and W pixels, C = 3 channels in the order RGB.
"""

import itertools
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor

from vggcli.choices import Decode
from vggcli.data.decode import ImageError, Origin, decode_image
from vggcli.data.decode_on_device import (
    CodedJpeg,
    coded_jpeg,
    device_views,
    prepared_ahead,
    rescaled_on_device,
    stacked,
)
from vggcli.data.test_views import ViewPlan, check_views, rescaled_views
from vggcli.data.to_device import on_device
from vggcli.data.training_views import Pixels
from vggcli.data.workers import chunked, loaded

PENDING_BYTES = 256 << 20  # of views that wait for others of their shape
DECODED_AHEAD = 8  # chunks of images whose views a device makes ahead


class Images(Protocol):
    """Any list of images that knows where each of them is."""

    def __len__(self) -> int: ...

    def path(self, index: int) -> Origin: ...


@dataclass(frozen=True)
class ViewBatch:
    """Test views of one shape: uint8 [N, H, W, 3], the index of the image of each, the index of their scale in the plan,
    and how many of them are the first view of an image that EXIF orientation turned."""

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
    decode: Decode = "cpu",
) -> Iterator[ViewBatch | ImageError]:
    """Every view of every image once, in batches of one shape on `device`: `rows(height, width)` views in each, or fewer at
    the end and where too many shapes wait. For an image that cannot be used, its ImageError is yielded.

    `order` selects images. With `block`, the images k*block to (k+1)*block-1 share no batch with others and are finished
    before the next ones, so results for them depend on nothing else. With `decode` "gpu", JPEGs are decoded and rescaled on
    `device` (which a CPU can do too).
    """
    order, size = range(len(images)) if order is None else order, block or max(1, len(images))
    blocks = itertools.groupby(order, lambda index: index // size)
    chunks = (chunk for _, indices in blocks for chunk in chunked(indices))
    work: Callable[[Images, ViewPlan, Sequence[int]], list[Any]] = _coded_views if decode == "gpu" else _test_views
    with closing(loaded(partial(work, images, plan), chunks, workers)) as results:
        if decode == "gpu":
            finish = partial(_finished, images, plan, device)
            with closing(prepared_ahead(results, finish, device, DECODED_AHEAD)) as items:
                yield from _gathered(items, rows, size)
        else:
            yield from on_device(_gathered((item for chunk in results for item in chunk), rows, size), device)


test_batches.__test__ = False  # type: ignore[attr-defined]  # not a test, whatever its name says


@dataclass(frozen=True)
class _Read:
    """The views of an image, each uint8 [H, W, 3], and whether EXIF turned it."""

    index: int
    views: Sequence[Pixels | Tensor]
    turned: bool


@dataclass(frozen=True)
class _Coded:
    """A JPEG that a device makes the views of."""

    index: int
    jpeg: CodedJpeg


def _test_views(images: Images, plan: ViewPlan, indices: Sequence[int]) -> list[ViewBatch | ImageError]:
    """The views of some images, those of one scale and shape stacked."""
    return _stacked([_read(images, plan, index) for index in indices], torch.device("cpu"))


def _coded_views(images: Images, plan: ViewPlan, indices: Sequence[int]) -> list[_Read | _Coded | ImageError]:
    """What `_finished` makes the views of some images from."""
    return [_read(images, plan, index, coded=True) for index in indices]


def _finished(
    images: Images, plan: ViewPlan, device: torch.device, chunk: Sequence[_Read | _Coded | ImageError]
) -> list[ViewBatch | ImageError]:
    """As `_test_views`, on `device`; a JPEG that it refuses is read here."""
    jpegs = [one.jpeg for one in chunk if isinstance(one, _Coded)]
    made = device_views(jpegs, device, lambda image_CHW, _: rescaled_on_device(image_CHW, plan))
    done = []
    for one in chunk:
        if isinstance(one, _Coded):
            views = next(made)
            turned = one.jpeg.orientation > 1
            done.append(_read(images, plan, one.index) if views is None else _Read(one.index, views, turned))
        else:
            done.append(one)
    return _stacked(done, device)


def _read(images: Images, plan: ViewPlan, index: int, coded: bool = False) -> Any:
    """An image as `_Read`, or its ImageError; with `coded`, a JPEG that a device can decode as `_Coded`."""
    place = images.path(index)
    try:
        if coded and (jpeg := coded_jpeg(place)) is not None:
            check_views(place, jpeg.size, plan)
            return _Coded(index, jpeg)
        image, turned = decode_image(place)
        return _Read(index, rescaled_views(place, image, plan), turned)
    except ImageError as error:
        return ImageError(error.path, error.reason, index)


def _stacked(several: Sequence[_Read | ImageError], device: torch.device) -> list[ViewBatch | ImageError]:
    groups: dict[tuple[int, tuple[int, ...]], list[tuple[int, Pixels | Tensor]]] = defaultdict(list)
    results: list[ViewBatch | ImageError] = []
    turned = set()
    for one in several:
        if isinstance(one, ImageError):
            results.append(one)
            continue
        turned |= {one.index} if one.turned else set()
        for scale_index, view in enumerate(one.views):
            groups[scale_index, tuple(view.shape)].append((one.index, view))
    for (scale_index, _), members in groups.items():
        views_NHWC = stacked([view for _, view in members], device)
        those = tuple(index for index, _ in members)
        results.append(ViewBatch(views_NHWC, those, scale_index, 0 if scale_index else len(turned & {*those})))
    return results


def _gathered(
    items: Iterable[ViewBatch | ImageError], rows: Callable[[int, int], int], block: int
) -> Iterator[ViewBatch | ImageError]:
    """Small groups of one shape, joined to batches; memory is bounded for any number of shapes."""
    waiting: dict[tuple[int, int, int], list[ViewBatch]] = defaultdict(list)
    pending, current = 0, None
    for item in items:
        first = item.index if isinstance(item, ImageError) else item.indices[0]
        assert first is not None
        if first // block != current:
            yield from map(_joined, waiting.values())
            waiting.clear()
            pending, current = 0, first // block
        if isinstance(item, ImageError):
            yield item
            continue
        height, width = item.images_NHWC.shape[1:3]
        key = (item.scale_index, height, width)
        waiting[key].append(item)
        pending += item.images_NHWC.nbytes
        size = max(1, rows(height, width))
        while sum(len(group.indices) for group in waiting.get(key, ())) >= size:
            whole = _joined(waiting.pop(key))
            full_NHWC, rest_NHWC = whole.images_NHWC[:size], whole.images_NHWC[size:]
            pending -= full_NHWC.nbytes
            yield ViewBatch(full_NHWC, whole.indices[:size], whole.scale_index, whole.turned)
            if len(rest_NHWC):  # what was turned is counted with the first views
                waiting[key] = [ViewBatch(rest_NHWC, whole.indices[size:], whole.scale_index)]
        if pending > PENDING_BYTES:
            largest = max(waiting, key=lambda other: sum(group.images_NHWC.nbytes for group in waiting[other]))
            flushed = _joined(waiting.pop(largest))
            pending -= flushed.images_NHWC.nbytes
            yield flushed
    yield from map(_joined, waiting.values())


def _joined(groups: list[ViewBatch]) -> ViewBatch:
    if len(groups) == 1:
        return groups[0]
    indices = tuple(index for group in groups for index in group.indices)
    images_NHWC = torch.cat([group.images_NHWC for group in groups])
    return ViewBatch(images_NHWC, indices, groups[0].scale_index, sum(group.turned for group in groups))
