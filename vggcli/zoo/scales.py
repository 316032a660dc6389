"""The scales Q that a network is tested at (sections 4.1, 4.2), and how many views of a size make a forward pass.

Whatever runs a trained network over whole images, for posteriors or for descriptors, takes both from here.
"""

from collections.abc import Callable

import torch

from vggcli import paper
from vggcli.errors import UsageError
from vggcli.zoo.layers import NetworkConfig

CPU_PIXELS = 8 * 224 * 224  # a forward pass for a network of full width; more is no faster
CUDA_PIXELS = 128 * 224 * 224


def paper_scales(scale: tuple[int, int], several: bool) -> tuple[int, ...]:
    """What the paper takes for Q after training at S from `scale`: S, or the middle of its range (section 4.1); with
    `several` S-32, S, S+32, or the range's smallest, middle and largest (section 4.2)."""
    low, high = scale
    middle = (low + high) // 2
    if not several:
        return (middle,)
    step = paper.TEST_SCALE_STEP
    return (low, middle, high) if low < high else (low - step, low, low + step)


def check_scales(scales: tuple[int, ...], smallest: int, flag: str = "--scales") -> None:
    """Raises UsageError, naming the `flag` that scales come from, for a Q below `smallest` (the training crop, where all
    layers run), or one that is given twice."""
    for scale in scales:
        if scale < smallest:
            raise UsageError(f"{flag} {scale} is below the network's crop; the smallest usable Q is {smallest}")
    if len(set(scales)) < len(scales):
        raise UsageError(f"--scales {' '.join(map(str, scales))} names a scale twice")


def pixel_budget(config: NetworkConfig, device: torch.device, flip: bool) -> float:
    """The pixels of views (their mirrors not counted) that make a forward pass where no batch size is given."""
    pixels = CUDA_PIXELS if device.type == "cuda" else CPU_PIXELS
    return pixels / min(1.0, config.width) / (2 if flip else 1)


def views_together(
    config: NetworkConfig, device: torch.device, flip: bool, batch_size: int | None
) -> Callable[[int, int], int]:
    """How many views of a given height and width make a forward pass: `batch_size`, or what suits the device."""
    if batch_size is not None:
        return lambda height, width: batch_size
    budget = pixel_budget(config, device, flip)
    return lambda height, width: max(1, int(budget / (height * width)))
