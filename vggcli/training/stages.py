"""A network cut where learning begins: the layers before the cut run without gradients, as they do at test time.

Shapes: N images, C channels, H and W pixels or map positions, K classes.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from vggcli.zoo.network import VGG

Layers = Literal["all", "fc", "last"]
LAYERS: tuple[Layers, ...] = ("all", "fc", "last")


@dataclass(frozen=True)
class Stages:
    """`network` with the `layers` that learn: all, the fully connected ones, or the last. Dropout acts on the layers
    before a layer that learns, and batch normalisation that does not learn keeps its statistics."""

    network: VGG
    layers: Layers

    def learns(self, name: str) -> bool:
        """Whether the layer or parameter of this name does."""
        return self.layers == "all" or name.startswith("fc" if self.layers == "fc" else "fc8")

    def parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Those that learn, with their names."""
        return ((name, parameter) for name, parameter in self.network.named_parameters() if self.learns(name))

    def frozen_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """The others."""
        return ((name, parameter) for name, parameter in self.network.named_parameters() if not self.learns(name))

    def train(self) -> None:
        """Make the network ready to learn: gradients and training mode where they belong."""
        self.network.train(self.layers != "last")
        for name, layer in self.network.named_children():
            layer.requires_grad_(self.learns(name))
            if not self.learns(name):
                layer.eval()

    def frozen(self, images_NCHW: Tensor) -> Tensor:
        """What the layers before the cut make of preprocessed images float [N, 3, H, W]: the images themselves (all), the
        pool5 map [N, C, H//32, W//32] (fc), or the descriptor [N, C] (last)."""
        if self.layers == "all":
            return images_NCHW
        with torch.no_grad():
            maps_NCHW = self.network.convolve(images_NCHW)
            return maps_NCHW if self.layers == "fc" else self.network.descriptor(maps_NCHW)

    def scores(self, outputs: Tensor, keep: list[Tensor] | None = None) -> Tensor:
        """Class scores [N, K] of what `frozen` gave; `keep` holds a dropout mask [N, C] for each hidden FC layer."""
        if self.layers == "all":
            return self.network(outputs, keep)  # type: ignore[no-any-return]
        if self.layers == "fc":
            return self.network.classify(self.network.descriptor(outputs, keep))
        return self.network.classify(outputs * keep[-1] if keep else outputs)
