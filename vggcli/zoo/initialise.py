"""Random weights, and layers taken from net A (section 3.1).

All draws are made on the CPU from one seed, so a network starts from the same weights on every device.
"""

import math
from typing import Literal

import torch
from torch import Tensor, nn

from vggcli import paper
from vggcli.errors import UsageError, WeightsError
from vggcli.zoo.network import VGG, WindowLinear

Init = Literal["glorot", "gaussian", "he"]
INITS: tuple[Init, ...] = ("glorot", "gaussian", "he")


@torch.no_grad()
def initialise(network: VGG, init: Init, seed: int, std: float | None = None) -> None:
    """Fill `network` in place; biases are 0.

    "glorot": uniform with variance 2/(fan_in + fan_out), Glorot and Bengio (2010), which the paper found to make
    pre-initialisation unnecessary. "gaussian": zero mean and `std`, 0.01 unless given. "he": zero mean and variance
    2/fan_in. Raises UsageError where `std` is given with anything but "gaussian".
    """
    if std is not None and init != "gaussian":
        raise UsageError(f"--init-std has no effect with --init {init}; it sets the std of --init gaussian")
    generator = torch.Generator().manual_seed(seed)
    for module in network.modules():
        if isinstance(module, nn.Conv2d | WindowLinear):
            assert module.bias is not None
            fan_in, fan_out = module.weight[0].numel(), module.weight[:, 0].numel()
            module.weight.copy_(_draw(module.weight.shape, init, fan_in, fan_out, std, generator))
            module.bias.zero_()
        elif isinstance(module, nn.BatchNorm2d):
            module.reset_parameters()


def _draw(
    shape: torch.Size, init: Init, fan_in: int, fan_out: int, std: float | None, generator: torch.Generator
) -> Tensor:
    weight = torch.empty(shape)
    if init == "glorot":
        bound = math.sqrt(6 / (fan_in + fan_out))
        return weight.uniform_(-bound, bound, generator=generator)
    sigma = math.sqrt(2 / fan_in) if init == "he" else (paper.GAUSSIAN_STD if std is None else std)
    return weight.normal_(0, sigma, generator=generator)


@torch.no_grad()
def initialise_from_network_a(network: VGG, source: VGG) -> list[str]:
    """Copy the first four convolutions and the fully connected layers of `source` (net A) into the layers of the same
    name (section 3.1); the layers between keep what they have. Batch normalisation goes along where both have it.

    Returns the names copied. Raises WeightsError naming the first layer that does not fit.
    """
    targets, sources = dict(network.named_children()), dict(source.named_children())
    names = [name for name in paper.FROM_NETWORK_A if name in targets]
    names += [f"bn{name[4:]}" for name in names if f"bn{name[4:]}" in targets]
    for name in names:
        if name not in sources:
            raise WeightsError(
                f"--init-from: the network {source.config.arch} has no layer {name}, which {network.config.arch} takes"
            )
        for key, value in targets[name].state_dict().items():
            given = sources[name].state_dict()[key].shape
            if given != value.shape:
                raise WeightsError(
                    f"--init-from: layer {name} does not fit: {key} is {list(given)} there and {list(value.shape)} here;"
                    f" use the same width, crop, head and classes"
                )
    for name in names:
        targets[name].load_state_dict(sources[name].state_dict())
    return names
