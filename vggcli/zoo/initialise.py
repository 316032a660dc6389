"""Random weights, and layers taken from net A (section 3.1).

All draws are made on the CPU from one seed, so a network starts from the same weights on every device.
"""

import math
from collections.abc import Sequence
from itertools import zip_longest

import torch
from torch import Tensor, nn

from vggcli import paper
from vggcli.choices import Init
from vggcli.errors import UsageError, WeightsError
from vggcli.zoo.layers import NetworkConfig, network_layers
from vggcli.zoo.linear import WindowLinear
from vggcli.zoo.network import VGG

NETWORKS_A = ("A", "A-LRN", "A-BN")
BOX_STD = 0.001


@torch.no_grad()
def initialise(network: VGG, init: Init, seed: int, std: float | None = None) -> None:
    """Fill `network` in place; biases are 0.

    "glorot": uniform with variance 2/(fan_in + fan_out), Glorot and Bengio (2010), which the paper found to make
    pre-initialisation unnecessary. "gaussian": zero mean and `std`, 0.01 unless given. "he": zero mean and variance
    2/fan_in. Raises UsageError where `std` is given with anything but "gaussian".
    """
    if std is not None and init != "gaussian":
        raise UsageError(
            f"a standard deviation is only for the initialisation gaussian, not {init}", "init_std", "init"
        )
    generator = torch.Generator().manual_seed(seed)
    for module in network.modules():
        if isinstance(module, nn.Conv2d | WindowLinear):
            assert module.bias is not None
            fan_in, fan_out = module.weight[0].numel(), module.weight[:, 0].numel()
            weight = torch.empty(module.weight.shape)  # drawn in one order, however the module's own lies in memory
            if init == "glorot":
                bound = math.sqrt(6 / (fan_in + fan_out))
                weight.uniform_(-bound, bound, generator=generator)
            else:
                sigma = math.sqrt(2 / fan_in) if init == "he" else paper.GAUSSIAN_STD if std is None else std
                weight.normal_(0, sigma, generator=generator)
            module.weight.copy_(weight)
            module.bias.zero_()
        elif isinstance(module, nn.BatchNorm2d):
            module.reset_parameters()


def inherit(network: VGG, source: VGG, same_classes: bool) -> list[str]:
    """Copy the layers of `source` into `network`: into the same network all of them (fc8 only where the classes are the
    same), from a net A into a deeper network those of section 3.1. Other layers keep their weights.

    Returns the names of the layers with weights that were not copied. Raises WeightsError naming the first layer that
    differs.
    """
    ours, theirs = network.config, source.config
    from_a = theirs.arch != ours.arch and theirs.arch in NETWORKS_A
    if theirs.arch != ours.arch and not from_a:
        raise WeightsError(
            f"weights of network {theirs.arch} do not fit network {ours.arch}: the first layer that differs is "
            f"{_first_difference(ours, theirs)}; only net A's fit deeper networks (section 3.1)"
        )
    targets, sources = dict(network.named_children()), dict(source.named_children())
    names = [name for name in targets if name in sources and (name != "fc8" or same_classes)]
    if from_a:
        names = [name for name in names if name.replace("bn", "conv") in paper.FROM_NETWORK_A]
    for name in names:
        _copy_layer(name, targets[name], sources[name], "weights")
    return [name for name, layer in targets.items() if name not in names and any(True for _ in layer.parameters())]


@torch.no_grad()
def initialise_boxes(network: VGG, box_4: Tensor, seed: int) -> None:
    """Let every box that `network` gives begin near `box_4` [4]: the weights of its last layer are Gaussian of BOX_STD, its
    biases the box. Larger random weights would first have to be unlearnt, at the cost of the layers below."""
    weight = network.get_parameter("fc8.weight")
    weight.copy_(torch.empty(weight.shape).normal_(std=BOX_STD, generator=torch.Generator().manual_seed(seed)))
    network.get_parameter("fc8.bias").copy_(box_4.repeat(network.config.outputs // 4))


def _first_difference(ours: NetworkConfig, theirs: NetworkConfig) -> str:
    mine, its = ([(layer.name, layer.kernel) for layer in network_layers(config)] for config in (ours, theirs))
    pairs = zip_longest(mine, its, fillvalue=("nothing", 0))
    (here, _), (there, _) = next((one, other) for one, other in pairs if one != other)
    return f"{there} there and {here} here" if here != there else f"{here}, of another size"


@torch.no_grad()
def _copy_layer(
    name: str, target: nn.Module, source: nn.Module, option: str, outputs: Sequence[int] | None = None
) -> None:
    """`option` is the parameter that named `source`; `outputs` are the rows of the last layer to copy, in order."""
    given = source.state_dict()
    if outputs is not None:
        given = {key: value[list(outputs)] for key, value in given.items()}
    for key, value in target.state_dict().items():
        if given[key].shape != value.shape:
            shapes = f"{key} is {list(given[key].shape)} there and {list(value.shape)} here"
            raise WeightsError(
                f"layer {name} does not fit: {shapes}; use the same width, crop, head and classes", option
            )
    target.load_state_dict(given)


def initialise_from_network_a(network: VGG, source: VGG, outputs: Sequence[int] | None) -> list[str]:
    """Copy the first four convolutions and the fully connected layers of `source` (net A) into the layers of the same
    name of a deeper `network` (section 3.1); the other layers keep their weights. Batch normalisation is copied too
    where both have it. `outputs` is the index in `source` of each class of `network`; None leaves fc8 as it is, for other
    classes.

    Returns the names copied. Raises WeightsError where `source` is not net A, `network` is not deeper, or naming the first
    layer that does not fit.
    """
    target, donor = network.config.arch, source.config.arch
    if donor not in NETWORKS_A:
        raise WeightsError(
            f"deeper networks are initialised from net A (section 3.1), but these weights are of network {donor}; train A "
            f"first, or continue from these with `vgg finetune`",
            "init_from",
        )
    if target in NETWORKS_A:
        raise WeightsError(
            f"net A's layers are for deeper networks (section 3.1), not for {target}; take a deeper one such as D, or "
            f"continue from these weights with `vgg finetune`",
            "arch",
            "init_from",
        )
    targets, sources = dict(network.named_children()), dict(source.named_children())
    names = [name for name in paper.FROM_NETWORK_A if name in targets and (name != "fc8" or outputs is not None)]
    names += [f"bn{name[4:]}" for name in names if f"bn{name[4:]}" in targets]
    missing = next((name for name in names if name not in sources), None)
    if missing is not None:
        raise WeightsError(f"the network {donor} has no layer {missing}, which {target} takes from it", "init_from")
    for name in names:
        _copy_layer(name, targets[name], sources[name], "init_from", outputs if name == "fc8" else None)
    return names
