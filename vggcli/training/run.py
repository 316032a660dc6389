"""The run folder: config.json, log.jsonl, best.safetensors, last.safetensors and what resuming needs beside it.

A save is one rename, that of last.safetensors. The momentum is written before it under a name of its own, which
last.safetensors carries, and the one of the save before is removed after it; so a kill at any moment leaves a pair that
belongs together. log.jsonl is written from the state in last.safetensors, never ahead of it.
"""

import json
import os
import platform
import shlex
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vggcli.errors import MachineError, UsageError, WeightsError, command_or_python
from vggcli.files import machine_error, sweep, working_folder, write_text
from vggcli.locks import Busy, let_go, lock
from vggcli.training.state import RunState
from vggcli.training.surroundings import PicturedRun
from vggcli.weights.checkpoint import (
    BEST,
    LAST,
    Checkpoint,
    load_checkpoint,
    load_tensors,
    save_checkpoint,
    save_tensors,
)
from vggcli.weights.find import numbered_runs
from vggcli.zoo.network import VGG

LOG_FILE, LOCK, CURVES = "log.jsonl", ".lock", "curves.png"
LOCK_SECONDS = 2.0  # until the system has released the lock of a process that was just killed


@dataclass(frozen=True)
class RunFolder:
    """One run on disk. `about` is what all checkpoints of the run have in common."""

    path: Path
    about: Checkpoint

    @property
    def pictured(self) -> PicturedRun:
        """What the titles of its pictures say of it."""
        return PicturedRun(self.path, self.about.config, str(self.about.training.get("data", "")))

    @property
    def is_saved(self) -> bool:
        """Whether it holds a state to resume from."""
        return (self.path / LAST).is_file()

    def save_best(self, network: VGG, state: RunState) -> None:
        """Write best.safetensors: the weights of the epoch just ended."""
        save_checkpoint(self.path / BEST, network, self._checkpoint(state, {}))

    def save_last(self, network: VGG, momentum: dict[str, Tensor], state: RunState) -> None:
        """Write last.safetensors and the momentum, then log.jsonl."""
        name = f"resume-{state.total_steps}.safetensors"
        seal = save_tensors(self.path / name, momentum, {"vgg": "{}"})
        resume = {"resume": name, "resume_sha256": seal, "state": state.to_json()}
        save_checkpoint(self.path / LAST, network, self._checkpoint(state, resume))
        _remove_older(self.path, name)
        self.write_log(state)

    def write_log(self, state: RunState) -> bool:
        """Write the records of `state` to log.jsonl; returns whether it lacked any."""
        text, log = "".join(json.dumps(record.to_json()) + "\n" for record in state.records), self.path / LOG_FILE
        if log.is_file() and log.read_bytes() == text.encode():
            return False
        write_text(log, text)
        return True

    def _checkpoint(self, state: RunState, more: dict[str, Any]) -> Checkpoint:
        last = state.records[-1] if state.records else None
        names = ("top1_error", "top5_error", "localisation_error", "mean_iou")
        errors = {name: value for name in names if (value := getattr(last, name, None)) is not None}
        reached = {"epoch": len(state.records), "step": state.total_steps, **errors}
        return replace(self.about, training={**self.about.training, **reached, **more})


def _remove_older(folder: Path, name: str) -> None:
    """Remove the momentum of earlier saves; that of the last is in the file `name`."""
    for old in folder.glob("resume-*.safetensors"):
        if old.name != name:
            old.unlink(missing_ok=True)


def check_run_place(out: Path | None, runs: Path) -> None:
    """Raises as `create_run` would, before any work is done; leaves nothing behind."""
    if out is not None:
        _check_empty(out)
    place = out or runs
    there = next(folder for folder in (place, *place.parents) if folder.exists())
    try:
        with working_folder(there / place.name) as folder:
            (folder / place.name).write_bytes(bytes(4096))
    except OSError as error:
        raise machine_error(place, error) from error


def create_run(out: Path | None, runs: Path, arch: str) -> tuple[Path, int | None]:
    """A new folder, `out` (which must be new or empty) or the next ARCH-N below `runs`, and the handle of its lock.

    Raises UsageError where `out` is not empty, MachineError where it cannot be made or another process has its lock.
    """
    try:
        if out is not None:
            _check_empty(out)
            out.mkdir(parents=True, exist_ok=True)
            held = hold_run(out)
            _check_empty(out)  # another process may have begun a run there
            return out.resolve(), held
        number = max((int(run.name.rpartition("-")[2]) for run in numbered_runs(runs, arch)), default=0)
        while True:  # another run may take the number first
            number += 1
            folder = runs / f"{arch}-{number}"
            try:
                folder.mkdir(parents=True)
            except FileExistsError:
                continue
            return folder.resolve(), hold_run(folder)
    except OSError as error:
        raise machine_error(out or runs, error) from error


def _check_empty(out: Path) -> None:
    if out.exists() and (not out.is_dir() or any(not one.name.startswith(".") for one in out.iterdir())):
        resume = command_or_python(f"vgg train --resume {shlex.quote(str(out))}", f"vggcli.train(resume={str(out)!r})")
        raise UsageError(f"{out} exists already; give a new folder, or go on with {resume}", "out")


def hold_run(folder: Path) -> int | None:
    """Lock a run against other processes, until `let_go_of_run` or the end of this process. Raises MachineError where
    another process has the lock, OSError where the folder cannot be written."""
    place, deadline = folder / LOCK, time.monotonic() + LOCK_SECONDS
    while True:
        try:
            held = lock(place, create=True)
            break
        except OSError as error:
            if place.is_symlink() or place.is_dir():
                raise MachineError(f"cannot lock {place}, which is no regular file; remove it") from error
            raise
        except Busy:
            if time.monotonic() > deadline:
                holder = place.read_text(encoding="utf-8", errors="replace").strip()[:80] or "another process"
                raise MachineError(f"{folder} is being written by {holder}; wait until it ends, or stop it") from None
            time.sleep(0.05)
    try:
        place.write_text(f"process {os.getpid()} on {platform.node()}\n", encoding="utf-8")
    except OSError:
        let_go_of_run(folder, held)
        raise
    return held


def let_go_of_run(folder: Path, held: int | None) -> None:
    """Release the lock of `hold_run`."""
    if held is not None:
        (folder / LOCK).unlink(missing_ok=True)
        let_go(held)


@dataclass(frozen=True)
class Resumable:
    """What a run is resumed from."""

    network: VGG
    checkpoint: Checkpoint
    momentum: dict[str, Tensor]
    state: RunState


def load_run(path: Path, device: torch.device) -> Resumable:
    """The last saved state of the run at `path`; half-written files that a kill left there are removed.

    Raises WeightsError where no state can be resumed.
    """
    sweep(path)
    sweep(path, ".tmp??????")  # safetensors' own, as older versions used it
    network, checkpoint = load_checkpoint(path / LAST, device, untrained=True)
    try:
        state = RunState.from_json(checkpoint.training["state"])
        name = str(checkpoint.training["resume"])
    except (KeyError, TypeError, ValueError) as error:
        raise WeightsError(f"{path / LAST} does not hold the progress of its run: {error}") from error
    momentum, _ = load_tensors(path / name, checkpoint.training.get("resume_sha256"))
    _remove_older(path, name)
    own = ("state", "resume", "resume_sha256")
    about = {key: value for key, value in checkpoint.training.items() if key not in own}
    return Resumable(network, replace(checkpoint, training=about), momentum, state)
