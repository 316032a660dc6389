"""How fast, against torchvision's own way on the same machine in the same run, as ratios: the training loader, a training
step, a forward pass, centre-crop, dense and multi-crop evaluation, descriptors; these also against their forward passes
alone. Each side has a process of its own, set up as its users would, and they take turns; the median of the rounds is
reported, with the peak memory of our side. "x floor" is our time over that of the multiplications alone, by Winograd's
F(4x4, 3x3), at the best rate of products found here. The default takes about five minutes on two cores.

Usage: python examples/benchmark.py [PHOTOS] [--rounds 3] [--arch D] [--only NAME] [--peers]   (PHOTOS as --data; default:
shapes). --peers adds the forward pass of ONNX Runtime, OpenVINO, MNN and torch.compile, as far as they are installed.
"""

import argparse
import importlib
import multiprocessing
import re
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
import torchvision
from peer import Photos, as_convolutions, grid_of_crops, normalising, open_rgb
from runtimes import RUNTIMES, installed
from torch import nn
from torch.utils.data import DataLoader

from vggcli import paper
from vggcli.colour import ColourStatistics, normalise
from vggcli.data.decode import ImageError, upright_size
from vggcli.data.find import find_source
from vggcli.data.sources import ImageSet, load_training
from vggcli.data.test_batches import ViewBatch, test_batches
from vggcli.data.test_views import ViewPlan, rescaled_size
from vggcli.data.training_batches import Schedule, colour_statistics, training_batches
from vggcli.data.training_views import augment
from vggcli.defaults import user_places, worker_count
from vggcli.device import ready_device
from vggcli.evaluation.protocol import EvaluateOptions, Protocol, image_posteriors
from vggcli.features.extract import FeatureOptions, check_options, image_rows, view_rows
from vggcli.features.spool import Spool
from vggcli.features.write import write_table
from vggcli.zoo.compiled import kernels_in_use
from vggcli.zoo.convolution import convolve
from vggcli.zoo.initialise import initialise
from vggcli.zoo.layers import NetworkConfig, network_layers
from vggcli.zoo.network import VGG
from vggcli.zoo.scales import views_together

JITTER = (256, 512)  # section 3.1
BATCH = 8  # images of the training step and of the forward pass that are timed
VIEWS = 16  # training views a batch, about what a step of network D computes at a time


class Job(NamedTuple):
    """A comparison: what it is called, the method of both sides, its scales, and how many images one call takes."""

    title: str
    method: str
    scales: tuple[int, ...]
    images: int


JOBS = (
    Job("training views at 224, one core", "training_views", (), 32),
    Job(f"training step at 224, batch {BATCH}", "training_step", (), BATCH),
    Job(f"forward pass at 224, batch {BATCH}", "forward", (), BATCH),
    Job("centre crop, Q=256", "centre_crop", (256,), 32),
    Job("dense with flips, Q=256", "dense", (256,), 8),
    Job("dense with flips, Q=256 384 512", "dense", (256, 384, 512), 3),
    Job("multi-crop, 50 crops at Q=256", "multi_crop", (256,), 2),
    Job("fc7 --gap with flips, Q=256, to a file", "features", (256,), 16),
)
PASSES = "fc7 --gap, against its passes alone"
WARM = 2  # images of the call that is not timed


class Side:
    """A process's half of every comparison: methods named as in `JOBS`, each goes through the images once."""

    def __init__(self, images: ImageSet, colour: ColourStatistics, arch: str, workers: int) -> None:
        self.images, self.all_images = images, images
        self.colour, self.arch, self.workers = colour, arch, workers
        self.inputs = torch.zeros(BATCH, 3, paper.CROP, paper.CROP)
        self.optimizer: torch.optim.Optimizer | None = None

    def stepped(self, network: nn.Module, inputs: torch.Tensor) -> None:
        """Forward, backward and SGD."""
        if self.optimizer is None:
            self.optimizer = torch.optim.SGD(network.parameters(), 1e-4, momentum=0.9, weight_decay=5e-4)
        network.train()
        self.optimizer.zero_grad()
        F.cross_entropy(network(inputs), torch.arange(BATCH)).backward()
        self.optimizer.step()

    def take(self, images: int) -> None:
        """Let the next calls be of the first `images` only."""
        self.images = first_images(self.all_images, images)


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
        images = torch.zeros(BATCH, paper.CROP, paper.CROP, 3, dtype=torch.uint8)
        self.stepped(self.network, normalise(images, self.colour))

    @torch.inference_mode()
    def forward(self) -> None:
        """On 8 images at 224."""
        self.network.eval()(self.inputs)

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
        where = {"device": self.device, "precision": "fp32", "workers": self.workers}
        return FeatureOptions(layers=("fc7",), scales=scales, **how, **where)  # type: ignore[arg-type]

    def _evaluate(self, protocol: Protocol, scales: tuple[int, ...]) -> None:
        flip = protocol != "centre-crop"
        options = EvaluateOptions(protocol, scales, flip, self.device, "fp32", workers=self.workers)
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
            tail(self.transforms.Resize(scale)(open_rgb(self.images.root / self.images.names[index])))

    def training_step(self) -> None:
        """On 8 images at 224."""
        self.stepped(self.network, self.inputs)

    @torch.inference_mode()
    def forward(self) -> None:
        """On 8 images at 224."""
        self.network.eval()(self.inputs)

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


