"""How many images of a step fit in memory at once."""

import os

import torch

from vggcli.zoo.layers import NetworkConfig, layer_costs

CPU_BYTES = 2 << 30  # more brings no speed on a CPU, and leaves room for 3 copies of network D's weights in 8 GB
CUDA_SHARE = 0.6  # of the memory that is free once weights, gradients and momentum are in place
GRADIENT_FACTOR = 2.5  # outputs kept for the backward pass, their gradients, pooling indices, workspace


def automatic_micro_batch(config: NetworkConfig, batch_size: int, device: torch.device) -> int:
    """The images that are trained on at once, at most `batch_size`; at least 1."""
    costs = layer_costs(config)
    an_image = GRADIENT_FACTOR * sum(cost.memory for cost in costs)
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        budget = CUDA_SHARE * (free - 3 * 4 * sum(cost.parameters for cost in costs))
    else:
        budget = min(CPU_BYTES, _available_bytes() / 4)
    return max(1, min(batch_size, int(budget / an_image)))


def _available_bytes() -> float:
    try:
        return float(os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    except (AttributeError, ValueError, OSError):
        return float(4 * CPU_BYTES)
