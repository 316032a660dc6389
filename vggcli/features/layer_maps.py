"""Layers by name, and their maps: what `conv4_3`, `fc7` or `fc7:pre` mean in a network, and how far it must run for them.

The name of a layer means its output after the ReLU that follows it (and after its batch normalisation, where there is one);
with `:pre` it means the output of the layer itself.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

from vggcli import paper
from vggcli.errors import UsageError, WeightsError, did_you_mean
from vggcli.zoo.layers import NetworkConfig, network_layers, scaled_channels
from vggcli.zoo.network import VGG

PRE = ":pre"


@dataclass(frozen=True)
class LayerOutput:
    """A layer by its `name` as asked for, the child module of the network whose output it is, and its channels."""

    name: str
    child: str
    channels: int


def layer_outputs(network: VGG, names: Sequence[str]) -> tuple[LayerOutput, ...]:
    """What `names` mean in `network`, in their order.

    Raises UsageError for a name that the network does not have (the nearest is offered), one that is given twice, or
    `:pre` where no ReLU follows; WeightsError for a fully connected layer that these weights do not have.
    """
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"layer {name} is given twice; give it once", "layer")
    return tuple(_layer_output(network, name) for name in names)


def named_layers(network: VGG) -> list[str]:
    """The layers of `network` that have an output of their own, in order."""
    return [name for name, _ in network.named_children() if not name.startswith("relu")]


def _layer_output(network: VGG, asked: str) -> LayerOutput:
    name, known, arch = asked.removesuffix(PRE), named_layers(network), network.config.arch
    if name not in known and name in ("fc6", "fc7", "fc8"):
        what = f"these weights of network {arch} have no layer {name}"
        raise WeightsError(f"{what}; ask for one that they have: {', '.join(known)}", "layer")
    if name not in known:
        what = f"network {arch} has no layer {name!r}{did_you_mean(name, known)}"
        raise UsageError(f"{what} (`vgg models {arch}` lists them all)", "layer")
    relu = f"relu{name.removeprefix('fc').removeprefix('conv').removeprefix('bn')}"
    has_relu = name in ("fc6", "fc7") or (  # whose ReLUs are not modules
        name.startswith(("conv", "bn")) and relu in dict(network.named_children())
    )
    if asked.endswith(PRE) and not has_relu:
        raise UsageError(f"no ReLU follows {name}, so {asked} has no meaning; ask for {name}", "layer")
    weight = getattr(network.get_submodule(name), "weight", None)
    if weight is None:
        block = int(name.removeprefix("pool").removeprefix("lrn"))
        channels = scaled_channels(paper.BLOCK_CHANNELS[block - 1], network.config.width)
    else:
        channels = int(weight.shape[0])
    return LayerOutput(asked, relu if has_relu and not asked.endswith(PRE) else name, channels)


def smallest_scale(config: NetworkConfig, outputs: Sequence[LayerOutput]) -> int:
    """The smallest Q at which each of `outputs` has a map: from fc6 on the training crop, else what leaves one pixel after
    the poolings before it."""
    needs = []
    for output in outputs:
        side = 1
        for layer in network_layers(config):
            if layer.kind == "pool":
                side *= 2
            if layer.name == "fc6":
                side = config.crop
            if layer.name == output.name.removesuffix(PRE):
                break
        needs.append(side)
    return max(needs, default=paper.STRIDE)


def layer_results(
    network: VGG, images_NCHW: Tensor, outputs: Sequence[LayerOutput], take: Callable[[Tensor], Tensor]
) -> list[Tensor]:
    """`take` of the map [N, C, H, W] of each of `outputs`, in their order; the network runs up to the deepest one, once.
    `take` must copy what it keeps."""
    wanted = {output.child for output in outputs}
    found: dict[str, Tensor] = {}
    for child, maps_NCHW in network.layer_maps(images_NCHW, wanted):
        if child in wanted:
            found[child] = take(maps_NCHW)
        if len(found) == len(wanted):
            break
    return [found[output.child] for output in outputs]
