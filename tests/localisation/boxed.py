"""Photos with boxes, and small networks of boxes and of classes with random weights."""

from pathlib import Path
from random import Random
from typing import Any

import torch

from tests.conftest import write_photos
from tests.zoo.nets import about, small
from vggcli.data.boxes import checked_boxes
from vggcli.data.image_set import ImageSet
from vggcli.data.sources import load_split
from vggcli.weights.checkpoint import Checkpoint, save_checkpoint
from vggcli.zoo.network import VGG

CLASSES = ("class0", "class1", "class2")


def write_boxed(root: Path, train: int = 8, val: int = 4) -> Path:
    """The CSV of `write_photos` in the folder `root`, with a box an image, or two in the first of each class."""
    write_photos(root, 3, train, val)
    lines, draw = ["path,label,split,xmin,ymin,xmax,ymax"], Random(0)
    for path in sorted(root.rglob("*.jpg")):
        split, label, _ = path.relative_to(root).parts
        for _ in range(2 if path.stem == "0" else 1):
            left, top = draw.randint(0, 20), draw.randint(0, 20)
            right, bottom = left + draw.randint(10, 28), top + draw.randint(10, 28)
            lines.append(f"{path.relative_to(root)},{label},{split},{left},{top},{right},{bottom}")
    (root / "index.csv").write_text("\n".join(lines) + "\n")
    return root / "index.csv"


def boxed_images(root: Path, split: str = "val") -> ImageSet:
    """The checked images of `write_boxed`."""
    return checked_boxes(load_split(write_boxed(root), split, boxes=True), 0, False)[0]


def saved(
    path: Path, seed: int, classes: tuple[str, ...] = CLASSES, scale: tuple[int, int] = (70, 70), **fields: Any
) -> VGG:
    """A network as `small` makes it, saved at `path`; its boxes lie about the middle of their windows."""
    network = small(seed=seed, **{"classes": len(classes), "width": 0.0625, **fields})
    if network.config.boxes:
        with torch.no_grad():
            network.get_parameter("fc8.weight").mul_(0.1)
            network.get_parameter("fc8.bias").mul_(0.1).add_(0.5)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_checkpoint(path, network, Checkpoint(network.config, classes, about(network).preprocessing, scale))
    return network
