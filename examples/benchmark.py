"""How fast, against torchvision's own way on the same machine in the same run, as ratios: the training loader, a training
step, centre-crop, dense and multi-crop evaluation, descriptors; these also against their forward passes alone. Each side
has a process of its own, set up as its users would, and they take turns; the median of the rounds is reported.

Usage: python examples/benchmark.py [PHOTOS] [--images 32] [--rounds 3] [--arch D]   (PHOTOS as --data; default: shapes)
"""

import argparse
import importlib
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
import torchvision
from peer import Photos, as_convolutions, grid_of_crops, normalising, open_rgb
from torch import nn
from torch.utils.data import DataLoader

from vggcli import paper
from vggcli.colour import ColourStatistics, normalise
from vggcli.data.decode import ImageError
from vggcli.data.find import find_source
from vggcli.data.sources import ImageSet, load_training
from vggcli.data.test_batches import ViewBatch, test_batches
from vggcli.data.test_views import ViewPlan
from vggcli.data.training_batches import Schedule, colour_statistics, training_batches
from vggcli.data.training_views import augment
from vggcli.defaults import user_places, worker_count
from vggcli.device import ready_device
from vggcli.evaluation.protocol import EvaluateOptions, Protocol, image_posteriors
from vggcli.features.extract import FeatureOptions, check_options, image_rows, view_rows
from vggcli.features.spool import Spool
from vggcli.features.write import write_table
from vggcli.zoo.initialise import initialise
from vggcli.zoo.layers import NetworkConfig
from vggcli.zoo.network import VGG
from vggcli.zoo.scales import views_together

JITTER = (256, 512)  # section 3.1
STEP = 8  # images of the training step that is timed
VIEWS = 16  # training views a batch, about what a step of network D computes at a time
JOBS: tuple[tuple[str, str, tuple[int, ...]], ...] = (  # what it is called, method, scales
    ("training views at 224, one core", "training_views", ()),
    (f"training step at 224, batch {STEP}", "training_step", ()),
    ("centre crop, Q=256", "centre_crop", (256,)),
    ("dense with flips, Q=256", "dense", (256,)),
    ("dense with flips, Q=256 384 512", "dense", (256, 384, 512)),
    ("multi-crop, 50 crops at Q=256", "multi_crop", (256,)),
    ("fc7 --gap with flips, Q=256, to a file", "features", (256,)),
)
PASSES = "fc7 --gap, against its passes alone"


class Side:
    """A process's half of every comparison: methods named as in `JOBS`, each goes through the images once."""

    def __init__(self, images: ImageSet, colour: ColourStatistics, arch: str, workers: int) -> None:
        self.images, self.colour, self.arch, self.workers = images, colour, arch, workers
        self.optimizer: torch.optim.Optimizer | None = None

    def stepped(self, network: nn.Module, inputs: torch.Tensor) -> None:
        """Forward, backward and SGD."""
        if self.optimizer is None:
            self.optimizer = torch.optim.SGD(network.parameters(), 1e-4, momentum=0.9, weight_decay=5e-4)
        network.train()
        self.optimizer.zero_grad()
        F.cross_entropy(network(inputs), torch.arange(STEP)).backward()
        self.optimizer.step()


