"""From images to rows: batches of views and their mirror images pass the network until an image has all its scales.

Rows come as they are finished, not in the order of the images, each with the index of its image. With a `block` of images,
a row depends only on the images of its own block, so a block that is computed again is the same to the last bit.

Shapes: N images, C channels, H and W pixels or map positions, S scales.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vggcli.choices import Aggregate, Decode, Norm, Pool, Precision
from vggcli.colour import ColourStatistics, normalise
from vggcli.data.decode import ImageError
from vggcli.data.test_batches import Images, ViewBatch, test_batches
from vggcli.data.test_views import ViewPlan
from vggcli.device import computing
from vggcli.errors import DataError, UsageError, WeightsError
from vggcli.features.layer_maps import LayerOutput, layer_outputs, layer_results, smallest_scale
from vggcli.features.pooling import aggregated, normalised, pooled
from vggcli.zoo.inductor import compiled
from vggcli.zoo.layers import most_pixels
from vggcli.zoo.network import VGG
from vggcli.zoo.scales import check_scales, largest_scale, passes_of, views_together

RowArray = NDArray[np.float32]


@dataclass(frozen=True)
class FeatureOptions:
    """`layers` by name; `scales` are the values of Q, shorter sides in pixels; `flip` averages with the mirror image; a
    `batch_size` (views a forward pass) of None takes what suits the device; `decode` says where JPEGs are decoded;
    `compile` runs the network by torch.compile."""

    layers: tuple[str, ...]
    pool: Pool
    scales: tuple[int, ...]
    aggregate: Aggregate
    norm: Norm
    flip: bool
    device: torch.device
    precision: Precision
    batch_size: int | None = None
    workers: int = 0
    decode: Decode = "cpu"
    compile: bool = False

    @cached_property
    def run(self) -> Callable[[VGG, Tensor, Sequence[LayerOutput], Pool], list[Tensor]]:
        """What runs a network: `pooled_layers`, with `compile` for views of any size."""
        return compiled(pooled_layers, self.device, fixed=False) if self.compile else pooled_layers


@dataclass(frozen=True)
class Rows:
    """The rows that a batch finished: for each layer float32 [n, D] or [n, C, H, W], and the image each is of; how many
    views the batch held, and how many images EXIF had turned."""

    indices: tuple[int, ...]
    layers: tuple[RowArray, ...]
    views: int = 0
    turned: int = 0


def check_options(network: VGG, options: FeatureOptions) -> tuple[LayerOutput, ...]:
    """The layers that `options` ask for.

    Raises UsageError or WeightsError for a layer that is not there, UsageError for scales that are too small or too large.
    """
    outputs = layer_outputs(network, options.layers)
    smallest, low = smallest_scale(network.config, outputs), min(options.scales)
    if low < smallest:
        deepest = max(outputs, key=lambda output: smallest_scale(network.config, [output]))
        what = f"scale {low} leaves layer {deepest.name} without a map"
        raise UsageError(f"{what}; the smallest Q is {smallest}", "scales")
    check_scales(options.scales, smallest, largest=largest_scale(network.config, whole=True))
    if options.pool == "none" and len(options.scales) > 1:
        raise UsageError("maps at several scales differ in size and cannot be combined; pool them over space", "pool")
    if options.pool == "none" and options.flip:
        what = "an unpooled map cannot be averaged with that of the mirror image, whose positions differ"
        raise UsageError(f"{what}; leave the mirror image out, or pool over space", "flip", "pool")
    return outputs


def row_shapes(outputs: Sequence[LayerOutput], options: FeatureOptions) -> list[tuple[int, ...]] | None:
    """The shape of a row of each layer, or None where it depends on the images (unpooled maps)."""
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
) -> Iterator[Rows | ImageError]:
    """The rows of all `images` (or of those in `order`), as they are finished; for an image that cannot be used its
    ImageError. Each image is decoded once, and rescaled once for each scale.

    Raises as `check_options` does; WeightsError where a row is not finite.
    """
    outputs = check_options(network, options)
    rows = views_together(network.config, options.device, options.flip, options.batch_size)
    plan = ViewPlan(options.scales, most_pixels=most_pixels(network.config))
    partial: dict[int, dict[int, list[Tensor]]] = {}  # of images that wait for a scale: by scale, a row of each layer
    for batch in test_batches(images, plan, rows, options.workers, options.device, order, block, options.decode):
        if isinstance(batch, ImageError):
            yield batch
            continue
        found = view_rows(network, normalise(batch.images_NHWC, colour), outputs, options)
        layers = [rows_N.cpu() for rows_N in found]
        if len(options.scales) == 1:
            indices, layers_SND = batch.indices, [rows_N[None] for rows_N in layers]
        else:
            indices, layers_SND = _completed(batch, layers, partial, len(options.scales))
        yield Rows(indices, _finished(layers_SND, options), len(batch.indices), batch.turned)


def pooled_layers(network: VGG, views_NCHW: Tensor, outputs: Sequence[LayerOutput], pool: Pool) -> list[Tensor]:
    """For each of `outputs` the pooled rows float32 [N, C] (or maps) of preprocessed views of one shape."""
    return layer_results(network, views_NCHW, outputs, lambda maps_NCHW: pooled(maps_NCHW, pool))


def view_rows(
    network: VGG, views_NCHW: Tensor, outputs: Sequence[LayerOutput], options: FeatureOptions
) -> list[Tensor]:
    """For each layer the pooled rows float32 [N, C] (or maps) of preprocessed views of one shape; with `flip` the mean of
    a view's row and its mirror image's."""
    with computing(options.device, options.precision):
        passes = [
            options.run(network, some, outputs, options.pool)
            for some in passes_of(network.config, views_NCHW, options.flip)
        ]
    found = [torch.cat(layer) for layer in zip(*passes, strict=True)]
    return [torch.stack(rows_N.chunk(2)).mean(0) if options.flip else rows_N for rows_N in found]


def _completed(
    batch: ViewBatch, layers: list[Tensor], partial: dict[int, dict[int, list[Tensor]]], scales: int
) -> tuple[tuple[int, ...], list[Tensor]]:
    """The images that have all their scales with this batch, and for each layer their rows [S, n, D]; the other rows are
    kept in `partial`."""
    for place, index in enumerate(batch.indices):
        partial.setdefault(index, {})[batch.scale_index] = [rows_N[place] for rows_N in layers]
    complete = tuple(index for index in batch.indices if len(partial[index]) == scales)
    if not complete:
        return (), []
    found = [partial.pop(index) for index in complete]
    return complete, [
        torch.stack([torch.stack([by_scale[k][layer] for by_scale in found]) for k in range(scales)])
        for layer in range(len(layers))
    ]


def _finished(layers_SND: Sequence[Tensor], options: FeatureOptions) -> tuple[RowArray, ...]:
    """Rows with their scales aggregated, then normalised: an array for each layer."""
    result = []
    for rows_SND in layers_SND:
        rows = rows_SND[0] if len(rows_SND) == 1 else aggregated(rows_SND, options.aggregate)
        rows = normalised(rows, options.norm)
        if not torch.isfinite(rows).all():
            raise WeightsError("the descriptors are not finite; check the weights, or compute in float32", "precision")
        result.append(rows.numpy())
    return tuple(result)


def described(network: VGG, images: Images, colour: ColourStatistics, options: FeatureOptions) -> list[RowArray]:
    """All rows of a few images, in their order: for each layer float32 [N, D] or [N, C, H, W].

    Raises ImageError for the first image that cannot be used, DataError where unpooled maps differ in size.
    """
    found: dict[int, tuple[RowArray, ...]] = {}
    for rows in image_rows(network, images, colour, options):
        if isinstance(rows, ImageError):
            raise rows
        for place, index in enumerate(rows.indices):
            found[index] = tuple(layer[place] for layer in rows.layers)
    for index, layers in sorted(found.items()):
        for mine, first in zip(layers, found[0], strict=True):
            check_alike(str(images.path(index)), mine.shape, str(images.path(0)), first.shape)
    return [np.stack([found[index][layer] for index in range(len(images))]) for layer in range(len(options.layers))]


def check_alike(name: str, shape: Sequence[int], other: str, wanted: Sequence[int]) -> None:
    """Raises DataError where two maps for one table differ in size."""
    if tuple(shape) != tuple(wanted):
        sizes = ["x".join(map(str, one)) for one in (shape, wanted)]
        raise DataError(
            f"unpooled maps must all have one size, but {name} gives {sizes[0]} and {other} {sizes[1]}; pool over space to "
            f"describe images of different shapes",
            "pool",
        )
