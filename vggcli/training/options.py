"""The options of training: `TrainOptions` and `FinetuneOptions` have the fields that the commands and the Python functions
share; `LoopOptions` and `TrainingData` are what the training loop gets. All frozen."""

from collections.abc import Iterator
from dataclasses import KW_ONLY, dataclass, fields
from pathlib import Path
from typing import Any, Literal

import torch

from vggcli import choices
from vggcli.colour import ColourStatistics
from vggcli.data.sources import ImageSet
from vggcli.errors import UsageError
from vggcli.ranks import ALONE, Ranks
from vggcli.records import Ordinal, WorkerCount, check_fields
from vggcli.training.frozen import FrozenOutputs
from vggcli.training.recipe import Recipe
from vggcli.weights.preprocessing import ExpectedPixels

RUN_FIELDS = (
    "data",
    "arch",
    "seed",
    "max_steps",
    "init_from",
    "precision",
    "skip_bad",
    "layers",
    "cache_features",
    "boxes",
    "decode",
    "compile",
)
CARRIED_OUT = ("resume", "device", "workers", "micro_batch", "tensorboard")  # they may change when a run is resumed


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """What both kinds of training take. A field that is None is taken from the recipe, the config or the resumed run.

    recipe: "paper" or "tiny", for all numbers that are not given.
    scale: S, the shorter side of an image in pixels before the crop.
    scale_jitter: the smallest and the largest S; each view is made at one between them.
    epochs: passes over the training images, at most.
    max_steps: the steps after which the run ends.
    batch_size: images of a step.
    learning_rate: the first one; it is divided by 10 when the validation error stalls.
    momentum: of SGD.
    weight_decay: the factor of the L2 penalty.
    dropout: the share of the outputs of the first two FC layers that is dropped, 0 to 1.
    init: how random weights are drawn: "glorot", "gaussian" or "he".
    init_std: the standard deviation of "gaussian".
    config: the config.json of a run to replay.
    resume: the folder of a run to go on with; "" is the newest.
    micro_batch: images computed at once; by default as many as fit in memory.
    skip_bad: whether to leave out images that cannot be used.
    seed: decides random weights, order, views and dropout.
    out: the run's folder, by default runs/ARCH-N.
    device: "auto", "cpu", "cuda", "cuda:1" or "mps".
    precision: of the heavy arithmetic: "auto", "fp32", "tf32", "bf16" or "fp16".
    compile: run the network by torch.compile, which pays on GPUs.
    workers: processes that decode images; with 0 this process decodes.
    tensorboard: whether to write the log for TensorBoard too.
    decode: where JPEGs are decoded: "cpu", or "gpu" (nvJPEG, whose pixels differ by a few levels).

    Raises UsageError for fields that contradict each other and for unknown choices.
    """

    recipe: choices.RecipeName | None = None
    scale: int | None = None
    scale_jitter: tuple[int, int] | None = None
    epochs: int | None = None
    max_steps: int | None = None
    batch_size: int | None = None
    learning_rate: float | None = None
    momentum: float | None = None
    weight_decay: float | None = None
    dropout: float | None = None
    init: choices.Init | None = None
    init_std: float | None = None
    config: str | Path | None = None
    resume: str | Path | None = None
    micro_batch: Ordinal | None = None
    skip_bad: bool = False
    seed: int | None = None
    out: str | Path | None = None
    device: str = "auto"
    precision: choices.Precision | None = None
    compile: bool | None = None
    workers: WorkerCount = 0
    tensorboard: bool = False
    decode: choices.Decode | None = None

    def __post_init__(self) -> None:
        check_fields(self)
        if self.scale is not None and self.scale_jitter is not None:
            raise UsageError("one scale and a range of scales contradict each other; give one", "scale", "scale_jitter")
        if self.recipe is not None and self.config is not None:
            raise UsageError("a recipe and a config contradict each other; give one", "recipe", "config")

    @property
    def folder(self) -> Path | None:
        """`out` as a path."""
        return None if self.out is None else Path(self.out)

    def given(self) -> Iterator[tuple[str, Any]]:
        """The names and values of the fields that were given, without those that do not change the result."""
        for field in fields(self):
            value = getattr(self, field.name)
            if value != field.default and field.name not in CARRIED_OUT:
                yield field.name, value

    def of_recipe(self) -> dict[str, Any]:
        """The fields of a `Recipe` that were given."""
        names = {field.name for field in fields(Recipe)} - {"scale"}
        scale = (self.scale, self.scale) if self.scale is not None else self.scale_jitter
        return {name: value for name, value in self.given() if name in names} | ({"scale": scale} if scale else {})

    def of_run(self) -> dict[str, Any]:
        """The fields of a `Plan` that were given, without its recipe and its weights."""
        return {name: value for name, value in self.given() if name in RUN_FIELDS}


@dataclass(frozen=True)
class TrainOptions(RunOptions):
    """A run from random weights.

    data: a folder, a CSV or the name of a known set.
    arch: a network of Table 1, by default "D".
    init_from: weights of net A, with whose layers a deeper network starts (section 3.1).
    crop: the side of the crop in pixels.
    width: a factor on all channel counts.
    head: "fc", or "gap", which averages the last map before one linear layer.
    """

    data: str | Path | None = None
    arch: str | None = None
    _: KW_ONLY
    init_from: str | Path | None = None
    crop: int | None = None
    width: float | None = None
    head: Literal["fc", "gap"] | None = None


@dataclass(frozen=True)
class FinetuneOptions(RunOptions):
    """A run from trained weights.

    weights: a run, a file or a published name; by default the newest run of `arch`.
    data: a folder, a CSV or the name of a known set.
    arch: the network, where no `weights` are named or a deeper one is trained from theirs.
    preprocessing: "torchvision", "caffe", "keras" or a JSON file, for weights whose file does not say it.
    layers: those that learn: "all", "fc" or "last".
    cache_features: whether to run the frozen layers once an image, without augmentation, and keep their outputs.
    boxes: learn the box of each image's object in place of its class: "scr" one for all classes, "pcr" one for each.
    """

    weights: str | Path | None = None
    data: str | Path | None = None
    arch: str | None = None
    _: KW_ONLY
    preprocessing: str | ExpectedPixels | None = None
    layers: choices.Layers | None = None
    cache_features: bool | None = None
    boxes: choices.Boxes | None = None


@dataclass(frozen=True)
class LoopOptions:
    """What the loop needs of a plan and the machine; `max_steps` counts from the start of the run, and `micro_batch` is the
    one of each of the `ranks` among which every step is shared."""

    recipe: Recipe
    seed: int
    micro_batch: int
    workers: int
    device: torch.device
    precision: choices.Precision
    max_steps: int | None = None
    layers: choices.Layers = "all"
    decode: choices.Decode = "cpu"
    compile: bool = False
    ranks: Ranks = ALONE


@dataclass(frozen=True)
class TrainingData:
    """Both splits, with the same classes, the colour statistics that views are normalised with, and, where images are
    not augmented, the outputs of the frozen layers. Where boxes are learnt, the images have sizes and checked boxes."""

    train: ImageSet
    val: ImageSet
    colour: ColourStatistics
    frozen: FrozenOutputs | None = None


class Stopped(Exception):
    """The caller asked the loop to stop. The loop has saved its state when this leaves it; `steps` are those done."""

    steps = 0
