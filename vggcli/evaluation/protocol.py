"""How an image becomes one row of posteriors: which views are taken, and how their posteriors are averaged.

Flips, crops, scales, and dense with multi-crop evaluation are combined by averaging posteriors, never scores (sections
3.2, 4.2, 4.3).

Shapes: N images, K classes, H and W pixels, G crops along a side of the grid, P protocols kept apart.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor

from vggcli import paper
from vggcli.choices import Decode, Precision
from vggcli.colour import ColourStatistics, normalise
from vggcli.data.decode import MAX_PIXELS, ImageError, none_usable
from vggcli.data.sources import ImageSet
from vggcli.data.test_batches import test_batches
from vggcli.data.test_views import ViewPlan, grid_offsets
from vggcli.device import computing
from vggcli.errors import WeightsError
from vggcli.ranks import ALONE, Ranks, share_of
from vggcli.weights.preprocessing import ExpectedPixels
from vggcli.zoo.inductor import compiled_forward, forward
from vggcli.zoo.layers import NetworkConfig, most_pixels
from vggcli.zoo.network import VGG
from vggcli.zoo.scales import check_scales, largest_scale, passes_of, views_together

Protocol = Literal["centre-crop", "dense", "multi-crop", "dense+multi-crop"]
PARTS: tuple[Protocol, Protocol] = ("dense", "multi-crop")  # of "dense+multi-crop"


@dataclass(frozen=True)
class EvaluateOptions:
    """`scales` are the values of Q, shorter sides in pixels; `grid` the crops along each side in multi-crop evaluation;
    `batch_size` the views in a forward pass (None: what suits the device); `pixels` the preprocessing of weights whose
    file does not say it; `decode` is where JPEGs are decoded. `apart` keeps the posteriors of dense and of multi-crop
    evaluation beside their mean. With `compile` networks are run by torch.compile; those that run `in_turns` are loaded
    again for each."""

    protocol: Protocol
    scales: tuple[int, ...]
    flip: bool
    device: torch.device
    precision: Precision
    grid: int = paper.CROP_GRID
    batch_size: int | None = None
    workers: int = 0
    skip_bad: bool = False
    pixels: ExpectedPixels | None = None
    apart: bool = False
    decode: Decode = "cpu"
    compile: bool = False
    in_turns: bool = False

    @cached_property
    def forward(self) -> Callable[[VGG, Tensor], Tensor]:
        """What runs a network. CUDA graphs are recorded only of batches of one size, which the crops of a grid are not (as
        many images have one shape, as many crops are together), and of weights that keep their place in memory."""
        if not self.compile:
            return forward
        return compiled_forward(self.device, fixed=self.protocol == "centre-crop" and not self.in_turns)

    @property
    def kept(self) -> int:
        """How many protocols' posteriors are kept apart."""
        return len(PARTS) if self.apart and self.protocol == "dense+multi-crop" else 1


@dataclass(frozen=True)
class Scores:
    """Posteriors float32 [N, K] and labels int64 [N] with the names of the N images and K classes; `skipped` are the images
    that could not be used. `parts` are the posteriors of dense and of multi-crop evaluation, where they were kept apart."""

    posteriors_NK: Tensor
    labels_N: Tensor
    images: tuple[str, ...]
    classes: tuple[str, ...]
    skipped: tuple[ImageError, ...] = ()
    parts: Mapping[Protocol, Tensor] = field(default_factory=dict)

    def part(self, protocol: Protocol) -> "Scores":
        """The scores of one of the parts."""
        return replace(self, posteriors_NK=self.parts[protocol], parts={})


def crops_an_image(options: EvaluateOptions) -> int:
    """Grid crops of an image over flips and scales: 150 for the paper's three scales."""
    views = (2 if options.flip else 1) * len(options.scales)
    return options.grid**2 * views if "multi-crop" in options.protocol else 0


def view_limit(config: NetworkConfig, options: EvaluateOptions) -> int:
    """The most pixels of a view: with dense evaluation, those that the network can be run over."""
    return most_pixels(config) if "dense" in options.protocol else MAX_PIXELS


def check_test_scales(config: NetworkConfig, options: EvaluateOptions, option: str = "scales") -> None:
    """Raises UsageError, with the parameter name `option`, for scales that do not suit network and protocol."""
    check_scales(options.scales, config.crop, largest_scale(config, "dense" in options.protocol), option)


