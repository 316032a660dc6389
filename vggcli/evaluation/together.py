"""Several networks evaluated together, in turns over blocks of images: each image is decoded once for all of them, and only
one network is in memory at a time."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vggcli.colour import ColourStatistics, normalise
from vggcli.data.decode import ImageError
from vggcli.data.sources import ImageSet
from vggcli.data.test_batches import ViewBatch, test_batches
from vggcli.data.test_views import ViewPlan, centre_offsets
from vggcli.evaluation.protocol import (
    EvaluateOptions,
    Scores,
    averaged,
    check_test_scales,
    gather,
    view_limit,
    view_posteriors,
)
from vggcli.ranks import ALONE, Ranks
from vggcli.zoo.layers import NetworkConfig
from vggcli.zoo.network import VGG
from vggcli.zoo.scales import views_together

_BLOCK_BYTES = 512 << 20  # of decoded views that the networks take turns over


@dataclass(frozen=True)
class NetworkMember:
    """One of the networks: `load` loads it to the device for its turn; `images` are the data with its classes, `options`
    its own protocol and scales."""

    load: Callable[[], VGG]
    config: NetworkConfig
    colour: ColourStatistics
    images: ImageSet
    options: EvaluateOptions


@torch.inference_mode()
def networks_posteriors(
    members: Sequence[NetworkMember], progress: Callable[[int], None], ranks: Ranks = ALONE
) -> list[tuple[Scores, float]]:
    """The posteriors of each network, each by its own options, over the same images, and the seconds that its turns took;
    an image is decoded once, and rescaled once a scale, for all of them. `progress` is called with the views
    done, each of them once for every network. Several processes share the images.

    Raises as `image_posteriors` does.
    """
    first = members[0]
    for member in members:
        check_test_scales(member.config, member.options)
    scales = tuple(sorted({scale for member in members for scale in member.options.scales}))
    rows = [views_together(one.config, one.options.device, one.options.flip, one.options.batch_size) for one in members]
    sums = [torch.zeros(one.options.kept, len(one.images), len(one.images.classes)) for one in members]
    seconds = [0.0] * len(members)
    skipped: dict[str, ImageError] = {}
    batches = test_batches(
        first.images,
        ViewPlan(scales, most_pixels=min(view_limit(member.config, member.options) for member in members)),
        lambda height, width: min(together(height, width) for together in rows),
        first.options.workers,
        first.options.device if first.options.decode == "gpu" else torch.device("cpu"),
        ranks.share(len(first.images)),
        decode=first.options.decode,
    )
    for block in _blocks(batches, skipped, first.options.skip_bad):
        for turn, (member, sums_PNK) in enumerate(zip(members, sums, strict=True)):
            started = time.perf_counter()
            network = member.load()
            for batch in block:
                if scales[batch.scale_index] in member.options.scales:
                    sums_PNK.index_add_(1, torch.tensor(batch.indices), _posteriors(network, batch, member).cpu())
                    progress(len(batch.indices))
            del network  # before the next one is loaded
            seconds[turn] += time.perf_counter() - started
    gather(sums, skipped, ranks)
    return [
        (averaged(sums_PNK, member.images, member.options, skipped), taken)
        for member, sums_PNK, taken in zip(members, sums, seconds, strict=True)
    ]


def _blocks(
    batches: Iterator[ViewBatch | ImageError], skipped: dict[str, ImageError], skip_bad: bool
) -> Iterator[list[ViewBatch]]:
    block: list[ViewBatch] = []
    for batch in batches:
        if isinstance(batch, ImageError):
            if not skip_bad:
                raise batch
            skipped[batch.path] = batch
            continue
        block.append(batch)
        if sum(one.images_NHWC.nbytes for one in block) >= _BLOCK_BYTES:
            yield block
            block = []
    if block:
        yield block


def _posteriors(network: VGG, batch: ViewBatch, member: NetworkMember) -> Tensor:
    images_NHWC = batch.images_NHWC
    if member.options.protocol == "centre-crop":
        crop = member.config.crop
        top, left = centre_offsets(images_NHWC.shape[1:3], crop)
        images_NHWC = images_NHWC[:, top : top + crop, left : left + crop]
    views_NCHW = normalise(images_NHWC.to(member.options.device), member.colour)
    return view_posteriors(network, views_NCHW, member.options)
