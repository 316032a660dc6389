"""What the training loop is given: its options and its data. Frozen."""

from dataclasses import dataclass

import torch

from vggcli.choices import Layers
from vggcli.colour import ColourStatistics
from vggcli.data.sources import ImageSet
from vggcli.training.frozen import FrozenOutputs
from vggcli.training.recipe import Recipe


@dataclass(frozen=True)
class TrainOptions:
    """`micro_batch` images are computed at once; `max_steps` ends the run early, counted from its start; `layers` are
    those that learn."""

    recipe: Recipe
    seed: int
    micro_batch: int
    workers: int
    device: torch.device
    dtype: torch.dtype
    max_steps: int | None = None
    layers: Layers = "all"


@dataclass(frozen=True)
class TrainingData:
    """Both splits, with the same classes, the colour statistics that views are normalised with, and, where images are
    not to be augmented, what the frozen layers make of each."""

    train: ImageSet
    val: ImageSet
    colour: ColourStatistics
    frozen: FrozenOutputs | None = None


class Stopped(Exception):
    """The caller asked the loop to stop; once it leaves `train`, the state is saved."""
