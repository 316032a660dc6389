"""What training takes in memory, layer by layer, and how many images of a step fit in at once.

A layer keeps what its gradient needs: a convolution its input, a ReLU its output, which is the same memory as the input of
the layer after it, a pooling the places of its maxima too. The backward pass frees all this from the last layer to the
first, and takes memory for the gradients to the maps instead. What counts is the fullest moment: with the three FC layers
it is the gradient to fc6's weights, as large as these, while everything is still kept.
"""

import os
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from vggcli.choices import Precision
from vggcli.errors import MachineError, counted
from vggcli.zoo.compiled import kernels_in_use
from vggcli.zoo.convolution import CHUNK_BYTES, FEW_CHANNELS
from vggcli.zoo.layers import Kind, Layer, LayerCost, NetworkConfig, layer_costs, with_relus
from vggcli.zoo.winograd import WINDOW, tiles_of

CPU_BYTES = 2 << 30  # more brings no speed on a CPU, and leaves room for 3 copies of network D's weights in 8 GB
CUDA_SHARE = 0.6  # of the memory that is free once weights, gradients and momentum are in place
COPIES = 3  # of the weights: themselves, their gradients and the momentum
ROWS = 64  # centre crops in a forward pass, at most
ROWS_BYTES = 512 << 20  # that these take on a CPU, where the memory of a step is not free for them
HOLES = 2  # of the largest gradient's size, as measured with glibc
CONTAINER_LIMIT = Path("/sys/fs/cgroup/memory.max")
FLOAT, INDEX = 4, 8  # bytes of a float32, and of the place of a maximum
PACKED = 4  # times the weights of a 3x3 convolution are its transformed filters: 36 numbers in place of 9
# Outputs that a layer keeps (LRN its squares, their sums, the power of these, and its output; an FC layer the product
# with the dropout mask too), and those that gradients take while its own is computed.
KEPT: dict[Kind, int] = {"relu": 0, "bn": 1, "lrn": 4, "fc": 2}
BACKWARD: dict[Kind, int] = {"relu": 2, "bn": 2, "lrn": 4, "fc": 2}


@dataclass(frozen=True)
class TrainingMemory:
    """Bytes on one device at the fullest moment of a step, by what takes them. `weights`, `gradients` and `momentum` are
    float32; `kept` are the outputs that the layers keep for the backward pass, and `working` is what the layer that runs
    takes: gradients to its maps and its weights, and its scratch memory. `holes` is freed memory of a CPU's heap that the
    largest gradient no longer fits into: where it was last, as smaller tensors have gone there, and where the update had
    its own copy of one weight, which ends a few bytes too early for the alignment."""

    weights: int
    gradients: int
    momentum: int
    kept: int
    working: int
    holes: int

    @property
    def passing(self) -> int:
        """What grows with the images of a micro-batch, and lasts as long as it."""
        return self.kept + self.working + self.holes

    @property
    def whole(self) -> int:
        return self.weights + self.gradients + self.momentum + self.passing


def training_memory(
    config: NetworkConfig, micro_batch: int, device: torch.device, precision: Precision = "fp32"
) -> TrainingMemory:
    """What a step takes beyond the program itself, where all layers learn. On CUDA it is what tensors take: cuDNN's scratch
    memory and what the allocator keeps come on top."""
    weights = FLOAT * sum(layer.parameters for layer in with_relus(config))
    kept, working = max(_moments(config, micro_batch, device, precision), key=sum)
    copies = weights // 2 if precision in ("bf16", "fp16") else 0  # which autocast makes of the weights
    largest = FLOAT * max(layer.parameters for layer in with_relus(config))
    holes = HOLES * largest if device.type == "cpu" else 0
    return TrainingMemory(weights, weights, weights, kept + copies, working, holes)


def validation_memory(config: NetworkConfig, images: int) -> int:
    """What a forward pass of so many centre crops takes on a CPU beside all that a step has taken, whose pieces are too
    small for it: the images, the outputs of two layers, and the filters as the compiled convolution keeps them."""
    packed = sum(layer.parameters for layer, _, _ in _layers(config) if layer.kind == "conv" and kernels_in_use())
    return PACKED * FLOAT * packed + images * _passing(config)