class Ours(Side):
    """This package, as its commands call it."""

    def __init__(self, images: ImageSet, colour: ColourStatistics, arch: str, workers: int) -> None:
        super().__init__(images, colour, arch, workers)
        self.device = ready_device("cpu")
        self.network = VGG(NetworkConfig(arch, len(images.classes)))
        initialise(self.network, "he", 0)
        self.views: list[torch.Tensor] = []

    def training_views(self) -> None:
        """Up to the batched float tensor."""
        schedule = Schedule(len(self.images), VIEWS, VIEWS, 1)
        for batch in training_batches(self.images, self.colour, JITTER, paper.CROP, 0, schedule, 0, self.device):
            augment(batch.images_NHWC, batch.flips_N, batch.shifts_NC, self.colour)

    def training_step(self) -> None:
        """On 8 images at 224."""
        images = torch.zeros(STEP, paper.CROP, paper.CROP, 3, dtype=torch.uint8)
        self.stepped(self.network, normalise(images, self.colour))

    def centre_crop(self, *scales: int) -> None:
        """From files to posteriors, as all below."""
        self._evaluate("centre-crop", scales)

    def dense(self, *scales: int) -> None:
        """With flips."""
        self._evaluate("dense", scales)

    def multi_crop(self, *scales: int) -> None:
        """5x5 crops with flips."""
        self._evaluate("multi-crop", scales)

    def features(self, *scales: int) -> None:
        """fc7 averaged over space and flips, from files to a file."""
        options = self._feature_options(scales)
        with (
            tempfile.TemporaryDirectory() as folder,
            Spool(Path(folder), options.layers, self.images.names, "float32") as spool,
        ):
            for done in image_rows(self.network.eval(), self.images, self.colour, options):
                assert not isinstance(done, ImageError)
                spool.put(done)
            write_table(Path(folder) / "f.safetensors", spool.table({}))

    @torch.inference_mode()
    def forward_passes(self, *scales: int) -> None:
        """The passes that `features` makes, on views that lie ready: the first call, which is not timed, gets them so."""
        options = self._feature_options(scales)
        if not self.views:
            rows = views_together(self.network.config, self.device, options.flip, None)
            batches = test_batches(self.images, ViewPlan(scales), rows, self.workers, self.device)
            views = (batch.images_NHWC for batch in batches if isinstance(batch, ViewBatch))
            self.views = [normalise(images_NHWC, self.colour) for images_NHWC in views]
        outputs = check_options(self.network.eval(), options)
        for views_NCHW in self.views:
            view_rows(self.network, views_NCHW, outputs, options)

    def _feature_options(self, scales: tuple[int, ...]) -> FeatureOptions:
        how = {"pool": "gap", "aggregate": "mean", "norm": "l2", "flip": True}
        where = {"device": self.device, "dtype": torch.float32, "workers": self.workers}
        return FeatureOptions(layers=("fc7",), scales=scales, **how, **where)  # type: ignore[arg-type]

    def _evaluate(self, protocol: Protocol, scales: tuple[int, ...]) -> None:
        flip = protocol != "centre-crop"
        options = EvaluateOptions(protocol, scales, flip, self.device, torch.float32, workers=self.workers)
        image_posteriors(self.network.eval(), self.images, self.colour, options)


class Torchvision(Side):
    """torchvision's networks and transforms, as its references use them."""

    def __init__(self, images: ImageSet, colour: ColourStatistics, arch: str, workers: int) -> None:
        super().__init__(images, colour, arch, workers)
        self.transforms = torchvision.transforms
        self.extractor: nn.Module | None = None
        self.network: nn.Module = getattr(torchvision.models, paper.NETWORKS[arch].alias or "")(weights=None)

    def training_views(self) -> None:
        """Resize to a drawn S, RandomCrop, ToTensor, Normalize."""
        tail = self.transforms.Compose([self.transforms.RandomCrop(paper.CROP), *normalising(self.colour)])
        for index in range(len(self.images)):
            scale = int(torch.randint(JITTER[0], JITTER[1] + 1, ()))
            tail(self.transforms.Resize(scale)(open_rgb(self.images.path(index))))

    def training_step(self) -> None:
        """On 8 images at 224."""
        self.stepped(self.network, torch.zeros(STEP, 3, paper.CROP, paper.CROP))

    @torch.inference_mode()
    def centre_crop(self, *scales: int) -> None:
        """In batches of 32."""
        for batch in self._views(scales, [self.transforms.CenterCrop(paper.CROP), *normalising(self.colour)], 32):
            self.network.eval()(batch).softmax(1)

    @torch.inference_mode()
    def dense(self, *scales: int) -> None:
        """The FC layers as convolutions, one image at a time, both flips in a batch."""
        network = as_convolutions(self.network)
        for batch in self._views(scales, normalising(self.colour), 1):
            network(torch.cat((batch, batch.flip(3)))).mean((2, 3)).softmax(1)

    @torch.inference_mode()
    def multi_crop(self, *scales: int) -> None:
        """As torchvision's documentation has it for FiveCrop: an image's 50 crops are a batch."""
        for batch in self._views(scales, [grid_of_crops(paper.CROP, paper.CROP_GRID, normalising(self.colour))], 1):
            self.network.eval()(batch[0]).softmax(1).mean(0)

    def features(self, *scales: int) -> None:
        """create_feature_extractor on the network with its FC layers as convolutions, one image at a time, both flips in
        a batch; saved by NumPy."""
        if self.extractor is None:
            network = as_convolutions(self.network)
            feature_extraction = importlib.import_module("torchvision.models.feature_extraction")
            relu7 = str(len(network) - 3)
            self.extractor = feature_extraction.create_feature_extractor(network, {relu7: "fc7"})
        with torch.inference_mode():
            rows = [
                self.extractor(torch.cat((batch, batch.flip(3))))["fc7"].mean((0, 2, 3))
                for batch in self._views(scales, normalising(self.colour), 1)
            ]
        with tempfile.TemporaryDirectory() as folder:
            np.save(Path(folder) / "f.npy", F.normalize(torch.stack(rows)).numpy())

    def _views(self, scales: tuple[int, ...], tail: list[object], rows: int) -> Iterator[torch.Tensor]:
        for scale in scales:
            transform = self.transforms.Compose([self.transforms.Resize(scale), *tail])
            for batch, _ in DataLoader(Photos(self.images, transform), rows, num_workers=self.workers):
                yield batch


