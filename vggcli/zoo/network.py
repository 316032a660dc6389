"""One builder: a row of Table 1 becomes a fully convolutional network.

The first fully connected layer is a convolution over the whole training crop's last map, the others are 1x1, so a larger
image only gives a larger map of scores and dense evaluation (section 3.2) needs no second network. Because fc8 is
linear, the mean of its map is fc8 of the mean fc7 map: fc8 never runs densely.

Shapes: N images, C channels, H and W pixels or map positions, K classes.
"""

from collections.abc import Collection, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vggcli import paper
from vggcli.zoo.convolution import Conv3x3
from vggcli.zoo.layers import Layer, NetworkConfig, with_relus
from vggcli.zoo.linear import WindowLinear


class VGG(nn.Module):
    """A network of Table 1. Its children are named as in the paper (conv1_1, relu1_1, pool1, …, fc6, fc7, fc8)."""

    def __init__(self, config: NetworkConfig, dropout: float = paper.DROPOUT) -> None:
        super().__init__()
        self.config = config
        self.dropout = dropout
        self._convolutional: list[str] = []
        self._hidden: list[str] = []
        for layer in with_relus(config):
            if layer.kind == "fc":
                self.add_module(layer.name, WindowLinear(layer.channels_in, layer.channels, layer.kernel))
                self._hidden += [layer.name] if layer.name != "fc8" else []
            elif not self._hidden:  # the ReLUs of hidden layers are computed in `descriptor`
                self.add_module(layer.name, _convolutional_module(layer))
                self._convolutional.append(layer.name)
        self.to(memory_format=torch.channels_last)

    def convolutional_layers(self) -> Iterator[tuple[str, nn.Module]]:
        """Name and module of every layer up to pool5, in order."""
        for name in self._convolutional:
            yield name, self.get_submodule(name)

    def convolve(self, images_NCHW: Tensor) -> Tensor:
        """Preprocessed images float [N, 3, H, W] to the pool5 map [N, C, H//32, W//32]."""
        maps = images_NCHW.contiguous(memory_format=torch.channels_last)
        for _, layer, follows in self._joined(()):
            maps = layer(maps, **follows)
        return maps

    def _joined(self, wanted: Collection[str]) -> Iterator[tuple[str, nn.Module, dict[str, bool]]]:
        """The layers up to pool5, each 3x3 convolution with the ReLU and the pooling after it, which it computes too unless
        the output of the layer before is wanted, or somebody has hung a hook on one of them, to see what goes in or comes
        out. With each comes the name of the last layer that it computes."""
        layers = list(self.convolutional_layers())
        if torch.compiler.is_compiling():  # which joins them itself
            yield from ((name, layer, {}) for name, layer in layers)
            return
        while layers:
            (last, layer), follows = layers.pop(0), dict[str, bool]()
            for what, kind in (("relu", nn.ReLU), ("pool", nn.MaxPool2d)) if isinstance(layer, Conv3x3) else ():
                name, after = layers[0] if layers else ("", None)
                if last in wanted or not isinstance(after, kind) or _is_watched(layer) or _is_watched(after):
                    break
                last, follows[what] = name, True
                layers.pop(0)
            yield last, layer, follows

    def descriptor(self, maps_NCHW: Tensor, keep: list[Tensor] | None = None) -> Tensor:
        """The pool5 map to the spatial mean of the last hidden layer, [N, C]: fc7 after its ReLU (with the head "gap" the
        pool5 map itself). `keep` holds one dropout mask per hidden layer, [N, C], already divided by the
        fraction kept; without it, a network in training mode draws its own."""
        maps = maps_NCHW
        for index, name in enumerate(self._hidden):
            maps = F.relu(self.get_submodule(name)(maps), inplace=True)
            if self.training:
                maps = F.dropout(maps, self.dropout) if keep is None else maps * keep[index][:, :, None, None]
        return maps.mean((2, 3))

    def layer_maps(self, images_NCHW: Tensor, wanted: Collection[str] | None = None) -> Iterator[tuple[str, Tensor]]:
        """Preprocessed images to the name and the output [N, C, H, W] of every layer in order, ReLUs too (relu1_1, …,
        relu7), without dropout; fc8 gives its whole map. Of the layers up to pool5 those that are not `wanted` may be left
        out, which is faster. Copy what you need of an output before you ask for the next one, since ReLUs work in place.
        Nothing after the last one that is asked for is computed."""
        maps = images_NCHW.contiguous(memory_format=torch.channels_last)
        for name, layer, follows in self._joined(self._convolutional if wanted is None else wanted):
            maps = layer(maps, **follows)
            yield name, maps
        for name in self._hidden:
            maps = self.get_submodule(name)(maps)
            yield name, maps
            maps = F.relu(maps, inplace=True)
            yield f"relu{name.removeprefix('fc')}", maps
        if "fc8" in self._modules:
            yield "fc8", self.get_submodule("fc8")(maps)

    def classify(self, descriptors_NC: Tensor) -> Tensor:
        """Mean descriptors [N, C] to class scores (logits) [N, K], or boxes [N, 4] or [N, 4K]; not for the head "none"."""
        weight, bias = self.get_parameter("fc8.weight"), self.get_parameter("fc8.bias")
        return F.linear(descriptors_NC, weight.flatten(1), bias)

    def forward(self, images_NCHW: Tensor, keep: list[Tensor] | None = None) -> Tensor:
        """Preprocessed images float [N, 3, H, W], H and W at least the training crop, to class scores (logits) [N, K]
        averaged over the score map (section 3.2). On the training crop the map is 1x1."""
        return self.classify(self.descriptor(self.convolve(images_NCHW), keep))

    def hidden_sizes(self) -> list[int]:
        """The number of channels of each layer that dropout follows, in order."""
        return [len(self.get_parameter(f"{name}.bias")) for name in self._hidden]


def _is_watched(layer: nn.Module) -> bool:
    return bool(layer._forward_hooks or layer._forward_pre_hooks or layer._backward_hooks or layer._backward_pre_hooks)


def _convolutional_module(layer: Layer) -> nn.Module:
    if layer.kind == "conv" and layer.kernel == 3:
        return Conv3x3(layer.channels_in, layer.channels)
    if layer.kind == "conv":
        return nn.Conv2d(layer.channels_in, layer.channels, layer.kernel, padding=layer.kernel // 2)
    if layer.kind == "bn":
        return nn.BatchNorm2d(layer.channels)
    if layer.kind == "relu":
        return nn.ReLU(inplace=True)
    if layer.kind == "lrn":  # torch divides alpha by the window size, the paper's reference does not
        size = paper.LRN_SIZE
        return nn.LocalResponseNorm(size, alpha=paper.LRN_ALPHA * size, beta=paper.LRN_BETA, k=paper.LRN_K)
    return nn.MaxPool2d(layer.kernel, stride=2)
