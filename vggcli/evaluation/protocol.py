"""How an image becomes one row of posteriors: which views are taken, and how their posteriors are averaged.

Posteriors are the currency (sections 3.2, 4.2): flips and scales are combined by averaging them, never scores.

Shapes: N images, K classes, H and W pixels.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from vggcli.data.augment import ColourStatistics, normalise
from vggcli.data.decode import ImageError
from vggcli.data.loader import test_batches
from vggcli.data.sources import ImageSet
from vggcli.data.views import ViewPlan
from vggcli.errors import DataError, UsageError, WeightsError
from vggcli.zoo.device import autocast
from vggcli.zoo.network import VGG

Protocol = Literal["centre-crop", "dense"]
CPU_PIXELS = 8 * 224 * 224  # a forward pass for a network of full width; more is no faster
CUDA_PIXELS = 128 * 224 * 224


@dataclass(frozen=True)
class EvaluateOptions:
    """`scales` are the values of Q, shorter sides in pixels. `batch_size` None takes what suits the device."""

    protocol: Protocol
    scales: tuple[int, ...]
    flip: bool
    device: torch.device
    dtype: torch.dtype
    batch_size: int | None = None
    workers: int = 0
    skip_bad: bool = False


@dataclass(frozen=True)
class Scores:
    """Posteriors float32 [N, K] and labels int64 [N] with the name of each row's image and each column's class;
    `skipped` are the images that could not be used."""

    posteriors_NK: Tensor
    labels_N: Tensor
    images: tuple[str, ...]
    classes: tuple[str, ...]
    skipped: tuple[ImageError, ...] = ()


def check_scales(scales: tuple[int, ...], crop: int) -> None:
    """Raises UsageError for a Q below the training crop, or one that is given twice."""
    for scale in scales:
        if scale < crop:
            raise UsageError(f"--scales {scale} is below the network's crop; the smallest usable Q is {crop}")
    if len(set(scales)) < len(scales):
        raise UsageError(f"--scales {' '.join(map(str, scales))} names a scale twice")


def match_classes(images: ImageSet, classes: tuple[str, ...]) -> ImageSet:
    """`images` with labels in the order of the weights' `classes`. Raises WeightsError naming the first classes that
    the weights do not know."""
    unknown = [name for name in images.classes_used() if name not in set(classes)]
    if unknown:
        shown = ", ".join(repr(name) for name in unknown[:3]) + (", …" if len(unknown) > 3 else "")
        known = ", ".join(repr(name) for name in classes[:3]) + (", …" if len(classes) > 3 else "")
        raise WeightsError(
            f"the weights do not know {len(unknown)} of the data's classes ({shown}); they know {len(classes)}: {known}"
        )
    return images.with_classes(classes)


@torch.inference_mode()
def image_posteriors(
    network: VGG,
    images: ImageSet,
    colour: ColourStatistics,
    options: EvaluateOptions,
    progress: Callable[[int], None] = lambda views: None,
) -> Scores:
    """The posteriors of every image of `images`, whose classes must be the network's (`match_classes`), averaged over
    flips and scales; each image is decoded once and counted once. `progress` is told the views done in each batch.

    Raises ImageError at an image that cannot be used, unless `options.skip_bad`; DataError where none is left.
    """
    crop = network.config.crop
    check_scales(options.scales, crop)
    plan = ViewPlan(options.scales, centre_crop=crop if options.protocol == "centre-crop" else None)
    sums_NK = torch.zeros(len(images), len(images.classes))
    skipped: dict[str, ImageError] = {}
    for batch in test_batches(images, plan, _rows(network, options), options.workers, options.device):
        if isinstance(batch, ImageError):
            if not options.skip_bad:
                raise batch
            skipped[batch.path] = batch
            progress(len(options.scales))
            continue
        views_NCHW = normalise(batch.images_NHWC, colour)
        sums_NK.index_add_(0, torch.tensor(batch.indices), _batch_posteriors(network, views_NCHW, options).cpu())
        progress(len(batch.indices))
    kept = [index for index in range(len(images)) if str(images.path(index)) not in skipped]
    if not kept:
        raise DataError(f"none of the {len(images)} images of {images.root} can be used")
    posteriors_NK = sums_NK[kept] / len(options.scales)
    if not torch.isfinite(posteriors_NK).all():
        raise WeightsError("the network's posteriors are not finite; its weights, or --precision, are at fault")
    return Scores(
        posteriors_NK,
        torch.tensor([images.labels[index] for index in kept]),
        tuple(images.names[index] for index in kept),
        images.classes,
        tuple(skipped.values()),
    )


def _batch_posteriors(network: VGG, views_NCHW: Tensor, options: EvaluateOptions) -> Tensor:
    """Posteriors [N, K] of views of one shape; with flips the mean of an image's and its mirror's, in one batch."""
    if options.flip:
        views_NCHW = torch.cat((views_NCHW, views_NCHW.flip(3)))
    with autocast(options.device, options.dtype):
        scores = network(views_NCHW)
    posteriors = scores.float().softmax(1)
    return torch.stack(posteriors.chunk(2)).mean(0) if options.flip else posteriors


def _rows(network: VGG, options: EvaluateOptions) -> Callable[[int, int], int]:
    """How many views of a given height and width make a forward pass."""
    if options.batch_size is not None:
        size = options.batch_size
        return lambda height, width: size
    pixels = CUDA_PIXELS if options.device.type == "cuda" else CPU_PIXELS
    budget = pixels / min(1.0, network.config.width) / (2 if options.flip else 1)
    return lambda height, width: max(1, int(budget / (height * width)))