class SideProcess:
    """A side in a process of its own; `seconds` runs one of its methods."""

    def __init__(self, kind: type[Side], *arguments: object) -> None:
        fresh = multiprocessing.get_context("spawn")
        self.pipe, far = fresh.Pipe()
        usual = multiprocessing.get_start_method()
        self.process = fresh.Process(target=serve, args=(far, usual, kind, arguments))
        self.process.start()

    def seconds(self, method: str, scales: Sequence[int], threads: int) -> float:
        self.pipe.send((method, scales, threads))
        taken: float = self.pipe.recv()
        return taken


def serve(
    pipe: Connection, start_method: str, kind: type[Side], arguments: tuple[ImageSet, ColourStatistics, str, int]
) -> None:
    """Run what is asked for, and answer with its seconds."""
    multiprocessing.set_start_method(start_method, force=True)  # of the loaders' workers
    side = kind(*arguments)
    while (order := pipe.recv()) is not None:
        method, scales, threads = order
        torch.set_num_threads(threads)
        start = time.perf_counter()
        getattr(side, method)(*scales)
        pipe.send(time.perf_counter() - start)


def measure(calls: Sequence[tuple[SideProcess, str]], scales: Sequence[int], rounds: int) -> list[float]:
    """Median seconds of each method of a side, in turns, after a call that allocates and compiles."""
    threads = 1 if calls[0][1] == "training_views" else torch.get_num_threads()
    rows = [[side.seconds(method, scales, threads) for side, method in calls] for _ in range(rounds + 1)]
    return [statistics.median(taken) for taken in zip(*rows[1:], strict=True)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("photos", nargs="?")
    parser.add_argument("--arch", default="D", choices=[arch for arch, row in paper.NETWORKS.items() if row.alias])
    parser.add_argument("--images", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="", help="part of a comparison's name")
    options = parser.parse_args()
    workers = worker_count(None)
    source = find_source(options.photos, user_places(), workers)
    _, images = load_training(Path(source.path))
    stride = max(1, len(images) // options.images)
    kept = slice(0, stride * options.images, stride)
    few = ImageSet(images.root, "val", images.classes, images.names[kept], images.labels[kept], images.objects[kept])
    arguments = (few, colour_statistics(few, 256, workers), options.arch, workers)
    sides = [SideProcess(kind, *arguments) for kind in (Ours, Torchvision)]
    try:
        compare(sides, options, few, source.name)
    finally:  # a side that failed must not leave the other waiting
        for side in sides:
            side.process.terminate()


def compare(sides: Sequence[SideProcess], options: argparse.Namespace, few: ImageSet, name: str) -> None:
    """Print a line for every comparison."""
    print(f"network {options.arch}, {len(few)} images of {name}, {torch.get_num_threads()} threads")
    print(f"{'':40} {'ours':>9} {'torchvision':>12} {'ratio':>7}   (images/s)")
    for title, method, scales in JOBS:
        if options.only in title:
            count = STEP if method == "training_step" else len(few)
            calls = [(side, method) for side in sides]
            ours, theirs = (count / taken for taken in measure(calls, scales, options.rounds))
            print(f"{title:40} {ours:9.2f} {theirs:12.2f} {ours / theirs:7.2f}", flush=True)
    if options.only in PASSES:
        calls = [(sides[0], "features"), (sides[0], "forward_passes")]
        whole, passes = (len(few) / taken for taken in measure(calls, (256,), options.rounds))
        print(f"{PASSES:40} {whole:9.2f} {passes:12.2f} {whole / passes:7.2f}", flush=True)


if __name__ == "__main__":
    main()
