"""What training costs on paper: the arithmetic, memory and exchange of a step on several devices, and from times that were
measured on one, how long steps, epochs and a whole training take. Nothing is measured here.

The devices divide each step among them, every one with a copy of the network, and add up their gradients by a ring
all-reduce (section 3.3 has the same division).
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import torch

from vggcli import paper
from vggcli.choices import Precision
from vggcli.errors import UsageError, counted
from vggcli.training.memory import (
    FLOAT,
    TrainingMemory,
    automatic_micro_batch,
    check_memory,
    rows_at_once,
    training_memory,
    validation_memory,
)
from vggcli.zoo.layers import NetworkConfig, layer_costs

PASSES = 3  # a forward pass, the gradients to the maps, and those to the weights, of as many multiply-accumulates each
Bound = Literal["network", "loaders"]


@dataclass(frozen=True)
class Training:
    """A training: steps of `batch_size` images, of which a device takes up to `micro_batch` at once, and epochs of `images`
    training and `val_images` validation images; by default the paper's."""

    config: NetworkConfig
    device: torch.device
    precision: Precision
    micro_batch: int
    batch_size: int = paper.BATCH_SIZE
    images: int = paper.TRAINING_IMAGES
    val_images: int = paper.VALIDATION_IMAGES
    epochs: int = paper.EPOCHS

    @classmethod
    def of(
        cls,
        config: NetworkConfig,
        device: torch.device,
        precision: Precision,
        micro_batch: int | None = None,
        devices: int = 1,
        **numbers: int,
    ) -> "Training":
        """With the `micro_batch`, or as many images as fit into memory of one device. The `numbers` are other
        fields. Raises UsageError for more devices than images, MachineError for too little memory."""
        whole = cls(config, device, precision, 1, **numbers)
        if devices > whole.step_images:
            raise UsageError(
                f"{counted(devices, 'device')} cannot divide {counted(whole.step_images, 'image')}, those of a step; give "
                "fewer devices",
                "devices",
            )
        check_memory(config, 1, device)
        size = min(whole.step_images, micro_batch or automatic_micro_batch(config, whole.step_images, device))
        check_memory(config, size, device)
        return replace(whole, micro_batch=size)

    @property
    def step_images(self) -> int:
        return min(self.batch_size, self.images)

    def to_json(self) -> dict[str, Any]:
        names = ("precision", "micro_batch", "batch_size", "images", "val_images", "epochs", "macs")
        return {"device": str(self.device), **{name: getattr(self, name) for name in names}}

    @property
    def macs(self) -> int:
        """Multiply-accumulates of a step: no gradient goes from the first layer to the images."""
        costs = layer_costs(self.config)
        return self.step_images * (PASSES * sum(cost.macs for cost in costs) - costs[0].macs)


@dataclass(frozen=True)
class Times:
    """Seconds measured on one device: of an `image` in a micro-batch, forward and backward; of the `update` of the weights;
    of a `val_image`, forward; and of a `view` in one worker process, None where it was not measured. The network shares
    `cores` with the `workers`, 0 where it has a device of its own. `program` is the memory in bytes of the process without
    the network, None where the system does not say."""

    image: float
    update: float
    val_image: float
    view: float | None = None
    workers: int = 0
    cores: int = 0
    program: int | None = None

    def with_views(self, network: float, images: float) -> tuple[float, Bound]:
        """The seconds that a device with its workers takes for `images`, for which the network takes `network`, and what
        they wait for. On a CPU a worker that has a core holds up the network, whose threads wait for each other; elsewhere
        the slower of both decides."""
        views = images * (self.view or 0.0)
        if self.workers == 0:
            return network + views, "network" if network >= views else "loaders"
        shared = network + views if self.cores else network
        loading = views / self.workers
        return max(shared, loading), "network" if shared >= loading else "loaders"


@dataclass(frozen=True)
class Cost:
    """What a training costs on so many `devices`: for a step the images of one device, its memory, the `exchanged` bytes
    that it sends, and receives, and the seconds, with what these wait for; the seconds of an epoch with its validation, and
    of the whole training. The speed-up of several devices is the paper's, 3.75 on four, in proportion."""

    devices: int
    images: int
    memory: TrainingMemory
    validation: int | None
    exchanged: int
    step_seconds: float
    bound: Bound
    val_seconds: float
    epoch_seconds: float
    seconds: float

    @property
    def whole_memory(self) -> int:
        """Bytes at the fullest moment of a step, and what the validation takes beside it and its holes."""
        return self.memory.whole + max(0, (self.validation or 0) - self.memory.holes)

    def to_json(self) -> dict[str, Any]:
        fields = asdict(self)
        memory = {**fields.pop("memory"), "validation": fields.pop("validation"), "whole": self.whole_memory}
        return {**fields, "memory": memory}


def efficiency(devices: int) -> float:
    """The share of its speed that each of several devices keeps: that of the paper's four."""
    return 1.0 if devices == 1 else paper.SPEED_UP / paper.DEVICES


def exchanged_bytes(parameters: int, devices: int) -> int:
    """The bytes that each device sends, and receives, in a ring all-reduce of the gradients: every part of them goes once
    around to be added up, and once more to be handed out."""
    return round(2 * (devices - 1) / devices * FLOAT * parameters)


def costs(training: Training, times: Times, devices: int) -> Iterator[Cost]:
    """Of one device, the paper's four and `devices`."""
    for count in sorted({1, min(paper.DEVICES, training.step_images), devices}):
        yield cost(training, times, count)


def cost(training: Training, times: Times, devices: int) -> Cost:
    share, config = -(-training.step_images // devices), training.config
    step_seconds, bound = _step_seconds(training.step_images, times, devices)
    val_share = -(-training.val_images // devices)
    views_made = val_share if times.cores else training.val_images
    val_seconds, _ = times.with_views(val_share * times.val_image, views_made)
    steps, rest = divmod(training.images, training.step_images)
    last, _ = _step_seconds(rest, times, devices) if rest else (0.0, bound)
    epoch_seconds = steps * step_seconds + last + val_seconds
    on_cpu = training.device.type == "cpu"
    return Cost(
        devices,
        share,
        training_memory(config, min(training.micro_batch, share), training.device, training.precision),
        validation_memory(config, min(rows_at_once(config, training.device), val_share)) if on_cpu else None,
        exchanged_bytes(sum(one.parameters for one in layer_costs(config)), devices),
        step_seconds,
        bound,
        val_seconds,
        epoch_seconds,
        training.epochs * epoch_seconds,
    )


def _step_seconds(images: int, times: Times, devices: int) -> tuple[float, Bound]:
    """Of a step of so many images. A device that is a CPU has its own workers; others have those of one machine."""
    share = -(-images // devices)
    network = (share * times.image + times.update) / efficiency(devices)
    return times.with_views(network, share if times.cores else images)
