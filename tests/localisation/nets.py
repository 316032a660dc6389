"""Networks of random weights that give boxes and classes, for images of the size that tests draw."""

from pathlib import Path

import torch

from vggcli.choices import Boxes
from vggcli.colour import ColourStatistics
from vggcli.weights.checkpoint import Checkpoint, save_checkpoint
from vggcli.zoo.initialise import initialise
from vggcli.zoo.layers import NetworkConfig
from vggcli.zoo.network import VGG

CLASSES = ("class0", "class1", "class2")
COLOUR = ColourStatistics((100.0, 110.0, 120.0), 60.0)
CROP, SCALE = 32, (36, 36)


def saved(path: Path, boxes: Boxes | None, seed: int = 0, layers: str = "all") -> Path:
    """A file with a network that gives boxes, or classes where that is None. Its boxes are about those of the objects of
    `write_photos`: at the middle of a window and as large as a half of it."""
    config = NetworkConfig("A", len(CLASSES), CROP, 1 / 16, boxes=boxes)
    network = VGG(config)
    initialise(network, "he", seed)
    if boxes is not None:
        with torch.no_grad():
            network.get_parameter("fc8.bias").copy_(torch.tensor([0.5, 0.5, 0.6, 0.6]).repeat(config.outputs // 4))
            network.get_parameter("fc8.weight").mul_(0.05)
    training = {"step": 1, "layers": layers, "data": "photos", "localisation_error": 50.0}
    save_checkpoint(path, network, Checkpoint(config, CLASSES, COLOUR, SCALE, training))
    return path


def saved_pair(folder: Path, boxes: Boxes = "pcr") -> tuple[Path, Path]:
    """A network that gives boxes, and one that gives classes."""
    return saved(folder / "boxes.safetensors", boxes), saved(folder / "classes.safetensors", None, seed=1)
