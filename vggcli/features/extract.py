"""From images to rows: views in batches through the network, both mirrors at once, until an image has all its scales.

Rows come as they are finished, not in the order of the images; each with the index of its image. With a `block` of images,
a row depends on the images of its own block alone, so a block computed again is the same to the last bit.

Shapes: N images, C channels, H and W pixels or map positions, S scales.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vggcli.choices import Aggregate, Norm, Pool
from vggcli.colour import ColourStatistics, normalise
from vggcli.data.decode import ImageError
from vggcli.data.test_batches import Images, ViewBatch, test_batches
from vggcli.data.test_views import ViewPlan
from vggcli.device import autocast
from vggcli.errors import DataError, UsageError, WeightsError
from vggcli.features.layer_maps import LayerOutput, layer_outputs, layer_results, smallest_scale
from vggcli.features.pooling import aggregated, normalised, pooled
from vggcli.zoo.layers import most_pixels
from vggcli.zoo.network import VGG
from vggcli.zoo.scales import check_scales, largest_scale, passes_of, views_together

RowArray = NDArray[np.float32]


@dataclass(frozen=True)
class FeatureOptions:
    """`layers` by name; `scales` are the values of Q, shorter sides in pixels; `flip` averages with the mirror image.
    `batch_size` (views a forward pass) None takes what suits the device."""

    layers: tuple[str, ...]
    pool: Pool
    scales: tuple[int, ...]
    aggregate: Aggregate
    norm: Norm
    flip: bool
    device: torch.device
    dtype: torch.dtype
    batch_size: int | None = None
    workers: int = 0


@dataclass(frozen=True)
class Rows:
    """Finished rows: for each layer float32 [n, D] or [n, C, H, W], and the image each is of."""

    indices: tuple[int, ...]
    layers: tuple[RowArray, ...]


@dataclass(frozen=True)
class Done:
    """What a batch brought: rows that are finished with it, how many views it held, and how many images EXIF had turned."""

    rows: Rows
    views: int
    turned: int


def default_norm(pool: Pool) -> Norm:
    """L2 for rows (Appendix B), nothing for maps as they are."""
    return "none" if pool == "none" else "l2"


def check_choices(pool: Pool, aggregate: Aggregate | None, norm: Norm | None) -> None:
    """Raises UsageError for a choice that there is not; None is the default's."""
    for name, value, kind in (("pool", pool, Pool), ("aggregate", aggregate, Aggregate), ("norm", norm, Norm)):
        if value is not None and value not in get_args(kind):
            raise UsageError(f"there is no {name} {value!r}; give one of {', '.join(map(repr, get_args(kind)))}")


def check_options(network: VGG, options: FeatureOptions) -> tuple[LayerOutput, ...]:
    """The layers that `options` ask for.

    Raises UsageError or WeightsError for a layer that is not there, and UsageError for scales that do not suit.
    """
    outputs = layer_outputs(network, options.layers)
    smallest = smallest_scale(network.config, outputs)
    low = min(options.scales)
    if low < smallest:
        deepest = max(outputs, key=lambda output: smallest_scale(network.config, [output]))
        raise UsageError(
            f"scale {low} leaves layer {deepest.name} without a map; the smallest Q is {smallest}", "scales"
        )
    check_scales(options.scales, smallest, largest=largest_scale(network.config, whole=True))
    if options.pool == "none" and len(options.scales) > 1:
        raise UsageError(
            "several scales have maps of several sizes, which make no common row; pool them over space", "pool"
        )
    if options.pool == "none" and options.flip:
        raise UsageError(
            "a map as it is cannot be averaged with that of the mirror image, whose positions are others; leave the mirror "
            "image out, or pool over space",
            *("flip", "pool"),
        )
    return outputs


def row_shapes(outputs: Sequence[LayerOutput], options: FeatureOptions) -> list[tuple[int, ...]] | None:
    """The shape of a row of each layer, or None where it depends on the images (maps as they are)."""
    if options.pool == "none":
        return None
    times = len(options.scales) if options.aggregate == "stack" else 1
    return [(times * output.channels,) for output in outputs]


