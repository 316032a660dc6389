"""How many images of a step fit in memory at once."""

import os
from pathlib import Path

import torch

from vggcli.errors import MachineError, counted
from vggcli.zoo.layers import NetworkConfig, layer_costs

CPU_BYTES = 2 << 30  # more brings no speed on a CPU, and leaves room for 3 copies of network D's weights in 8 GB
CUDA_SHARE = 0.6  # of the memory that is free once weights, gradients and momentum are in place
GRADIENT_FACTOR = 2.5  # outputs kept for the backward pass, their gradients, pooling indices, workspace
COPIES = 3  # of the weights: themselves, their gradients and the momentum
CONTAINER_LIMIT = Path("/sys/fs/cgroup/memory.max")


def check_memory(config: NetworkConfig, micro_batch: int, device: torch.device) -> None:
    """Raises MachineError where training with this micro-batch (0 counts the weights alone) takes more memory than the
    device has."""
    weights, an_image = _training_bytes(config)
    needed, there = weights + micro_batch * an_image, _total_bytes(device)
    if needed > there:
        smaller = "width" if weights + an_image > there else "micro_batch"
        by = f" by {counted(micro_batch, 'image')} at once" if micro_batch else ""
        raise MachineError(
            f"training network {config.arch}{by} takes about {needed / 1e9:.3g} GB, and the memory "
            f"is {there / 1e9:.3g} GB; give a smaller {smaller.replace('_', '-')}",
            smaller,
        )


def automatic_micro_batch(config: NetworkConfig, batch_size: int, device: torch.device) -> int:
    """The micro-batch that fits into free memory: from 1 to `batch_size` images."""
    weights, an_image = _training_bytes(config)
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        budget = CUDA_SHARE * (free - weights)
    else:
        budget = min(CPU_BYTES, _system_bytes("SC_AVPHYS_PAGES", 4 * CPU_BYTES) / 4)
    return max(1, min(batch_size, int(budget / an_image)))


def _training_bytes(config: NetworkConfig) -> tuple[int, float]:
    """What the weights take, and what each image adds."""
    costs = layer_costs(config)
    return COPIES * 4 * sum(cost.parameters for cost in costs), GRADIENT_FACTOR * sum(cost.memory for cost in costs)


def _total_bytes(device: torch.device) -> float:
    if device.type == "cuda":
        return float(torch.cuda.mem_get_info(device)[1])
    machine = _system_bytes("SC_PHYS_PAGES", float("inf"))
    try:
        return min(machine, float(CONTAINER_LIMIT.read_text(encoding="ascii")))
    except (OSError, ValueError):  # "max" where there is no limit
        return machine


def _system_bytes(pages: str, unknown: float) -> float:
    """The memory that the system counts under the name `pages`; `unknown` where it does not count it."""
    try:
        return float(os.sysconf(pages) * os.sysconf("SC_PAGE_SIZE"))
    except (AttributeError, ValueError, OSError):
        return unknown
