"""The training run of `vgg train` as a plain torchvision loop, for comparison: the same network, initialisation and recipe;
Resize, RandomCrop, RandomHorizontalFlip, ToTensor and Normalize in worker processes; the default memory layout.

Usage: python examples/plain_torchvision.py PHOTOS --arch A --width 0.25 --crop 64 --scale 76 --epochs 20 --batch-size 32
"""

import argparse
import time
from pathlib import Path

import torch
import torch.nn.functional as F
import torchvision
from peer import Photos, normalising, plain_network
from torch.utils.data import DataLoader

from vggcli.data.sources import load_training
from vggcli.data.training_batches import colour_statistics


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--arch", default="A")
    parser.add_argument("--seed", type=int, default=0)
    for name, default in (
        ("epochs", 20),
        ("batch-size", 32),
        ("crop", 64),
        ("scale", 76),
        ("workers", 2),
        ("patience", 5),
    ):
        parser.add_argument(f"--{name}", type=int, default=default)
    for name, value in (("width", 0.25), ("lr", 0.01), ("dropout", 0.5)):
        parser.add_argument(f"--{name}", type=float, default=value)
    options = parser.parse_args()
    torch.manual_seed(options.seed)
    transforms = torchvision.transforms
    train, val = load_training(options.photos)
    tail = normalising(colour_statistics(train, options.scale, options.workers))
    crops = [transforms.RandomCrop(options.crop), transforms.RandomHorizontalFlip()]
    training = transforms.Compose([transforms.Resize(options.scale), *crops, *tail])
    testing = transforms.Compose([transforms.Resize(options.scale), transforms.CenterCrop(options.crop), *tail])
    batches = DataLoader(Photos(train, training), options.batch_size, shuffle=True, num_workers=options.workers)
    checks = DataLoader(Photos(val, testing), 64, num_workers=options.workers)
    network = plain_network(options.arch, len(train.classes), options.crop, options.width, options.dropout)
    optimizer = torch.optim.SGD(network.parameters(), options.lr, momentum=0.9, weight_decay=5e-4)
    plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer, factor=0.1, patience=options.patience - 1, threshold=0
    )
    for epoch in range(1, options.epochs + 1):
        start = time.perf_counter()
        network.train()
        for images, labels in batches:
            optimizer.zero_grad()
            F.cross_entropy(network(images), labels).backward()
            optimizer.step()
        middle = time.perf_counter()
        network.eval()
        with torch.inference_mode():
            wrong = sum(int((network(images).argmax(1) != labels).sum()) for images, labels in checks)
        plateau.step(wrong)
        seconds, speed = time.perf_counter() - start, len(train) / (middle - start)
        print(
            f"epoch {epoch}: top-1 error {100 * wrong / len(val):.2f} %, {speed:.0f} images/s, {seconds:.1f} s",
            flush=True,
        )


if __name__ == "__main__":
    main()
