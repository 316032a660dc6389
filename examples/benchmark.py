"""How fast, against torchvision's own way on the same machine in the same run, as ratios: the training loader, a training
step, centre-crop and dense evaluation. Both sides take turns; the median of the rounds is reported.

Usage: python examples/benchmark.py [PHOTOS] [--images 64] [--rounds 3] [--arch D]   (PHOTOS as --data; default: shapes)
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from peer import Photos, as_convolutions, import_torchvision, normalising, open_rgb
from torch import nn
from torch.utils.data import DataLoader

from vggcli import paper
from vggcli.cli.options import data_source, worker_count
from vggcli.data.augment import ColourStatistics, augment, normalise
from vggcli.data.loader import Schedule, colour_statistics, training_batches
from vggcli.data.sources import ImageSet, load_training
from vggcli.evaluation.protocol import EvaluateOptions, Protocol, image_posteriors
from vggcli.zoo.initialise import initialise
from vggcli.zoo.layers import NetworkConfig
from vggcli.zoo.network import VGG

CPU = torch.device("cpu")
JITTER = (256, 512)  # section 3.1
STEP = 8  # images of the training step that is timed


class Bench:
    """Both sides' networks and data; a method a figure returns (ours, torchvision's) as things to be timed."""

    def __init__(self, images: ImageSet, colour: ColourStatistics, arch: str, workers: int) -> None:
        self.images, self.colour, self.workers = images, colour, workers
        classes = len(images.classes)
        self.ours = VGG(NetworkConfig(arch, classes))
        initialise(self.ours, "he", 0)
        self.theirs: nn.Module = getattr(import_torchvision().models, paper.NETWORKS[arch].alias or "vgg16")(
            weights=None
        )

    def loader(self) -> tuple[Callable[[], object], Callable[[], object]]:
        """Training views at 224, S from [256, 512], by one core: ours up to the batched float tensor."""
        transforms = import_torchvision().transforms
        schedule = Schedule(len(self.images), 16, 16, 1)  # about what a step of network D computes at a time
        tail = transforms.Compose([transforms.RandomCrop(224), *normalising(self.colour)])

        def ours() -> None:
            for batch in training_batches(self.images, self.colour, JITTER, 224, 0, schedule, 0, CPU):
                augment(batch.images_NHWC, batch.flips_N, batch.shifts_NC, self.colour)

        def theirs() -> None:
            for index in range(len(self.images)):
                scale = int(torch.randint(JITTER[0], JITTER[1] + 1, ()))
                tail(transforms.Resize(scale)(open_rgb(self.images.path(index))))

        return ours, theirs

    def step(self) -> tuple[Callable[[], object], Callable[[], object]]:
        """Forward, backward and SGD on 8 images at 224."""
        images, labels = torch.randint(0, 256, (STEP, 224, 224, 3), dtype=torch.uint8), torch.arange(STEP)

        def stepper(network: nn.Module, fused: bool) -> Callable[[], object]:
            optimizer = torch.optim.SGD(network.parameters(), 1e-4, momentum=0.9, weight_decay=5e-4, fused=fused)

            def step() -> None:
                network.train()
                optimizer.zero_grad()
                batch = normalise(images, self.colour)
                F.cross_entropy(network(batch if fused else batch.contiguous()), labels).backward()
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)

            return step

        return stepper(self.ours, True), stepper(self.theirs, False)

    def evaluation(
        self, protocol: Protocol, scales: tuple[int, ...]
    ) -> tuple[Callable[[], object], Callable[[], object]]:
        """From files to posteriors. torchvision's dense evaluation takes one image at a time, both flips in a batch."""
        dense = protocol == "dense"
        options = EvaluateOptions(protocol, scales, dense, CPU, torch.float32, workers=self.workers)
        transforms = import_torchvision().transforms
        crop = [] if dense else [transforms.CenterCrop(224)]
        network = as_convolutions(self.theirs) if dense else self.theirs

        @torch.inference_mode()
        def theirs() -> None:
            network.eval()
            for scale in scales:
                transform = transforms.Compose([transforms.Resize(scale), *crop, *normalising(self.colour)])
                photos = Photos(self.images, transform)
                for batch, _ in DataLoader(photos, 1 if dense else 32, num_workers=self.workers):
                    views = torch.cat((batch, batch.flip(3))) if dense else batch
                    scores = network(views)
                    (scores.mean((2, 3)) if dense else scores).softmax(1)

        return lambda: image_posteriors(self.ours.eval(), self.images, self.colour, options), theirs


def measure(name: str, count: int, pair: tuple[Callable[[], object], Callable[[], object]], rounds: int) -> None:
    """Time both sides in turns and print images a second and the ratio."""
    for side in pair:  # first calls allocate, and compile kernels
        side()
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds):
        for side, taken in zip(pair, times, strict=True):
            start = time.perf_counter()
            side()
            taken.append(time.perf_counter() - start)
    ours, theirs = (count / statistics.median(taken) for taken in times)
    print(f"{name:44} {ours:9.1f} {theirs:12.1f} {ours / theirs:7.2f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("photos", nargs="?")
    parser.add_argument("--arch", default="D", choices=[arch for arch, row in paper.NETWORKS.items() if row.alias])
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    workers = worker_count(None)
    source = data_source(options.photos, workers, quiet=False)
    _, images = load_training(source.path)
    stride = max(1, len(images) // options.images)
    kept = slice(0, stride * options.images, stride)
    few = ImageSet(images.root, "val", images.classes, images.names[kept], images.labels[kept], images.boxes[kept])
    bench = Bench(few, colour_statistics(few, 256, workers), options.arch, workers)
    print(
        f"network {options.arch}, {len(few)} images of {source.name}, {torch.get_num_threads()} threads, {workers} workers"
    )
    print(f"{'':44} {'ours':>9} {'torchvision':>12} {'ratio':>7}   (images/s)")
    measure("training views at 224, one core", len(few), single_threaded(bench.loader()), options.rounds)
    measure(f"training step at 224, batch {STEP}", STEP, bench.step(), options.rounds)
    measure("centre crop, Q=256", len(few), bench.evaluation("centre-crop", (256,)), options.rounds)
    measure("dense with flips, Q=256", len(few), bench.evaluation("dense", (256,)), options.rounds)
    measure("dense with flips, Q=256 384 512", len(few), bench.evaluation("dense", (256, 384, 512)), 1)


def single_threaded(
    pair: tuple[Callable[[], object], Callable[[], object]],
) -> tuple[Callable[[], object], Callable[[], object]]:
    """Both sides on one thread."""

    def wrapped(side: Callable[[], object]) -> Callable[[], object]:
        def run() -> None:
            threads = torch.get_num_threads()
            torch.set_num_threads(1)
            side()
            torch.set_num_threads(threads)

        return run

    return wrapped(pair[0]), wrapped(pair[1])


if __name__ == "__main__":
    main()
