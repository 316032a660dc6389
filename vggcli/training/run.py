"""The run folder: config.json, log.jsonl, best.safetensors, last.safetensors and what `--resume` needs beside it.

A save is one rename, that of last.safetensors. The momentum is written before it under a name of its own, which
last.safetensors carries, and the one of the save before is removed after it; so a kill at any moment leaves a pair that
belongs together. log.jsonl is written from the state in last.safetensors, never ahead of it.
"""

import json
import shlex
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vggcli.errors import UsageError, WeightsError
from vggcli.files import machine_error, sweep, write_text
from vggcli.training.state import RunState
from vggcli.zoo.checkpoint import (
    BEST,
    LAST,
    Checkpoint,
    load_checkpoint,
    load_tensors,
    numbered_runs,
    save_checkpoint,
    save_tensors,
)
from vggcli.zoo.network import VGG

CONFIG, LOG = "config.json", "log.jsonl"


@dataclass(frozen=True)
class RunFolder:
    """One run on disk. `about` is what every checkpoint of the run says of itself beside its state."""

    path: Path
    about: Checkpoint

    def save_best(self, network: VGG, state: RunState) -> None:
        """Write best.safetensors: the weights of the epoch just ended."""
        save_checkpoint(self.path / BEST, network, self._checkpoint(state, {}))

    def save_last(self, network: VGG, momentum: dict[str, Tensor], state: RunState) -> None:
        """Write last.safetensors and the momentum, then log.jsonl."""
        name = f"resume-{state.total_steps}.safetensors"
        save_tensors(self.path / name, momentum, {"vgg": "{}"})
        save_checkpoint(self.path / LAST, network, self._checkpoint(state, {"resume": name, "state": state.to_json()}))
        for old in self.path.glob("resume-*.safetensors"):
            if old.name != name:
                old.unlink(missing_ok=True)
        lines = [json.dumps(asdict(record)) + "\n" for record in state.records]
        write_text(self.path / LOG, "".join(lines))

    def _checkpoint(self, state: RunState, more: dict[str, Any]) -> Checkpoint:
        last = state.records[-1] if state.records else None
        errors = {"top1_error": last.top1_error, "top5_error": last.top5_error} if last else {}
        reached = {"epoch": len(state.records), "step": state.total_steps, **errors}
        return replace(self.about, training={**self.about.training, **reached, **more})


def create_run(out: Path | None, runs: Path, arch: str) -> Path:
    """A new folder: `out` (which must be new or empty), or the next ARCH-N below `runs`.

    Raises UsageError where `out` holds something, MachineError where it cannot be made.
    """
    try:
        if out is not None:
            if out.exists() and (not out.is_dir() or any(out.iterdir())):
                raise UsageError(
                    f"{out} exists already; give --out a new folder, or go on with --resume {shlex.quote(str(out))}"
                )
            out.mkdir(parents=True, exist_ok=True)
            return out.resolve()
        number = max((int(run.name.rpartition("-")[2]) for run in numbered_runs(runs, arch)), default=0)
        while True:  # another run may take the number first
            number += 1
            folder = runs / f"{arch}-{number}"
            try:
                folder.mkdir(parents=True)
                return folder.resolve()
            except FileExistsError:
                continue
    except OSError as error:
        raise machine_error(out or runs, error) from error


@dataclass(frozen=True)
class Resumable:
    """What `--resume` starts from."""

    network: VGG
    checkpoint: Checkpoint
    momentum: dict[str, Tensor]
    state: RunState


def load_run(path: Path, device: torch.device) -> Resumable:
    """The last state of the run at `path`; half-written files that a kill left there are removed.

    Raises WeightsError where there is no state that can be gone on from.
    """
    sweep(path)
    network, checkpoint = load_checkpoint(path / LAST, device, untrained=True)
    try:
        state = RunState.from_json(checkpoint.training["state"])
        name = str(checkpoint.training["resume"])
    except (KeyError, TypeError, ValueError) as error:
        raise WeightsError(f"{path / LAST} does not say how far its run had come: {error}") from error
    momentum, _ = load_tensors(path / name)
    about = {key: value for key, value in checkpoint.training.items() if key not in ("state", "resume")}
    return Resumable(network, replace(checkpoint, training=about), momentum, state)
