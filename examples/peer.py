"""torchvision's own way, to be compared with: its networks, its pipelines."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torchvision
from PIL import Image
from torch import Tensor, nn

from vggcli import paper
from vggcli.colour import ColourStatistics
from vggcli.data.sources import ImageSet


def plain_network(arch: str, classes: int, crop: int, width: float, dropout: float) -> nn.Sequential:
    """A network of Table 1 as torchvision builds it (`make_layers`, Flatten, Linear), in its default memory layout."""
    make_layers = torchvision.models.vgg.make_layers
    config: list[int | str] = []
    for kernels, channels in zip(paper.NETWORKS[arch].blocks, paper.BLOCK_CHANNELS, strict=True):
        config += [round(channels * width)] * len(kernels) + ["M"]
    hidden = round(paper.FC_CHANNELS * width)
    features = make_layers(config)
    inputs = round(paper.BLOCK_CHANNELS[-1] * width) * (crop // paper.STRIDE) ** 2
    head = (nn.Linear(inputs, hidden), nn.ReLU(True), nn.Dropout(dropout), nn.Linear(hidden, hidden), nn.ReLU(True))
    network = nn.Sequential(*features, nn.Flatten(), *head, nn.Dropout(dropout), nn.Linear(hidden, classes))
    for layer in network:
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    return network


def as_convolutions(network: nn.Module) -> nn.Sequential:
    """torchvision's VGG with its three Linear layers turned to convolutions, as dense evaluation by hand is done."""
    layers: list[nn.Module] = list(network.features)  # type: ignore[arg-type]
    kernel = 7
    for layer in network.classifier:  # type: ignore[union-attr]
        if isinstance(layer, nn.Linear):
            convolution = nn.Conv2d(layer.in_features // kernel**2, layer.out_features, kernel)
            convolution.weight.data = layer.weight.data.view(layer.out_features, -1, kernel, kernel)
            convolution.bias.data = layer.bias.data  # type: ignore[union-attr]
            layers.append(convolution)
            kernel = 1
        else:
            layers.append(layer)
    return nn.Sequential(*layers).eval()


class Photos(torch.utils.data.Dataset[tuple[Tensor, int]]):
    """Images of a set through a torchvision transform, as torchvision's ImageFolder gives them."""

    def __init__(self, images: ImageSet, transform: Any, order: Sequence[int] | None = None) -> None:
        self.images, self.transform = images, transform
        self.order = range(len(images)) if order is None else order

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, position: int) -> tuple[Tensor, int]:
        index = self.order[position]
        return self.transform(open_rgb(self.images.root / self.images.names[index])), self.images.labels[index]


def open_rgb(path: Path) -> Image.Image:
    """As torchvision's `pil_loader`."""
    with path.open("rb") as file:
        return Image.open(file).convert("RGB")


def normalising(colour: ColourStatistics) -> list[Any]:
    """ToTensor and Normalize with the same mean and divisor as ours."""
    transforms = torchvision.transforms
    mean, divisor = (torch.tensor(value).expand(3) / 255 for value in (colour.mean, colour.divisor))
    return [transforms.ToTensor(), transforms.Normalize(mean, divisor)]


def grid_of_crops(crop: int, grid: int, tail: Sequence[Any]) -> Any:
    """A transform to G x G crops and their mirror images, [2 G G, 3, crop, crop], as torchvision's FiveCrop is used."""
    transforms = torchvision.transforms
    functional, finish = transforms.functional, transforms.Compose(tail)

    def crops(image: Image.Image) -> Tensor:
        corners = [
            (round(i * (image.height - crop) / (grid - 1)), round(j * (image.width - crop) / (grid - 1)))
            for i in range(grid)
            for j in range(grid)
        ]
        some = [functional.crop(image, top, left, crop, crop) for top, left in corners]
        return torch.stack([finish(one) for view in some for one in (view, functional.hflip(view))])

    return crops
