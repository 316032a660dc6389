"""Small networks in checkpoints, and pictures, as the tests of this room and of the command line use them."""

from pathlib import Path

import numpy as np
from PIL import Image

from vggcli.choices import Head
from vggcli.colour import ColourStatistics
from vggcli.weights.checkpoint import Checkpoint, save_checkpoint
from vggcli.zoo.initialise import initialise
from vggcli.zoo.layers import NetworkConfig
from vggcli.zoo.network import VGG

COLOUR = ColourStatistics((120.0, 110.0, 100.0), 60.0, (0.1, 0.1, 0.1), ((1, 0, 0), (0, 1, 0), (0, 0, 1)))


def network(arch: str = "A", crop: int = 32, head: Head = "fc", seed: int = 0) -> VGG:
    """An eighth as wide as the paper's."""
    net = VGG(NetworkConfig(arch, classes=3, crop=crop, width=0.125, head=head))
    initialise(net, "he", seed)
    return net.eval()


def checkpoint(path: Path, net: VGG, scale: int = 40) -> Path:
    """The network in a file, trained at one S."""
    about = Checkpoint(net.config, ("a", "b", "c"), COLOUR, (scale, scale), {"step": 1})
    save_checkpoint(path, net, about)
    return path


def pictures(
    folder: Path, count: int, shapes: tuple[tuple[int, int], ...] = ((48, 64), (64, 48), (50, 50))
) -> list[Path]:
    """Noise that differs from picture to picture, in JPEG, in several shapes (width, height)."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for index in range(count):
        width, height = shapes[index % len(shapes)]
        noise = np.random.default_rng(index).integers(0, 256, (height // 4, width // 4, 3), dtype=np.uint8)
        paths.append(folder / f"{index:03d}.jpg")
        Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC).save(paths[-1], quality=95)
    return paths