class Runtime(Side):
    """Another runtime, for its forward pass alone."""

    def __init__(self, name: str, images: ImageSet, colour: ColourStatistics, arch: str, workers: int) -> None:
        super().__init__(images, colour, arch, workers)
        self.folder = tempfile.TemporaryDirectory()
        self.run = RUNTIMES[name][1](arch, Path(self.folder.name))

    @torch.inference_mode()
    def forward(self) -> None:
        """On 8 images at 224."""
        self.run(self.inputs)


class Taken(NamedTuple):
    """Seconds of a call, and the most memory that its process has had during it, in bytes (where the system says)."""

    seconds: float
    memory: int | None


class SideProcess:
    """A side in a process of its own; `call` runs one of its methods."""

    def __init__(self, kind: Callable[..., Side], *arguments: object) -> None:
        fresh = multiprocessing.get_context("spawn")
        self.pipe, far = fresh.Pipe()
        usual = multiprocessing.get_start_method()
        self.process = fresh.Process(target=serve, args=(far, usual, kind, arguments))
        self.process.start()
        far.close()  # so that the end of the process is the end of the pipe

    def call(self, job: Job, threads: int, images: int) -> Taken:
        self.pipe.send((job.method, job.scales, threads, images))
        taken: Taken = self.pipe.recv()
        return taken


def serve(pipe: Connection, start_method: str, kind: Callable[..., Side], arguments: Sequence[object]) -> None:
    """Run what is asked for, and answer with what it took."""
    multiprocessing.set_start_method(start_method, force=True)  # of the loaders' workers
    side = kind(*arguments)
    while (order := pipe.recv()) is not None:
        method, scales, threads, images = order
        torch.set_num_threads(threads)
        side.take(images)
        forget_peak()
        start = time.perf_counter()
        getattr(side, method)(*scales)
        pipe.send(Taken(time.perf_counter() - start, peak_memory()))


