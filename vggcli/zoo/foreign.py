"""Weights in the layouts of torchvision and timm: one name table each, read in both directions.

A file says which network it holds by the shapes and the numbering of its layers, so nothing has to be told. Tensors are
renamed and reshaped, never computed with: a round trip gives the same bits.
"""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Literal

from torch import Tensor

from vggcli import paper
from vggcli.errors import WeightsError
from vggcli.zoo.layers import NetworkConfig, network_layers

Framework = Literal["torchvision", "timm"]
FC_NAMES: dict[Framework, dict[str, str]] = {
    "torchvision": {"fc6": "classifier.0", "fc7": "classifier.3", "fc8": "classifier.6"},
    "timm": {"fc6": "pre_logits.fc1", "fc7": "pre_logits.fc2", "fc8": "head.fc"},
}
FLAT: dict[Framework, tuple[str, ...]] = {"torchvision": ("fc6", "fc7", "fc8"), "timm": ("fc8",)}  # Linear, [out, in]


# torchvision's presets, which timm's copies keep: ToTensor's 0 to 1, here in 0 to 255
MEAN = tuple(255 * value for value in (0.485, 0.456, 0.406))
DIVISOR = tuple(255 * value for value in (0.229, 0.224, 0.225))
SCALE = (256, 256)  # the shorter side that their figures are measured at
# torchvision's preset for Oxford's convolutions: 0 to 255 less a mean, not divided
OXFORD_MEAN = tuple(255 * value for value in (0.48235, 0.45882, 0.40784))
OXFORD_DIVISOR = 1.0


def layer_names(config: NetworkConfig, framework: Framework) -> dict[str, str]:
    """Our layer names to theirs. Raises WeightsError for a network that the framework does not have."""
    row = paper.NETWORKS[config.arch]
    if row.alias is None or config.head == "gap":
        what = f"network {config.arch}" if row.alias is None else "--head gap"
        raise WeightsError(f"{framework} has no {what}; it has {', '.join(_known())}")
    names, index = {}, 0
    for layer in network_layers(config):
        if layer.kind == "fc":
            names[layer.name] = FC_NAMES[framework][layer.name]
            continue
        if layer.kind in ("conv", "bn"):
            names[layer.name] = f"features.{index}"
        index += 2 if layer.kind == ("bn" if row.batch_norm else "conv") else 1  # its ReLU has a number too
    return names


def to_framework(state: Mapping[str, Tensor], config: NetworkConfig, framework: Framework) -> dict[str, Tensor]:
    """Our state dict in the framework's names and shapes."""
    names = layer_names(config, framework)
    theirs = {}
    for key, tensor in state.items():
        layer, _, part = key.rpartition(".")
        flat = layer in FLAT[framework] and part == "weight"
        theirs[f"{names[layer]}.{part}"] = tensor.flatten(1) if flat else tensor
    return theirs


def from_framework(tensors: Mapping[str, Tensor], where: str) -> tuple[dict[str, Tensor], NetworkConfig, Framework]:
    """The state dict, the network and the framework that `tensors` of `where` (a file, for errors) are.

    A classifier of nothing but NaN is how torchvision publishes convolutions alone: the head is then "none".

    Raises WeightsError where they are not one of torchvision's or timm's VGG networks, naming what does not fit.
    """
    framework = _framework(tensors, where)
    config = _config(tensors, framework, where)
    if all(tensor.isnan().all() for key, tensor in tensors.items() if not key.startswith("features.")):
        tensors = {key: tensor for key, tensor in tensors.items() if key.startswith("features.")}
        config = replace(config, head="none")
    ours = {}
    for layer, theirs in layer_names(config, framework).items():
        found = [key for key in tensors if key.rpartition(".")[0] == theirs]
        for key in found:
            part = key.rpartition(".")[2]
            ours[f"{layer}.{part}"] = _window(tensors[key], layer, part, config)
    left = len(tensors) - len(ours)
    if left:
        known = {key for theirs in layer_names(config, framework).values() for key in tensors if key.startswith(theirs)}
        raise WeightsError(f"{where} holds {min(set(tensors) - known)}, which network {config.arch} does not have")
    return ours, config, framework


def _window(tensor: Tensor, layer: str, part: str, config: NetworkConfig) -> Tensor:
    if part != "weight" or not layer.startswith("fc"):
        return tensor
    side = config.crop // paper.STRIDE if layer == "fc6" else 1
    return tensor.reshape(tensor.shape[0], -1, side, side)


def _framework(tensors: Mapping[str, Tensor], where: str) -> Framework:
    for framework, names in FC_NAMES.items():
        if all(f"{name}.weight" in tensors for name in names.values()):
            return framework
    first = ", ".join(sorted(tensors)[:3]) or "nothing"
    raise WeightsError(
        f"{where} holds no VGG network of torchvision or timm with its classifier; its first entries are {first}"
    )


def _config(tensors: Mapping[str, Tensor], framework: Framework, where: str) -> NetworkConfig:
    blocks = _blocks(tensors, where)
    batch_norm = "features.1.running_mean" in tensors
    rows = [row for row in paper.NETWORKS.values() if row.alias]
    arch = next((row.arch for row in rows if (row.blocks, row.batch_norm) == (blocks, batch_norm)), None)
    if arch is None:
        shown = "-".join(str(len(block)) for block in blocks)
        raise WeightsError(f"{where} has blocks of {shown} convolutions, which no network of the zoo has")
    names = FC_NAMES[framework]
    fc6, fc8 = tensors[f"{names['fc6']}.weight"], tensors[f"{names['fc8']}.weight"]
    width = tensors["features.0.weight"].shape[0] / paper.BLOCK_CHANNELS[0]
    last = round(paper.BLOCK_CHANNELS[-1] * width)
    side = math.isqrt(math.prod(fc6.shape[1:]) // last) if last else 0
    if side == 0 or side * side * last != math.prod(fc6.shape[1:]):
        raise WeightsError(f"{where}: {names['fc6']}.weight is {list(fc6.shape)}, no square window of {last} maps")
    return NetworkConfig(arch, fc8.shape[0], side * paper.STRIDE, width)


def _blocks(tensors: Mapping[str, Tensor], where: str) -> tuple[tuple[int, ...], ...]:
    """Kernel sizes by block: the numbering leaves a gap of one where a pooling layer stands."""
    convolutions = sorted(
        (int(key.split(".")[1]), tensor.shape[2])
        for key, tensor in tensors.items()
        if key.startswith("features.")
        and key.endswith(".weight")
        and tensor.dim() == 4
        and key.split(".")[1].isdecimal()
    )
    if not convolutions or convolutions[0][0] != 0:
        raise WeightsError(f"{where} has no first convolution features.0.weight")
    step = 3 if "features.1.running_mean" in tensors else 2  # convolution, batch normalisation, ReLU
    blocks: list[list[int]] = [[]]
    for place, (index, kernel) in enumerate(convolutions):
        if place and index - convolutions[place - 1][0] != step:
            blocks.append([])
        blocks[-1].append(kernel)
    return tuple(tuple(block) for block in blocks)


def _known() -> list[str]:
    return [row.alias for row in paper.NETWORKS.values() if row.alias]
