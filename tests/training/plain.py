"""The paper's training as plain NumPy, PIL and torch, from the rules that the README states; nothing of the package.

Images whose shorter side is S already need no resampling, so a view is a crop of their own pixels.
"""

import hashlib
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

Pixels = NDArray[np.float64]
CROP = 32


def write_pictures(root: Path, side: int, train: int = 2, classes: int = 7) -> Path:
    """PNGs of noise whose shorter side is `side`, lying and standing; classes differ in brightness."""
    draw = np.random.default_rng(11)
    for split, count in (("train", train), ("val", 2)):
        for label in range(classes):
            folder = root / split / f"class{label}"
            folder.mkdir(parents=True)
            for index in range(count):
                height, width = ((side, side + 9), (side + 6, side), (side, side))[index % 3]
                pixels = draw.integers(0, 120 + 15 * label, (height, width, 3), dtype=np.uint8)
                pixels[: height // 2, :, label % 3] += 30
                Image.fromarray(pixels).save(folder / f"{index}.png")
    return root


@dataclass
class Pictures:
    """The images of a split in the order of their names, with their labels."""

    pixels: list[Pixels]
    labels: list[int]

    @classmethod
    def read(cls, folder: Path) -> "Pictures":
        paths = sorted(folder.glob("*/*.png"), key=lambda path: path.relative_to(folder).as_posix())
        names = sorted({path.parent.name for path in paths})
        pixels = [np.asarray(Image.open(path).convert("RGB"), np.float64) for path in paths]
        return cls(pixels, [names.index(path.parent.name) for path in paths])

    def all_pixels(self) -> Pixels:
        return np.concatenate([one.reshape(-1, 3) for one in self.pixels])


@dataclass
class Colour:
    """Mean RGB, the overall standard deviation, and AlexNet's eigenvalues and eigenvectors, of pixels from 0 to 255."""

    mean: Pixels
    divisor: float
    values: Pixels
    vectors: Pixels

    @classmethod
    def of(cls, pictures: Pictures) -> "Colour":
        pixels = pictures.all_pixels()
        values, vectors = np.linalg.eigh(np.cov(pixels.T / 255, bias=True))
        return cls(pixels.mean(0), float(np.sqrt(pixels.var(0).mean())), values, vectors)

    def whitened(self, crops: list[Pixels]) -> Tensor:
        stacked = (np.stack(crops) - self.mean) / self.divisor
        return torch.from_numpy(stacked).float().permute(0, 3, 1, 2)


def order(images: int, seed: int, epoch: int) -> list[int]:
    """The order of an epoch."""
    generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
    indices: list[int] = torch.randperm(images, generator=generator).tolist()
    return indices


def view(pixels: Pixels, colour: Colour, seed: int, epoch: int, index: int) -> Pixels:
    """One training view: a crop anywhere, mirrored half of the time, shifted in colour by draws of std 0.1."""
    digest = hashlib.blake2b(f"view {seed} {epoch} {index}".encode(), digest_size=8).digest()
    draw = random.Random(int.from_bytes(digest, "little"))
    height, width, _ = pixels.shape
    draw.randint(min(height, width), min(height, width))  # S
    left, top = draw.randint(0, width - CROP), draw.randint(0, height - CROP)
    mirrored = draw.random() < 0.5
    alphas = np.array([draw.gauss(0, 0.1) for _ in range(3)])
    shift = 255 * sum(alphas[k] * colour.values[k] * colour.vectors[:, k] for k in range(3))
    crop = pixels[top : top + CROP, left : left + CROP] + shift
    return np.asarray(crop[:, ::-1] if mirrored else crop)


def masks(images: int, size: int, seed: int, step: int) -> list[Tensor]:
    """Dropout of half the units of fc6 and fc7, what stays doubled."""
    generator = torch.Generator().manual_seed((seed * 1_000_003 + step) ^ 0x5DEECE66D)
    return [2 * torch.empty(images, size).bernoulli_(0.5, generator=generator) for _ in range(2)]


def scores(model: Any, images_NCHW: Tensor, keep: list[Tensor]) -> Tensor:
    """torchvision's network with the dropout that is given."""
    fc6, fc7, fc8 = (model.classifier[index] for index in (0, 3, 6))
    hidden = F.relu(fc6(model.features(images_NCHW).flatten(1))) * keep[0]
    answer: Tensor = fc8(F.relu(fc7(hidden)) * keep[1])
    return answer


@dataclass
class Descent:
    """SGD with momentum and weight decay, written out (section 3.1)."""

    weights: list[Tensor]
    learning_rate: float
    momentum: float = 0.9
    decay: float = 5e-4

    def __post_init__(self) -> None:
        self.speeds = [torch.zeros_like(weight) for weight in self.weights]

    @torch.no_grad()
    def step(self, loss: Tensor) -> None:
        with torch.enable_grad():
            gradients = torch.autograd.grad(loss, self.weights)
        for weight, speed, gradient in zip(self.weights, self.speeds, gradients, strict=True):
            speed.mul_(self.momentum).add_(gradient + self.decay * weight)
            weight.sub_(self.learning_rate * speed)
