"""The scales Q that a network is tested at (sections 4.1, 4.2), and how many views of a size go into one forward pass.

Evaluation and feature extraction both use them.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from vggcli import paper
from vggcli.errors import UsageError
from vggcli.zoo.compiled import kernels_in_use
from vggcli.zoo.layers import VIEW_BYTES, NetworkConfig, bytes_a_pixel, most_pixels

CPU_PIXELS = 8 * 224 * 224  # in a forward pass of a network of full width by PyTorch; more is no faster
COMPILED_PIXELS = 32 * 224 * 224  # by compiled convolutions: the reading of fc6 is shared by a batch
CUDA_PIXELS = 128 * 224 * 224
LARGEST = 10_000  # the Q at which a square has the 100 megapixels that no rescaled image may exceed
CUDA_PASSES = 8  # times the memory of one view that a forward pass may take on CUDA, where a batch size is given


def paper_scales(scale: tuple[int, int], several: bool) -> tuple[int, ...]:
    """The paper's Q after training at S in the range `scale`: S, or the middle of the range (section 4.1); with `several`
    S-32, S, S+32, or the smallest, middle and largest of the range (section 4.2)."""
    low, high = scale
    middle = (low + high) // 2
    if not several:
        return (middle,)
    step = paper.TEST_SCALE_STEP
    return (low, middle, high) if low < high else (low - step, low, low + step)


def largest_scale(config: NetworkConfig, whole: bool) -> int:
    """The largest Q at which the network may be run on some image, `whole` or only crop by crop."""
    return min(LARGEST, math.isqrt(most_pixels(config))) if whole else LARGEST


def check_scales(scales: tuple[int, ...], smallest: int, largest: int = LARGEST, option: str = "scales") -> None:
    """Raises UsageError for a Q below `smallest` (the training crop, where all layers run) or above `largest`, or one
    that is given twice; `option` is the parameter that the scales come from."""
    for scale in scales:
        if scale > largest:
            most = f"fits in {VIEW_BYTES >> 30} GiB; the largest usable Q is {largest}"
            raise UsageError(f"the scale {scale} leaves no image that {most}", option)
        if scale < smallest:
            raise UsageError(
                f"the scale {scale} is below the network's crop; the smallest usable Q is {smallest}", option
            )
    if len(set(scales)) < len(scales):
        raise UsageError(f"the scales {', '.join(map(str, scales))} contain one twice", option)


def views_together(
    config: NetworkConfig, device: torch.device, flip: bool, batch_size: int | None
) -> Callable[[int, int], int]:
    """How many views of a given height and width go into one forward pass: `batch_size`, as long as the views and their
    mirror images take no more memory than a single view may (on CUDA eight times that), or what suits the device."""
    cuda, mirrored = device.type == "cuda", 2 if flip else 1
    if batch_size is not None:
        most = most_pixels(config) * (CUDA_PASSES if cuda else 1) // mirrored
        return lambda height, width: max(1, min(batch_size, most // (height * width)))
    pixels = CUDA_PIXELS if cuda else CPU_PIXELS if kernels_in_use() is None else COMPILED_PIXELS
    budget = pixels / min(1.0, config.width) / mirrored
    return lambda height, width: max(1, int(budget / (height * width)))


def passes_of(config: NetworkConfig, views_NCHW: Tensor, flip: bool) -> list[Tensor]:
    """The batches that views go through the network in: with `flip` they and their mirror images together, or one after the
    other where both take more memory than one view may. It depends only on their size, since it changes the last bits."""
    if not flip:
        return [views_NCHW]
    mirrors_NCHW = views_NCHW.flip(3)
    if 2 * views_NCHW[:, 0].numel() * bytes_a_pixel(config) > VIEW_BYTES:
        return [views_NCHW, mirrors_NCHW]
    return [torch.cat((views_NCHW, mirrors_NCHW))]
