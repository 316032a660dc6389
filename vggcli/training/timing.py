"""How long a training step takes on this machine: a few passes of one micro-batch of random weights and pixels, run as the
training loop runs them, and training views as its workers make them.

Shapes: N images, H and W pixels, C = 3 channels.
"""

import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from statistics import median

import torch

from vggcli import paper
from vggcli.choices import Precision
from vggcli.colour import ColourStatistics, normalise
from vggcli.data.image_set import ImageSet
from vggcli.data.training_batches import Schedule, TrainingBatch, training_batches
from vggcli.data.training_views import augment
from vggcli.device import computing, products
from vggcli.progress import Progress, silent
from vggcli.training.cost import Times, Training
from vggcli.training.frozen import Stages
from vggcli.training.loop import clear_gradients, dropout_masks, new_optimizer, stop_between_layers
from vggcli.training.memory import resident_bytes
from vggcli.training.objective import objective_of
from vggcli.training.options import LoopOptions
from vggcli.training.recipe import Recipe
from vggcli.zoo.initialise import initialise
from vggcli.zoo.layers import NetworkConfig
from vggcli.zoo.network import VGG

REPEATS = 3  # of each pass at least, in MOST_SECONDS; their median counts
LEAST_SECONDS, MOST_SECONDS = 1.5, 8.0  # for which a pass is repeated
VIEW_SECONDS = 3.0  # that views are made for
VIEWS = 8  # that a worker makes at once
GREY = ColourStatistics(
    (127.5, 127.5, 127.5), 64.0, (0.0, 0.0, 0.0), ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
)
SMALLEST = NetworkConfig("A", classes=2, crop=32, width=1 / 16)


class Trial:
    """A network with random weights, and a micro-batch of random views [N, H, W, C], on `device`."""

    def __init__(self, config: NetworkConfig, micro_batch: int, device: torch.device, precision: Precision) -> None:
        self.network, self.size = VGG(config), micro_batch
        initialise(self.network, "he", seed=0)
        self.stages = Stages(self.network.to(device), "all")
        self.device, self.precision = device, precision
        recipe = Recipe(learning_rate=1e-9)  # the weights stay as they are, whatever the loss
        self.optimizer = new_optimizer(self.stages, LoopOptions(recipe, 0, micro_batch, 0, device, precision), {})
        shape = (micro_batch, config.crop, config.crop, 3)
        draw = torch.Generator().manual_seed(0)
        images_NHWC = torch.randint(256, shape, dtype=torch.uint8, generator=draw)
        labels_N, flips_N = torch.arange(micro_batch) % config.outputs, torch.arange(micro_batch) % 2 == 0
        self.batch = TrainingBatch(images_NHWC, labels_N, flips_N, torch.zeros(micro_batch, 3)).map(
            lambda tensor: tensor.to(device)
        )
        self.objective = objective_of(config, config.crop)

    def learn(self) -> None:
        """The forward and backward pass of the micro-batch."""
        self.stages.train()
        keep = dropout_masks(self.network, self.size, 0, 0, self.device)
        with stop_between_layers(self.network, lambda: False), products(self.precision):
            with computing(self.device, self.precision):
                images_NCHW = augment(self.batch.images_NHWC, self.batch.flips_N, self.batch.shifts_NC, GREY)
                scores_NK = self.stages.scores(images_NCHW, keep)
            losses, _ = self.objective.losses(scores_NK.float(), self.batch)
            (losses / self.size).backward()

    def update(self) -> None:
        """The end of a step: new weights, and gradients that are zero again."""
        self.optimizer.step()
        clear_gradients(self.stages, keep_memory=self.device.type == "cpu")

    @torch.inference_mode()
    def validate(self) -> None:
        """The forward pass of the micro-batch as after an epoch."""
        self.network.eval()
        with stop_between_layers(self.network, lambda: False), computing(self.device, self.precision):
            self.stages.scores(normalise(self.batch.images_NHWC, GREY)).float().cpu()


def measured(training: Training, images: ImageSet | None, workers: int, progress: Progress = silent) -> Times:
    """The times of `training` on its device, and of its views where there are `images`: S is 256 for a crop of 224, or in
    that proportion. Raises ImageError at an image that cannot be used."""
    config, device = training.config, training.device
    times = network_times(config, training.micro_batch, device, training.precision, progress)
    cores = torch.get_num_threads() if device.type == "cpu" else 0
    if images is None:
        return replace(times, cores=cores)
    scale = round(config.crop * paper.SCALE / paper.CROP)
    view = view_seconds(images, scale, config.crop, progress)
    return replace(times, view=view, workers=workers, cores=cores)


def network_times(
    config: NetworkConfig, micro_batch: int, device: torch.device, precision: Precision, progress: Progress = silent
) -> Times:
    """The times of a step by micro-batches of that size, and of the validation."""
    with progress(f"timing network {config.arch}", 3, "passes") as bar:
        _once(Trial(SMALLEST, 1, device, precision))  # loads what every training loads
        program = resident_bytes()
        trial = Trial(config, micro_batch, device, precision)
        clear_gradients(trial.stages, keep_memory=device.type == "cpu")
        seconds = []
        for work in (trial.learn, trial.update, trial.validate):
            seconds.append(_median_seconds(work, device))
            bar(1)
    learn, update, validate = seconds
    return Times(learn / micro_batch, update, validate / micro_batch, program=program)


def view_seconds(images: ImageSet, scale: int, crop: int, progress: Progress = silent) -> float:
    """The seconds in which one worker makes a training view of these images, at S = `scale`. Raises ImageError at one that
    cannot be used."""
    schedule = Schedule(len(images), len(images), min(VIEWS, len(images)), epochs=1_000_000)
    batches = training_batches(images, GREY, (scale, scale), crop, 0, schedule, 1, torch.device("cpu"))
    with closing(batches), progress("timing training views", 1, "worker") as bar:
        next(batches)  # the worker has begun
        made, began = 0, time.monotonic()
        while made == 0 or time.monotonic() - began < VIEW_SECONDS:
            made += len(next(batches).labels_N)
        bar(1)
        return (time.monotonic() - began) / made


def _once(trial: Trial) -> None:
    for work in (trial.learn, trial.update, trial.validate):
        work()


def _median_seconds(work: Callable[[], None], device: torch.device) -> float:
    """The seconds of `work`, repeated after a first time, which takes memory from the system."""
    found, began = list[float](), time.monotonic()
    work()
    while not found or time.monotonic() - began < (MOST_SECONDS if len(found) < REPEATS else LEAST_SECONDS):
        _wait(device)
        start = time.perf_counter()
        work()
        _wait(device)
        found.append(time.perf_counter() - start)
    return median(found)


def _wait(device: torch.device) -> None:
    """Until `device` has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