@torch.inference_mode()
def image_posteriors(
    network: VGG,
    images: ImageSet,
    colour: ColourStatistics,
    options: EvaluateOptions,
    progress: Callable[[int], None] = lambda views: None,
    ranks: Ranks = ALONE,
) -> Scores:
    """The posteriors of every image of `images`, whose classes must be the network's (`match_classes`), averaged over
    flips, crops and scales; each image is decoded once, rescaled once a scale and counted once. `progress` is
    called with the number of views in each batch. Several processes share the images, and each gets the posteriors of all.

    Raises ImageError at an image that cannot be used, unless `options.skip_bad`; DataError where none is left.
    """
    crop = network.config.crop
    check_test_scales(network.config, options)
    plan = ViewPlan(
        options.scales, crop if options.protocol == "centre-crop" else None, view_limit(network.config, options)
    )
    sums_PNK = torch.zeros(options.kept, len(images), len(images.classes))
    skipped: dict[str, ImageError] = {}
    rows, where, mine = _rows(network, options), (options.workers, options.device), ranks.share(len(images))
    for batch in test_batches(images, plan, rows, *where, mine, decode=options.decode):
        if isinstance(batch, ImageError):
            if not options.skip_bad:
                raise batch
            skipped[batch.path] = batch
            progress(len(options.scales))
            continue
        posteriors_PNK = view_posteriors(network, normalise(batch.images_NHWC, colour), options)
        sums_PNK.index_add_(1, torch.tensor(batch.indices), posteriors_PNK.cpu())
        progress(len(batch.indices))
    gather([sums_PNK], skipped, ranks)
    return averaged(sums_PNK, images, options, skipped)


def gather(sums: Sequence[Tensor], skipped: dict[str, ImageError], ranks: Ranks) -> None:
    """Put into `sums`, each [P, N, K], and `skipped` what the other processes have for their shares of the N images."""
    images = sums[0].shape[1]
    mine = ranks.share(images)
    found = ranks.gathered(([one[:, mine.start : mine.stop].clone() for one in sums], skipped))
    for rank, (parts, bad) in enumerate(found if ranks.world > 1 else ()):
        theirs = share_of(images, rank, ranks.world)
        for whole_PNK, part_PNK in zip(sums, parts, strict=True):
            whole_PNK[:, theirs.start : theirs.stop] = part_PNK
        skipped |= bad


def averaged(sums_PNK: Tensor, images: ImageSet, options: EvaluateOptions, skipped: dict[str, ImageError]) -> Scores:
    """The scores from `sums_PNK`, the sums of the posteriors over the scales, without the images that were skipped.

    Raises DataError where no image is left, WeightsError where a posterior is not finite.
    """
    kept = [index for index in range(len(images)) if str(images.path(index)) not in skipped]
    if not kept:
        first = next(iter(skipped.values()))
        raise none_usable(len(images), (first.path, first.reason))
    posteriors_PNK = sums_PNK[:, kept] / len(options.scales)
    posteriors_NK = posteriors_PNK.mean(0)
    if not torch.isfinite(posteriors_NK).all():
        raise WeightsError(
            "the network's posteriors are not finite; its weights are damaged, or it needs a higher precision",
            "precision",
        )
    return Scores(
        posteriors_NK,
        torch.tensor([images.labels[index] for index in kept]),
        tuple(images.names[index] for index in kept),
        images.classes,
        tuple(skipped.values()),
        dict(zip(PARTS, posteriors_PNK, strict=True)) if len(posteriors_PNK) > 1 else {},
    )


def view_posteriors(network: VGG, views_NCHW: Tensor, options: EvaluateOptions) -> Tensor:
    """Posteriors [P, N, K] of views of one shape: of the whole views, of their grids of crops, or the mean of the two; with
    `options.kept` 2, these two apart."""
    parts = []
    if options.protocol != "multi-crop":
        parts.append(_posteriors(network, views_NCHW, options))
    if "multi-crop" in options.protocol:
        parts.append(_grid_posteriors(network, views_NCHW, options))
    posteriors_PNK = torch.stack(parts)
    return posteriors_PNK if options.kept > 1 else posteriors_PNK.mean(0, keepdim=True)


def _grid_posteriors(network: VGG, views_NCHW: Tensor, options: EvaluateOptions) -> Tensor:
    """The mean posteriors [N, K] of G x G crops of each view, a few crops of all views at a time."""
    crop = network.config.crop
    tops, lefts = (grid_offsets(side, crop, options.grid) for side in views_NCHW.shape[2:])
    corners = [(top, left) for top in tops for left in lefts]
    together = max(1, _rows(network, options)(crop, crop) // len(views_NCHW))
    total: Tensor | float = 0.0
    for first in range(0, len(corners), together):
        some = corners[first : first + together]
        crops = [views_NCHW[:, :, top : top + crop, left : left + crop] for top, left in some]
        posteriors = _posteriors(network, torch.cat(crops), options)
        total = total + posteriors.unflatten(0, (len(some), -1)).sum(0)
    assert isinstance(total, Tensor)
    return total / len(corners)


def _posteriors(network: VGG, views_NCHW: Tensor, options: EvaluateOptions) -> Tensor:
    """Posteriors [N, K] of views of one shape; with flips the mean of a view's and its mirror's."""
    crop = network.config.crop
    with computing(options.device, options.precision, fixed=views_NCHW.shape[2:] == (crop, crop)):
        scores = torch.cat(
            [options.forward(network, some) for some in passes_of(network.config, views_NCHW, options.flip)]
        )
    posteriors = scores.float().softmax(1)
    return torch.stack(posteriors.chunk(2)).mean(0) if options.flip else posteriors


def _rows(network: VGG, options: EvaluateOptions) -> Callable[[int, int], int]:
    """How many views of a given height and width make a forward pass."""
    return views_together(network.config, options.device, options.flip, options.batch_size)