@torch.inference_mode()
def image_rows(
    network: VGG,
    images: Images,
    colour: ColourStatistics,
    options: FeatureOptions,
    order: Sequence[int] | None = None,
    block: int | None = None,
) -> Iterator[Done | ImageError]:
    """The rows of every image of `images` (of `order` alone, where given), as they are finished; an image that cannot be
    used comes as its ImageError. Each image is decoded once, and rescaled once a scale.

    Raises as `check_options` does; WeightsError where a row is not finite.
    """
    outputs = check_options(network, options)
    rows = views_together(network.config, options.device, options.flip, options.batch_size)
    plan = ViewPlan(options.scales, most_pixels=most_pixels(network.config))
    partial: dict[int, list[list[Tensor] | None]] = {}  # of images that wait for a scale: by scale, a row a layer
    for batch in test_batches(images, plan, rows, options.workers, options.device, order, block):
        if isinstance(batch, ImageError):
            yield batch
            continue
        found = view_rows(network, normalise(batch.images_NHWC, colour), outputs, options)
        layers = [rows_N.cpu() for rows_N in found]
        if len(options.scales) == 1:
            finished = _finished([rows_N[None] for rows_N in layers], options)
            yield Done(Rows(batch.indices, finished), len(batch.indices), batch.turned)
            continue
        yield Done(_completed(batch, layers, partial, options), len(batch.indices), batch.turned)


def view_rows(
    network: VGG, views_NCHW: Tensor, outputs: Sequence[LayerOutput], options: FeatureOptions
) -> list[Tensor]:
    """Of preprocessed views of one shape, each layer's pooled rows float32 [N, C] (or maps), the mean of a view's and its
    mirror's with flips."""
    with autocast(options.device, options.dtype):
        passes = [
            layer_results(network, some, outputs, lambda maps_NCHW: pooled(maps_NCHW, options.pool))
            for some in passes_of(network.config, views_NCHW, options.flip)
        ]
    found = [torch.cat(layer) for layer in zip(*passes, strict=True)]
    return [torch.stack(rows_N.chunk(2)).mean(0) if options.flip else rows_N for rows_N in found]


def _completed(
    batch: ViewBatch, layers: list[Tensor], partial: dict[int, list[list[Tensor] | None]], options: FeatureOptions
) -> Rows:
    """The rows of the images that have all their scales with this batch; the others are kept in `partial`."""
    complete = []
    for place, index in enumerate(batch.indices):
        scales = partial.setdefault(index, [None] * len(options.scales))
        scales[batch.scale_index] = [rows_N[place] for rows_N in layers]
        if all(rows is not None for rows in scales):
            complete.append(index)
    if not complete:
        return Rows((), ())
    by_image = [partial.pop(index) for index in complete]
    stacked = []
    for layer in range(len(layers)):
        by_scale = [
            torch.stack([scales[k][layer] for scales in by_image])  # type: ignore[index]
            for k in range(len(options.scales))
        ]
        stacked.append(torch.stack(by_scale))
    return Rows(tuple(complete), _finished(stacked, options))


def _finished(layers_SND: Sequence[Tensor], options: FeatureOptions) -> tuple[RowArray, ...]:
    """Scales aggregated, then normalised: one array a layer."""
    result = []
    for rows_SND in layers_SND:
        rows = rows_SND[0] if len(rows_SND) == 1 else aggregated(rows_SND, options.aggregate)
        rows = normalised(rows, options.norm)
        if not torch.isfinite(rows).all():
            raise WeightsError(
                "the descriptors are not finite; the weights, or the precision, are at fault", "precision"
            )
        result.append(rows.numpy())
    return tuple(result)


def described(
    network: VGG,
    images: Images,
    colour: ColourStatistics,
    options: FeatureOptions,
    progress: Callable[[int], None] = lambda views: None,
) -> list[RowArray]:
    """All rows of a few images, in their order: for each layer float32 [N, D] or [N, C, H, W].

    Raises ImageError for the first image that cannot be used, DataError where maps as they are differ in size.
    """
    kept: list[tuple[RowArray, ...] | None] = [None] * len(images)
    for done in image_rows(network, images, colour, options):
        if isinstance(done, ImageError):
            raise done
        for place, index in enumerate(done.rows.indices):
            kept[index] = tuple(rows[place] for rows in done.rows.layers)
        progress(done.views)
    whole = [rows for rows in kept if rows is not None]
    assert len(whole) == len(images), "every image has a row or an error"
    for index, rows in enumerate(whole):
        for mine, first in zip(rows, whole[0], strict=True):
            check_alike(str(images.path(index)), mine.shape, str(images.path(0)), first.shape)
    return [np.stack([rows[layer] for rows in whole]) for layer in range(len(options.layers))]


def check_alike(name: str, shape: Sequence[int], other: str, wanted: Sequence[int]) -> None:
    """Raises DataError where two maps that are to lie in one table differ in size."""
    if tuple(shape) != tuple(wanted):
        sizes = ["x".join(map(str, one)) for one in (shape, wanted)]
        raise DataError(
            f"maps as they are must agree in size, but {name} gives {sizes[0]} and {other} {sizes[1]}; pooled over space, "
            f"images of any shape have rows of one length",
            "pool",
        )
