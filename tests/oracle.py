"""A network of the paper without a line of the package: torchvision's, built from Table 1 as it is printed, with weights
copied layer by layer in order."""

from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models import vgg

TABLE_1: dict[str, list[int | str]] = {  # channels of each convolution, M for a pooling
    "A": [64, "M", 128, "M", 256, 256, "M", 512, 512, "M", 512, 512, "M"],
    "B": [64, 64, "M", 128, 128, "M", 256, 256, "M", 512, 512, "M", 512, 512, "M"],
    "D": [64, 64, "M", 128, 128, "M", 256, 256, 256, "M", 512, 512, 512, "M", 512, 512, 512, "M"],
}


def torchvision_network(arch: str, weights: dict[str, Tensor], batch_norm: bool = False) -> Any:
    """torchvision's network with these weights (ours: conv1_1.weight … fc8.bias, in order), as wide as they are."""
    width = weights["conv1_1.weight"].shape[0] / 64
    plan: list[int | str] = [one if isinstance(one, str) else int(one * width) for one in TABLE_1[arch]]
    with torch.device("meta"):
        model: Any = vgg.VGG(nn.Sequential(), init_weights=False)
    model.features = vgg.make_layers(plan, batch_norm=batch_norm)
    side = weights["fc6.weight"].shape[2]
    model.avgpool = nn.AdaptiveAvgPool2d(side)
    fc6, fc7, fc8 = (nn.Linear(weights[f"fc{k}.weight"][0].numel(), len(weights[f"fc{k}.bias"])) for k in (6, 7, 8))
    model.classifier = nn.Sequential(fc6, nn.ReLU(), nn.Dropout(0), fc7, nn.ReLU(), nn.Dropout(0), fc8)
    theirs = model.state_dict()
    assert len(theirs) == len(weights)
    copied = {key: value.reshape(theirs[key].shape) for key, value in zip(theirs, weights.values(), strict=True)}
    model.load_state_dict(copied)
    return model.eval()


def dense_scores(model: Any, views_NCHW: Tensor) -> Tensor:
    """Class scores [N, K], the mean over the classifier at every window of the last map, one window at a time (section
    3.2)."""
    maps, side = model.features(views_NCHW), model.avgpool.output_size
    windows = [
        model.classifier(maps[:, :, top : top + side, left : left + side].flatten(1))
        for top in range(maps.shape[2] - side + 1)
        for left in range(maps.shape[3] - side + 1)
    ]
    return torch.stack(windows).mean(0)