def forget_peak() -> None:
    """Let Linux count this process's peak memory anew."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def peak_memory() -> int | None:
    with suppress(OSError):
        found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="ascii"))
        return 1024 * int(found[1]) if found else None
    return None


def measure(calls: Sequence[tuple[SideProcess, Job]], rounds: int) -> list[Taken]:
    """What each call takes, in turns, the median of the rounds, after one of a few images that allocates and compiles."""
    threads = 1 if calls[0][1].method == "training_views" else torch.get_num_threads()
    for side, job in calls:
        side.call(job, threads, job.images if job.method == "forward_passes" else min(WARM, job.images))
    rows = [[side.call(job, threads, job.images) for side, job in calls] for _ in range(rounds)]
    return [Taken(statistics.median(one.seconds for one in each), each[-1].memory) for each in zip(*rows, strict=True)]


def first_images(images: ImageSet, count: int, stride: int = 1) -> ImageSet:
    """The first `count` of `images`, or of every `stride`th of them."""
    kept = slice(0, stride * count, stride)
    return ImageSet(images.root, "val", images.classes, images.names[kept], images.labels[kept], images.objects[kept])


def products_a_second() -> float:
    """Multiply-adds a second of the fastest product that was found here: of PyTorch's 1x1 convolution, or of direct sums
    by the compiled kernels, each at its best of many times."""
    maps, weights = torch.randn(1, 128, 96, 96).to(memory_format=torch.channels_last), torch.randn(1152, 128, 1, 1)
    ways: list[Callable[[], torch.Tensor]] = [lambda: F.conv2d(maps, weights)]
    if (kernels := kernels_in_use()) is not None:
        filters, bias = torch.randn(3, 3, 128, 128), torch.zeros(128)
        ways.append(lambda: convolve(maps, filters, bias, kernels))  # as for few channels: without transforms
    times = []
    for way in ways * 40:
        start = time.perf_counter()
        way()
        times.append(time.perf_counter() - start)
    return maps.numel() * 1152 / min(times)


def products(config: NetworkConfig, height: int, width: int) -> int:
    """Multiplications of a forward pass over a view, those of 3x3 convolutions by Winograd's F(4x4, 3x3): 36 a tile."""
    total = 0
    for layer in network_layers(config):
        if layer.kind == "pool":
            height, width = height // 2, width // 2
        elif layer.kind == "fc":
            height, width = height - layer.kernel + 1, width - layer.kernel + 1
            positions = 1 if layer.name == "fc8" else height * width
            total += positions * layer.channels_in * layer.kernel**2 * layer.channels
        elif layer.kind == "conv":
            tiles = -(-height // 4) * -(-width // 4)
            winograd = layer.kernel == 3 and layer.channels_in > 3
            each = 36 * tiles if winograd else layer.kernel**2 * height * width
            total += each * layer.channels_in * layer.channels
    return total


def job_products(job: Job, images: ImageSet, arch: str) -> int | None:
    """Multiplications of one call of a job; None where no network runs."""
    config, crop = NetworkConfig(arch, len(images.classes)), paper.CROP
    a_crop = products(config, crop, crop)
    if job.method == "training_views":
        return None
    if job.method in ("training_step", "forward"):
        return BATCH * a_crop * (3 if job.method == "training_step" else 1)
    if job.method in ("centre_crop", "multi_crop"):
        return len(images) * a_crop * (2 * paper.CROP_GRID**2 if job.method == "multi_crop" else 1)
    total = 0
    for row in range(len(images)):
        size = upright_size(images.path(row))[0]
        for scale in job.scales:
            width, height = rescaled_size(size, scale)
            total += 2 * products(config, height, width)
    return total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", nargs="?")
    parser.add_argument("--arch", default="D", choices=[arch for arch, row in paper.NETWORKS.items() if row.alias])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="", help="part of a comparison's name")
    parser.add_argument("--peers", action="store_true", help="other runtimes too")
    options = parser.parse_args()
    workers = worker_count(None)
    source = find_source(options.photos, user_places(), workers)
    _, images = load_training(Path(source.path))
    most = max(job.images for job in JOBS)
    few = first_images(images, most, max(1, len(images) // most))
    arguments = (few, colour_statistics(few, 256, workers), options.arch, workers)
    print(
        f"network {options.arch}, images of {source.name}, {torch.get_num_threads()} threads, torch {torch.__version__}"
    )
    with closing(Sides()) as sides:
        ours, theirs = sides.started(Ours, *arguments), sides.started(Torchvision, *arguments)
        compare(ours, theirs, options, few)
        if options.peers:
            compare_runtimes(ours, sides, options.rounds, arguments)


class Sides:
    """The processes of the sides, none of which outlives the others."""

    def __init__(self) -> None:
        self.running: list[SideProcess] = []

    def started(self, kind: Callable[..., Side], *arguments: object) -> SideProcess:
        self.running.append(SideProcess(kind, *arguments))
        return self.running[-1]

    def close(self) -> None:
        for side in self.running:
            side.process.terminate()


def compare(ours: SideProcess, theirs: SideProcess, options: argparse.Namespace, few: ImageSet) -> None:
    """Print a line for every comparison as soon as it is measured."""
    rate = 0.0
    print(f"{'images/s':40} {'ours':>8} {'torchvision':>12} {'ratio':>6} {'x floor':>8} {'memory':>9}")
    for job in JOBS:
        if options.only in job.title:
            mine, its = measure([(ours, job), (theirs, job)], options.rounds)
            rate = max(rate, products_a_second())
            needed = job_products(job, first_images(few, job.images), options.arch)
            over = "" if needed is None else f"{mine.seconds * rate / needed:.2f}"
            memory = "" if mine.memory is None else f"{mine.memory >> 20:,} MB"
            speeds = f"{job.images / mine.seconds:8.2f} {job.images / its.seconds:12.2f}"
            print(f"{job.title:40} {speeds} {its.seconds / mine.seconds:6.2f} {over:>8} {memory:>9}", flush=True)
    print(f"floor at {rate / 1e9:.0f} thousand million multiply-adds a second")
    if options.only in PASSES:
        whole, passes = JOBS[-1], JOBS[-1]._replace(method="forward_passes")
        mine, alone = measure([(ours, whole), (ours, passes)], options.rounds)
        speeds = f"{whole.images / mine.seconds:8.2f} {whole.images / alone.seconds:12.2f}"
        print(f"{PASSES:40} {speeds} {alone.seconds / mine.seconds:6.2f}", flush=True)


def compare_runtimes(ours: SideProcess, sides: Sides, rounds: int, arguments: Sequence[object]) -> None:
    """The forward pass again, against each runtime that is installed."""
    job = next(job for job in JOBS if job.method == "forward")
    for name in installed():
        try:
            mine, its = measure([(ours, job), (sides.started(Runtime, name, *arguments), job)], rounds)
        except (EOFError, ConnectionError):
            print(f"{name:40} did not run; its error is above", flush=True)
            continue
        speeds = f"{job.images / mine.seconds:8.2f} {job.images / its.seconds:12.2f}"
        print(f"{'forward pass, ours against ' + name:53} {speeds} {its.seconds / mine.seconds:6.2f}", flush=True)


if __name__ == "__main__":
    main()
