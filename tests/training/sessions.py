"""A small training session, put together as the command line does it."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from vggcli.data.sources import load_training
from vggcli.data.training_batches import colour_statistics
from vggcli.training.loop import train_epochs
from vggcli.training.options import LoopOptions, TrainingData
from vggcli.training.recipe import Recipe
from vggcli.training.run import RunFolder, load_run
from vggcli.training.state import EpochRecord, RunState, StepRecord
from vggcli.weights.checkpoint import Checkpoint
from vggcli.zoo.initialise import initialise
from vggcli.zoo.layers import NetworkConfig
from vggcli.zoo.network import VGG

RECIPE = Recipe(
    scale=(36, 44), crop=32, width=0.0625, batch_size=8, epochs=3, learning_rate=0.02, patience=2, init="he"
)
CPU = torch.device("cpu")


class Session:
    """Everything `train_epochs` takes, for a folder of photos; `run` goes on from what the folder holds. `shown` are the
    records of its micro-batches, which progress shows."""

    def __init__(self, photos: Path, out: Path, recipe: Recipe = RECIPE, arch: str = "A", **options: Any) -> None:
        train_set, val_set = load_training(photos)
        self.data = TrainingData(train_set, val_set, colour_statistics(train_set, 36, 0))
        self.config = NetworkConfig(arch, len(train_set.classes), recipe.crop, recipe.width, recipe.head)
        self.options = replace(LoopOptions(recipe, 3, 4, 0, CPU, "fp32"), **options)
        out.mkdir(exist_ok=True)
        about = Checkpoint(self.config, train_set.classes, self.data.colour, recipe.scale)
        self.folder = RunFolder(out, about)
        self.network = VGG(self.config, recipe.dropout)
        initialise(self.network, recipe.init, self.options.seed)
        self.network.to(self.options.device)
        self.shown: list[StepRecord] = []

    def run(self, stop_after: int | None = None, stop_at_poll: int | None = None) -> list[EpochRecord]:
        """The records of the epochs. It raises Stopped after more than `stop_after` micro-batches and validations, or at
        the layer where it is asked for the time `stop_at_poll` whether to stop."""
        network, state, momentum = self.network, RunState(), dict[str, torch.Tensor]()
        if (self.folder.path / "last.safetensors").exists():
            loaded = load_run(self.folder.path, self.options.device)
            network, state, momentum = loaded.network, loaded.state, loaded.momentum
            network.dropout = self.options.recipe.dropout
        before, phases, polls = len(self.shown), list[str](), 0

        def stop() -> bool:
            nonlocal polls
            polls += 1
            done = len(self.shown) - before + phases.count("validation")
            return polls == stop_at_poll or (stop_after is not None and done > stop_after)

        epochs = []
        for record in train_epochs(network, self.data, self.options, self.folder, state, momentum, stop, phases.append):
            if isinstance(record, EpochRecord):
                epochs.append(record)
            else:
                self.shown.append(record)
        return epochs


def outcome(out: Path) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor], RunState]:
    """Weights, momentum and state at the end of a run, times aside."""
    loaded = load_run(out, CPU)
    history = tuple(replace(record, seconds=0.0, images_per_second=0.0) for record in loaded.state.history)
    return loaded.network.state_dict(), loaded.momentum, replace(loaded.state, history=history, seconds=0.0)


def assert_same_bits(first: Path, second: Path) -> None:
    """Weights, momentum and state of two runs are equal, times aside."""
    (weights, momentum, state), (weights2, momentum2, state2) = outcome(first), outcome(second)
    assert weights.keys() == weights2.keys()
    assert momentum.keys() == momentum2.keys()
    assert all(torch.equal(weights[name], weights2[name]) for name in weights)
    assert all(torch.equal(momentum[name], momentum2[name]) for name in momentum)
    assert state == state2
