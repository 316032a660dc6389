"""Small networks with random weights, and what a checkpoint says of them, for tests of file formats."""

from pathlib import Path

import torch
from torch import Tensor

from vggcli.colour import ColourStatistics
from vggcli.weights.checkpoint import Checkpoint, load_checkpoint
from vggcli.zoo.initialise import initialise
from vggcli.zoo.layers import NetworkConfig
from vggcli.zoo.network import VGG

COLOUR = ColourStatistics((120.5, 110.25, 99.125), 61.7)


def small(arch: str = "A", seed: int = 3, **fields: object) -> VGG:
    """A network of narrow layers, five classes and a crop of 64, whose weights, biases and statistics are all random."""
    config = {"arch": arch, "classes": 5, "crop": 64, "width": 0.125, **fields}
    network = VGG(NetworkConfig(**config))  # type: ignore[arg-type]
    initialise(network, "he", seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in network.state_dict().items():
            if name.endswith(("bias", "running_mean")):
                value.normal_(0, 0.1, generator=generator)
            if name.endswith("running_var"):
                value.uniform_(0.5, 2, generator=generator)
    return network.eval()


def about(network: VGG) -> Checkpoint:
    """A checkpoint's record of `network`, with names that are not ASCII and a preprocessing that is no framework's own."""
    names = tuple(f"klasse {index} é" for index in range(network.config.classes))
    return Checkpoint(network.config, names, COLOUR, (70, 90), {"data": "photos", "epoch": 2})


def images(height: int = 64, width: int = 64, count: int = 2) -> Tensor:
    """Preprocessed images float32 [N, 3, H, W] whose channels, rows and columns all differ."""
    return torch.randn(count, 3, height, width, generator=torch.Generator().manual_seed(7))


def assert_same_bits(path: Path, network: VGG) -> Checkpoint:
    """Load `path`, whose tensors must be those of `network`; returns what the file says of it."""
    loaded, checkpoint = load_checkpoint(path)
    found, wanted = loaded.state_dict(), network.state_dict()
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        assert torch.equal(found[name], value), name
    return checkpoint
