"""What training is asked for: `TrainOptions` and `FinetuneOptions` have the fields of the commands and of the Python face;
what their loop is given, once data and network are there, are `LoopOptions` and `TrainingData`. All frozen."""

from collections.abc import Iterator
from dataclasses import KW_ONLY, dataclass, fields
from pathlib import Path
from typing import Any, get_args

import torch

from vggcli import choices
from vggcli.colour import ColourStatistics
from vggcli.data.sources import ImageSet
from vggcli.errors import UsageError
from vggcli.training.frozen import FrozenOutputs
from vggcli.training.recipe import Recipe
from vggcli.weights.preprocessing import ExpectedPixels

RUN_FIELDS = ("data", "arch", "seed", "max_steps", "init_from", "precision", "skip_bad", "layers", "cache_features")
CARRIED_OUT = ("resume", "device", "workers", "micro_batch")  # how, not what: they go with a run that is resumed


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """What both kinds of training take. Where a field is None, the recipe, the config or the run that is resumed says it.

    `recipe` is "paper" or "tiny", `config` the config.json of a run to replay, `resume` a run folder to go on with (the
    newest where it is empty). `scale` is S in pixels, `scale_jitter` the smallest and the largest S of a range;
    `batch_size` the images of a step and `micro_batch` those computed at once; `max_steps` ends the run early;
    `skip_bad` leaves images out that cannot be used. `out` is the run's folder, ARCH-N among the runs where it is None.

    Raises UsageError for what contradicts itself or is no choice.
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
    micro_batch: int | None = None
    skip_bad: bool = False
    seed: int | None = None
    out: str | Path | None = None
    device: str = "auto"
    precision: choices.Precision | None = None
    workers: int = 0

    def __post_init__(self) -> None:
        if self.scale is not None and self.scale_jitter is not None:
            raise UsageError("one scale and a range of scales contradict each other; give one", "scale", "scale_jitter")
        if self.micro_batch is not None and self.micro_batch < 1:
            raise UsageError(f"a micro-batch of {self.micro_batch} is too small: give 1 image or more", "micro_batch")
        for name, known in (("recipe", choices.RecipeName), ("precision", choices.Precision)):
            if getattr(self, name) not in (None, *get_args(known)):
                raise UsageError(
                    f"there is no {name} {getattr(self, name)!r}; give {' or '.join(get_args(known))}", name
                )

    @property
    def folder(self) -> Path | None:
        """`out` as a path."""
        return None if self.out is None else Path(self.out)

    def given(self) -> Iterator[tuple[str, Any]]:
        """The names and values of the fields that were given, those of how a run is carried out aside."""
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
        """The fields of a `Plan` that were given, but for its recipe and its weights."""
        return {name: value for name, value in self.given() if name in RUN_FIELDS}


@dataclass(frozen=True)
class TrainOptions(RunOptions):
    """A run from random weights. `data` is a folder, a CSV or a set's name, `arch` a network of Table 1 ("D" where nothing
    says it), `init_from` weights of net A whose layers a deeper network begins with (section 3.1), `crop` the side of the
    crop in pixels, `width` a factor on all channel counts, and `head` "gap" averages the last map."""

    data: str | Path | None = None
    arch: str | None = None
    _: KW_ONLY
    init_from: str | Path | None = None
    crop: int | None = None
    width: float | None = None
    head: choices.Head | None = None


@dataclass(frozen=True)
class FinetuneOptions(RunOptions):
    """A run from trained weights. `weights` are a run, a file or a published name (the newest run of `arch` where none
    are given), `preprocessing` what they expect of pixels where their file does not say it; `layers` are those that learn,
    and `cache_features` runs the others once an image, unaugmented, and keeps what they give."""

    weights: str | Path | None = None
    data: str | Path | None = None
    arch: str | None = None
    _: KW_ONLY
    preprocessing: str | ExpectedPixels | None = None
    layers: choices.Layers | None = None
    cache_features: bool | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.layers not in (None, *get_args(choices.Layers)):
            raise UsageError(f"there are no layers {self.layers!r}; give all, fc or last", "layers")


@dataclass(frozen=True)
class LoopOptions:
    """`micro_batch` images are computed at once; `max_steps` ends the run early, counted from its start; `layers` are
    those that learn."""

    recipe: Recipe
    seed: int
    micro_batch: int
    workers: int
    device: torch.device
    dtype: torch.dtype
    max_steps: int | None = None
    layers: choices.Layers = "all"


@dataclass(frozen=True)
class TrainingData:
    """Both splits, with the same classes, the colour statistics that views are normalised with, and, where images are
    not to be augmented, what the frozen layers make of each."""

    train: ImageSet
    val: ImageSet
    colour: ColourStatistics
    frozen: FrozenOutputs | None = None


class Stopped(Exception):
    """The caller asked the loop to stop; once it leaves the loop, the state is saved."""