def rows_at_once(config: NetworkConfig, device: torch.device) -> int:
    """How many centre crops make a forward pass of the validation, or of frozen layers."""
    return ROWS if device.type != "cpu" else max(1, min(ROWS, ROWS_BYTES // _passing(config)))


def _passing(config: NetworkConfig) -> int:
    """The bytes of an image and of the outputs of two layers, where these are largest."""
    largest = 0
    for layer, cost, before in _layers(config):
        taken = 0 if layer.kind == "relu" else before + cost.memory  # a ReLU works in place
        largest = max(largest, taken + _indices(layer, cost))
    return largest + FLOAT * 3 * config.crop**2


def _moments(
    config: NetworkConfig, images: int, device: torch.device, precision: Precision
) -> Iterator[tuple[int, int]]:
    """The bytes kept and the working bytes while the gradient of each layer is computed."""
    halves = 2 if precision in ("bf16", "fp16") else 1
    kept = images * FLOAT * 3 * config.crop**2
    for layer, cost, before in _layers(config):
        output, given = images * cost.memory // halves, images * before // halves
        new_weights = FLOAT * layer.parameters
        if layer.kind == "conv":  # its own output is no longer needed
            scratch = new_weights if device.type == "cpu" else 0
            if device.type == "cpu" and halves == 1 and kernels_in_use() and layer.channels_in > FEW_CHANNELS:
                scratch = _scratch(layer, images, cost.output[1])
            yield kept, output + given + new_weights + scratch
            kept += output
        elif layer.kind == "pool":
            kept += output + images * _indices(layer, cost)
            yield kept, output + given
        else:
            kept += KEPT[layer.kind] * output
            yield kept, BACKWARD[layer.kind] * output + new_weights


def _layers(config: NetworkConfig) -> Iterator[tuple[Layer, LayerCost, int]]:
    """Every layer with its cost, and the bytes of its input."""
    costs = {cost.name: cost for cost in layer_costs(config)}
    before = LayerCost("images", (3, config.crop, config.crop), 1, 0, 0, FLOAT * 3 * config.crop**2)
    for layer in with_relus(config):
        cost = costs.get(layer.name, before)  # a ReLU's is that of the layer before it
        yield layer, cost, before.memory
        before = cost


def _indices(layer: Layer, cost: LayerCost) -> int:
    """Of an image, the bytes that say where a pooling found its maxima."""
    return INDEX * cost.memory // FLOAT if layer.kind == "pool" else 0


def _scratch(layer: Layer, images: int, side: int) -> int:
    """What the compiled gradients of a convolution take: the filters turned, sums of the tiles' products, and a chunk of
    transformed maps."""
    filters = PACKED * FLOAT * layer.parameters
    tile = FLOAT * WINDOW**2 * (layer.channels_in + layer.channels)
    return 2 * filters + min(max(CHUNK_BYTES, filters), images * tiles_of(side) ** 2 * tile)


def check_memory(config: NetworkConfig, micro_batch: int, device: torch.device) -> None:
    """Raises MachineError where training with this micro-batch (0 counts the weights alone) takes more memory than the
    device has."""
    needed, there = _needed(config, micro_batch, device), _total_bytes(device)
    if needed > there:
        smaller = "width" if _needed(config, 1, device) > there else "micro_batch"
        by = f" by {counted(micro_batch, 'image')} at once" if micro_batch else ""
        raise MachineError(
            f"training network {config.arch}{by} takes about {needed / 1e9:.3g} GB, and the memory "
            f"is {there / 1e9:.3g} GB; give a smaller {smaller.replace('_', '-')}",
            smaller,
        )


def automatic_micro_batch(config: NetworkConfig, batch_size: int, device: torch.device, processes: int = 1) -> int:
    """The micro-batch that fits into free memory, which `processes` share on a CPU: from 1 to `batch_size` images."""
    one = training_memory(config, 1, device).passing
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        most = CUDA_SHARE * (free - _needed(config, 0, device))
    else:  # of free memory what further images may take: the gradients of the weights take theirs in any case
        most = min(CPU_BYTES, one + _system_bytes("SC_AVPHYS_PAGES", 4 * CPU_BYTES) / (4 * processes))
    sizes = range(1, batch_size + 1)
    return max(1, bisect_right(sizes, most, key=lambda size: training_memory(config, size, device).passing))


def resident_bytes() -> int | None:
    """The memory of this process, None where the system does not say."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError, AttributeError):
        return None


def _needed(config: NetworkConfig, micro_batch: int, device: torch.device) -> int:
    memory = training_memory(config, max(1, micro_batch), device)
    return memory.whole if micro_batch else COPIES * memory.weights


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
